package replica

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
)

// txnOracle says from a partition's batches alone, all of them from the first
// one on, what its transactions are: for each transactional batch it looks
// forward for the marker of its producer and backward for the first batch of
// the same transaction. It shares nothing with the code under test.
type txnOracle []record.Batch

// markerOf finds the marker that ends the transaction of the batch at i; -1
// when it is open.
func (o txnOracle) markerOf(i int) int {
	for j := i + 1; j < len(o); j++ {
		if o[j].IsControl() && o[j].ProducerID() == o[i].ProducerID() {
			return j
		}
	}
	return -1
}

func (o txnOracle) inTransaction(i int) bool { return o[i].IsTransactional() && !o[i].IsControl() }

// firstOf is the first offset of the transaction of the batch at i.
func (o txnOracle) firstOf(i int) int64 {
	first := o[i].BaseOffset()
	for j := i - 1; j >= 0; j-- {
		if o[j].ProducerID() != o[i].ProducerID() {
			continue
		}
		if o[j].IsControl() {
			break
		}
		if o[j].IsTransactional() {
			first = o[j].BaseOffset()
		}
	}
	return first
}

// lastStable is where the first transaction begins that no marker below hw
// decides.
func (o txnOracle) lastStable(start, hw int64) int64 {
	for i, b := range o {
		if !o.inTransaction(i) || b.BaseOffset() >= hw {
			continue
		}
		if m := o.markerOf(i); m < 0 || o[m].BaseOffset() >= hw {
			return min(max(o.firstOf(i), start), hw)
		}
	}
	return hw
}

// open are the transactions without a marker, by producer.
func (o txnOracle) open() map[int64]int64 {
	open := map[int64]int64{}
	for i, b := range o {
		if o.inTransaction(i) && o.markerOf(i) < 0 {
			open[b.ProducerID()] = o.firstOf(i)
		}
	}
	return open
}

// aborted are the aborted transactions by marker.
func (o txnOracle) aborted(t testing.TB) (all []abortedTxn) {
	for i, b := range o {
		if !o.inTransaction(i) || o.firstOf(i) != b.BaseOffset() {
			continue
		}
		m := o.markerOf(i)
		if m < 0 {
			continue
		}
		commit, _, err := o[m].Marker()
		if err != nil {
			t.Fatal(err)
		}
		if !commit {
			all = append(all, abortedTxn{b.ProducerID(), b.BaseOffset(), o[m].BaseOffset()})
		}
	}
	slices.SortFunc(all, func(a, b abortedTxn) int { return int(a.marker - b.marker) })
	return all
}

// committed lists the batches in from ≤ offset < to that a read_committed
// reader may see.
func (o txnOracle) committed(t testing.TB, from, to int64) (seen []int64) {
	for i, b := range o {
		if b.LastOffset() < from || b.BaseOffset() >= to || b.IsControl() {
			continue
		}
		if o.inTransaction(i) {
			m := o.markerOf(i)
			if m < 0 {
				continue
			}
			if commit, _, err := o[m].Marker(); err != nil || !commit {
				continue
			}
		}
		seen = append(seen, b.BaseOffset())
	}
	return seen
}

// filtered is what a client makes of the batches in from ≤ offset < to and the
// list of aborted transactions that came with them.
func filtered(t testing.TB, batches []record.Batch, list []record.AbortedTransaction) (seen []int64) {
	skip := map[int64]bool{}
	for _, b := range batches {
		for len(list) > 0 && list[0].First <= b.LastOffset() {
			skip[list[0].ProducerID] = true
			list = list[1:]
		}
		switch {
		case b.IsControl():
			if commit, _, err := b.Marker(); err != nil {
				t.Fatal(err)
			} else if !commit {
				delete(skip, b.ProducerID())
			}
		case b.IsTransactional() && skip[b.ProducerID()]:
		default:
			seen = append(seen, b.BaseOffset())
		}
	}
	return seen
}

// within are the batches with an offset in from ≤ o < to.
func (o txnOracle) within(from, to int64) (some []record.Batch) {
	for _, b := range o {
		if b.LastOffset() >= from && b.BaseOffset() < to {
			some = append(some, b)
		}
	}
	return some
}

// checkCore compares what a core knows of transactions with the batches. known
// is false when producers may have been forgotten.
func (o txnOracle) checkCore(t testing.TB, c *core) {
	t.Helper()
	if c.controlAt <= c.applied {
		off := c.offsets()
		if want := o.lastStable(off.Start, off.HighWatermark); off.LastStable != want {
			t.Errorf("the last stable offset is %d, the batches say %d (log start %d, high watermark %d)", off.LastStable, want, off.Start, off.HighWatermark)
		}
	}
	open := map[int64]int64{}
	for id, p := range c.tail.producers.byID {
		if p.open >= 0 {
			open[id] = p.open
		}
	}
	if want := o.open(); fmt.Sprint(open) != fmt.Sprint(want) {
		t.Errorf("open transactions %v, the batches say %v", open, want)
	}
	list := c.tail.producers.aborted
	var want []abortedTxn
	for _, a := range o.aborted(t) {
		if a.marker >= list.from {
			want = append(want, a)
		}
	}
	if !slices.Equal(list.txns, want) {
		t.Errorf("aborted transactions from %d: %v, the batches say %v", list.from, list.txns, want)
	}
	if list.from > c.tail.control.logStart && len(list.txns) < keptAborted {
		t.Errorf("aborted transactions are complete from %d on, the log start is %d", list.from, c.tail.control.logStart)
	}
}

// checkReader compares what a reader of from ≤ o < to sees with the batches.
func (o txnOracle) checkReader(t testing.TB, from, to int64, list []record.AbortedTransaction) {
	t.Helper()
	if !slices.IsSortedFunc(list, func(a, b record.AbortedTransaction) int { return int(a.First - b.First) }) {
		t.Errorf("the aborted transactions from %d to %d are not by first offset: %v", from, to, list)
	}
	got, want := filtered(t, o.within(from, to), list), o.committed(t, from, to)
	if !slices.Equal(got, want) {
		t.Errorf("a reader of %d to %d with the aborted transactions %v sees %v, committed are %v", from, to, list, got, want)
	}
	for _, a := range list {
		if a.First >= to || a.First > math.MaxInt64/2 {
			t.Errorf("the aborted transaction %+v does not overlap %d to %d", a, from, to)
		}
	}
}
