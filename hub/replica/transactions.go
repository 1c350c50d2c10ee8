package replica

import (
	"math"
	"slices"
	"sort"

	"github.com/entrepot-hub/entrepot/record"
)

// keptAborted is how many aborted transactions a partition keeps in memory and
// in its segment headers. Those before are found by reading the log
// (docs/adr/0003-aborted-transactions.md).
const keptAborted = 4096

// abortedTxn is an aborted transaction: its first offset here, and that of its
// marker.
type abortedTxn struct {
	producer      int64
	first, marker int64
}

// abortedList holds the newest aborted transactions by their markers' offsets.
// It is complete for markers at or above from. Lists handed out stay as they
// are: entries are only added behind them.
type abortedList struct {
	from int64
	txns []abortedTxn
}

func (l *abortedList) add(t abortedTxn) {
	l.txns = append(l.txns, t)
	if over := len(l.txns) - keptAborted; over > 0 {
		l.from = l.txns[over-1].marker + 1
		l.txns = l.txns[over:]
	}
}

// trim forgets what lies below the log start. from rises with it: who read
// before the start moved must not take the rest for all there was.
func (l *abortedList) trim(start int64) {
	if start <= l.from {
		return
	}
	l.from = start
	l.txns = l.txns[l.behind(start):]
}

// behind is the place of the first transaction whose marker is at or above
// offset.
func (l *abortedList) behind(offset int64) int {
	return sort.Search(len(l.txns), func(i int) bool { return l.txns[i].marker >= offset })
}

// overlapping lists the transactions that have an offset in from ≤ o < to, by
// marker. It is asked only for what the list is complete for.
func (l *abortedList) overlapping(from, to int64) (some []abortedTxn) {
	for _, t := range l.txns[l.behind(from):] {
		if t.first < to {
			some = append(some, t)
		}
	}
	return some
}

func sortAborted(all []record.AbortedTransaction) {
	slices.SortStableFunc(all, func(a, b record.AbortedTransaction) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
}

// end notes the marker that is in the log of the producer's transaction. What
// is no transaction marker but another control batch, as a mirror's source may
// have it, ends nothing.
func (ps *producers) end(p *producer, b record.Batch) {
	commit, coordinator, err := b.Marker()
	if err != nil {
		return
	}
	if p.open >= 0 && !commit {
		ps.aborted.add(abortedTxn{producer: b.ProducerID(), first: p.open, marker: b.BaseOffset()})
	}
	p.open, p.marker, p.coordinator = -1, b.BaseOffset(), max(coordinator, -1)
}

// guard is record.Transaction.Guard: the offset behind the last marker.
func (p *producer) guard() int64 {
	if p == nil {
		return 0
	}
	return p.marker + 1
}

// transaction is what Transaction answers.
func (ps *producers) transaction(id int64) record.Transaction {
	p := ps.byID[id]
	if p == nil {
		return record.Transaction{Epoch: -1, First: -1}
	}
	return record.Transaction{Epoch: p.epoch, First: p.open, Guard: p.guard()}
}

// undecided are the transactions that are open in the log up to the commit:
// the first offset of each, by producer. One whose marker is in the log and not
// committed yet is among them.
type undecided struct {
	first  map[int64]int64
	lowest int64 // of first; math.MaxInt64 when there is none
}

// openIn are the transactions that are open at the end of a log.
func openIn(ps *producers) undecided {
	u := undecided{lowest: math.MaxInt64}
	for id, p := range ps.byID {
		if p.open >= 0 {
			u.add(id, p.open)
		}
	}
	return u
}

func (u *undecided) add(id, first int64) {
	if u.first == nil {
		u.first = map[int64]int64{}
	}
	u.first[id] = first
	u.lowest = min(u.lowest, first)
}

// apply takes a transactional batch that is committed now.
func (u *undecided) apply(b record.Batch) {
	id := b.ProducerID()
	first, open := u.first[id]
	switch {
	case !ofProducer(b) || open != b.IsControl():
		return // nobody's, one more of the transaction, or a marker of none
	case !open:
		u.add(id, b.BaseOffset())
		return
	}
	if _, _, err := b.Marker(); err != nil {
		return // as in producers.end
	}
	delete(u.first, id)
	if first > u.lowest {
		return
	}
	u.lowest = math.MaxInt64
	for _, at := range u.first {
		u.lowest = min(u.lowest, at)
	}
}
