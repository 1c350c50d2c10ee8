package protocol

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
)

// shareNodes reaches the states of share groups at whatever node keeps them, by
// the requests with which Kafka's brokers reach its share coordinators.
type shareNodes struct {
	parts Partitions
	here  *shares
	peers *peers
}

var _ shareKeeper = shareNodes{}

// shareRetry is between two tries while a state moves to another node.
const shareRetry = 50 * time.Millisecond

// at calls f with the node that keeps a state, here being true for this one,
// until it answers or ctx ends.
func (n shareNodes) at(ctx context.Context, k shareKey, f func(node int32, here bool) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		p, err := n.here.shardOf(ctx, k.name())
		if err != nil {
			return err
		}
		err = errNotCoordinator
		if node, _ := n.parts.Leader(catalog.ShareStateTopic, p); node >= 0 {
			err = f(node, !n.peers.other(node))
		}
		if err == nil || !movesOn(err) || !pause(ctx, shareRetry) {
			return err
		}
	}
}

// movesOn reports whether another try, perhaps at another node, may do.
func movesOn(err error) bool {
	return errors.Is(err, errNotCoordinator) || errors.Is(err, errLoading) || errors.Is(err, errNoPeer)
}

// look implements shareKeeper.
func (n shareNodes) look(ctx context.Context, k shareKey, leader int32) (found shareFound, err error) {
	err = n.at(ctx, k, func(node int32, here bool) (err error) {
		if here {
			found, err = n.here.look(ctx, k, leader)
			return err
		}
		req := kmsg.NewPtrReadShareGroupStateRequest()
		req.GroupID = k.group
		p := kmsg.ReadShareGroupStateRequestTopicPartition{Partition: k.partition, LeaderEpoch: leader}
		req.Topics = []kmsg.ReadShareGroupStateRequestTopic{{TopicID: k.topic, Partitions: []kmsg.ReadShareGroupStateRequestTopicPartition{p}}}
		got, err := askOf[*kmsg.ReadShareGroupStateResponse](n.peers.ask(ctx, node, req))
		if err != nil {
			return err
		}
		if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
			return errOutcome(node)
		}
		one := got.Topics[0].Partitions[0]
		found = shareFound{there: one.StartOffset >= 0, epoch: one.StateEpoch, start: one.StartOffset}
		for _, b := range one.StateBatches {
			found.batches = append(found.batches, share.Batch{First: b.FirstOffset, Last: b.LastOffset, State: share.State(b.DeliveryState), Count: b.DeliveryCount})
		}
		return failure(one.ErrorCode)
	})
	return found, err
}

// begin implements shareKeeper.
func (n shareNodes) begin(ctx context.Context, k shareKey, epoch int32, start int64) error {
	return n.at(ctx, k, func(node int32, here bool) error {
		if here {
			return n.here.begin(ctx, k, epoch, start)
		}
		return n.beginAt(ctx, node, k, epoch, start)
	})
}

func (n shareNodes) beginAt(ctx context.Context, node int32, k shareKey, epoch int32, start int64) error {
	req := kmsg.NewPtrInitializeShareGroupStateRequest()
	req.GroupID = k.group
	p := kmsg.InitializeShareGroupStateRequestTopicPartition{Partition: k.partition, StateEpoch: epoch, StartOffset: start}
	req.Topics = []kmsg.InitializeShareGroupStateRequestTopic{{TopicID: k.topic, Partitions: []kmsg.InitializeShareGroupStateRequestTopicPartition{p}}}
	got, err := askOf[*kmsg.InitializeShareGroupStateResponse](n.peers.ask(ctx, node, req))
	if err != nil {
		return err
	}
	if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
		return errOutcome(node)
	}
	return failure(got.Topics[0].Partitions[0].ErrorCode)
}

// store implements shareKeeper.
func (n shareNodes) store(ctx context.Context, k shareKey, epoch, leader int32, start int64, batches []share.Batch) error {
	return n.at(ctx, k, func(node int32, here bool) error {
		if here {
			return n.here.store(ctx, k, epoch, leader, start, batches)
		}
		req := kmsg.NewPtrWriteShareGroupStateRequest()
		req.GroupID = k.group
		p := kmsg.NewWriteShareGroupStateRequestTopicPartition()
		p.Partition, p.StateEpoch, p.LeaderEpoch, p.StartOffset = k.partition, epoch, leader, start
		for _, b := range batches {
			p.StateBatches = append(p.StateBatches, kmsg.WriteShareGroupStateRequestTopicPartitionStateBatch{
				FirstOffset: b.First, LastOffset: b.Last, DeliveryState: int8(b.State), DeliveryCount: b.Count,
			})
		}
		req.Topics = []kmsg.WriteShareGroupStateRequestTopic{{TopicID: k.topic, Partitions: []kmsg.WriteShareGroupStateRequestTopicPartition{p}}}
		got, err := askOf[*kmsg.WriteShareGroupStateResponse](n.peers.ask(ctx, node, req))
		if err != nil {
			return err
		}
		if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
			return errOutcome(node)
		}
		return failure(got.Topics[0].Partitions[0].ErrorCode)
	})
}

// remove forgets a state.
func (n shareNodes) remove(ctx context.Context, k shareKey) error {
	return n.at(ctx, k, func(node int32, here bool) error {
		if here {
			return n.here.remove(ctx, k)
		}
		return n.removeAt(ctx, node, k)
	})
}

func (n shareNodes) removeAt(ctx context.Context, node int32, k shareKey) error {
	req := kmsg.NewPtrDeleteShareGroupStateRequest()
	req.GroupID = k.group
	p := kmsg.DeleteShareGroupStateRequestTopicPartition{Partition: k.partition}
	req.Topics = []kmsg.DeleteShareGroupStateRequestTopic{{TopicID: k.topic, Partitions: []kmsg.DeleteShareGroupStateRequestTopicPartition{p}}}
	got, err := askOf[*kmsg.DeleteShareGroupStateResponse](n.peers.ask(ctx, node, req))
	if err != nil {
		return err
	}
	if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
		return errOutcome(node)
	}
	return failure(got.Topics[0].Partitions[0].ErrorCode)
}

func errOutcome(node int32) error {
	return fmt.Errorf("%w: node %d answers without an outcome", errNoPeer, node)
}
