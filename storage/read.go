package storage

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/entrepot-hub/entrepot/record"
)

// Reads never look at the disk for what is in the tail. Everything that comes
// from the disk has passed its checksums; what does not is damage and
// quarantines the log.

// entryOf makes an entry of a frame and its payload.
func entryOf(f *frame, payload []byte) Entry {
	return Entry{Index: f.index, Term: f.term, Kind: f.kind, BaseOffset: f.base, LeaderEpoch: f.epoch, Payload: payload}
}

// Entries returns the entries lo ≤ index < hi, at least one, and no more than
// fit into maxBytes of payload behind the first. It wraps ErrCompacted or
// ErrUnavailable when the log does not hold all of them, whether some are
// missing from lo on or not: nothing below Whole.
func (l *Log) Entries(lo, hi uint64, maxBytes int) ([]Entry, error) {
	out, err := l.entries(lo, hi, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("entries %d to %d of log %s: %w", lo, hi, l.id, err)
	}
	return out, nil
}

func (l *Log) entries(lo, hi uint64, maxBytes int) ([]Entry, error) {
	l.mu.RLock()
	whole, last := l.whole(), l.last().p.lastIndex
	cached, ok := l.mu.tail.from(lo)
	if ok && lo >= whole && hi <= last+1 && lo < hi {
		out := limitEntries(cached[:hi-lo], maxBytes)
		l.mu.RUnlock()
		return out, nil
	}
	at := 0
	if lo >= whole && lo <= last {
		at = l.segmentOf(lo)
	}
	segs, readable := l.mu.segs[at:], l.mu.readable
	l.mu.RUnlock()
	switch {
	case lo < whole:
		return nil, ErrCompacted
	case hi > last+1:
		return nil, ErrUnavailable
	case lo >= hi:
		return nil, nil
	case lo > readable:
		return nil, l.unreadable()
	}
	g := gather{max: maxBytes, readable: readable}
	for _, s := range segs {
		if more, err := l.gatherEntries(s, lo, hi, &g); err != nil || !more {
			return g.entries, err
		}
	}
	return g.entries, nil
}

// limitEntries copies the first entries that fit.
func limitEntries(all []Entry, maxBytes int) []Entry {
	g := gather{max: maxBytes}
	n := 0
	for n < len(all) && g.fits(len(all[n].Payload)) {
		n++
	}
	return append([]Entry(nil), all[:n]...)
}

// gather collects what a read returns, up to a number of bytes; the first one
// always fits.
type gather struct {
	entries []Entry
	batches []record.Batch
	n, max  int
	some    bool
	// readable is Log.mu.readable.
	readable uint64
	loan     *loan // where memory comes from; nil: the collector
	late     *late // what is left in the files; nil: nothing
}

func (g *gather) fits(size int) bool {
	if g.some && g.n+size > g.max {
		return false
	}
	g.n, g.some = g.n+size, true
	return true
}

// gatherEntries reads one segment's share. more is false when all is there.
func (l *Log) gatherEntries(s *segment, lo, hi uint64, g *gather) (more bool, err error) {
	v, err := l.view(s)
	if err != nil {
		return false, err
	}
	defer v.close()
	s = v.seg
	pos := s.header.length
	if b, ok := v.p.find(func(b block) bool { return b.index > lo }); ok {
		pos = b.pos
	}
	w := v.walk(pos, readChunk(g.max-g.n))
	for {
		f, _, err := w.head()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, l.damaged(s, &placeError{w.pos, err})
		}
		if !f.isEntry() || f.index < lo {
			w.skip()
			continue
		}
		if f.index >= hi || f.index > g.readable || !g.fits(int(f.length)) {
			return false, nil
		}
		e, pos := entryOf(f, nil), w.pos
		if e.Payload, err = w.body(); err != nil {
			return false, l.damaged(s, &placeError{pos, err})
		}
		g.entries = append(g.entries, e)
	}
}

