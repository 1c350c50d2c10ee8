package group

import (
	"slices"
	"time"
)

// The life of a group:
//
//	Empty ──join──► Preparing ──all joined, or joinBy──► Completing ──leader's sync is durable──► Stable
//	  ▲                 ▲  └──nobody left──► Empty           │                                      │
//	  │                 └────── join, leave, expiry ◄────────┴──────────────────────────────────────┘
//	  └──────────────── the last member left or expired
//
// Completing and Stable go back to Preparing on any change of the members.

// rebalance begins a rebalance, or looks whether the one that runs is over.
func (g *Group) rebalance(now time.Time, out *Output) {
	if g.state == Dead {
		return
	}
	if g.state != Preparing {
		g.prepare(now, out)
	}
	g.tryComplete(now, out)
}

func (g *Group) prepare(now time.Time, out *Output) {
	if g.state == Completing {
		// The members that wait for their assignment will not get one.
		for _, m := range g.members {
			out.end(m.sync, ErrRebalancing)
			m.sync, m.assignment = 0, nil
			m.alive(now)
		}
	}
	g.initial, g.more = g.state == Empty, false
	longest := g.longestRebalance()
	g.joinBy = now.Add(longest)
	if g.initial {
		g.joinBy = now.Add(min(g.cfg.InitialDelay, longest))
		g.capBy = now.Add(longest)
	}
	g.enter(now, Preparing)
}

func (g *Group) longestRebalance() (d time.Duration) {
	for _, m := range g.members {
		d = max(d, m.rebalance)
	}
	return d
}

// tryComplete ends the rebalance if nobody is missing. The initial delay runs
// to its end: its purpose is to wait for members not known yet.
func (g *Group) tryComplete(now time.Time, out *Output) {
	if g.state != Preparing || len(g.pending) > 0 || g.initial && now.Before(g.joinBy) {
		return
	}
	for _, m := range g.members {
		if m.join == 0 {
			return
		}
	}
	g.complete(now, out)
}

// joinTimeout is reached at joinBy.
func (g *Group) joinTimeout(now time.Time, out *Output) {
	if g.initial && g.more && now.Before(g.capBy) {
		g.more = false
		g.joinBy = earliest(now.Add(g.cfg.InitialDelay), g.capBy)
		return
	}
	for _, m := range slices.Clone(g.members) {
		if m.join == 0 && m.instance == "" {
			g.remove(m)
		}
	}
	if len(g.members) > 0 && !g.electJoined() {
		// Only static members that have not come back: their sessions decide.
		g.joinBy, g.initial = now.Add(g.longestRebalance()), false
		return
	}
	g.complete(now, out)
}

// electJoined makes sure that the leader is one who has joined.
func (g *Group) electJoined() bool {
	if m := g.byID[g.leader]; m != nil && m.join != 0 {
		return true
	}
	for _, m := range g.members {
		if m.join != 0 {
			g.leader = m.id
			return true
		}
	}
	return false
}

// complete begins the next generation.
func (g *Group) complete(now time.Time, out *Output) {
	g.generation++
	g.initial = false
	if len(g.members) == 0 {
		g.becomeEmpty(now, out)
		return
	}
	g.electJoined()
	g.protocol = g.selectProtocol()
	g.enter(now, Completing)
	g.syncBy = now.Add(g.longestRebalance())
	for _, m := range g.members {
		m.synced, m.isNew = false, false
		m.alive(now)
		if m.join != 0 {
			out.answer(Answer{Ticket: m.join, Join: g.joined(m)})
			m.join = 0
		}
	}
}

// becomeEmpty persists the generation, so that it does not begin anew after a
// restart. The group is usable if that fails: the generation goes on counting
// from memory.
func (g *Group) becomeEmpty(now time.Time, out *Output) {
	g.protocol, g.leader, g.gone = "", "", false
	g.enter(now, Empty)
	g.write(out, Write{Metadata: g.snapshot(nil)}, func(time.Time, error, *Output) {})
}

// afterRemoval follows the removal of a member in whatever state.
func (g *Group) afterRemoval(now time.Time, out *Output) {
	switch g.state {
	case Stable, Completing, Preparing:
		g.rebalance(now, out)
	}
}

// syncTimeout is reached at syncBy: members that did not fetch their
// assignment are gone.
func (g *Group) syncTimeout(now time.Time, out *Output) {
	removed := false
	for _, m := range slices.Clone(g.members) {
		if !m.synced {
			g.remove(m)
			removed = true
		}
	}
	if removed {
		g.rebalance(now, out)
		return
	}
	// All have synced; in Completing the write is under way.
	g.syncBy = time.Time{}
}

// selectProtocol lets each member vote for the first of its protocols that
// all know. Ties go to the order of the first member.
func (g *Group) selectProtocol() string {
	if len(g.members) == 0 {
		return ""
	}
	votes := map[string]int{}
	for _, m := range g.members {
		for _, p := range m.protocols {
			if g.allSupport(p.Name, nil) {
				votes[p.Name]++
				break
			}
		}
	}
	best := ""
	for _, p := range g.members[0].protocols {
		if votes[p.Name] > 0 && (best == "" || votes[p.Name] > votes[best]) {
			best = p.Name
		}
	}
	return best
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
