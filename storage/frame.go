package storage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// The kinds of frame beside data and control, which are entries.
const (
	kindState      = 3 // a hard state
	kindCheckpoint = 4 // the index of the segment so far
	kindFooter     = 5 // the index of the whole segment, at its end
)

// Layout of a frame, drawn in docs/format/segment.md: byte offsets from its
// start, all numbers big-endian.
const (
	frameMagic  = 0xB54C47 // three bytes, followed by the kind
	frHeadCRC   = 4
	frBodyCRC   = 8
	frLength    = 12
	frIndex     = 16
	frTerm      = 24
	frBase      = 32
	frEpoch     = 40
	frSyncedSeq = 44
	frSyncedPos = 48
	frPrevious  = 52
	frameHeader = 56
	// headBytes of the payload are under the head's checksum, so that a batch
	// header can be trusted without reading the batch.
	headBytes = 64
	// maxPayload is far above any batch that is accepted.
	maxPayload = 1 << 30
)

// position is a place in a log: a byte of a segment (Invariant 8).
type position struct{ seq, pos uint32 }

func (p position) less(q position) bool {
	return p.seq < q.seq || p.seq == q.seq && p.pos < q.pos
}

func (p position) String() string { return fmt.Sprintf("%d:%d", p.seq, p.pos) }

// frame is a decoded frame header.
type frame struct {
	kind     Kind
	length   uint32 // of the payload
	index    uint64 // entries: their index; others: the last index at that place
	term     uint64 // entries: their term; state: the hard state's
	base     int64  // entries: as Entry.BaseOffset; others: the next offset
	epoch    int32
	synced   position // everything before it was known synced
	previous uint32   // head checksum of the frame before, or of the header
	head     uint32
	body     uint32
}

func align8(n int) int { return (n + 7) &^ 7 }

// size is the frame's length in the file, header and padding included.
func (f *frame) size() int { return frameHeader + align8(int(f.length)) }

// isEntry reports whether the frame is an entry of the replicated log.
func (f *frame) isEntry() bool { return f.kind == KindData || f.kind == KindControl }

// sealing is what a frame's checksum covers beside its bytes: its place, and a
// random number of the segment. A frame copied elsewhere, or forged by a
// client inside a record, does not pass.
type sealing struct{ salt, seq uint32 }

func (s sealing) seed(kind Kind, pos uint32) uint32 {
	var b [16]byte
	binary.BigEndian.PutUint32(b[0:], s.salt)
	binary.BigEndian.PutUint32(b[4:], s.seq)
	binary.BigEndian.PutUint32(b[8:], pos)
	binary.BigEndian.PutUint32(b[12:], uint32(kind))
	return record.CRC(b[:])
}

var zeros [8]byte

// put writes f's header for payload into dst, which has frameHeader bytes, and
// sets f's length and checksums. pos is where the frame will stand.
func (f *frame) put(dst []byte, payload []byte, s sealing, pos uint32) {
	f.length = uint32(len(payload))
	split := min(len(payload), headBytes)
	f.body = record.UpdateCRC(f.tailCRC(payload, split), zeros[:align8(len(payload))-len(payload)])
	binary.BigEndian.PutUint32(dst, frameMagic<<8|uint32(f.kind))
	binary.BigEndian.PutUint32(dst[frBodyCRC:], f.body)
	binary.BigEndian.PutUint32(dst[frLength:], f.length)
	binary.BigEndian.PutUint64(dst[frIndex:], f.index)
	binary.BigEndian.PutUint64(dst[frTerm:], f.term)
	binary.BigEndian.PutUint64(dst[frBase:], uint64(f.base))
	binary.BigEndian.PutUint32(dst[frEpoch:], uint32(f.epoch))
	binary.BigEndian.PutUint32(dst[frSyncedSeq:], f.synced.seq)
	binary.BigEndian.PutUint32(dst[frSyncedPos:], f.synced.pos)
	binary.BigEndian.PutUint32(dst[frPrevious:], f.previous)
	f.head = record.UpdateCRC(s.seed(f.kind, pos), dst[frBodyCRC:frameHeader])
	f.head = record.UpdateCRC(f.head, payload[:split])
	binary.BigEndian.PutUint32(dst[frHeadCRC:], f.head)
}