// readChunk is how much to read at once for a read of maxBytes.
func readChunk(maxBytes int) int {
	return min(max(maxBytes, 0)+walkChunk, 4<<20)
}

// Read returns whole batches in offset order, from the one that holds offset,
// or the next one behind a gap, while they begin below limit: at least one,
// and no more than fit into maxBytes behind the first. It returns nothing at or
// above limit, and wraps record.ErrOffsetOutOfRange below the log's start or
// above its end.
func (l *Log) Read(offset, limit int64, maxBytes int) ([]record.Batch, error) {
	g := gather{max: maxBytes}
	if err := l.read(offset, limit, &g); err != nil {
		return nil, fmt.Errorf("read log %s at offset %d: %w", l.id, offset, err)
	}
	return g.batches, nil
}

// ReadLent is Read into memory that is used again: chunk's batches are valid until
// its Release is called, which may be left out unless Open is there. With leave,
// large batches of large records are left in the file, for Open to read. Chunk's
// Offsets are not set.
func (l *Log) ReadLent(offset, limit int64, maxBytes int, leave bool) (chunk record.Chunk, err error) {
	lent := &loan{from: &l.store.lender}
	g := gather{max: maxBytes, loan: lent}
	if leave {
		g.late = &late{log: l}
	}
	if err = l.read(offset, limit, &g); err != nil {
		g.late.end()
		return chunk, fmt.Errorf("read log %s at offset %d: %w", l.id, offset, err)
	}
	chunk.Batches = g.batches
	if leave && len(g.late.parts) > 0 {
		chunk.Open = g.late.open
	}
	if len(lent.bufs) > 0 || chunk.Open != nil {
		chunk.Release = func() {
			g.late.end()
			lent.giveBack()
		}
	}
	return chunk, nil
}

