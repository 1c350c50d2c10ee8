package replica

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Receive takes a frame that a member's node sent. The frame belongs to the
// set from now on: batches in it are kept as they are. What is for a group that
// is not here, or for another incarnation of this node, is dropped: Raft sends
// again what matters. An error means that the connection carries something
// else than it should; nothing of such a frame is taken.
func (s *Set) Receive(from uint64, class Class, frame []byte) error {
	if class < ClassHeartbeat || class > ClassBulk {
		return fmt.Errorf("%w: a frame of class %d from member %d of node %d, want 1 to %d", record.ErrInvalidRequest, class, from, NodeOf(from), ClassBulk)
	}
	if len(frame) > 0 && frame[0] == frameBeats {
		return s.receiveBeats(from, class, frame)
	}
	to, msgs, err := decodeFrame(frame, from)
	if err != nil {
		return fmt.Errorf("a frame of class %d with %d bytes from member %d of node %d: %w", class, len(frame), from, NodeOf(from), err)
	}
	if to != s.cfg.Member {
		return nil
	}
	for i := range msgs {
		s.deliver(class, &msgs[i])
	}
	return nil
}

// What a message and an entry take in memory beside their bytes, about.
const (
	messageBytes = 256
	entryBytes   = 64
)

// deliver gives a message to its group.
func (s *Set) deliver(class Class, m *groupMessage) {
	s.mu.Lock()
	r := s.mu.byKey[m.group]
	s.mu.Unlock()
	if r == nil {
		return
	}
	n := int64(messageBytes + entryBytes*len(m.msg.Entries) + m.bytes)
	held := s.received[class].Add(n) - n // what is larger than the limit passes alone
	if held > 0 && held+n > s.cfg.ReceiveBytes || !r.inbox.receive(class, m.msg, n) {
		s.received[class].Add(-n)
		return
	}
	s.ready(r)
}

// classBytes are bytes of each class.
type classBytes [ClassBulk + 1]int64

// taken counts bytes no more that came from other nodes.
func (s *Set) taken(n *classBytes) {
	for class, bytes := range n {
		if bytes != 0 { // all workers share the counts, and most steps take nothing
			s.received[class].Add(-bytes)
		}
	}
	*n = classBytes{}
}

// send hands the messages of a step to the transport. Raft needs nothing to
// happen first: what a message promises has been made durable (Invariant 6).
func (r *Replica) send(msgs []pb.Message) {
	if r.set.cfg.Transport == nil {
		return
	}
	for i := range msgs {
		if inBeats(&msgs[i]) {
			r.set.peers.add(msgs[i].To, beatOf(keyOf(r.id), &msgs[i]))
			continue
		}
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
		if m.To != to || classOf(m.Type) != class || inBeats(m) {
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
