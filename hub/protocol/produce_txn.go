package protocol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// openTransactions remembers for which partitions the coordinator has agreed
// that a producer may append to them (KIP-890). Only the first batch of a
// transaction in a partition is asked about. Those that follow it before the
// answer wait behind it, in order; nothing else does.
type openTransactions struct {
	mu struct {
		sync.Mutex
		agreed map[txnPartition]agreement
		asking map[txnPartition]*queue
	}
}

type txnPartition struct {
	record.TopicPartition
	producer int64
}

// agreement holds until a marker comes: the guard makes the partition refuse
// what comes behind one.
type agreement struct {
	epoch int16
	guard int64
}

// queue is what waits for the answer of the coordinator.
type queue struct {
	epoch int16
	left  []func(guard int64, err error)
}

// maxAgreed bounds the memory of what nobody ends. What is forgotten is asked
// about again.
const maxAgreed = 100_000

func newOpenTransactions() *openTransactions {
	o := &openTransactions{}
	o.mu.agreed = map[txnPartition]agreement{}
	o.mu.asking = map[txnPartition]*queue{}
	return o
}

// enter calls then, at once or later, when the producer may append to the
// partition with the guard, or may not. Calls for one producer and partition
// come in the order of enter. With first the caller has to ask, and to call
// answered.
func (o *openTransactions) enter(k txnPartition, epoch int16, then func(guard int64, err error)) (first bool) {
	o.mu.Lock()
	if q := o.mu.asking[k]; q != nil {
		if q.epoch == epoch {
			q.left = append(q.left, then)
			o.mu.Unlock()
			return false
		}
		o.mu.Unlock()
		err := txn.ErrConcurrent // the one before has to be answered first
		if epoch < q.epoch {
			err = txn.ErrFenced
		}
		then(0, fmt.Errorf("%w: producer %d asks with epoch %d, and with %d", err, k.producer, q.epoch, epoch))
		return false
	}
	if a, ok := o.mu.agreed[k]; ok && a.epoch == epoch {
		o.mu.Unlock()
		then(a.guard, nil)
		return false
	}
	o.mu.asking[k] = &queue{epoch: epoch, left: []func(int64, error){then}}
	o.mu.Unlock()
	return true
}

// answered lets what has waited go on.
func (o *openTransactions) answered(k txnPartition, guard int64, err error) {
	for {
		o.mu.Lock()
		q := o.mu.asking[k]
		left := q.left
		if len(left) == 0 {
			delete(o.mu.asking, k)
			if err == nil {
				if len(o.mu.agreed) >= maxAgreed {
					clear(o.mu.agreed)
				}
				o.mu.agreed[k] = agreement{q.epoch, guard}
			}
			o.mu.Unlock()
			return
		}
		q.left = nil
		o.mu.Unlock()
		for _, then := range left {
			then(guard, err)
		}
	}
}

// close forgets the agreement: a marker is about to be written.
func (o *openTransactions) close(tp record.TopicPartition, producer int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.mu.agreed, txnPartition{tp, producer})
}

