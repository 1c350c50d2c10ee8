package group

import (
	"errors"
	"fmt"
	"time"
)

// SyncRequest asks for the member's assignment; the leader's brings all.
type SyncRequest struct {
	MemberID     string
	Instance     string
	Generation   int32
	ProtocolType *string // v5+, nil: not said
	Protocol     *string
	Assignments  map[string][]byte // by member ID; from the leader
}

// Synced answers a sync.
type Synced struct {
	ProtocolType string
	Protocol     string
	Assignment   []byte
}

// Sync handles a SyncGroup request. It is answered when the leader's
// assignment is durable.
func (g *Group) Sync(now time.Time, t Ticket, r SyncRequest, topics Topics) (out Output) {
	if g.consumer != nil && g.state != Dead {
		if err := g.syncConsumers(now, t, r, topics, &out); err != nil {
			out.end(t, err)
		}
		return out
	}
	m, err := g.checkSync(r)
	if err != nil {
		out.end(t, err)
		return out
	}
	m.alive(now)
	if g.state == Stable {
		m.synced = true
		out.answer(Answer{Ticket: t, Sync: g.synced(m)})
		return out
	}
	out.end(m.sync, ErrRebalancing) // a repeated request: the first is stale
	first := !m.synced
	m.sync, m.synced = t, true
	if m.id == g.leader && first {
		g.assign(now, r.Assignments, &out)
	}
	return out
}

func (g *Group) checkSync(r SyncRequest) (*member, error) {
	if g.state == Dead {
		return nil, ErrDead
	}
	m, err := g.current(r.MemberID, r.Instance, r.Generation)
	if r.Generation > g.generation && (errors.Is(err, ErrIllegalGen) || errors.Is(err, ErrUnknownMember)) {
		// A coordinator before this one has let the members join, and was gone
		// before it had their assignment durably. Nobody has been given any of it:
		// they join again, with what they own.
		return nil, ErrRebalancing
	}
	if err != nil {
		return nil, err
	}
	switch {
	case r.ProtocolType != nil && *r.ProtocolType != g.protocolType:
		return nil, fmt.Errorf("%w: the group's protocol type is %q, the request's %q", ErrInconsistent, g.protocolType, *r.ProtocolType)
	case r.Protocol != nil && *r.Protocol != g.protocol:
		return nil, fmt.Errorf("%w: the group's protocol is %q, the request's %q", ErrInconsistent, g.protocol, *r.Protocol)
	case g.state == Preparing:
		return nil, ErrRebalancing
	case g.state == Empty:
		return nil, ErrUnknownMember
	}
	return m, nil
}

// assign persists the leader's assignment; members get theirs once it is
// durable, unless the group has gone on in the meantime.
func (g *Group) assign(now time.Time, assignments map[string][]byte, out *Output) {
	generation := g.generation
	g.gone = false
	g.write(out, Write{Metadata: g.snapshot(assignments)}, func(now time.Time, err error, out *Output) {
		if g.state != Completing || g.generation != generation {
			return
		}
		if err != nil {
			for _, m := range g.members {
				out.end(m.sync, err)
				m.sync = 0
			}
			g.rebalance(now, out)
			return
		}
		g.enter(now, Stable)
		for _, m := range g.members {
			m.assignment = assignments[m.id]
			if m.sync != 0 {
				m.alive(now)
				out.answer(Answer{Ticket: m.sync, Sync: g.synced(m)})
				m.sync = 0
			}
		}
	})
}

func (g *Group) synced(m *member) *Synced {
	return &Synced{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}
}
