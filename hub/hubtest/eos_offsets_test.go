package hubtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// offsetsGroup is the group of commitOffsets.
const offsetsGroup = "offsets"

// commitOffsets commits rising offsets in transactions, half of which it aborts
// afterwards: the group is always at the last that was committed. (A copier that
// aborts has not committed its offsets yet.)
func (x *copying) commitOffsets(ctx context.Context, rng *rand.Rand) {
	maybe := []int64{-1} // what the group may be at; one unless an end is in doubt
	for next := int64(0); ctx.Err() == nil; {
		cl, err := kgo.NewClient(x.options(kgo.TransactionalID("offsets"), kgo.TransactionTimeout(5*time.Second), kgo.DefaultProduceTopic("out"),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.WithHooks(x.k))...)
		if err != nil {
			x.t.Error(err)
			return
		}
		for ok := true; ok && ctx.Err() == nil; next++ {
			name := x.begin("offsets", 1)
			if x.write(cl, rng.Int32N(copyPartitions), name) != nil {
				break
			}
			// Whatever came before has ended: another transaction is open.
			if maybe = x.atOneOf(maybe); maybe == nil {
				break
			}
			commit := x.commitOffset(cl, next) == nil && rng.IntN(2) == 0
			if ok = x.end(cl, name, commit); !ok {
				maybe = append(maybe, next)
			} else if commit {
				maybe = []int64{next}
			}
		}
		cl.Close()
	}
}

// atOneOf returns where the group is, which must be one of these.
func (x *copying) atOneOf(maybe []int64) []int64 {
	ctx, cancel := context.WithTimeout(kadm.RequireStable(x.t.Context()), 20*time.Second)
	defer cancel()
	admin := kadm.NewClient(client(x.t, x.options()...))
	defer admin.Close()
	var offsets kadm.OffsetResponses
	err := context.Canceled
	for err != nil && ctx.Err() == nil { // the node is killed at times
		if offsets, err = admin.FetchOffsetsForTopics(ctx, offsetsGroup, "in"); err == nil {
			err = offsets.Error()
		}
	}
	o, _ := offsets.Lookup("in", 0)
	switch {
	case err != nil:
		x.t.Errorf("the offsets of a group: %v", err)
		return nil
	case !slices.Contains(maybe, o.At):
		x.t.Errorf("the group is at offset %d, transactions committed one of %v", o.At, maybe)
	}
	return []int64{o.At}
}

// commitOffset makes an offset part of the open transaction.
func (x *copying) commitOffset(cl *kgo.Client, offset int64) error {
	ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
	defer cancel()
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = "offsets", offsetsGroup, id, epoch, -1
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset = offset
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "in", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit in a transaction: %w", err)
			}
		}
	}
	return nil
}

// end ends a transaction. False: its end is in doubt.
func (x *copying) end(cl *kgo.Client, name string, commit bool) bool {
	ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
	defer cancel()
	switch err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); {
	case err != nil:
		return false
	case commit:
		x.ended(name, committed)
	default:
		x.ended(name, aborted)
	}
	return true
}
