package storage

import (
	"errors"
	"fmt"
	"io"

	"github.com/entrepot-hub/entrepot/record"
)

// Replay calls fn for every entry from an index to the last, in order, and
// stops at its first error. To rebuild the state at the end of a log after
// OpenLog, begin at Tip().Index+1. The payload of a data entry is cut after the
// batch header (record.BatchHeaderSize bytes at least) unless the batch is a
// control batch, so that a replay reads a small part of the log; everything
// handed out has passed its checksums. Payloads must not be kept. In compacted
// segments entries are missing.
func (l *Log) Replay(from uint64, fn func(Entry) error) error {
	l.mu.RLock()
	first, last := l.mu.first.Index, l.last().p.lastIndex
	at := 0
	if from > first && from <= last {
		at = l.segmentOf(from)
	}
	segs, readable := l.mu.segs[at:], l.mu.readable
	l.mu.RUnlock()
	if from <= first {
		return fmt.Errorf("replay log %s from index %d: %w", l.id, from, ErrCompacted)
	}
	next := func(e Entry) error {
		from = e.Index + 1 // a segment may stand for several
		return fn(e)
	}
	for _, s := range segs {
		if err := l.replaySegment(s, from, readable, next); err != nil {
			return fmt.Errorf("replay log %s from index %d: %w", l.id, from, err)
		}
	}
	return nil
}

func (l *Log) replaySegment(s *segment, from, readable uint64, fn func(Entry) error) error {
	v, err := l.view(s)
	if err != nil {
		return err
	}
	defer v.close()
	s = v.seg
	pos := s.header.length
	if b, ok := v.p.find(func(b block) bool { return b.index > from }); ok {
		pos = b.pos
	}
	w := v.walk(pos, walkChunk)
	w.reuse = true
	for {
		f, head, err := w.head()
		if errors.Is(err, io.EOF) {
			return nil
		}
		pos := w.pos
		if err != nil {
			return l.damaged(s, &placeError{pos, err})
		}
		if !f.isEntry() || f.index < from {
			w.skip()
			continue
		}
		if f.index > readable {
			return l.unreadable()
		}
		e := entryOf(f, head)
		if f.kind == KindControl || record.Batch(head).IsControl() {
			if e.Payload, err = w.body(); err != nil {
				return l.damaged(s, &placeError{pos, err})
			}
		} else {
			w.skip()
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}
