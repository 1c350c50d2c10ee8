package replica

import (
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// compactor decides, batch by batch, what of a log stays when it is compacted.
// It is given the entries of the log in order, from the first one on:
//
//   - of a record whose key has a later one below clean, nothing stays;
//   - a tombstone stays until the time in its batch, which is set when it is
//     first compacted, to delete.retention.ms later (KIP-534);
//   - of an aborted transaction nothing stays; the marker of any transaction
//     stays until no batch of it is left, and then as long as a tombstone;
//   - a record without a key does not stay, nor does one below the log start;
//   - a batch with a producer's last sequence stays even without records, and
//     so does the log's last one: a reader could not get to the end otherwise.
//
// What stays keeps offset, time, producer, epoch and sequence; a batch keeps
// its range of offsets.
type compactor struct {
	keys    *offsetMap
	clean   int64 // keys knows the records below
	start   int64 // log start
	now     int64 // ms
	horizon int64 // ms: now + delete.retention.ms
	end     int64 // of the log
	lasts   map[int64]int64
	txns    transactionScan

	// Of this pass: transactions with a batch that stays, by producer, until
	// their marker comes.
	left map[int64]bool
}

// keep is storage.Rewrite.Keep.
func (c *compactor) keep(e storage.Entry) ([]byte, error) {
	if e.Kind != storage.KindData {
		return e.Payload, nil
	}
	b := e.Batch()
	var out record.Batch
	var err error
	switch {
	case b.NextOffset() > c.clean:
		out = b
	case b.IsControl():
		out, err = c.marker(b)
	default:
		out, err = c.records(b)
	}
	if err == nil && out != nil && b.IsTransactional() && !b.IsControl() {
		c.left[b.ProducerID()] = true
	}
	return out, err
}

// marker decides about the end of a transaction.
func (c *compactor) marker(b record.Batch) (record.Batch, error) {
	id := b.ProducerID()
	left := c.left[id]
	delete(c.left, id)
	switch h := b.DeleteHorizon(); {
	case left, h >= 0 && h > c.now, h >= 0 && b.NextOffset() == c.end:
		return b, nil
	case h >= 0:
		return nil, nil
	}
	return c.rebuild(b, func(record.Record) bool { return true }, true)
}

// records decides about a batch of records.
func (c *compactor) records(b record.Batch) (record.Batch, error) {
	aborted := b.IsTransactional() && c.txns.wasAborted(b.ProducerID(), b.BaseOffset())
	h := b.DeleteHorizon()
	kept, tombstones := int32(0), false
	stays := func(r record.Record) bool {
		switch {
		case aborted, r.Key == nil, r.Offset < c.start, c.keys.last(r.Key) > r.Offset:
			return false
		case r.Value == nil:
			return h < 0 || h > c.now
		}
		return true
	}
	err := b.Each(maxDecompressed, func(r record.Record) error {
		if stays(r) {
			kept++
			tombstones = tombstones || r.Value == nil
		}
		return nil
	})
	stamp := tombstones && h < 0
	switch {
	case err != nil:
		return nil, fmt.Errorf("compact the batch at offset %d: %w", b.BaseOffset(), err)
	case kept == 0 && !c.isLast(b):
		return nil, nil
	case kept == b.Count() && !stamp:
		return b, nil
	}
	return c.rebuild(b, stays, stamp)
}

// isLast reports whether the batch is needed even without records: it holds the
// last sequence of its producer, or is the last one of the log.
func (c *compactor) isLast(b record.Batch) bool {
	last, ok := c.lasts[b.ProducerID()]
	return ok && b.LastOffset() == last || b.NextOffset() == c.end
}

// rebuild makes the batch of those records that stay.
func (c *compactor) rebuild(b record.Batch, stays func(record.Record) bool, stamp bool) (record.Batch, error) {
	n := record.Rebuild(b)
	if stamp {
		n.DeleteHorizon = c.horizon
	}
	err := b.Each(maxDecompressed, func(r record.Record) error {
		if !stays(r) {
			return nil
		}
		return n.Append(r)
	})
	if err != nil {
		return nil, fmt.Errorf("compact the batch at offset %d: %w", b.BaseOffset(), err)
	}
	return n.Build()
}

// span is a transaction's part of a log: from its first batch to its marker.
type span struct{ first, marker int64 }

// transactionScan finds the aborted transactions of a log, whose entries it is
// given in order, as Replay hands them out.
type transactionScan struct {
	open    map[int64]int64 // producer → first offset of its open transaction
	aborted map[int64][]span
}

func (t *transactionScan) take(e storage.Entry) error {
	if e.Kind != storage.KindData {
		return nil
	}
	b := e.Batch()
	if !b.IsTransactional() {
		return nil
	}
	id := b.ProducerID()
	first, open := t.open[id]
	if !b.IsControl() {
		if !open {
			if t.open == nil {
				t.open = map[int64]int64{}
			}
			t.open[id] = b.BaseOffset()
		}
		return nil
	}
	commit, _, err := b.Marker()
	if err != nil {
		return err
	}
	delete(t.open, id)
	if open && !commit {
		if t.aborted == nil {
			t.aborted = map[int64][]span{}
		}
		t.aborted[id] = append(t.aborted[id], span{first, b.BaseOffset()})
	}
	return nil
}

// wasAborted reports whether the transaction that a producer had open at an
// offset ended in an abort.
func (t *transactionScan) wasAborted(id, offset int64) bool {
	for _, s := range t.aborted[id] {
		if offset >= s.first && offset < s.marker {
			return true
		}
	}
	return false
}

// errFull ends the reading of keys when no more of them fit.
var errFull = errors.New("no more keys fit")

// readKeys notes the last offset of every key in batches, from the one that
// holds an offset on, and returns the offset up to which it got.
func (c *compactor) readKeys(batches []record.Batch, from int64) (next int64, err error) {
	next = from
	for _, b := range batches {
		if !c.keys.room(int(b.Count())) {
			return next, errFull
		}
		if !b.IsControl() && !(b.IsTransactional() && c.txns.wasAborted(b.ProducerID(), b.BaseOffset())) {
			err := b.Each(maxDecompressed, func(r record.Record) error {
				if r.Key != nil && r.Offset >= from {
					c.keys.put(r.Key, r.Offset)
				}
				return nil
			})
			if err != nil {
				return next, fmt.Errorf("read the keys of the batch at offset %d: %w", b.BaseOffset(), err)
			}
		}
		next = b.NextOffset()
	}
	return next, nil
}
