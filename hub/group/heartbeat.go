package group

import "time"

// HeartbeatRequest keeps a session alive.
type HeartbeatRequest struct {
	MemberID   string
	Instance   string
	Generation int32
}

// Heartbeat keeps the member's session and tells it by ErrRebalancing to join
// again.
func (g *Group) Heartbeat(now time.Time, r HeartbeatRequest) error {
	if g.state == Dead {
		return ErrDead
	}
	if g.consumer != nil {
		return g.heartbeatClassic(now, r)
	}
	m, err := g.current(r.MemberID, r.Instance, r.Generation)
	if err != nil {
		return err
	}
	if g.state == Empty {
		return ErrUnknownMember
	}
	if !m.isNew {
		m.alive(now)
	}
	if g.state == Preparing {
		return ErrRebalancing
	}
	return nil
}
