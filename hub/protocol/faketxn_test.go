package protocol

import (
	"math"

	"github.com/entrepot-hub/entrepot/record"
)

// The transactions of a log in memory, without any index: all is computed from
// the batches.

// Transaction implements Partition.
func (l *memLog) Transaction(id int64) (record.Transaction, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.transaction(id), l.mu.behind
}

func (l *memLog) transaction(id int64) record.Transaction {
	p := l.mu.producers[id]
	if p == nil {
		return record.Transaction{Epoch: -1, First: -1}
	}
	return record.Transaction{Epoch: p.epoch, First: p.open, Guard: p.guard}
}

// EndTransaction implements Partition.
func (l *memLog) EndTransaction(m record.TransactionMarker, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.mu.refuse
	p := l.mu.producers[m.ProducerID]
	switch {
	case err != nil:
	case p == nil:
		p = &memProducer{open: -1, coordinator: -1}
		l.mu.producers[m.ProducerID] = p
	case m.ProducerEpoch < p.epoch:
		err = record.ErrProducerFenced
	case m.CoordinatorEpoch < p.coordinator:
		err = record.ErrCoordinatorFenced
	}
	if err == nil {
		if m.ProducerEpoch != p.epoch {
			p.epoch, p.last = m.ProducerEpoch, nil
		}
		b := m.Batch(1_700_000_000_000)
		b.SetBaseOffset(l.mu.next)
		b.SetLeaderEpoch(l.mu.epoch)
		l.mu.batches = append(l.mu.batches, b)
		l.mu.next = b.NextOffset()
		l.mu.bytes += int64(len(b))
		p.coordinator, p.open, p.guard = m.CoordinatorEpoch, -1, l.mu.next
	}
	l.finish(err, done)
}

// Aborted implements Partition.
func (l *memLog) Aborted(from, to int64) (all []record.AbortedTransaction, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := map[int64]int64{}
	for _, b := range l.mu.batches {
		id := b.ProducerID()
		at, open := first[id]
		switch {
		case !b.IsTransactional():
		case !b.IsControl():
			if !open {
				first[id] = b.BaseOffset()
			}
		default:
			commit, _, err := b.Marker()
			if err != nil {
				return nil, err
			}
			delete(first, id)
			if open && !commit && at < to && b.BaseOffset() >= from {
				all = append(all, record.AbortedTransaction{ProducerID: id, First: at})
			}
		}
	}
	return all, nil
}

// firstOpen is the first offset that no committed marker decides.
func (l *memLog) firstOpen() int64 {
	open := map[int64]int64{}
	for _, b := range l.mu.batches {
		if b.BaseOffset() >= l.mu.hw || !b.IsTransactional() {
			continue
		}
		if b.IsControl() {
			delete(open, b.ProducerID())
		} else if _, ok := open[b.ProducerID()]; !ok {
			open[b.ProducerID()] = b.BaseOffset()
		}
	}
	first := int64(math.MaxInt64)
	for _, at := range open {
		first = min(first, at)
	}
	return first
}