// inTransaction calls then, at once or later, when the coordinator has agreed
// that the producer of id appends to the partition, with the guard to append
// with. If it adds, the partition becomes part of the transaction by it; else it
// must be.
func (s *Server) inTransaction(ctx context.Context, id string, k txnPartition, epoch int16, p Partition, adds bool, then func(guard int64, err error)) {
	if !s.open.enter(k, epoch, then) {
		return
	}
	t, err := p.Transaction(k.producer)
	if err != nil || t.Open() && t.Epoch == epoch {
		s.open.answered(k, t.Guard, err)
		return
	}
	n, err := s.txns.shardOf(ctx, id)
	if err != nil {
		s.open.answered(k, 0, err)
		return
	}
	if node, _ := s.parts.Leader(catalog.TransactionsTopic, n); s.peers.other(node) {
		s.askCoordinator(node, id, k, epoch, p, adds, t.Guard)
		return
	}
	producer, tps := txn.Producer{ID: k.producer, Epoch: epoch}, []record.TopicPartition{k.TopicPartition}
	behind := false // the marker of the transaction before
	s.txns.start(n, id, false, func(now time.Time, x *txn.Txn, t txn.Ticket) txn.Output {
		if adds {
			behind = x.State() == txn.PrepareCommit || x.State() == txn.PrepareAbort
			return x.Add(now, t, txn.AddRequest{Producer: producer, Partitions: tps, Version: 2, Wait: true})
		}
		return txn.Output{Answers: []txn.Answer{{Ticket: t, Err: x.Verify(producer, tps)[0]}}}
	}, func(a txn.Answer) {
		if a.Err == nil && behind {
			// That marker may have come since the guard was taken. One that ends
			// this transaction carries a higher epoch, which refuses the batch.
			t, a.Err = p.Transaction(k.producer)
		}
		s.open.answered(k, t.Guard, a.Err)
	})
}

// askCoordinator is the part of inTransaction for a coordinator at another node.
func (s *Server) askCoordinator(node int32, id string, k txnPartition, epoch int16, p Partition, adds bool, guard int64) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version = addPartitionsToTxnAPI.max
	req.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{{
		TransactionalID: id, ProducerID: k.producer, ProducerEpoch: epoch, VerifyOnly: !adds,
		Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: k.Topic, Partitions: []int32{k.Partition}}},
	}}
	s.peers.start(node, req, func(resp kmsg.Response, err error) {
		got, err := askOf[*kmsg.AddPartitionsToTxnResponse](resp, err)
		if err == nil {
			err = addOutcome(got)
		}
		if err == nil && adds {
			// As behind the marker of the transaction before: it may have come.
			t, terr := p.Transaction(k.producer)
			guard, err = t.Guard, terr
		}
		s.open.answered(k, guard, err)
	})
}

// addOutcome is what became of the one partition of a request.
func addOutcome(got *kmsg.AddPartitionsToTxnResponse) error {
	for _, x := range got.Transactions {
		for _, t := range x.Topics {
			for _, p := range t.Partitions {
				return failure(p.ErrorCode)
			}
		}
	}
	return cmp.Or(failure(got.ErrorCode), fmt.Errorf("%w: no outcome of a partition", errNoPeer))
}

// appendTransactional appends a batch once it is known to be in a transaction.
func (s *Server) appendTransactional(ctx context.Context, a *produceAnswer, tp record.TopicPartition, p Partition, b record.Batch, done func([]record.Appended, error)) {
	if a.transactional == nil {
		done(nil, fmt.Errorf("%w: a transactional batch without a transactional ID", record.ErrInvalidRequest))
		return
	}
	k := txnPartition{tp, b.ProducerID()}
	s.inTransaction(ctx, *a.transactional, k, b.ProducerEpoch(), p, a.r.version >= 12, func(guard int64, err error) {
		if err != nil {
			done(nil, produceError(err, a.r.version))
			return
		}
		p.AppendTransactional([]record.Batch{b}, guard, func(got []record.Appended, err error) {
			if errors.Is(err, record.ErrTransactionState) {
				s.open.close(tp, k.producer) // what was agreed holds no more
			}
			done(got, err)
		})
	})
}

// produceError is how Produce tells the coordinator's errors, none of which old
// clients know there. NOT_ENOUGH_REPLICAS makes every client try again without
// looking for another leader.
func produceError(err error, version int16) error {
	switch {
	case errors.Is(err, txn.ErrConcurrent), errors.Is(err, errLoading), errors.Is(err, errNotCoordinator), errors.Is(err, errNoCoordinator), errors.Is(err, errNoPeer):
		return fmt.Errorf("%w: the transaction cannot be verified: %v", record.ErrNotEnoughReplicas, err)
	case version < 11:
		err = oldState(err)
	}
	return oldFence(err)
}
