package hub

import (
	"context"
	"fmt"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/leading"
	"github.com/entrepot-hub/entrepot/hub/protocol"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// partitions shows the node's replicas to the Kafka server.
type partitions struct{ h *Hub }

// get finds a topic and this node's replica of one of its partitions, each nil if
// there is none. The catalog is ahead of the replicas for a moment: that of an
// older topic of the name is about to go, and what it took would go with it.
func (p partitions) get(topic string, n int32) (*catalog.Topic, *replica.Replica) {
	t, _ := p.h.meta.State().Topic(topic)
	r, _ := p.h.set.Get(record.TopicPartition{Topic: topic, Partition: n})
	if t != nil && r != nil && r.ID().ID != t.ID {
		return t, nil
	}
	return t, r
}

// Partition implements protocol.Partitions.
func (p partitions) Partition(topic string, n int32) (protocol.Partition, error) {
	t, r := p.get(topic, n)
	switch {
	case r != nil:
		return partition{r}, nil
	case t == nil || n < 0 || int(n) >= len(t.Partitions):
		return nil, fmt.Errorf("%s-%d: %w", topic, n, record.ErrUnknownTopic)
	case len(p.h.meta.State().Nodes()) > 1:
		return nil, fmt.Errorf("%s-%d: %w: it is on nodes %v", topic, n, record.ErrNotLeader, t.Partitions[n].Replicas)
	}
	return nil, fmt.Errorf("%s-%d: %w", topic, n, record.ErrUnknownTopic)
}

// Leader implements protocol.Partitions.
func (p partitions) Leader(topic string, n int32) (node, epoch int32) {
	t, r := p.get(topic, n)
	return leading.Who(p.h.id.ID, t, n, r, p.h.leaders)
}

// Follower implements protocol.Partitions.
func (p partitions) Follower(topic string, n int32) (protocol.Reader, error) {
	_, r := p.get(topic, n)
	if r == nil {
		return nil, fmt.Errorf("%s-%d: %w: there is no replica here", topic, n, record.ErrNotLeader)
	}
	return replica.Follower{Replica: r}, nil
}

// InSync implements protocol.Partitions.
func (p partitions) InSync(topic string, n int32) []int32 {
	t, _ := p.get(topic, n)
	if t == nil {
		return nil
	}
	c, _ := p.h.leaders.Leader(t.ID, n)
	return c.InSync
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

// quorum is the catalog's group, where this node leads it.
func (h *Hub) quorum(ctx context.Context) (protocol.Quorum, error) {
	st, members, err := h.meta.Quorum(ctx)
	q := protocol.Quorum{Leader: st.Leader, Epoch: st.Offsets.LeaderEpoch, Commit: st.Commit, Last: st.Last}
	for _, p := range members {
		q.Members = append(q.Members, protocol.QuorumMember{Node: p.Node(), ID: p.Member, Learner: p.Learner, Match: p.Match, Active: p.Active})
	}
	return q, err
}