// derived is the size, in bytes, from which on the checksum of a batch's tail
// is made from the batch's own: reading all of it again would be slower.
const derived = 16 << 10

// tailCRC is the checksum of the payload from split on. A large batch is not
// read for it: whoever brought it has checked it (Entry.Payload). Memory that
// was damaged since shows in the frame, rather than being sealed by it.
func (f *frame) tailCRC(payload []byte, split int) uint32 {
	if f.kind == KindData && len(payload) >= derived {
		return record.Batch(payload).TailCRC(split)
	}
	return record.CRC(payload[split:])
}

// Why bytes are not a frame. Which of them it is says nothing about torn or
// damaged: a place does (Invariant 8).
var (
	errNoFrame   = errors.New("no frame begins here")
	errShort     = errors.New("the file ends inside a frame")
	errHeadCRC   = errors.New("checksum of the frame header does not match")
	errBodyCRC   = errors.New("checksum of the payload does not match")
	errFrameKind = errors.New("unknown kind of frame")
)

// parseHead reads the frame header at the start of b, which stands at pos, and
// checks it together with the first bytes of the payload. b may be longer than
// that; errShort says that it is shorter.
func parseHead(b []byte, s sealing, pos uint32) (frame, error) {
	if len(b) < frameHeader {
		return frame{}, errShort
	}
	magic := binary.BigEndian.Uint32(b)
	if magic>>8 != frameMagic {
		return frame{}, errNoFrame
	}
	f := frame{
		kind:     Kind(magic),
		head:     binary.BigEndian.Uint32(b[frHeadCRC:]),
		body:     binary.BigEndian.Uint32(b[frBodyCRC:]),
		length:   binary.BigEndian.Uint32(b[frLength:]),
		index:    binary.BigEndian.Uint64(b[frIndex:]),
		term:     binary.BigEndian.Uint64(b[frTerm:]),
		base:     int64(binary.BigEndian.Uint64(b[frBase:])),
		epoch:    int32(binary.BigEndian.Uint32(b[frEpoch:])),
		synced:   position{binary.BigEndian.Uint32(b[frSyncedSeq:]), binary.BigEndian.Uint32(b[frSyncedPos:])},
		previous: binary.BigEndian.Uint32(b[frPrevious:]),
	}
	if f.length > maxPayload {
		return frame{}, errHeadCRC
	}
	covered := frameHeader + min(int(f.length), headBytes)
	if len(b) < covered {
		return frame{}, errShort
	}
	if record.UpdateCRC(s.seed(f.kind, pos), b[frBodyCRC:covered]) != f.head {
		return frame{}, errHeadCRC
	}
	if f.kind < KindData || f.kind > kindFooter {
		return frame{}, errFrameKind
	}
	return f, nil
}

// parseFrame is parseHead and the rest: b must hold the whole frame.
func parseFrame(b []byte, s sealing, pos uint32) (frame, []byte, error) {
	f, err := parseHead(b, s, pos)
	if err != nil {
		return frame{}, nil, err
	}
	if len(b) < f.size() {
		return f, nil, errShort
	}
	payload := b[frameHeader : frameHeader+int(f.length) : frameHeader+int(f.length)]
	if err := f.checkBody(b[frameHeader:f.size()]); err != nil {
		return f, nil, err
	}
	return f, payload, nil
}

// checkBody checks the payload behind its head; padded includes the padding.
func (f *frame) checkBody(padded []byte) error {
	if record.CRC(padded[min(int(f.length), headBytes):]) != f.body {
		return errBodyCRC
	}
	return nil
}

// Payload of a state frame.
const statePayload = 16

func appendState(b []byte, h HardState) []byte {
	b = binary.BigEndian.AppendUint64(b, h.Vote)
	return binary.BigEndian.AppendUint64(b, h.Commit)
}

// hardState reads a state frame.
func (f *frame) hardState(payload []byte) (HardState, error) {
	if len(payload) != statePayload {
		return HardState{}, fmt.Errorf("a state frame of %d bytes, want %d", len(payload), statePayload)
	}
	return HardState{Term: f.term, Vote: binary.BigEndian.Uint64(payload), Commit: binary.BigEndian.Uint64(payload[8:])}, nil
}
