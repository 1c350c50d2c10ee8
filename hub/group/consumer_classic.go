package group

import (
	"fmt"
	"time"
)

// Classic members of a consumer group (KIP-848, "online migration"). Each
// JoinGroup is to such a member what a heartbeat with a full report is to the
// others: it tells what the member subscribes to and still has, leads the
// member one step towards its target, and its generation is the member's epoch.
// SyncGroup tells the member what it has; nobody leads, because the assignment
// is made here. A member that is to take the next step learns it from
// REBALANCE_IN_PROGRESS, and has its rebalance timeout to join again.

// ClassicMember is what only a member that uses the classic protocol has.
type ClassicMember struct {
	Session   time.Duration
	Protocols []Protocol // by preference, at least one; answers name the first
}

func (c *ClassicMember) equal(o *ClassicMember) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.Session == o.Session && sameProtocols(c.Protocols, o.Protocols)
}

// classicBut reports whether everybody else uses the classic protocol.
func (c *consumers) classicBut(except *consumer) bool {
	for _, m := range c.byID {
		if m != except && m.Classic == nil {
			return false
		}
	}
	return true
}

// shares reports whether some protocol of a join is known to all classic
// members, but for the one that it may be of.
func (c *consumers) shares(r JoinRequest) bool {
	for _, p := range r.Protocols {
		all := true
		for _, m := range c.byID {
			own := m.id == r.MemberID || r.Instance != "" && m.Instance == r.Instance
			all = all && (own || m.Classic == nil || hasProtocol(m.Classic.Protocols, p.Name))
		}
		if all {
			return true
		}
	}
	return false
}

// joinConsumers handles the JoinGroup of a classic member. It is answered when
// everything that the answer tells is durable.
func (g *Group) joinConsumers(now time.Time, t Ticket, r JoinRequest, topics Topics, out *Output) error {
	sub, ok := readSubscription(r.Protocols[0].Metadata)
	switch {
	case !ok:
		return fmt.Errorf("%w: the metadata of %q is no subscription of a consumer", ErrInconsistent, r.Protocols[0].Name)
	case r.MemberID == "" && r.Instance == "" && r.NeedID:
		return &NewMemberID{r.NewID}
	}
	m, came, err := g.consumer.findJoining(r)
	if err != nil {
		return err
	}
	none, owned := "", fromNames(sub.owned, topics)
	report := ConsumerHeartbeat{
		Rebalance: r.Rebalance, Topics: append([]string{}, sub.topics...), Assignor: &none, Owned: &owned,
		ClientID: r.ClientID, ClientHost: r.ClientHost,
		classic: &ClassicMember{Session: r.Session, Protocols: r.Protocols},
	}
	if r.Instance != "" {
		report.Instance = &r.Instance
	}
	if sub.rack != "" {
		report.Rack = &sub.rack
	}
	g.advance(now, m, came, report, &pattern{}, topics)
	m.session, m.due, m.syncing = now.Add(r.Session), now.Add(r.Rebalance), true
	g.settle(now)
	g.persist(out, Answer{Ticket: t, Join: &Joined{
		Generation: m.current.Epoch, ProtocolType: consumerProtocol, Protocol: r.Protocols[0].Name, MemberID: m.id,
	}})
	return nil
}

// findJoining returns the member of a join, a new one if there is none. A
// static member that begins anew takes over what it had, whichever protocol it
// used: classic ones do not say that they leave.
func (c *consumers) findJoining(r JoinRequest) (m *consumer, came coming, err error) {
	if r.Instance != "" {
		old, ok := c.statics[r.Instance]
		switch {
		case ok && r.MemberID == "":
			return c.replace(old, r.NewID), replaced, nil
		case ok && old.id != r.MemberID:
			return nil, known, fmt.Errorf("%w: %s is %s now", ErrFencedInstance, r.Instance, old.id)
		case ok:
			return old, known, nil
		case r.MemberID != "":
			return nil, known, ErrUnknownMember
		}
	}
	if m, ok := c.byID[r.MemberID]; ok {
		return m, known, nil
	}
	if r.MemberID == "" {
		return c.add(r.NewID), added, nil
	}
	return c.add(r.MemberID), added, nil
}

