package replica

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Receive takes a frame that a member's node sent. The frame belongs to the
// set from now on: batches in it are kept as they are. What is for a group that
// is not here, or for another incarnation of this node, is dropped: Raft sends
// again what matters. An error means that the connection carries something
// else than it should; nothing of such a frame is taken.
func (s *Set) Receive(from uint64, class Class, frame []byte) error {
	to, msgs, err := decodeFrame(frame, from)
	if err != nil {
		return fmt.Errorf("a frame of class %d with %d bytes from member %d of node %d: %w", class, len(frame), from, NodeOf(from), err)
	}
	if to != s.cfg.Member {
		return nil
	}
	for i := range msgs {
		s.mu.Lock()
		r := s.mu.byKey[msgs[i].group]
		s.mu.Unlock()
		if r != nil && r.inbox.receive(msgs[i].msg) {
			s.ready(r)
		}
	}
	return nil
}

// Campaign makes this member stand for election now rather than when it has
// heard of no leader for long enough: the group is new, or its leader is said to
// have failed. While a leader is heard the others refuse it (Invariant 16).
func (r *Replica) Campaign() {
	r.inbox.post(func(b *inbox) { b.mu.campaign = true })
	r.set.ready(r)
}

// send hands the messages of a step to the transport. Raft needs nothing to
// happen first: what a message promises has been made durable (Invariant 6).
func (r *Replica) send(msgs []pb.Message) {
	if r.set.cfg.Transport == nil {
		return
	}
	for i := range msgs {
		m := &msgs[i]
		var w frameWriter
		w.add(keyOf(r.id), m)
		r.set.cfg.Transport.Send(m.To, classOf(m.Type), w.frame(m.To))
		*m = pb.Message{}
	}
}

// beat gives ticks to the groups with other members, until ctx ends.
func (s *Set) beat(ctx context.Context) {
	if s.cfg.Transport == nil {
		return
	}
	t := time.NewTicker(s.cfg.Tick)
	defer t.Stop()
	var due []*Replica
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		due = s.beating(due[:0])
		for _, r := range due {
			r.inbox.post(func(b *inbox) { b.mu.ticks++ })
			s.ready(r)
		}
		clear(due)
	}
}

func (s *Set) beating(due []*Replica) []*Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.mu.byLog {
		if r.view.Load().ticks {
			due = append(due, r)
		}
	}
	return due
}
