package storage

import (
	"io"
)

// walker reads the frames of a file one after the other. Each call of head is
// followed by body or skip.
type walker struct {
	f        source
	sealing  sealing
	pos, end uint32 // of the next frame; where to stop
	chunk    int    // how much is read ahead
	reuse    bool   // payloads are valid until the next call only
	loan     *loan  // where buffers come from; nil: the collector
	exact    bool   // nothing is read that may not be wanted; see exactFrom
	buf      []byte
	at       uint32 // where buf begins
	few      []byte // a head and what is behind, when exact
	fewAt    uint32
	cur      frame
}

// walkChunk is what a walker reads at once when only heads matter.
const walkChunk = 64 << 10

// An exact walker is for who may stop before any frame. It reads a head that buf does
// not have with few bytes behind it, and a frame of exactFrom or more by itself, with
// the head of the next.
const (
	exactFrom  = 64 << 10
	asideChunk = 4 << 10 // bytes of a head and what is behind
)

// window makes buf hold n bytes from pos and returns them; fewer at the end.
func (w *walker) window(n int) ([]byte, error) {
	n = min(n, int(w.end-w.pos))
	if within(w.pos, n, w.at, w.buf) {
		off := int(w.pos - w.at)
		return w.buf[off : off+n : off+n], nil
	}
	size := max(n, w.chunk)
	if w.exact && n >= exactFrom {
		size = n + frameHeader + headBytes
	}
	size = min(size, int(w.end-w.pos))
	var have []byte // of what is wanted: a frame that buf ends within is not read twice
	if within(w.pos, 1, w.at, w.buf) {
		have = w.buf[w.pos-w.at:]
	}
	if k := len(have); k > 0 && w.reuse && cap(have) >= size { // there is room behind it
		more, err := readFull(w.f, have[k:size], int64(w.pos)+int64(k))
		if err != nil {
			w.buf = nil
			return nil, err
		}
		w.buf = w.buf[:len(w.buf)+more]
		return have[:min(n, k+more):min(n, k+more)], nil
	}
	switch {
	case w.reuse && cap(w.buf) >= size:
	case w.loan != nil:
		w.buf = w.loan.take(size)
	default:
		w.buf = make([]byte, size)
	}
	k := copy(w.buf[:size], have)
	more, err := readFull(w.f, w.buf[k:size], int64(w.pos)+int64(k))
	if err != nil {
		w.buf = nil
		return nil, err
	}
	k += more
	w.buf, w.at = w.buf[:k], w.pos
	return w.buf[:min(n, k):min(n, k)], nil
}

// front is the next frame's header and the first bytes of its payload.
func (w *walker) front() ([]byte, error) {
	n := min(frameHeader+headBytes, int(w.end-w.pos))
	if !w.exact || within(w.pos, n, w.at, w.buf) {
		return w.window(n)
	}
	if !within(w.pos, n, w.fewAt, w.few) {
		if w.few == nil {
			w.few = make([]byte, asideChunk)
		}
		k, err := readFull(w.f, w.few[:cap(w.few)][:min(asideChunk, int(w.end-w.pos))], int64(w.pos))
		if err != nil {
			return nil, err
		}
		w.few, w.fewAt, n = w.few[:k], w.pos, min(n, k)
	}
	off := w.pos - w.fewAt
	return w.few[off : off+uint32(n)], nil
}

// within reports whether b, which begins at a position, has n bytes from pos on.
func within(pos uint32, n int, at uint32, b []byte) bool {
	off := int64(pos) - int64(at)
	return off >= 0 && off+int64(n) <= int64(len(b))
}

// head reads the next frame's header and the first bytes of its payload, and
// checks them. io.EOF says that end is reached; any other error is about the
// place pos.
func (w *walker) head() (*frame, []byte, error) {
	if w.pos >= w.end {
		return nil, nil, io.EOF
	}
	b, err := w.front()
	if err != nil {
		return nil, nil, err
	}
	if w.cur, err = parseHead(b, w.sealing, w.pos); err != nil {
		return nil, nil, err
	}
	if int64(w.pos)+int64(w.cur.size()) > int64(w.end) {
		return nil, nil, errShort
	}
	return &w.cur, b[frameHeader : frameHeader+min(int(w.cur.length), headBytes)], nil
}

// body returns the whole payload of the frame that head found, checked, and
// goes on to the next.
func (w *walker) body() ([]byte, error) {
	n := w.cur.size()
	b, err := w.window(n)
	if err != nil {
		return nil, err
	}
	if len(b) < n {
		return nil, errShort
	}
	if err := w.cur.checkBody(b[frameHeader:]); err != nil {
		return nil, err
	}
	w.pos += uint32(n)
	return b[frameHeader : frameHeader+int(w.cur.length) : frameHeader+int(w.cur.length)], nil
}

// skip goes on to the next frame.
func (w *walker) skip() { w.pos += uint32(w.cur.size()) }

// verify reads frames from p on until one is bad or end is reached, checking
// every byte and the order. It returns the progress up to there and why it
// stopped; nil at the end.
func verify(f source, p progress, end uint32, visit func(*frame, []byte) error) (progress, error) {
	w := walker{f: f, sealing: p.sealing, pos: p.end, end: end, chunk: 1 << 20, reuse: true}
	return w.verify(p, visit)
}

func (w *walker) verify(p progress, visit func(*frame, []byte) error) (progress, error) {
	for {
		fr, _, err := w.head()
		if err == io.EOF { //nolint:errorlint // head returns it bare
			return p, nil
		}
		if err != nil {
			return p, err
		}
		cur := *fr
		payload, err := w.body()
		if err != nil {
			return p, err
		}
		if err := p.add(&cur, payload); err != nil {
			return p, err
		}
		if visit != nil {
			if err := visit(&cur, payload); err != nil {
				return p, err
			}
		}
		if cur.kind == kindFooter {
			return p, nil
		}
	}
}

// index reads heads only, to find the blocks and terms of a segment that has
// no footer.
func indexFrames(f source, p progress, end uint32) (progress, error) {
	w := walker{f: f, sealing: p.sealing, pos: p.end, end: end, chunk: walkChunk, reuse: true}
	for {
		fr, head, err := w.head()
		if err == io.EOF { //nolint:errorlint // head returns it bare
			return p, nil
		}
		if err != nil {
			return p, &placeError{w.pos, err}
		}
		w.skip()
		if err := p.add(fr, head); err != nil {
			return p, &placeError{p.end, err}
		}
	}
}

// placeError says where in a file something is wrong.
type placeError struct {
	pos uint32
	err error
}

func (e *placeError) Error() string { return e.err.Error() }
func (e *placeError) Unwrap() error { return e.err }
