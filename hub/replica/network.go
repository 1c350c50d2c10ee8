package replica

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
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
		s.deliver(&msgs[i])
	}
	return nil
}

// deliver gives a message to its group.
func (s *Set) deliver(m *groupMessage) {
	s.mu.Lock()
	r := s.mu.byKey[m.group]
	s.mu.Unlock()
	if r == nil {
		return
	}
	n := int64(m.bytes)
	if s.received.Add(n) > s.cfg.ReceiveBytes && n > 0 || !r.inbox.receive(m.msg, n) {
		s.received.Add(-n)
		return
	}
	s.ready(r)
}

// send hands the messages of a step to the transport. Raft needs nothing to
// happen first: what a message promises has been made durable (Invariant 6).
func (r *Replica) send(msgs []pb.Message) {
	if r.set.cfg.Transport == nil {
		return
	}
	for i := range msgs {
		if to, class := msgs[i].To, classOf(msgs[i].Type); to != raft.None {
			r.sendFrame(msgs[i:], to, class)
		}
	}
}

// frameBytes is how much one frame carries, unless its first message is larger.
const frameBytes = 1 << 20

// sendFrame sends the messages of a class to one member, as many as fit, and
// clears them. When they do not get away, the next step hears of it: there is
// no hurry, a member that cannot be reached is tried again at the next tick.
func (r *Replica) sendFrame(msgs []pb.Message, to uint64, class Class) {
	var w frameWriter
	var sent []pb.Message
	size := 0
	for i := range msgs {
		m := &msgs[i]
		if m.To != to || classOf(m.Type) != class {
			continue
		}
		if size += m.Size(); size > frameBytes && len(sent) > 0 {
			break
		}
		w.add(keyOf(r.id), m)
		sent = append(sent, pb.Message{Type: m.Type, To: to})
		*m = pb.Message{}
	}
	if !r.set.cfg.Transport.Send(to, class, w.frame(to)) && class != ClassHeartbeat {
		r.inbox.post(func(b *inbox) { b.mu.unsent = append(b.mu.unsent, sent...) })
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
