package hub

import (
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
	if !ok {
		return nil, fmt.Errorf("%s-%d: %w", topic, n, record.ErrUnknownTopic)
	}
	return partition{r}, nil
}

// Leader implements protocol.Partitions.
func (p partitions) Leader(topic string, n int32) (node, epoch int32) {
	r, ok := p.h.set.Get(record.TopicPartition{Topic: topic, Partition: n})
	if !ok {
		return -1, -1
	}
	id, epoch := r.Leader()
	if id == 0 || id == nodeID && r.Serving() != nil {
		return -1, epoch // nobody, or this node does not answer yet
	}
	return id, epoch
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
