package replica

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// suspectTicks is for how many ticks a node must be silent after it was said to
// have failed.
const suspectTicks = 3

// NodeFailed is a hint that a node has failed, as gossip or a broken connection
// gives it. If the node is not heard soon after, the groups that it led elect
// another leader early (Invariant 16).
func (s *Set) NodeFailed(node int32) { s.peers.suspect(node) }

// beat gives ticks to the groups with other members, and signs of life to
// their nodes, until ctx ends. Heartbeats and the answers to them wait for half
// a tick at most.
func (s *Set) beat(ctx context.Context) {
	if s.cfg.Transport == nil {
		return
	}
	t := time.NewTicker(s.cfg.Tick / 2)
	defer t.Stop()
	var all []*Replica
	for half := false; ; half = !half {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !half {
			all = s.replicas(all[:0])
			s.tickGroups(all)
			clear(all)
		}
		for to, frame := range s.peers.frames(!half) {
			s.cfg.Transport.Send(to, ClassHeartbeat, frame)
		}
	}
}

// replicas lists them in no order.
func (s *Set) replicas(all []*Replica) []*Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	all = slices.Grow(all, len(s.mu.byLog))
	for _, r := range s.mu.byLog {
		all = append(all, r)
	}
	return all
}

// tickGroups lets a tick pass.
func (s *Set) tickGroups(all []*Replica) {
	for _, id := range s.peers.tick(suspectTicks) {
		for _, r := range all {
			r.suspect(id)
		}
	}
	for _, r := range all {
		v := r.view.Load()
		for _, id := range v.others {
			heard, echoed := s.peers.silence(id)
			if v.role == RoleFailed || v.role == RoleQuarantined {
				s.peers.add(id, beat{group: keyOf(r.id), kind: beatGone})
			} else if wake, ticks := v.roused(id, heard, echoed, s.cfg.ElectionTicks); wake {
				r.rouse(ticks)
			}
		}
		if v.ticks {
			r.inbox.post(func(b *inbox) { b.mu.ticks++ })
			s.ready(r)
		}
	}
}

// roused reports whether a group at rest is woken, and with how many ticks,
// because a member's node was not heard, or has not heard this one, for so long.
func (v *view) roused(member, heard, echoed uint64, electionTicks int) (wake bool, ticks int) {
	switch silent := uint64(electionTicks); {
	case !v.quiet:
	case v.role == RoleLeader && echoed >= silent:
		return true, 0
	case v.leader == member && heard >= silent:
		return true, electionTicks
	}
	return false, 0
}

// suspect has the group elect early if the member led it, and reports whether
// it did.
func (r *Replica) suspect(member uint64) bool {
	if r.view.Load().leader != member {
		return false
	}
	r.inbox.post(func(b *inbox) { b.mu.suspect = member })
	r.set.ready(r)
	return true
}

// rouse wakes a quiet group, for which ticks have passed.
func (r *Replica) rouse(ticks int) {
	r.inbox.post(func(b *inbox) { b.mu.wake, b.mu.ticks = true, b.mu.ticks+ticks })
	r.set.ready(r)
}

// receiveBeats takes a frame of heartbeats.
func (s *Set) receiveBeats(from uint64, class Class, frame []byte) error {
	f, err := decodeBeats(frame)
	if err != nil {
		return fmt.Errorf("heartbeats, %d bytes, from member %d of node %d: %w", len(frame), from, NodeOf(from), err)
	}
	if f.to != s.cfg.Member {
		return nil
	}
	if s.peers.hears(from, &f) {
		s.begunAnew(from)
	}
	for i := range f.beats {
		b := &f.beats[i]
		if b.kind == beatGone {
			s.gone(b.group, from)
			continue
		}
		s.deliver(class, &groupMessage{group: b.group, msg: b.message(from, s.cfg.Member)})
	}
	return nil
}

// begunAnew wakes the groups of a member whose process was started again: it
// leads none of them any more and knows of no leader.
func (s *Set) begunAnew(member uint64) {
	for _, r := range s.replicas(nil) {
		if !r.suspect(member) && r.view.Load().quiet {
			r.rouse(0)
		}
	}
}

// gone takes that a member's replica has failed. Its node lives, and nobody
// else would notice as long as the group is quiet.
func (s *Set) gone(g groupKey, member uint64) {
	s.mu.Lock()
	r := s.mu.byKey[g]
	s.mu.Unlock()
	if r != nil {
		r.suspect(member)
	}
}
