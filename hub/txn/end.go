package txn

import (
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// EndRequest commits or aborts (EndTxn).
type EndRequest struct {
	Producer Producer
	Commit   bool
	Version  int16 // of transactions, as the client speaks them; from 2 on the epoch is raised
	Fresh    int64 // an unused producer ID, -1: none is drawn
}

func (r EndRequest) raises() bool { return r.Version >= 2 }

// End is answered when the decision is durable, with the producer that the
// client goes on with. It fails with ErrNeedsID as Init does.
func (x *Txn) End(now time.Time, t Ticket, r EndRequest) (out Output) {
	done, err := x.checkEnd(r)
	switch {
	case err != nil:
		out.answer(t, None, err)
		return out
	case done:
		out.answer(t, x.rec.client(), nil)
		return out
	}
	rec := x.changed(now, outcome(r.Commit))
	rec.Version = r.Version
	if x.rec.State != Ongoing { // an abort of nothing, for the sake of the epoch
		rec.Partitions, rec.Started = nil, rec.Updated
	}
	if r.raises() {
		if rec.Producer.Epoch >= maxEpoch {
			if r.Fresh < 0 {
				out.answer(t, None, ErrNeedsID)
				return out
			}
			rec.Next = r.Fresh
		}
		rec.Producer.Epoch = min(rec.Producer.Epoch, maxEpoch) + 1
	}
	last := x.rec.Producer
	x.enter(&out, rec, func(now time.Time, err error, out *Output) {
		if err != nil {
			out.answer(t, None, err)
			return
		}
		if r.raises() {
			x.last = last
		}
		out.answer(t, rec.client(), nil)
		x.mark(now, out)
	})
	return out
}

func outcome(commit bool) State {
	if commit {
		return PrepareCommit
	}
	return PrepareAbort
}

// checkEnd checks whether the transaction can be ended. done: it is already,
// by an earlier try of the same request.
func (x *Txn) checkEnd(r EndRequest) (done bool, err error) {
	again := r.raises() && x.raisedFrom(r.Producer)
	if !again {
		if err := x.checkProducer(r.Producer); err != nil {
			return false, err
		}
	}
	switch s := x.rec.State; {
	case x.next != nil || s.preparing():
		return false, fmt.Errorf("%w: it is %v", ErrConcurrent, s)
	case s == Ongoing:
		return false, nil
	case again && !r.Commit && x.rec.Producer.Epoch > maxEpoch:
		return false, nil // a fence took the last epoch: it needs another ID
	case (again || !r.raises()) && s == complete(outcome(r.Commit)):
		return true, nil
	case again || !r.raises() || r.Commit:
		return false, fmt.Errorf("%w: it is %v", ErrState, s)
	}
	return false, nil // an abort of nothing
}

// raisedFrom reports whether p is what the client had before its last
// transaction was ended: it lost the answer.
func (x *Txn) raisedFrom(p Producer) bool {
	now := x.rec.Producer
	switch {
	case x.rec.Version < 2 || x.rec.State == Ongoing || x.rec.State == Empty:
		return false
	case p.ID == now.ID:
		return p.Epoch+1 == now.Epoch
	}
	return p.ID == x.rec.Previous && p.Epoch == maxEpoch && now.Epoch == 0
}

// fence aborts the open transaction with a higher epoch, so that the producer
// that has it can do nothing any more. by is who asked for it, with what it
// has; it gets the higher epoch when it comes again.
func (x *Txn) fence(now time.Time, out *Output, by Producer, then func(err error, out *Output)) {
	rec := x.changed(now, PrepareAbort)
	rec.Producer.Epoch++ // of an open transaction it is maxEpoch at most
	x.enter(out, rec, func(now time.Time, err error, out *Output) {
		if err == nil {
			x.last = by
			x.mark(now, out)
		}
		then(err, out)
	})
}

// mark hands out the markers of the decision that is durable.
func (x *Txn) mark(now time.Time, out *Output) {
	x.marking = make(map[record.TopicPartition]bool, len(x.rec.Partitions))
	for _, tp := range x.rec.Partitions {
		x.marking[tp] = true
		out.Markers = append(out.Markers, Marker{
			TopicPartition: tp, Producer: x.rec.Producer, Commit: x.rec.State == PrepareCommit, Version: x.rec.Version,
		})
	}
	x.complete(now, out)
}

// Marked reports that the marker of a partition is committed, or that the
// partition is gone.
func (x *Txn) Marked(now time.Time, tp record.TopicPartition) (out Output) {
	if x.rec.State.preparing() && x.marking[tp] {
		delete(x.marking, tp)
		x.complete(now, &out)
	}
	return out
}

func complete(s State) State {
	if s == PrepareCommit {
		return CompleteCommit
	}
	return CompleteAbort
}

// complete ends the transaction once no marker is missing.
func (x *Txn) complete(now time.Time, out *Output) {
	if !x.rec.State.preparing() || len(x.marking) > 0 || x.next != nil {
		return
	}
	rec := x.changed(now, complete(x.rec.State))
	rec.Partitions = nil
	if rec.Next >= 0 {
		rec.Previous, rec.Producer, rec.Next = rec.Producer.ID, Producer{ID: rec.Next}, -1
	}
	x.enter(out, rec, func(now time.Time, err error, _ *Output) { x.tryLater(now, err) })
}
