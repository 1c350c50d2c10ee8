package storage

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// inlineBytes: a payload up to this size is copied behind its header rather
// than gathered.
const inlineBytes = 512

// encoder turns a round into the buffers of one gathered write. Payloads of
// batches are not copied.
type encoder struct {
	hdr    []byte // headers, paddings and small payloads
	from   int    // of hdr, not in bufs yet
	bufs   [][]byte
	spare  int      // bytes of zeros at the end of bufs
	stated position // what the frames of this round state
}

func (e *encoder) reset(stated position) {
	clear(e.bufs)
	e.hdr, e.from, e.bufs, e.spare, e.stated = e.hdr[:0], 0, e.bufs[:0], 0, stated
	if cap(e.hdr) > 1<<20 {
		e.hdr = nil // one huge round must not be paid for ever
	}
}

// raw adds bytes that are no frame: a segment header.
func (e *encoder) raw(b []byte) {
	e.cut()
	e.bufs = append(e.bufs, b)
}

// frame adds a frame and takes it into p.
func (e *encoder) frame(f *frame, payload []byte, p *progress) error {
	if int64(p.end)+int64(frameHeader+align8(len(payload))) > 1<<32-1 {
		return fmt.Errorf("%w: the segment would grow beyond 4 GiB", ErrNeedBefore)
	}
	at := len(e.hdr)
	e.hdr = append(e.hdr, make([]byte, frameHeader)...)
	f.previous, f.synced = p.chain, e.stated
	f.put(e.hdr[at:], payload, p.sealing, p.end)
	if err := p.add(f, payload); err != nil {
		return fmt.Errorf("%w: %w", ErrRound, err)
	}
	if len(payload) <= inlineBytes {
		e.hdr = append(e.hdr, payload...)
	} else {
		e.cut()
		e.bufs = append(e.bufs, payload)
	}
	e.hdr = append(e.hdr, zeros[:align8(len(payload))-len(payload)]...)
	return nil
}

// cut moves what hdr gathered into bufs.
func (e *encoder) cut() {
	if e.from < len(e.hdr) {
		e.bufs = append(e.bufs, e.hdr[e.from:len(e.hdr):len(e.hdr)])
		e.from = len(e.hdr)
	}
}

// ahead adds zeros behind everything: see segment.ahead.
func (e *encoder) ahead(zeros []byte) {
	if len(zeros) > 0 {
		e.raw(zeros)
		e.spare = len(zeros)
	}
}

// entry adds an entry of a round.
func (e *encoder) entry(n *Entry, p *progress) error {
	switch n.Kind {
	case KindData:
		if _, rest, err := record.SplitBatch(n.Payload); err != nil || len(rest) != 0 {
			return fmt.Errorf("%w: index %d is not exactly one batch (%d bytes, %d behind it): %w", ErrRound, n.Index, len(n.Payload), len(rest), err)
		}
	case KindControl:
	default:
		return fmt.Errorf("%w: index %d has %s", ErrRound, n.Index, n.Kind)
	}
	return e.frame(&frame{kind: n.Kind, index: n.Index, term: n.Term, base: n.BaseOffset, epoch: n.LeaderEpoch}, n.Payload, p)
}

// state adds a state frame.
func (e *encoder) state(h HardState, p *progress) error {
	var b [statePayload]byte
	return e.frame(&frame{kind: kindState, index: p.lastIndex, term: h.Term, base: p.nextOffset}, appendState(b[:0], h), p)
}

// summary adds a checkpoint or a footer.
func (e *encoder) summary(kind Kind, p *progress) error {
	p.close()
	return e.frame(&frame{kind: kind, index: p.lastIndex, term: p.lastTerm, base: p.nextOffset}, p.summary(kind), p)
}

// round adds a round's frames: the hard state first, so that no entry is of a
// higher term than the state before it, then the entries, then a checkpoint
// when one is due. That the commit can be durable before its entries is no
// damage: recovery clamps it (Invariant 9).
func (e *encoder) round(hard *HardState, entries []Entry, p *progress, header uint32) error {
	if hard != nil {
		if err := e.state(*hard, p); err != nil {
			return err
		}
	}
	for i := range entries {
		if err := e.entry(&entries[i], p); err != nil {
			return err
		}
	}
	if p.end-max(p.checkpoint, header) >= checkpointBytes {
		return e.summary(kindCheckpoint, p)
	}
	return nil
}
