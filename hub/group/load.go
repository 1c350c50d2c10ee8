package group

import "time"

// Metadata is what is kept of a group across restarts, and what DescribeGroups
// shows. It holds no deadlines: sessions begin anew after a load.
type Metadata struct {
	ProtocolType string
	Protocol     string
	Leader       string
	Generation   int32
	Since        int64 // milliseconds; when the state was entered
	Members      []MemberMetadata
}

// MemberMetadata is one member with its assignment.
type MemberMetadata struct {
	ID, Instance         string
	ClientID, ClientHost string
	Rebalance, Session   time.Duration
	Subscription         []byte // its metadata for the selected protocol
	Assignment           []byte
}

// snapshot is the group as it is, or as it will be with these assignments.
func (g *Group) snapshot(assignments map[string][]byte) *Metadata {
	md := &Metadata{
		ProtocolType: g.protocolType, Protocol: g.protocol, Leader: g.leader,
		Generation: g.generation, Since: g.since.UnixMilli(),
	}
	for _, m := range g.members {
		a := m.assignment
		if assignments != nil {
			a = assignments[m.id]
		}
		md.Members = append(md.Members, MemberMetadata{
			ID: m.id, Instance: m.instance, ClientID: m.clientID, ClientHost: m.clientHost,
			Rebalance: m.rebalance, Session: m.session,
			Subscription: m.metadata(g.protocol), Assignment: a,
		})
	}
	return md
}

// Load returns a group as it was persisted: stable with its members, waiting
// for them to join again where some had gone, or empty. md is nil for a group that has offsets only.
func Load(id string, cfg Config, now time.Time, md *Metadata, offsets []OffsetWrite) *Group {
	g := New(id, cfg, now)
	g.apply(offsets)
	if md == nil {
		return g
	}
	g.protocolType, g.protocol, g.generation = md.ProtocolType, md.Protocol, md.Generation
	g.since = time.UnixMilli(md.Since)
	for _, m := range md.Members {
		g.add(&member{
			id: m.ID, instance: m.Instance, clientID: m.ClientID, clientHost: m.ClientHost,
			session: m.Session, rebalance: m.Rebalance, assignment: m.Assignment,
			protocols: []Protocol{{Name: md.Protocol, Metadata: m.Subscription}},
			synced:    true,
			deadline:  now.Add(m.Session),
		})
	}
	if len(g.members) > 0 {
		g.state = Stable
	}
	if _, ok := g.byID[md.Leader]; ok {
		g.leader = md.Leader
	} else if len(g.members) > 0 {
		g.prepare(now, new(Output)) // see recordGone; nobody waits for an answer yet
	}
	return g
}

// Describe shows the group; without members its protocol is empty.
func (g *Group) Describe() Metadata {
	md := g.snapshot(nil)
	if g.state == Preparing || g.state == Completing {
		// Kafka shows neither the old nor the coming assignment.
		for i := range md.Members {
			md.Members[i].Assignment = nil
		}
	}
	return *md
}

// Vacant reports whether there is nothing to remember of the group: it came
// into being with a request that changed nothing.
func (g *Group) Vacant() bool {
	return g.state == Empty && g.generation == 0 && g.consumer == nil && len(g.pending)+len(g.offsets)+len(g.undecided)+len(g.inFlight) == 0
}

// Close answers every parked request with err: the group is handed over.
func (g *Group) Close(err error) (out Output) {
	for _, m := range g.members {
		out.end(m.join, err)
		out.end(m.sync, err)
		m.join, m.sync = 0, 0
	}
	g.state = Dead
	return out
}
