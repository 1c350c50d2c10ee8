package storage

import (
	"bytes"
	"errors"
	"io"
	"math"

	"github.com/entrepot-hub/entrepot/record"
)

// pieces is a walk over one group: over its frames that are whole, and over the
// gaps between them.
type pieces struct {
	s     *Salvage
	g     *group
	p     progress // as if nothing were missing
	most  uint64   // entries above belong to what follows
	times int64    // largest time of a batch so far
	open  *Gap     // bytes that are no frames, with none behind them yet
	visit func(*frame, []byte) error
	gap   func(Gap) error
}

// survey finds out what a group holds and what it lacks.
func (s *Salvage) survey(g *group) error {
	nothing := func(*frame, []byte) error { return nil }
	end, err := s.walk(g, nothing, func(gap Gap) error {
		g.gaps = append(g.gaps, gap)
		return nil
	})
	g.end, g.bad = end, len(g.gaps) > 0
	return err
}

// walk goes over a group. It returns the progress at its end.
func (s *Salvage) walk(g *group, visit func(*frame, []byte) error, gap func(Gap) error) (progress, error) {
	w := &pieces{s: s, g: g, p: begin(&g.head.header), times: -1, visit: visit, gap: gap}
	for _, f := range append([]*found{g.head}, g.more...) {
		w.most = s.mostBefore(g, f)
		err := w.file(f)
		f.f.rest()
		if err != nil {
			return w.p, err
		}
	}
	return w.p, w.end(w.last())
}

// mostBefore is the last entry that a file of a group can have: a segment is begun
// behind the last entry of that time, which is in its name, whatever became of it.
func (s *Salvage) mostBefore(g *group, f *found) uint64 {
	most := uint64(math.MaxUint64)
	if g.next != nil {
		most = g.next.state.Index
	}
	for _, later := range s.r.files {
		if _, first, _ := parseSegmentName(later.name); later.bad != nil && later.header.seq > f.header.seq && first > g.head.header.state.Index {
			most = min(most, first-1)
		}
	}
	return most
}

// file goes over one file.
func (w *pieces) file(f *found) error {
	end, from := uint32(min(f.size, math.MaxUint32)), f.header.length
	if f.bad == nil {
		w.p.sealing = f.header.sealing()
	} else {
		from = w.headless(f, end)
		w.p.holes = true // it may be a compacted one: bytes tell what is missing
		w.lose(f.name, 0, int64(from), f.bad)
	}
	if n := w.g.next; n != nil && n.prevSeq == f.header.seq {
		end = min(end, n.prevEnd)
	}
	if f.header.isCompacted() {
		end = min(end, f.header.compacted.end)
	}
	w.p.end = from
	return w.frames(f, end)
}

// headless finds the first frame of a file whose header is damaged. The salt
// stands in the header twice.
func (w *pieces) headless(f *found, end uint32) uint32 {
	for _, salt := range saltsOf(f.f) {
		w.p.sealing = sealing{salt, f.header.seq}
		if at := nextFrame(f.f, w.p.sealing, headerFixed, end); at < end {
			return at
		}
	}
	return end
}

// frames goes over the frames of a file from p.end on.
func (w *pieces) frames(f *found, end uint32) error {
	walk := walker{f: f.f, sealing: w.p.sealing, pos: w.p.end, end: end, chunk: 1 << 20, reuse: true}
	for {
		at := walk.pos
		fr, head, err := walk.head()
		switch {
		case errors.Is(err, io.EOF):
			w.p.end = end
			return nil
		case err == nil && fr.isEntry() && fr.index > w.most:
			return nil // superseded, with all that follows
		}
		cur, followed := frame{}, false
		if err == nil {
			cur = *fr
			head = bytes.Clone(head)
			followed, err = w.body(f, &walk, &cur, head)
		}
		switch {
		case followed && cur.kind == kindFooter:
			w.p.end = at
			return err
		case followed && err != nil:
			return err
		case followed:
			continue
		case w.torn(f, at):
			w.p.end = at
			return nil
		}
		next := nextFrame(f.f, w.p.sealing, at+8, end)
		w.lose(f.name, int64(at), int64(next), err)
		walk.pos, w.p.end = next, next
	}
}

// body takes a frame whose head is whole, if it follows what was before. If its
// payload is damaged it is a gap of its own, of which the head tells what is
// lost. followed is false for what is no frame of the log, and err then says why.
func (w *pieces) body(f *found, walk *walker, cur *frame, head []byte) (followed bool, err error) {
	at := walk.pos
	payload, bad := walk.body()
	if bad == nil && cur.kind == KindData {
		bad = record.Batch(payload).Check()
	}
	if bad != nil && w.torn(f, at) {
		return false, bad
	}
	lost := Gap{File: f.name, From: int64(at), To: int64(at) + int64(cur.size()), Before: w.times, After: -1}
	if bad == nil {
		err = w.follow(cur, payload)
	} else {
		err = w.follow(cur, head)
	}
	if err != nil {
		return !errors.Is(err, errNotNext), err
	}
	walk.pos = at + uint32(cur.size())
	if bad == nil {
		return true, w.visit(cur, payload)
	}
	lost.Reason = bad.Error()
	lost.Index, lost.NextIndex, lost.Offset, lost.NextOffset = w.p.lastIndex+1, w.p.lastIndex+1, w.p.nextOffset, w.p.nextOffset
	if cur.isEntry() {
		lost.Index, lost.Offset, lost.Control = cur.index, cur.base, cur.kind == KindControl
	}
	if cur.kind == KindData {
		lost.Head, lost.After = head, record.Batch(head).MaxTime()
	}
	return true, w.gap(lost)
}

