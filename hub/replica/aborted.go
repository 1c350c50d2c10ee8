package replica

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// Aborted lists the aborted transactions with an offset in from ≤ o < to, by
// first offset: what a read_committed reader of that range must know. to must
// not be above the last stable offset. A transaction that begins before what
// is kept of old ones may be listed as beginning at from, which means the same
// to a reader.
func (r *Replica) Aborted(from, to int64) ([]record.AbortedTransaction, error) {
	v := r.view.Load()
	find := r.findAborted
	if from >= v.aborted.from && v.role != RoleQuarantined {
		find = r.listAborted
	}
	all, err := find(v, from, to)
	if err != nil {
		return nil, fmt.Errorf("aborted transactions of %s from %d to %d: %w", r.id, from, to, err)
	}
	return all, nil
}

// listAborted takes them from the list, but for those whose marker compaction
// let go of, with all the rest of the transaction: a reader would look for the
// marker, and skip what the producer committed since.
func (r *Replica) listAborted(v *view, from, to int64) ([]record.AbortedTransaction, error) {
	some := v.aborted.overlapping(from, to)
	if len(some) == 0 || r.log.Whole() == r.log.FirstIndex() {
		return listed(some), nil
	}
	var left []abortedTxn
	for _, t := range some {
		switch is, err := r.hasBatch(t.marker); {
		case err != nil:
			return nil, err
		case is:
			left = append(left, t)
		}
	}
	return listed(left), nil
}

// listed are transactions as a reader is told of them, by first offset.
func listed(some []abortedTxn) (all []record.AbortedTransaction) {
	for _, t := range some {
		all = append(all, record.AbortedTransaction{ProducerID: t.producer, First: t.first})
	}
	sortAborted(all)
	return all
}

// hasBatch reports whether a batch that began at the offset is still there.
func (r *Replica) hasBatch(offset int64) (bool, error) {
	batches, err := r.log.Read(offset, offset+1, 1)
	return len(batches) > 0 && batches[0].BaseOffset() == offset, err
}

// abortedReads is how much is read at once to look for markers, in bytes.
const abortedReads = 256 << 10

// findAborted reads the range, and goes on until the last transaction in it is
// decided.
func (r *Replica) findAborted(v *view, from, to int64) ([]record.AbortedTransaction, error) {
	s := abortedScan{from: from, to: to, first: map[int64]int64{}, ended: map[int64]bool{}}
	end := v.offsets.HighWatermark
	for at := from; at < end && (at < to || len(s.first) > 0); {
		batches, err := r.log.Read(at, end, abortedReads)
		if err != nil {
			return nil, err
		}
		if len(batches) == 0 {
			break
		}
		for _, b := range batches {
			s.take(b)
		}
		at = batches[len(batches)-1].NextOffset()
	}
	switch {
	case len(s.first) == 0:
		sortAborted(s.aborted)
		return s.aborted, nil
	case v.err != nil:
		return nil, v.err // where the log is damaged
	}
	return nil, fmt.Errorf("%w: %d transactions are not decided up to offset %d", record.ErrTransactionState, len(s.first), end)
}

// abortedScan finds aborted transactions in batches of a log, given in order.
type abortedScan struct {
	from, to int64
	first    map[int64]int64 // of transactions that are not decided yet
	ended    map[int64]bool  // producers whose marker came
	aborted  []record.AbortedTransaction
}

func (s *abortedScan) take(b record.Batch) {
	if !b.IsTransactional() || !ofProducer(b) {
		return
	}
	id, inside := b.ProducerID(), b.BaseOffset() < s.to
	first, open := s.first[id]
	if !b.IsControl() {
		if !open && inside {
			s.first[id] = b.BaseOffset()
		}
		return
	}
	commit, _, err := b.Marker()
	if err != nil || !open && (!inside || s.ended[id]) {
		return // none of the range: it ends nothing, or what begins behind it
	}
	if !open {
		first = s.from // all that the range has of it is the marker
	}
	delete(s.first, id)
	s.ended[id] = true
	if !commit {
		s.aborted = append(s.aborted, record.AbortedTransaction{ProducerID: id, First: first})
	}
}
