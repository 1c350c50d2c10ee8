package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/protocol/addoffsetstotxn"
	"github.com/segmentio/kafka-go/protocol/addpartitionstotxn"
	"github.com/segmentio/kafka-go/protocol/endtxn"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
	"github.com/segmentio/kafka-go/protocol/txnoffsetcommit"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// note is kept with the offset in the group at the destination.
type note struct {
	Epoch int64  `json:"epoch"` // of the plan
	Of    string `json:"of"`    // the hub's partition, for people
}

// transactionalID names the work on one partition of the hub: whoever does it
// later, also elsewhere, has the same name and with it refuses the one before.
// The group that keeps the offset has this name too. It keeps one offset, that
// of the hub, under the partition 0 of the remote topic.
func (w *writer) transactionalID(tp record.TopicPartition) string {
	return w.id + "-" + tp.Topic + "-" + strconv.Itoa(int(tp.Partition))
}

// take makes the lane ours and asks what the destination has of it: next is
// -1 when it does not know.
func (w *writer) take(ctx context.Context, tp record.TopicPartition, l *lane) error {
	name := w.transactionalID(tp)
	p := &producer{cluster: w.cluster, txn: name, next: map[int32]int32{}}
	// This gives up what a former owner left open, and waits until it is.
	err := w.cluster.consult(ctx, name, ofTransaction, "take the transactional id "+name, func(one *conn) (int16, error) {
		return p.init(ctx, one, -1, -1, w.txnTimeout)
	})
	if err != nil {
		return err
	}
	next, n, err := w.cluster.stored(ctx, name, w.topic)
	if err != nil {
		return err
	}
	l.producer, l.next, l.epoch, l.there = p, next, n.Epoch, nil
	return nil
}

// stored is the offset in a group, -1 when there is none.
func (c *cluster) stored(ctx context.Context, group, topic string) (int64, note, error) {
	next, text := int64(-1), ""
	err := c.consult(ctx, group, ofGroup, "ask for the offset in group "+group, func(one *conn) (int16, error) {
		m, err := one.ask(ctx, &offsetfetch.Request{GroupID: group, Topics: []offsetfetch.RequestTopic{{Name: topic, PartitionIndexes: []int32{0}}}})
		if err != nil {
			return 0, err
		}
		answer := m.(*offsetfetch.Response)
		if answer.ErrorCode != 0 {
			return answer.ErrorCode, nil
		}
		if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
			return 0, fmt.Errorf("offsets of group %s: %w: %d topics", group, errAnswer, len(answer.Topics))
		}
		one0 := answer.Topics[0].Partitions[0]
		next, text = one0.CommittedOffset, one0.Metadata
		return one0.ErrorCode, nil
	})
	var n note
	if err == nil && next >= 0 {
		if bad := json.Unmarshal([]byte(text), &n); bad != nil {
			return 0, n, connectors.Fatalf("the offset in group %s was not written by this connector: its note is %q. "+
				"Delete the group's offsets, or choose another transactional_id", group, text)
		}
	}
	return next, n, err
}

// transact writes a plan as one transaction, with the offset after it.
func (w *writer) transact(ctx context.Context, plan connectors.Plan, l *lane, batch connectors.Batch) error {
	if l.producer == nil {
		if err := w.take(ctx, plan.Partition, l); err != nil {
			return err
		}
	}
	if l.epoch > plan.Epoch {
		return connectors.Fatalf("%s: %w: its epoch is %d, a plan of epoch %d was written", plan, connectors.ErrFenced, plan.Epoch, l.epoch)
	}
	if l.next >= plan.To {
		return nil
	}
	if l.next < 0 { // a new job, or the group has forgotten
		if err := w.search(ctx, plan, l); err != nil {
			return err
		}
	}
	parts, err := w.split(batch, l)
	if err != nil {
		return err
	}
	if err := w.commit(ctx, plan, l, parts); err != nil {
		l.producer = nil
		return err
	}
	l.done(plan)
	l.epoch = plan.Epoch
	return nil
}