func (l *Log) read(offset, limit int64, g *gather) error {
	l.mu.RLock()
	start, next := l.mu.first.NextOffset, l.last().p.nextOffset
	g.readable = l.mu.readable
	if offset >= start && offset <= next && l.mu.tail.read(offset, limit, g) {
		l.mu.RUnlock()
		return nil
	}
	segs := l.mu.segs
	at := sort.Search(len(segs), func(i int) bool { return segs[i].base() > offset })
	segs = segs[max(at-1, 0):]
	l.mu.RUnlock()
	if offset < start || offset > next {
		return fmt.Errorf("%w: the log holds offsets %d to %d", record.ErrOffsetOutOfRange, start, next)
	}
	if offset >= limit {
		return nil
	}
	for _, s := range segs {
		more, err := l.gatherBatches(s, offset, limit, g)
		if errors.Is(err, ErrCompacted) { // trimmed while we looked
			return fmt.Errorf("%w: the log begins behind it", record.ErrOffsetOutOfRange)
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// read serves a read from memory. false means that the tail begins too late.
func (t *tail) read(offset, limit int64, g *gather) bool {
	if len(t.entries) == 0 || offset < t.entries[0].BaseOffset {
		return false
	}
	i := sort.Search(len(t.entries), func(i int) bool { return t.entries[i].NextOffset() > offset })
	for ; i < len(t.entries); i++ {
		e := &t.entries[i]
		if e.Kind != KindData {
			continue
		}
		if e.BaseOffset >= limit || !g.fits(len(e.Payload)) {
			break
		}
		g.batches = append(g.batches, e.Batch())
	}
	return true
}

func (l *Log) gatherBatches(s *segment, offset, limit int64, g *gather) (more bool, err error) {
	v, err := l.view(s)
	if err != nil {
		return false, err
	}
	defer v.close()
	s = v.seg
	if n := len(g.batches); n > 0 {
		offset = max(offset, g.batches[n-1].NextOffset()) // a segment may stand for several
	}
	pos := s.header.length
	if b, ok := v.p.find(func(b block) bool { return b.offset > offset }); ok {
		pos = b.pos
	}
	if at := l.cursors.find(offset, s.header.sealing()); at > pos && at <= v.p.end {
		pos = at
	}
	w := v.walk(pos, readChunk(g.max-g.n))
	w.loan = g.loan
	w.exact = true
	for {
		f, head, err := w.head()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, l.damaged(s, &placeError{w.pos, err})
		}
		if f.kind != KindData || record.Batch(head).NextOffset() <= offset {
			w.skip()
			continue
		}
		if f.index > g.readable {
			if !g.some {
				err = l.unreadable()
			}
			return false, err
		}
		if f.base >= limit || !g.fits(int(f.length)) {
			l.cursors.add(g, s.header.sealing(), w.pos)
			// Whoever reads on will want what follows: have the disk bring it
			// while this goes to the client.
			v.file.f.Prefetch(int64(w.pos), int64(min(uint32(readChunk(g.max)), w.end-w.pos)))
			return false, nil
		}
		if g.late.wants(f, head) {
			g.batches = append(g.batches, g.late.add(len(g.batches), v, w, head))
			w.skip()
			continue
		}
		pos := w.pos
		w.chunk = readChunk(g.max - g.n + int(f.length)) // f is counted already
		b, err := w.body()
		if err != nil {
			return false, l.damaged(s, &placeError{pos, err})
		}
		g.batches = append(g.batches, b)
	}
}

// OffsetForTime returns the first batch below limit whose largest timestamp is
// at least ms; the caller finds the record in it. ok is false when there is
// none.
func (l *Log) OffsetForTime(ms, limit int64) (batch record.Batch, ok bool, err error) {
	l.mu.RLock()
	var segs []*segment
	for _, s := range l.mu.segs {
		if s.p.maxTime >= ms && s.base() < limit && s.header.state.Index < l.mu.readable {
			segs = append(segs, s)
		}
	}
	l.mu.RUnlock()
	for _, s := range segs {
		batch, err = l.firstSince(s, ms)
		switch {
		case err != nil:
			return nil, false, fmt.Errorf("offset for time %d of log %s: %w", ms, l.id, err)
		case batch != nil:
			return batch, batch.BaseOffset() < limit, nil
		}
	}
	return nil, false, nil
}

// firstSince finds the first batch of a segment that reaches a time; nil when
// none does, because its end was superseded.
func (l *Log) firstSince(s *segment, ms int64) (record.Batch, error) {
	v, err := l.view(s)
	if err != nil {
		return nil, err
	}
	defer v.close()
	s = v.seg
	b, ok := v.p.findTime(ms)
	if !ok {
		return nil, nil
	}
	w := v.walk(b.pos, walkChunk)
	for {
		f, head, err := w.head()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, l.damaged(s, &placeError{w.pos, err})
		}
		if f.kind != KindData || record.Batch(head).MaxTime() < ms {
			w.skip()
			continue
		}
		pos := w.pos
		body, err := w.body()
		if err != nil {
			return nil, l.damaged(s, &placeError{pos, err})
		}
		return body, nil
	}
}

// cursors remember where the last reads of a log ended, so that a consumer who
// reads on does not skip through a block again.
type cursors struct {
	mu struct {
		sync.Mutex
		slots [4]cursor
		next  int
	}
}

// cursor says that the batch at or behind offset begins at a position.
type cursor struct {
	offset int64
	in     sealing // of the segment, another one once it is compacted
	pos    uint32
}

func (c *cursors) find(offset int64, in sealing) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.mu.slots {
		if k.offset == offset && k.in == in {
			return k.pos
		}
	}
	return 0
}

func (c *cursors) add(g *gather, in sealing, pos uint32) {
	if len(g.batches) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.slots[c.mu.next] = cursor{g.batches[len(g.batches)-1].NextOffset(), in, pos}
	c.mu.next = (c.mu.next + 1) % len(c.mu.slots)
}
