package storage

import (
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// Append writes a round's frames with one gathered write and hands the round
// to the flusher, which calls Done once it is durable. When Append returns an
// error nothing of the round counts, Done is not called, and the same round
// may be tried again: with Before, if ShouldRoll says so. Errors wrap ErrRound,
// ErrNeedBefore, record.ErrDiskFull, record.ErrOffline, record.ErrQuarantined
// or record.ErrStopped.
//
// One goroutine at a time may call Append. It waits for the disk only when a
// segment begins that is no plain roll: a conflict, a reset, or the first
// round after OpenLog when the log could not simply go on.
func (l *Log) Append(r Round) error {
	l.takeWriter()
	defer l.giveWriter()
	if err := l.append(&r); err != nil {
		return fmt.Errorf("append to log %s: %w", l.id, err)
	}
	return nil
}

func (l *Log) append(r *Round) error {
	if err := l.ready(); err != nil {
		return err
	}
	if err := l.store.writable(hasData(r)); err != nil {
		return err
	}
	if err := l.check(r); err != nil {
		return err
	}
	if r.Hard == nil && l.restate {
		hard := l.Hard()
		r.Hard = &hard
	}
	if r.Hard != nil {
		if err := l.promise(r.Hard.Term); err != nil {
			return err
		}
	}
	write := l.writeRound
	if r.Reset != nil || r.Before != nil {
		write = l.beginSegment
	}
	if err := write(r); err != nil {
		return err
	}
	l.restate = false
	return nil
}

func (l *Log) writeRound(r *Round) error { return l.write(r, r.Hard) }

func hasData(r *Round) bool {
	return slices.ContainsFunc(r.Entries, func(e Entry) bool { return e.Kind == KindData })
}

// check compares the round with the log, except for what the encoder checks
// entry by entry.
func (l *Log) check(r *Round) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	last := l.last().p.lastIndex
	switch {
	case r.Hard != nil && r.Hard.Term < l.mu.hard.Term:
		return fmt.Errorf("%w: hard state of term %d < %d", ErrRound, r.Hard.Term, l.mu.hard.Term)
	case r.Reset != nil:
		if r.Reset.Hard.Term < l.mu.hard.Term && (r.Hard == nil || r.Hard.Term < l.mu.hard.Term) {
			return fmt.Errorf("%w: reset to a hard state of term %d < %d: the term and vote must be the log's own", ErrRound, r.Reset.Hard.Term, l.mu.hard.Term)
		}
		return nil
	case r.Before == nil && !l.mu.writable:
		return ErrNeedBefore
	case len(r.Entries) == 0:
		return nil
	}
	first := r.Entries[0].Index
	switch {
	case first > last+1:
		return fmt.Errorf("%w: first index %d > %d, the one after the last", ErrRound, first, last+1)
	case first == last+1:
		return nil
	case first <= l.mu.first.Index || first <= l.mu.hard.Commit:
		return fmt.Errorf("%w: first index %d supersedes what is committed, %d, or before the log, %d", ErrRound, first, l.mu.hard.Commit, l.mu.first.Index)
	case r.Before == nil:
		return fmt.Errorf("%w: index %d ≤ %d supersedes a suffix", ErrNeedBefore, first, last)
	}
	return nil
}

// write appends the round's frames to the active segment.
func (l *Log) write(r *Round, hard *HardState) error {
	l.mu.RLock()
	seg, next := l.last(), l.last().p
	stated := l.mu.synced
	l.mu.RUnlock()
	l.enc.reset(stated)
	if err := l.enc.round(hard, r.Entries, &next, seg.header.length); err != nil {
		return err
	}
	l.enc.ahead(l.store.zeros[:seg.ahead(int64(next.end), l.store.cfg.AheadBytes)])
	if err := l.flushEncoder(seg, seg.p.end, hasData(r)); err != nil {
		return err
	}
	l.publish(seg, next, r)
	return nil
}

// flushEncoder writes what the encoder gathered to the segment's file. After
// an error the file may end with anything, so nothing more is appended to it
// unless the disk says that nothing was written. That the zeros at the end have
// no room is no error.
func (l *Log) flushEncoder(seg *segment, at uint32, data bool) error {
	l.enc.cut()
	if len(l.enc.bufs) == 0 {
		return nil
	}
	size := 0
	for _, b := range l.enc.bufs {
		size += len(b)
	}
	wrote := 0
	err := l.store.onDisk(data, func() error {
		n, err := seg.file.f.WriteGather(l.enc.bufs, int64(at))
		wrote = max(wrote, n)
		if n >= size-l.enc.spare && isFull(err) {
			return nil
		}
		return err
	})
	seg.filled = max(seg.filled, int64(at)+int64(wrote))
	if err == nil {
		return nil
	}
	full := errors.Is(err, record.ErrDiskFull)
	if wrote > 0 || !full {
		l.mu.Lock()
		l.mu.writable = false
		l.mu.Unlock()
	}
	if !full {
		return l.store.goOffline(err)
	}
	return err
}

// publish makes a written round visible and hands it to the flusher.
func (l *Log) publish(seg *segment, next progress, r *Round) {
	wrote := next.end != seg.p.end
	l.store.point.written.Add(int64(next.end) - int64(seg.p.end))
	l.mu.Lock()
	l.mu.stated = maxPosition(l.mu.stated, next.stated)
	votes := next.hard.Term != l.mu.hard.Term || next.hard.Vote != l.mu.hard.Vote
	seg.p, seg.size = next, int64(next.end)
	l.mu.hard = next.hard
	if wrote {
		l.markUnsynced(seg.file)
	}
	cached := l.mu.tail.add(r.Entries)
	l.mu.Unlock()
	if n := len(r.Entries); n > 0 {
		l.store.tails.added(l, r.Entries[n-1].Index, cached)
	}
	l.store.flush.add(l, r, votes)
}

// markUnsynced notes that a file was written to. The lock must be held.
func (l *Log) markUnsynced(f *segFile) {
	if !slices.Contains(l.mu.unsynced, f) && f.retain() {
		l.mu.unsynced = append(l.mu.unsynced, f)
	}
}

func maxPosition(a, b position) position {
	if a.less(b) {
		return b
	}
	return a
}
