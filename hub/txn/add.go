package txn

import (
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// AddRequest makes partitions part of the transaction, which it opens if none
// is (AddPartitionsToTxn, AddOffsetsToTxn; from version 2 of transactions on a
// Produce or TxnOffsetCommit that comes first).
type AddRequest struct {
	Producer   Producer
	Partitions []record.TopicPartition
	Version    int16 // of transactions, as the client speaks them
	// Wait: be answered when an earlier write or the end of the transaction
	// before is through, rather than with ErrConcurrent.
	Wait bool
}

// Add is answered when the partitions are durably part of the transaction.
func (x *Txn) Add(now time.Time, t Ticket, r AddRequest) (out Output) {
	if err := x.checkProducer(r.Producer); err != nil {
		out.answer(t, None, err)
		return out
	}
	switch busy := x.next != nil || x.rec.State.preparing(); {
	case !busy && x.rec.State == Ongoing && x.rec.has(r.Partitions):
		out.answer(t, r.Producer, nil)
	case busy && !r.Wait:
		out.answer(t, None, fmt.Errorf("%w: it is %v", ErrConcurrent, x.rec.State))
	default:
		x.parked = append(x.parked, parked{t, r})
		if !busy {
			x.unpark(now, &out)
		}
	}
	return out
}

// checkProducer fences.
func (x *Txn) checkProducer(p Producer) error {
	now := x.rec.client()
	switch {
	case x.id == "":
		return ErrInvalidID
	case now == None || p.ID != now.ID:
		return fmt.Errorf("%w: %d is not that of %q", ErrUnknownProducer, p.ID, x.id)
	case p.Epoch != now.Epoch:
		return fmt.Errorf("%w: epoch %d of producer %d, now it is %d", ErrFenced, p.Epoch, p.ID, now.Epoch)
	}
	return nil
}

// unpark refuses the parked requests of producers that were fenced while they
// waited, and adds the partitions of the others with one write as soon as
// nothing is on its way.
func (x *Txn) unpark(now time.Time, out *Output) {
	x.parked = slices.DeleteFunc(x.parked, func(p parked) bool {
		err := x.checkProducer(p.r.Producer)
		if err != nil {
			out.answer(p.t, None, err)
		}
		return err != nil
	})
	if x.next != nil || x.rec.State.preparing() || len(x.parked) == 0 {
		return
	}
	all := x.parked
	x.parked = nil
	rec := x.changed(now, Ongoing)
	if x.rec.State != Ongoing {
		rec.Partitions, rec.Started = nil, rec.Updated
	}
	for _, p := range all {
		rec.Version = p.r.Version
		rec.Partitions = rec.with(p.r.Partitions)
	}
	x.enter(out, rec, func(_ time.Time, err error, out *Output) {
		if err == nil {
			x.last = None // whoever opens a transaction got its answer
		}
		for _, p := range all {
			out.answer(p.t, p.r.Producer, err)
		}
	})
}

// Verify says for each partition whether the producer may append to it: nil if
// it is part of the open transaction (KIP-890, for clients that add partitions
// by themselves).
func (x *Txn) Verify(p Producer, tps []record.TopicPartition) []error {
	errs := make([]error, len(tps))
	err := x.checkProducer(p)
	if err == nil && (x.rec.State.preparing() || x.ending()) {
		err = fmt.Errorf("%w: the transaction is being ended", ErrConcurrent)
	}
	for i, tp := range tps {
		switch {
		case err != nil:
			errs[i] = err
		case x.rec.State != Ongoing || !x.rec.has(tps[i:i+1]):
			errs[i] = fmt.Errorf("%w: %s", ErrNotAdded, tp)
		}
	}
	return errs
}

// ending reports whether a decision is on its way.
func (x *Txn) ending() bool {
	return x.next != nil && x.next.Record != nil && x.next.Record.State.preparing()
}
