package protocol

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// memNode is a site as one of its nodes sees it.
type memNode struct {
	m  *memSite
	id int32
}

var (
	_ Partitions = memNode{}
	_ Peers      = memNode{}
	_ Meta       = memNode{}
)

// State implements Meta.
func (n memNode) State() *catalog.State {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	if n.m.mu.lags != nil {
		return n.m.mu.lags
	}
	return n.m.mu.state
}

// Propose implements Meta.
func (n memNode) Propose(_ context.Context, cmd catalog.Command) (any, error) {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	if lost := n.m.mu.lost; len(lost) > 0 {
		if n.m.mu.lost = lost[1:]; lost[0] {
			next, v, _ := n.m.mu.state.Apply(cmd)
			if t, ok := v.(*catalog.Topic); ok && n.m.mu.deletes {
				n.m.mu.made[t.ID] = t
				next, _, _ = next.Apply(catalog.DeleteTopic{Name: t.Name})
			}
			n.m.mu.state = next
		}
		return nil, record.ErrTimeout
	}
	next, v, err := n.m.mu.state.Apply(cmd)
	n.m.mu.state, n.m.mu.lags = next, nil
	n.m.mu.proposed++
	return v, err
}

// Expect implements Meta.
func (n memNode) Expect(id record.TopicID) (made func() (*catalog.Topic, bool), end func()) {
	return func() (*catalog.Topic, bool) {
		n.m.mu.Lock()
		defer n.m.mu.Unlock()
		return n.m.mu.made[id], !n.m.mu.skips
	}, func() {}
}

// Leader implements Partitions.
func (n memNode) Leader(topic string, p int32) (int32, int32) {
	leader := n.m.leader(topic, p)
	if topic == catalog.MetaGroup {
		return leader, 1
	}
	l, err := n.m.log(topic, p)
	if leader == 0 || err != nil {
		return -1, -1
	}
	return leader, l.Offsets().LeaderEpoch
}

// Partition implements Partitions.
func (n memNode) Partition(topic string, p int32) (Partition, error) {
	l, err := n.m.log(topic, p)
	if err != nil {
		return nil, err
	}
	part := memPart{l, n, topic, p}
	return part, part.leads()
}

// InSync implements Partitions.
func (n memNode) InSync(topic string, p int32) (nodes []int32) {
	l, err := n.m.log(topic, p)
	t, ok := n.State().Topic(topic)
	if err != nil || !ok || n.m.leader(topic, p) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range t.Partitions[p].Replicas {
		if heard, behind := l.mu.heard[id]; !behind || heard >= l.mu.hw {
			nodes = append(nodes, id)
		}
	}
	return nodes
}

// Follower implements Partitions.
func (n memNode) Follower(topic string, p int32) (Reader, error) {
	l, err := n.m.log(topic, p)
	return memFollower{l, n}, err
}

// memFollower is a copy at a node that does not lead.
type memFollower struct {
	*memLog
	n memNode
}

func (f memFollower) Offsets() record.Offsets {
	o := f.memLog.Offsets()
	f.mu.Lock()
	defer f.mu.Unlock()
	if heard, behind := f.mu.heard[f.n.id]; behind {
		o.HighWatermark, o.LastStable = min(o.HighWatermark, heard), min(o.LastStable, heard)
	}
	return o
}

func (f memFollower) Serving() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.heard[f.n.id] == deaf {
		return record.ErrNotLeader
	}
	return nil
}

func (f memFollower) Read(offset int64, maxBytes int) (record.Chunk, error) {
	o := f.Offsets()
	if err := f.Serving(); err != nil {
		return record.Chunk{Offsets: o}, err
	}
	if offset > o.HighWatermark {
		return record.Chunk{Offsets: o}, fmt.Errorf("%w: %d, heard of %d", record.ErrOffsetNotAvailable, offset, o.HighWatermark)
	}
	c, err := f.memLog.Read(offset, maxBytes)
	c.Offsets, c.Batches = o, below(c.Batches, o.HighWatermark)
	return c, err
}

func (f memFollower) ReadLate(offset int64, maxBytes int) (record.Chunk, error) {
	c, err := f.Read(offset, maxBytes)
	f.site.arriveLate(&c)
	return c, err
}

// deaf is for a follower that hears no leader.
const deaf = -2

// hear lets the follower at a node have heard of a high watermark, and no more;
// -1: of everything.
func (l *memLog) hear(node int32, hw int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.heard == nil {
		l.mu.heard = map[int32]int64{}
	}
	if delete(l.mu.heard, node); hw != -1 {
		l.mu.heard[node] = hw
	}
	l.wake()
}

// Call implements Peers.
func (n memNode) Call(ctx context.Context, node int32, request []byte) ([]byte, error) {
	n.m.mu.Lock()
	srv := n.m.mu.servers[node]
	cut := n.m.mu.down[node] || srv == nil
	n.m.mu.Unlock()
	if cut {
		return nil, errors.New("no connection")
	}
	return srv.Answer(ctx, slices.Clone(request))
}

