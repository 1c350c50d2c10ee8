package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// Scrub reads one segment from front to back, as far as it is part of the log,
// and checks everything: the header, every frame, every batch's own checksum,
// the footer. pace, unless nil, is called with the bytes read since the last
// call and may wait. What is wrong quarantines the log and is returned
// (record.ErrQuarantined). A footer that is missing or does not describe the
// frames is no error: it is written anew. Nor is a segment that is gone meanwhile.
func (l *Log) Scrub(ctx context.Context, seq uint32, pace func(ctx context.Context, n int) error) (s Scrubbed, err error) {
	l.mu.RLock()
	var seg *segment
	for _, o := range l.mu.segs {
		if o.header.seq == seq {
			seg = o
		}
	}
	closed := l.mu.closed
	l.mu.RUnlock()
	switch {
	case closed:
		return s, record.ErrStopped
	case seg == nil:
		return s, nil
	}
	if s, err = l.scrub(ctx, seg, pace); errors.Is(err, ErrCompacted) {
		return s, nil
	} else if err != nil {
		return s, fmt.Errorf("scrub segment %s of log %s: %w", seg.name, l.id, err)
	}
	return s, nil
}

// Scrubbed is what Scrub read, and what it found beside damage.
type Scrubbed struct {
	Bytes int64
	// Index is why the index at the segment's end could not be used; nil: it is
	// whole, or there is to be none. Unmended is why it was not written anew, so
	// that it is made from the frames when it is needed, until a Scrub can write it.
	Index, Unmended error
}

// scrubChunk is how much a scrub reads at a time: somebody's sync may wait for it.
const scrubChunk = 256 << 10

func (l *Log) scrub(ctx context.Context, seg *segment, pace func(ctx context.Context, n int) error) (s Scrubbed, err error) {
	v, err := l.openView(seg)
	if err != nil {
		return s, err
	}
	defer v.close()
	h, err := readHeader(v.file.f)
	if err == nil && h.crc != v.seg.header.crc {
		err = fmt.Errorf("the segment header has changed: checksum %08x, was %08x", h.crc, v.seg.header.crc)
	}
	if err != nil {
		return s, l.damaged(v.seg, &placeError{0, err})
	}
	once := v.file.f.Once()
	defer func() { _ = once.Close() }()
	at, waited, p := h.length, uint32(0), begin(&h)
	w := walker{f: once, sealing: p.sealing, pos: p.end, end: v.p.end, chunk: scrubChunk, reuse: true}
	p, err = w.verify(p, func(f *frame, payload []byte) error {
		at += uint32(f.size())
		if f.kind == KindData {
			if err := record.Batch(payload).Check(); err != nil {
				return err
			}
		}
		if at-waited < scrubChunk {
			return nil
		}
		n := int(at - waited)
		waited = at
		return s.wait(ctx, n, pace)
	})
	s.Bytes = int64(at)
	if stop := (*paceError)(nil); errors.As(err, &stop) {
		return s, stop.error
	}
	frames := p
	p.finish(&h)
	if err == nil && (p.end != v.p.end || p.lastIndex != v.p.lastIndex || p.nextOffset != v.p.nextOffset) {
		err = fmt.Errorf("the frames end at byte %d with entry %d, offset %d; want byte %d, entry %d, offset %d",
			p.end, p.lastIndex, p.nextOffset, v.p.end, v.p.lastIndex, v.p.nextOffset)
	}
	if err != nil {
		return s, l.damaged(v.seg, &placeError{p.end, err})
	}
	err = s.wait(ctx, int(at-waited), pace)
	if stop := (*paceError)(nil); errors.As(err, &stop) {
		return s, stop.error
	}
	if due, _ := l.indexOf(v.seg, p.end); due {
		if s.Index = checkIndex(v.file.f, frames); s.Index != nil {
			s.Unmended = l.mendIndex(v.seg, frames)
		}
	}
	return s, nil
}

// paceError tells what pace returned from what is wrong with a frame.
type paceError struct{ error }

func (s *Scrubbed) wait(ctx context.Context, n int, pace func(ctx context.Context, n int) error) error {
	if err := ctx.Err(); err != nil {
		return &paceError{fmt.Errorf("%w: %w", record.ErrStopped, err)}
	}
	if pace == nil {
		return nil
	}
	if err := pace(ctx, n); err != nil {
		return &paceError{err}
	}
	return nil
}