// classicMember returns the member of a request that belongs to a generation.
func (c *consumers) classicMember(id, instance string, generation int32) (*consumer, error) {
	m, ok := c.byID[id]
	if instance != "" {
		if m, ok = c.statics[instance]; ok && m.id != id {
			return nil, fmt.Errorf("%w: %s is %s now", ErrFencedInstance, instance, m.id)
		}
	}
	switch {
	case !ok, m.Classic == nil:
		return nil, ErrUnknownMember
	case m.current.Epoch != generation:
		return nil, fmt.Errorf("%w: %d, the member has %d", ErrIllegalGen, generation, m.current.Epoch)
	}
	return m, nil
}

// joinAgain tells a member to take its next step, and by when.
func (m *consumer) joinAgain(now time.Time) error {
	if m.syncing || m.due.IsZero() {
		m.syncing, m.due = false, now.Add(m.Rebalance)
	}
	return ErrRebalancing
}

func (g *Group) syncConsumers(now time.Time, t Ticket, r SyncRequest, topics Topics, out *Output) error {
	c := g.consumer
	m, err := c.classicMember(r.MemberID, r.Instance, r.Generation)
	if err != nil {
		return err
	}
	protocol := m.Classic.Protocols[0]
	switch {
	case r.ProtocolType != nil && *r.ProtocolType != consumerProtocol:
		return fmt.Errorf("%w: the group's protocol type is %q, the request's %q", ErrInconsistent, consumerProtocol, *r.ProtocolType)
	case r.Protocol != nil && *r.Protocol != protocol.Name:
		return fmt.Errorf("%w: the member's protocol is %q, the request's %q", ErrInconsistent, protocol.Name, *r.Protocol)
	}
	m.session = now.Add(m.Classic.Session)
	if m.current.Epoch < c.epoch && m.current.State != Unrevoked {
		return m.joinAgain(now)
	}
	m.syncing, m.due = false, time.Time{}
	sub, _ := readSubscription(protocol.Metadata) // was read when it joined
	g.persist(out, Answer{Ticket: t, Sync: &Synced{
		ProtocolType: consumerProtocol, Protocol: protocol.Name, Assignment: appendAssignment(m.current.Assigned, sub.version, topics),
	}})
	return nil
}

func (g *Group) heartbeatClassic(now time.Time, r HeartbeatRequest) error {
	c := g.consumer
	m, err := c.classicMember(r.MemberID, r.Instance, r.Generation)
	if err != nil {
		return err
	}
	m.session = now.Add(m.Classic.Session)
	if m.current.Epoch < c.epoch || m.current.State == Unreleased && !c.waits(m) {
		return m.joinAgain(now)
	}
	return nil
}

// waits reports whether others still have something of the member's target.
func (c *consumers) waits(m *consumer) bool {
	for p := range m.target.all() {
		if o := c.owners[p]; o != nil && o != m {
			return true
		}
	}
	return false
}

// leaveClassic handles LeaveGroup; members of the consumer protocol leave by
// heartbeat only.
func (g *Group) leaveClassic(now time.Time, t Ticket, leavers []Leaver) (out Output) {
	c, changed, errs := g.consumer, false, make([]error, len(leavers))
	for i, l := range leavers {
		m, ok := c.byID[l.MemberID]
		if l.Instance != "" {
			if m, ok = c.statics[l.Instance]; ok && l.MemberID != "" && m.id != l.MemberID {
				errs[i] = ErrFencedInstance
				continue
			}
		}
		if !ok || m.Classic == nil {
			errs[i] = ErrUnknownMember
			continue
		}
		c.remove(m)
		changed = true
	}
	if changed {
		c.bump()
		g.settle(now)
	}
	g.persist(&out, Answer{Ticket: t, Left: errs})
	return out
}

// checkJoin is what a consumer group with members asks of a classic one.
func (c *consumers) checkJoin(r JoinRequest, most int) error {
	switch {
	case r.ProtocolType != consumerProtocol:
		return fmt.Errorf("%w: the group's protocol type is %q, the request's %q", ErrInconsistent, consumerProtocol, r.ProtocolType)
	case !c.shares(r):
		return fmt.Errorf("%w: no protocol that all classic members have", ErrInconsistent)
	case c.byID[r.MemberID] == nil && (r.Instance == "" || c.statics[r.Instance] == nil) && len(c.byID) >= most:
		return fmt.Errorf("%w: %d", ErrMaxSize, most)
	}
	return nil
}
