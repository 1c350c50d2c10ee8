package group

import "time"

// joinStatic handles the join of a static member without a member ID: a
// process that starts, perhaps again (KIP-345). One that was here before takes
// over its own place, and the old process is fenced.
func (g *Group) joinStatic(now time.Time, t Ticket, r JoinRequest, out *Output) {
	old, ok := g.statics[r.Instance]
	if !ok {
		g.joinNew(now, t, r.NewID, r, out)
		return
	}
	wasLeader := g.leader
	m := g.replace(now, old, r, out)
	if g.state != Stable || g.selectProtocol() != g.protocol {
		m.join = t
		g.rebalance(now, out)
		return
	}
	// Nothing changes for the group: no rebalance. The new ID must be durable,
	// or after a restart the old process would be the member again.
	answer := g.joined(m)
	if !r.CanSkip {
		// This client cannot be told to skip, so it must not know that it
		// leads: it would assign anew without a rebalance.
		answer.Leader, answer.Members = wasLeader, nil
	} else {
		answer.Skip = m.id == g.leader
	}
	generation := g.generation
	g.write(out, Write{Metadata: g.snapshot(nil)}, func(now time.Time, err error, out *Output) {
		switch {
		case g.consumer != nil: // an upgrade has come between
			out.end(t, ErrRebalancing)
		case err != nil:
			out.end(t, err)
			if g.byID[m.id] == m && g.generation == generation {
				g.rebalance(now, out)
			}
		case g.byID[m.id] != m:
			out.end(t, ErrFencedInstance)
		default:
			out.answer(Answer{Ticket: t, Join: answer})
		}
	})
}

// replace gives the place of old to a new process with a new member ID.
func (g *Group) replace(now time.Time, old *member, r JoinRequest, out *Output) *member {
	out.end(old.join, ErrFencedInstance)
	out.end(old.sync, ErrFencedInstance)
	m := *old
	m.id, m.join, m.sync = r.NewID, 0, 0
	m.protocols, m.session, m.rebalance = r.Protocols, r.Session, r.Rebalance
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	m.alive(now)
	for i := range g.members {
		if g.members[i] == old {
			g.members[i] = &m
		}
	}
	delete(g.byID, old.id)
	g.byID[m.id] = &m
	g.statics[m.instance] = &m
	if g.leader == old.id {
		g.leader = m.id
	}
	return &m
}
