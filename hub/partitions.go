package hub

import (
	"context"
	"fmt"

	"github.com/entrepot-hub/entrepot/hub/protocol"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// partitions shows the node's replicas to the Kafka server.
type partitions struct{ h *Hub }

// Partition implements protocol.Partitions.
func (p partitions) Partition(topic string, n int32) (protocol.Partition, error) {
	r, ok := p.h.set.Get(record.TopicPartition{Topic: topic, Partition: n})
	if ok {
		return partition{r}, nil
	}
	t, there := p.h.meta.State().Topic(topic)
	switch {
	case !there || n < 0 || int(n) >= len(t.Partitions):
		return nil, fmt.Errorf("%s-%d: %w", topic, n, record.ErrUnknownTopic)
	case !p.h.alone():
		return nil, fmt.Errorf("%s-%d: %w: it is on nodes %v", topic, n, record.ErrNotLeader, t.Partitions[n].Replicas)
	}
	return nil, fmt.Errorf("%s-%d: %w", topic, n, record.ErrUnknownTopic)
}

// Leader implements protocol.Partitions: this node's own replica knows best, and
// of a partition that is elsewhere its leader has told.
func (p partitions) Leader(topic string, n int32) (node, epoch int32) {
	node, epoch = -1, -1
	term := uint64(0)
	if r, ok := p.h.set.Get(record.TopicPartition{Topic: topic, Partition: n}); ok {
		st := r.Status()
		term, epoch = st.Term, st.Offsets.LeaderEpoch
		if st.Leader != 0 && (st.Leader != p.h.id.ID || st.Serving) {
			node = st.Leader
		}
	}
	t, there := p.h.meta.State().Topic(topic)
	if !there {
		return node, epoch
	}
	c, known := p.h.leaders.Leader(t.ID, n)
	if known && c.Node != p.h.id.ID && (c.Term > term || c.Term == term && node < 0) {
		return c.Node, c.Epoch
	}
	return node, epoch
}

// Follower implements protocol.Partitions.
func (p partitions) Follower(topic string, n int32) (protocol.Reader, error) {
	r, ok := p.h.set.Get(record.TopicPartition{Topic: topic, Partition: n})
	if !ok {
		return nil, fmt.Errorf("%s-%d: %w: there is no replica here", topic, n, record.ErrNotLeader)
	}
	return replica.Follower{Replica: r}, nil
}

// InSync implements protocol.Partition.
func (p partition) InSync(ctx context.Context) ([]int32, error) {
	all, err := p.Progress(ctx)
	var nodes []int32
	for _, one := range all {
		if one.Caught && one.Active && !one.Learner {
			nodes = append(nodes, one.Node())
		}
	}
	return nodes, err
}

// partition is a replica as the Kafka server sees it.
type partition struct{ *replica.Replica }

// Producers implements protocol.Partition.
func (p partition) Producers() []protocol.Producer {
	all := p.Replica.Producers()
	out := make([]protocol.Producer, len(all))
	for i, one := range all {
		out[i] = protocol.Producer{ID: one.ID, Epoch: one.Epoch, LastSequence: one.LastSequence, LastTimestamp: one.LastSeen, CoordinatorEpoch: one.CoordinatorEpoch, TxnFirstOffset: one.TxnFirst}
	}
	return out
}

// Size implements protocol.Partition.
func (p partition) Size() int64 { return p.Status().Bytes }
