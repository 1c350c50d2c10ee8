package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// place is where a new segment begins: after an entry, in the segment that
// holds it.
type place struct {
	state   State    // Index, Term and NextOffset after the entry
	seg     *segment // nil: there is nothing before
	end     uint32   // where the entry ends in seg
	maxTime int64    // largest batch time in seg, up to there or a little later
}

// beginSegment starts a new segment and writes the round into it.
func (l *Log) beginSegment(r *Round) error {
	at, plain, err := l.placeOf(r)
	if err != nil {
		return err
	}
	h := l.newHeader(at, r)
	if r.Hard != nil {
		h.state.Hard = *r.Hard
	}
	if plain {
		return l.plainRoll(&h, at, r)
	}
	h.flags |= flagSynced
	return l.syncedRoll(&h, at, r)
}

// placeOf finds where the round's segment begins. plain means that it is an
// ordinary roll: the newest segment is whole and simply ends.
func (l *Log) placeOf(r *Round) (at place, plain bool, err error) {
	l.mu.RLock()
	s := l.last()
	at = place{
		seg: s, end: s.p.end, maxTime: s.p.maxTime,
		state: State{Index: s.p.lastIndex, Term: s.p.lastTerm, NextOffset: s.p.nextOffset, Hard: l.mu.hard},
	}
	plain = l.mu.writable
	l.mu.RUnlock()
	switch {
	case r.Reset != nil:
		return place{state: *r.Reset}, false, nil
	case len(r.Entries) > 0 && r.Entries[0].Index <= at.state.Index:
		hard := at.state.Hard
		if at, err = l.placeAfter(r.Entries[0].Index - 1); err != nil {
			return at, false, err
		}
		at.state.Hard, plain = hard, false
	}
	at.state.Aux = *r.Before
	return at, plain, nil
}

// placeAfter finds the place after an entry that is in the log, or before the
// first one.
func (l *Log) placeAfter(index uint64) (place, error) {
	l.mu.RLock()
	s := l.mu.segs[0]
	if index > l.mu.first.Index {
		s = l.mu.segs[l.segmentOf(index)]
	}
	l.mu.RUnlock()
	h := &s.header
	at := place{seg: s, end: h.length, maxTime: -1, state: State{Index: h.state.Index, Term: h.state.Term, NextOffset: h.state.NextOffset}}
	if index == h.state.Index {
		return at, nil
	}
	if h.isCompacted() {
		// All of it is committed: a place in it is its end.
		if c := &h.compacted; index != c.index {
			return at, fmt.Errorf("%w: index %d is compacted", ErrRound, index)
		}
		at.end, at.maxTime = s.p.end, s.p.maxTime
		at.state.Index, at.state.Term, at.state.NextOffset = s.p.lastIndex, s.p.lastTerm, s.p.nextOffset
		return at, nil
	}
	v, err := l.view(s)
	if err != nil {
		return at, err
	}
	defer v.close()
	b, _ := v.p.find(func(b block) bool { return b.index > index })
	w := v.walk(b.pos, walkChunk)
	for {
		f, head, err := w.head()
		if err != nil {
			return at, l.damaged(s, &placeError{w.pos, unexpected(err)})
		}
		w.skip()
		if f.isEntry() && f.index == index {
			e := entryOf(f, head)
			at.end, at.maxTime = w.pos, v.p.maxTime
			at.state.Index, at.state.Term, at.state.NextOffset = index, f.term, e.NextOffset()
			return at, nil
		}
	}
}

// unexpected turns the end of a segment into an error where an entry had to
// come.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (l *Log) newHeader(at place, r *Round) segHeader {
	h := segHeader{id: l.id, created: l.store.cfg.Clock().UnixMilli(), state: at.state, prevMaxTime: at.maxTime}
	if at.seg != nil {
		follows := at.seg.header.tail(at.end)
		h.prevSeq, h.prevEnd = follows.seq, follows.pos
	}
	if r.Reset != nil {
		h.flags |= flagReset
	}
	return h
}