// errNotNext is about a frame that does not follow the one before.
var errNotNext = errors.New("the frame does not follow the one before it")

// follow goes on over a frame, and closes the gap before it. payload needs to
// hold only what its head covers. It returns errNotNext, or the error of gap.
func (w *pieces) follow(f *frame, payload []byte) error {
	p := w.p
	if w.open != nil {
		if f.index < p.lastIndex || f.base < p.nextOffset {
			return errNotNext
		}
		p.chain, p.holes = f.previous, true
		if !f.isEntry() {
			p.lastIndex, p.nextOffset = f.index, f.base
		}
	}
	if p.add(f, payload) != nil {
		return errNotNext
	}
	p.holes = w.p.holes
	at := w.p
	w.p = p
	if w.open != nil {
		g := w.open
		g.NextIndex, g.NextOffset = f.index, f.base
		if !f.isEntry() {
			g.NextIndex++
		}
		if w.open = nil; f.kind == KindData {
			g.After = record.Batch(payload).MaxTime()
		}
		if err := w.gap(*g); err != nil {
			return err
		}
	}
	if p.maxTime > at.maxTime {
		w.times = p.maxTime
	}
	return nil
}

// torn reports whether bytes at the end of the log that are no frame are what a
// crash leaves (Invariant 8). At the end of a segment of which the next one is
// missing that one may have taken back what follows: only the segment's own frames
// tell then.
func (w *pieces) torn(f *found, at uint32) bool {
	stated := w.s.stated
	if n := w.g.next; n != nil {
		if n.prevSeq <= f.header.tail(0).seq || f != w.last() {
			return false
		}
		var err error
		if stated, err = searchStatements(f.f, w.p.sealing, at, f.size); err != nil {
			return false
		}
	}
	return !(position{f.header.seq, at}).less(stated)
}

func (w *pieces) last() *found {
	if n := len(w.g.more); n > 0 {
		return w.g.more[n-1]
	}
	return w.g.head
}

// lose notes bytes that are no frames.
func (w *pieces) lose(file string, from, to int64, why error) {
	if g := w.open; g != nil {
		if g.File == file {
			g.To = to
		}
		return
	}
	w.open = &Gap{File: file, From: from, To: to, Reason: why.Error(), Index: w.p.lastIndex + 1, Offset: w.p.nextOffset, Before: w.times, After: -1}
}

// end closes the group: where the next segment begins is known from its header,
// where a compacted one ends from its own.
func (w *pieces) end(last *found) error {
	p, h := &w.p, &w.g.head.header
	w.g.tail = position{last.header.seq, p.end}
	index, term, next := p.lastIndex, p.lastTerm, p.nextOffset
	if c := &h.compacted; h.isCompacted() && len(w.g.more) == 0 {
		index, term, next = c.index, c.term, c.next
		w.g.tail = h.tail(0)
	}
	if n := w.g.next; n != nil {
		index, term, next = n.state.Index, n.state.Term, n.state.NextOffset
		w.g.tail = position{n.prevSeq, n.prevEnd}
		if n.prevSeq != h.tail(0).seq && n.prevSeq != last.header.seq {
			w.lose(last.name, int64(p.end), -1, errors.New("the segment that follows it is missing"))
		}
	}
	if w.open == nil && !h.isCompacted() && (index > p.lastIndex || next > p.nextOffset) {
		w.lose(last.name, int64(p.end), last.size, errors.New("the segment ends too early"))
	}
	g := w.open
	p.lastIndex, p.lastTerm, p.nextOffset = index, term, next
	if g == nil {
		return nil
	}
	g.NextIndex, g.NextOffset = index+1, next
	w.open = nil
	return w.gap(*g)
}

// nextFrame finds the first frame from a position on, at every place where one
// can stand; end if there is none. What the disk cannot read is no frame.
func nextFrame(f source, s sealing, pos, end uint32) uint32 {
	const step, overlap = 64 << 10, frameHeader + headBytes
	b := make([]byte, step+overlap)
	for at := int64(align8(int(pos))); at < int64(end); at += step {
		n := readAround(f, b[:min(int64(len(b)), int64(end)-at)], at)
		for i := 0; i+frameHeader <= n && i < step; i += 8 {
			if b[i] != frameMagic>>16 {
				continue
			}
			if fr, err := parseHead(b[i:n], s, uint32(at)+uint32(i)); err == nil && at+int64(i)+int64(fr.size()) <= int64(end) {
				return uint32(at) + uint32(i)
			}
		}
	}
	return end
}

// readAround reads what can be read of b; where the disk fails there are zeros.
func readAround(f source, b []byte, at int64) int {
	n, err := readFull(f, b, at)
	if err == nil {
		return n
	}
	const block = 4 << 10
	for i := 0; i < len(b); i += block {
		part := b[i:min(i+block, len(b))]
		if k, err := readFull(f, part, at+int64(i)); err != nil || k < len(part) {
			clear(part)
		}
	}
	return len(b)
}