// commit does the transaction. An error before its end is one after which
// nothing is visible: who writes next gives it up.
func (w *writer) commit(ctx context.Context, plan connectors.Plan, l *lane, parts map[int32][]record.Record) error {
	p, name := l.producer, l.producer.txn
	numbers := slices.Sorted(maps.Keys(parts))
	err := p.join(ctx, w.topic, numbers)
	if err == nil {
		err = p.send(ctx, w, parts)
	}
	if err == nil {
		err = p.keep(ctx, w.topic, plan)
	}
	if err != nil {
		err = w.orLate(ctx, p, err)
		if ctx.Err() == nil && !fatal(err) { // readers need not wait until it is given up
			short, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_ = p.end(short, false)
		}
		if connectors.ClassOf(err) == connectors.ClassUnknown {
			err = connectors.Retry(0, err)
		}
		return fmt.Errorf("transaction %s: %w", name, err)
	}
	if err := p.end(ctx, true); err != nil {
		return unknownIfCut(fmt.Errorf("commit the transaction %s: %w", name, w.orLate(ctx, p, err)))
	}
	return nil
}

// orLate tells a producer that was replaced from one whose transaction was
// given up for taking too long: the cluster answers to both that the epoch is
// old, but takes back the latter (KIP-588).
func (w *writer) orLate(ctx context.Context, p *producer, err error) error {
	if !errors.Is(err, connectors.ErrFenced) {
		return err
	}
	again := w.cluster.consult(ctx, p.txn, ofTransaction, "take the transactional id "+p.txn, func(one *conn) (int16, error) {
		return p.init(ctx, one, p.id, p.epoch, w.txnTimeout)
	})
	if again != nil {
		return err
	}
	return connectors.Unknown(fmt.Errorf("the transaction took longer than transaction_timeout (%v) and was given up", w.txnTimeout))
}

// join makes partitions a part of the transaction.
func (p *producer) join(ctx context.Context, topic string, partitions []int32) error {
	if len(partitions) == 0 {
		return nil
	}
	return p.cluster.consult(ctx, p.txn, ofTransaction, "begin a transaction", func(one *conn) (int16, error) {
		m, err := one.ask(ctx, &addpartitionstotxn.Request{
			TransactionalID: p.txn, ProducerID: p.id, ProducerEpoch: p.epoch,
			Topics: []addpartitionstotxn.RequestTopic{{Name: topic, Partitions: partitions}},
		})
		if err != nil {
			return 0, err
		}
		for _, t := range m.(*addpartitionstotxn.Response).Results {
			for _, r := range t.Results {
				if r.ErrorCode != 0 {
					return r.ErrorCode, nil
				}
			}
		}
		return 0, nil
	})
}

// keep commits the offset after the plan by the transaction.
func (p *producer) keep(ctx context.Context, topic string, plan connectors.Plan) error {
	group := p.txn
	err := p.cluster.consult(ctx, p.txn, ofTransaction, "add the offset to the transaction", func(one *conn) (int16, error) {
		m, err := one.ask(ctx, &addoffsetstotxn.Request{TransactionalID: p.txn, ProducerID: p.id, ProducerEpoch: p.epoch, GroupID: group})
		if err != nil {
			return 0, err
		}
		return m.(*addoffsetstotxn.Response).ErrorCode, nil
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(note{Epoch: plan.Epoch, Of: plan.Partition.String()})
	if err != nil {
		return err
	}
	return p.cluster.consult(ctx, group, ofGroup, "write the offset in the transaction", func(one *conn) (int16, error) {
		m, err := one.ask(ctx, &txnoffsetcommit.Request{
			TransactionalID: p.txn, GroupID: group, ProducerID: p.id, ProducerEpoch: p.epoch, GenerationID: -1,
			Topics: []txnoffsetcommit.RequestTopic{{Name: topic, Partitions: []txnoffsetcommit.RequestPartition{
				{Partition: 0, CommittedOffset: plan.To, CommittedLeaderEpoch: -1, CommittedMetadata: string(text)},
			}}},
		})
		if err != nil {
			return 0, err
		}
		for _, t := range m.(*txnoffsetcommit.Response).Topics {
			for _, r := range t.Partitions {
				if r.ErrorCode != 0 {
					return r.ErrorCode, nil
				}
			}
		}
		return 0, nil
	})
}

// end commits or gives up the transaction. To ask twice for the same changes
// nothing.
func (p *producer) end(ctx context.Context, commit bool) error {
	return p.cluster.consult(ctx, p.txn, ofTransaction, "end the transaction", func(one *conn) (int16, error) {
		m, err := one.ask(ctx, &endtxn.Request{TransactionalID: p.txn, ProducerID: p.id, ProducerEpoch: p.epoch, Committed: commit})
		if err != nil {
			return 0, err
		}
		return m.(*endtxn.Response).ErrorCode, nil
	})
}
