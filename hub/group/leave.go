package group

import "time"

// Leaver is one member of a LeaveGroup request; from v3 on there can be
// several, and a static one is named by its instance ID alone.
type Leaver struct {
	MemberID string
	Instance string
}

// Leave takes members out at once. It returns an error for each leaver.
func (g *Group) Leave(now time.Time, leavers []Leaver) ([]error, Output) {
	var out Output
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
	return errs, out
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
