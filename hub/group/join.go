package group

import (
	"fmt"
	"time"
)

// JoinRequest asks to be a member of the next generation.
type JoinRequest struct {
	MemberID     string // "" on the first join
	NewID        string // the ID to give if MemberID is empty; drawn by the driver
	Instance     string // group.instance.id, "" for a dynamic member
	ClientID     string
	ClientHost   string
	Session      time.Duration
	Rebalance    time.Duration
	ProtocolType string
	Protocols    []Protocol // in the order of preference
	// NeedID: a dynamic member first gets its ID and must come back with it
	// (JoinGroup v4+, KIP-394), or a client that gives up leaves ghosts.
	NeedID bool
	// CanSkip: the client knows skipAssignment (v9+, KIP-814).
	CanSkip bool
}

// Joined answers a join.
type Joined struct {
	Generation   int32
	ProtocolType string
	Protocol     string
	Leader       string
	MemberID     string
	Skip         bool           // the leader must not assign anew
	Members      []JoinedMember // for the leader only
}

// JoinedMember is what the leader learns of a member.
type JoinedMember struct {
	ID, Instance string
	Metadata     []byte
}

// NewMemberID is the error of a first join; the client comes back with ID.
type NewMemberID struct{ ID string }

func (e *NewMemberID) Error() string { return fmt.Sprintf("%v: %s", ErrMemberIDRequired, e.ID) }

// Unwrap makes it an ErrMemberIDRequired.
func (e *NewMemberID) Unwrap() error { return ErrMemberIDRequired }

// Join handles a JoinGroup request. It is answered at once on an error or
// when nothing changes, otherwise when the rebalance gets to its end.
func (g *Group) Join(now time.Time, t Ticket, r JoinRequest, topics Topics) (out Output) {
	if err := g.checkJoin(r); err != nil {
		out.end(t, err)
		return out
	}
	if g.consumer != nil {
		g.makeWay(now, r, topics, &out)
	}
	var err error
	switch {
	case g.consumer != nil:
		err = g.joinConsumers(now, t, r, topics, &out)
	case r.MemberID == "" && r.Instance != "":
		g.joinStatic(now, t, r, &out)
	case r.MemberID == "" && r.NeedID:
		g.pending[r.NewID] = now.Add(r.Session)
		err = &NewMemberID{r.NewID}
	case r.MemberID == "":
		g.joinNew(now, t, r.NewID, r, &out)
	default:
		err = g.joinKnown(now, t, r, &out)
	}
	if err != nil {
		out.end(t, err)
	}
	return out
}

func (g *Group) checkJoin(r JoinRequest) error {
	switch {
	case g.id == "":
		return ErrInvalidGroupID
	case g.state == Dead:
		return ErrDead
	case r.Session < g.cfg.MinSession || r.Session > g.cfg.MaxSession:
		return fmt.Errorf("%w: %v is not between %v and %v", ErrSessionTimeout, r.Session, g.cfg.MinSession, g.cfg.MaxSession)
	case r.ProtocolType == "" || len(r.Protocols) == 0:
		return fmt.Errorf("%w: a join names a protocol type and at least one protocol", ErrInconsistent)
	case g.consumer != nil && len(g.consumer.byID) > 0:
		return g.consumer.checkJoin(r, g.cfg.MaxMembers)
	case !g.accepts(r.MemberID, r.Instance):
		return fmt.Errorf("%w: %d", ErrMaxSize, g.cfg.MaxMembers)
	}
	return g.checkProtocols(r)
}

// accepts reports whether there is room: always for one who is in already.
func (g *Group) accepts(id, instance string) bool {
	_, known := g.byID[id]
	_, pending := g.pending[id]
	_, static := g.statics[instance]
	return known || pending || static || len(g.members)+len(g.pending) < g.cfg.MaxMembers
}

// checkProtocols: at least one protocol must be known to every member.
func (g *Group) checkProtocols(r JoinRequest) error {
	if len(g.members) == 0 {
		return nil
	}
	if r.ProtocolType != g.protocolType {
		return fmt.Errorf("%w: the group's protocol type is %q, the request's %q", ErrInconsistent, g.protocolType, r.ProtocolType)
	}
	for _, p := range r.Protocols {
		if g.allSupport(p.Name, g.byID[r.MemberID]) {
			return nil
		}
	}
	return fmt.Errorf("%w: no protocol that all members have", ErrInconsistent)
}

// allSupport reports whether every member but except knows the protocol.
func (g *Group) allSupport(protocol string, except *member) bool {
	for _, m := range g.members {
		if m != except && !m.supports(protocol) {
			return false
		}
	}
	return true
}

func (g *Group) joinNew(now time.Time, t Ticket, id string, r JoinRequest, out *Output) {
	delete(g.pending, id)
	m := &member{
		id: id, instance: r.Instance, clientID: r.ClientID, clientHost: r.ClientHost,
		session: r.Session, rebalance: r.Rebalance, protocols: r.Protocols,
		join: t, isNew: true, deadline: now.Add(g.cfg.NewMember),
	}
	if len(g.members) == 0 {
		g.protocolType = r.ProtocolType
	}
	g.add(m)
	g.more = g.more || g.state == Preparing && g.initial
	g.rebalance(now, out)
}

// joinKnown handles a join with a member ID.
func (g *Group) joinKnown(now time.Time, t Ticket, r JoinRequest, out *Output) error {
	if _, ok := g.pending[r.MemberID]; ok && r.Instance == "" {
		g.joinNew(now, t, r.MemberID, r, out)
		return nil
	}
	m, err := g.find(r.MemberID, r.Instance)
	if err != nil {
		return err
	}
	switch g.state {
	case Preparing:
		g.rejoin(now, t, m, r, out)
	case Completing, Stable:
		// The answer to an earlier join was lost, or a follower asks again
		// without news: it gets the generation that is. The leader of a stable
		// group asks in order to assign anew.
		news := !m.same(r.Protocols) || g.state == Stable && m.id == g.leader
		if news {
			g.rejoin(now, t, m, r, out)
			return nil
		}
		out.answer(Answer{Ticket: t, Join: g.joined(m)})
	default:
		return ErrUnknownMember
	}
	return nil
}

// rejoin takes over what a known member brings and rebalances.
func (g *Group) rejoin(now time.Time, t Ticket, m *member, r JoinRequest, out *Output) {
	// The client asks again while its first request is parked: the first one
	// is stale, its connection is gone.
	out.end(m.join, ErrUnknownMember)
	m.protocols, m.session, m.rebalance = r.Protocols, r.Session, r.Rebalance
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	m.join = t
	m.alive(now)
	g.rebalance(now, out)
}

// joined is the answer to m's join in the present generation.
func (g *Group) joined(m *member) *Joined {
	j := &Joined{
		Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol,
		Leader: g.leader, MemberID: m.id,
	}
	if m.id == g.leader {
		j.Members = g.roster()
	}
	return j
}

func (g *Group) roster() []JoinedMember {
	all := make([]JoinedMember, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, JoinedMember{ID: m.id, Instance: m.instance, Metadata: m.metadata(g.protocol)})
	}
	return all
}