// Up implements Peers.
func (n memNode) Up(node int32) bool {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	return !n.m.mu.down[node]
}

// memPart is a partition at one node. Like a real one it is good for as long as
// its log is, and refuses everything while another node leads.
type memPart struct {
	*memLog
	n     memNode
	topic string
	p     int32
}

func (p memPart) leads() error {
	switch at := p.n.m.leader(p.topic, p.p); at {
	case p.n.id:
		return nil
	case 0:
		return fmt.Errorf("%w: nobody leads %s-%d", record.ErrLeaderUnknown, p.topic, p.p)
	default:
		return fmt.Errorf("%w: node %d asks for %s-%d, which node %d leads", record.ErrNotLeader, p.n.id, p.topic, p.p, at)
	}
}

func (p memPart) Append(batches []record.Batch, done func([]record.Appended, error)) {
	p.AppendFenced(batches, 0, -1, done)
}

func (p memPart) AppendTransactional(batches []record.Batch, guard int64, done func([]record.Appended, error)) {
	p.AppendFenced(batches, 0, guard, done)
}

func (p memPart) AppendFenced(batches []record.Batch, epoch int32, guard int64, done func([]record.Appended, error)) {
	if err := p.leads(); err != nil {
		done(nil, err)
		return
	}
	p.memLog.AppendFenced(batches, epoch, guard, done)
}

// TransferTo implements Partition.
func (p memPart) TransferTo(_ context.Context, node int32) error {
	if err := p.leads(); err != nil {
		return err
	}
	if !p.n.Up(node) {
		return fmt.Errorf("node %d is not heard", node)
	}
	return p.n.m.move(p.topic, p.p, node)
}

func (p memPart) EndTransaction(m record.TransactionMarker, done func(error)) {
	if err := p.leads(); err != nil {
		done(err)
		return
	}
	p.memLog.EndTransaction(m, done)
}

func (p memPart) Transaction(id int64) (record.Transaction, error) {
	if err := p.leads(); err != nil {
		return record.Transaction{Epoch: -1, First: -1}, err
	}
	return p.memLog.Transaction(id)
}

func (p memPart) Read(offset int64, maxBytes int) (record.Chunk, error) {
	if err := p.leads(); err != nil {
		return record.Chunk{Offsets: p.Offsets()}, err
	}
	return p.memLog.Read(offset, maxBytes)
}

func (p memPart) ReadLate(offset int64, maxBytes int) (record.Chunk, error) {
	c, err := p.Read(offset, maxBytes)
	p.site.arriveLate(&c)
	return c, err
}

func (p memPart) Serving() error {
	if err := p.leads(); err != nil {
		return err
	}
	return p.memLog.Serving()
}

// move lets another node lead a partition, with a new epoch; 0: nobody. What was
// appended and not committed is lost, and its callers hear so.
func (m *memSite) move(topic string, p int32, to int32) error {
	l, err := m.log(topic, p)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.mu.leaders[record.TopicPartition{Topic: topic, Partition: p}] = to
	m.mu.Unlock()
	l.supersede()
	return nil
}

// cut makes a node unreachable for the others, or ends that. It still reaches
// them.
func (m *memSite) cut(node int32, down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.down[node] = down
}

// supersede begins a new epoch at the high watermark.
func (l *memLog) supersede() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ack := range l.mu.waiting {
		l.commits <- func() { ack.done(record.ErrNotLeader) }
	}
	l.mu.waiting, l.mu.held = nil, false
	l.mu.batches = slices.DeleteFunc(l.mu.batches, func(b record.Batch) bool { return b.BaseOffset() >= l.mu.hw })
	l.mu.next = l.mu.hw
	l.rebuild()
	l.mu.epoch++
	l.mu.ends = append(l.mu.ends, record.EpochEnd{Epoch: l.mu.epoch, End: l.mu.next})
	l.wake()
}

// rebuild computes the producers anew from what is in the log, as every replica
// can.
func (l *memLog) rebuild() {
	l.mu.producers = map[int64]*memProducer{}
	for _, b := range l.mu.batches {
		if b.ProducerID() == record.NoProducer {
			continue
		}
		p := l.producer(b.ProducerID())
		if b.ProducerEpoch() != p.epoch {
			p.epoch, p.last = b.ProducerEpoch(), nil
		}
		switch {
		case b.IsControl():
			_, coordinator, _ := b.Marker()
			p.open, p.guard, p.coordinator = -1, b.NextOffset(), coordinator
			continue
		case b.IsTransactional() && p.open < 0:
			p.open = b.BaseOffset()
		}
		p.last = append(p.last, memBatch{b.BaseSequence(), b.LastSequence(), b.BaseOffset()})
		p.last = p.last[max(0, len(p.last)-5):]
	}
}
