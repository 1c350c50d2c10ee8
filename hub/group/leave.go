package group

import (
	"slices"
	"time"
)

// Leaver is one member of a LeaveGroup request; from v3 on there can be
// several, and a static one is named by its instance ID alone.
type Leaver struct {
	MemberID string
	Instance string
}

// Leave takes members out at once. It is answered with an error or nil for each
// leaver when their absence is durable: one that came back with a restart would
// hold up every rebalance until its session ends.
func (g *Group) Leave(now time.Time, t Ticket, leavers []Leaver) (out Output) {
	if g.consumer != nil && g.state != Dead {
		return g.leaveClassic(now, t, leavers)
	}
	errs := make([]error, len(leavers))
	changed := false
	for i, l := range leavers {
		if _, ok := g.pending[l.MemberID]; ok && l.Instance == "" {
			delete(g.pending, l.MemberID)
			changed = true
			continue
		}
		m, err := g.leaver(l)
		if err != nil {
			errs[i] = err
			continue
		}
		out.end(m.join, ErrUnknownMember)
		out.end(m.sync, ErrUnknownMember)
		g.remove(m)
		changed = true
		if g.state != Preparing {
			g.prepare(now, &out)
		}
	}
	if changed {
		g.tryComplete(now, &out)
	}
	g.recordGone(&out)
	g.after(&out, Answer{Ticket: t, Left: errs})
	return out
}

// recordGone makes it durable that members have gone while the others are to
// join again, or have joined and wait for their assignments. The record names
// no leader, by which Load knows that a rebalance is due. New members are not in
// it: they have no part in the generation, and join again after a restart.
func (g *Group) recordGone(out *Output) {
	if !g.gone || g.state != Preparing && g.state != Completing {
		return
	}
	g.gone = false
	md := g.snapshot(nil)
	md.Leader = ""
	md.Members = slices.DeleteFunc(md.Members, func(m MemberMetadata) bool { return g.byID[m.ID].isNew })
	g.write(out, Write{Metadata: md}, func(time.Time, error, *Output) {})
}

func (g *Group) leaver(l Leaver) (*member, error) {
	if g.state == Dead {
		return nil, ErrUnknownMember
	}
	if m, ok := g.statics[l.Instance]; ok && l.Instance != "" && l.MemberID == "" {
		return m, nil
	}
	return g.find(l.MemberID, l.Instance)
}