// number gives the header the next number and a fresh salt. A number is never
// used twice, not even after a failure: what was removed may come back with a
// power cut.
func (l *Log) number(h *segHeader) error {
	var salt [4]byte
	if _, err := io.ReadFull(l.store.cfg.Rand, salt[:]); err != nil {
		return fmt.Errorf("draw a salt: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.maxSeq++
	h.salt, h.seq = binary.BigEndian.Uint32(salt[:]), l.mu.maxSeq
	return nil
}

// plainRoll seals the newest segment with a footer and writes the new one's
// header together with the round: nothing is synced here, the flusher syncs
// both files and the directory. If only a part survives a power cut, recovery
// sees that the new header does not follow.
func (l *Log) plainRoll(h *segHeader, at place, r *Round) error {
	if err := dryRun(h, r); err != nil {
		return err
	}
	l.seal(at.seg)
	l.mu.RLock()
	h.synced = l.mu.synced
	l.mu.RUnlock()
	seg, err := l.prepare(h, hasData(r))
	if err != nil {
		return err
	}
	next := seg.p
	if err := l.enc.round(nil, r.Entries, &next, h.length); err != nil {
		return errors.Join(err, l.discard(seg))
	}
	if err := l.flushEncoder(seg, 0, hasData(r)); err != nil {
		return errors.Join(err, l.discard(seg))
	}
	l.adopt(seg, h, at)
	l.mu.Lock()
	l.mu.newNames = true
	l.markUnsynced(seg.file)
	l.mu.Unlock()
	l.publish(seg, next, r)
	return nil
}

// dryRun encodes a round for a segment that does not exist yet, to see that it
// fits before anything is done for it.
func dryRun(h *segHeader, r *Round) error {
	h.encode() // for its length
	next := begin(h)
	var enc encoder
	return enc.round(nil, r.Entries, &next, h.length)
}

// seal ends a segment with a footer. It may fail: the footer saves time at the
// next start and nothing else. Whatever happens, no entry follows in the file.
func (l *Log) seal(s *segment) {
	next := s.p
	l.mu.RLock()
	l.enc.reset(l.mu.synced)
	l.mu.RUnlock()
	err := l.enc.summary(kindFooter, &next)
	if err == nil && s.filled > int64(next.end) {
		err = s.file.f.Truncate(int64(next.end)) // the footer is the last there is
		s.filled = int64(next.end)
	}
	if err == nil {
		err = l.flushEncoder(s, s.p.end, true)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.writable = false
	l.markUnsynced(s.file)
	if err != nil {
		l.store.log.Warn("no footer was written, the segment will be scanned when it is opened", "file", l.path(s.name), "error", err)
		return
	}
	s.footer, s.size = s.p.end, int64(next.end)
}

// prepare creates the new segment's file and puts its header into the encoder.
func (l *Log) prepare(h *segHeader, data bool) (*segment, error) {
	if err := l.number(h); err != nil {
		return nil, err
	}
	seg := &segment{name: segmentName(h.seq, h.state.Index+1)}
	err := l.store.onDisk(data, func() error {
		f, err := l.store.fs.Create(l.path(seg.name))
		if err == nil {
			seg.file = newSegFile(f)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	l.enc.reset(h.synced)
	l.enc.raw(h.encode())
	seg.header, seg.p = *h, begin(h)
	seg.header.state.Aux = Aux{}
	return seg, nil
}

// discard removes a segment that could not be written. That it may come back
// with a power cut is harmless: the next one is synced before anything follows
// it, and names the segment it follows.
func (l *Log) discard(s *segment) error {
	s.file.release()
	return l.store.fs.Remove(l.path(s.name))
}

// syncedRoll begins a segment that does not simply follow: everything before
// it is synced, then the file with its header and its name, and only then the
// round is appended (Invariants 9a, 10, 12). The hard state goes into the new
// header alone: in the old segment its commit could bless the old suffix after
// a power cut.
func (l *Log) syncedRoll(h *segHeader, at place, r *Round) error {
	if err := dryRun(h, r); err != nil {
		return err
	}
	if err := l.syncBefore(h); err != nil {
		return err
	}
	seg, err := l.prepare(h, hasData(r))
	if err != nil {
		return err
	}
	if err := l.flushEncoder(seg, 0, hasData(r)); err != nil {
		return errors.Join(err, l.discard(seg))
	}
	if err := seg.file.sync(); err != nil {
		return l.store.goOffline(err)
	}
	if err := l.syncDir(); err != nil {
		return l.store.goOffline(err)
	}
	l.adopt(seg, h, at)
	l.mu.Lock()
	l.mu.synced = position{h.seq, h.length}
	l.mu.proven = maxPosition(l.mu.proven, h.synced)
	l.mu.hard = h.state.Hard // durable already, whatever becomes of the frames
	l.mu.newNames = false
	l.mu.Unlock()
	return l.write(r, nil)
}

// syncBefore makes everything before a new segment durable and lets the header
// state it.
func (l *Log) syncBefore(h *segHeader) error {
	l.mu.RLock()
	var files []*segFile
	for _, list := range [][]*segFile{l.mu.flushing, l.mu.unsynced} {
		for _, f := range list {
			if f.retain() {
				files = append(files, f)
			}
		}
	}
	names, last := l.mu.newNames, l.last()
	end := position{last.header.seq, last.p.end}
	l.mu.RUnlock()
	var errs []error
	for _, f := range files {
		errs = append(errs, f.sync())
		f.release()
	}
	if names {
		errs = append(errs, l.syncDir())
	}
	if err := errors.Join(errs...); err != nil {
		return l.store.goOffline(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.synced = maxPosition(l.mu.synced, end)
	h.synced = l.mu.synced
	return nil
}

// adopt makes a written segment the active one. Entries of older segments
// behind its place are dead from now on.
func (l *Log) adopt(seg *segment, h *segHeader, at place) {
	l.mu.Lock()
	var closing []*segFile
	for n := len(l.mu.segs); n > 0; n-- {
		s := l.mu.segs[n-1]
		if s.file != nil {
			closing = append(closing, s.file)
			s.file = nil
		}
		s.p.runs, s.p.blocks, s.p.open = nil, nil, block{}
		if s == at.seg {
			s.p.end, s.p.maxTime = at.end, at.maxTime
			s.p.lastIndex, s.p.lastTerm, s.p.nextOffset = at.state.Index, at.state.Term, at.state.NextOffset
			break
		}
		l.mu.segs = l.mu.segs[:n-1]
		l.mu.dead = append(l.mu.dead, deadFile{s.name, s.header.seq, s.size})
	}
	l.mu.segs = append(l.mu.segs, seg)
	l.mu.writable = true
	l.mu.tip = h.state
	if h.isReset() {
		l.mu.first = h.state
	}
	l.mu.stated = maxPosition(l.mu.stated, h.synced)
	l.mu.tail.truncate(h.state.Index + 1)
	if h.isReset() {
		l.mu.tail.clear()
	}
	seg.size = int64(h.length)
	l.mu.Unlock()
	for _, f := range closing {
		f.release()
	}
}
