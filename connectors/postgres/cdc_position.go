package postgres

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

// A position begins with its kind, so that all rows that were there before
// come before all changes. Numbers are big-endian.
//
//	snapshot  1, table, 0, key               | seen, system (8) start (8) lengths of key (4) and seen (4)
//	stream    2, lsn (8) change (4) part (2) | system (8)
//
// What is before the bar is the message's place. The rest are hints: the
// server's identity, where the slot began, and the snapshot that was taken then,
// followed by a table's files when that has no key.
const (
	inSnapshot byte = 1
	inStream   byte = 2
)

// place is where a CDC reader stands.
type place struct {
	system uint64 // of the server

	streaming bool
	// While rows are read: the last row's table and its key in order-preserving
	// form, and where the slot began.
	table string
	key   []byte
	start pgoutput.LSN
	seen  string // pg_current_snapshot() of the first reading; "" when it is not known
	// Later: the transaction by its commit, the number of the change, and the
	// part of it: a changed key gives two.
	lsn    pgoutput.LSN
	change uint32
	part   uint16
}

// streamSize is the length of a position in the stream, and hintSize that of
// what ends one before it.
const (
	streamSize = 1 + 8 + 4 + 2 + 8
	hintSize   = 8 + 8 + 4 + 4
)

// position encodes it; the first size bytes are the message's place.
func (p place) position() (pos connectors.Position, size int) {
	if p.streaming {
		b := make([]byte, 0, streamSize)
		b = binary.BigEndian.AppendUint64(append(b, inStream), uint64(p.lsn))
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, p.change), p.part)
		return binary.BigEndian.AppendUint64(b, p.system), streamSize - 8
	}
	b := make([]byte, 0, 2+len(p.table)+len(p.key)+len(p.seen)+hintSize)
	b = append(append(append(append(b, inSnapshot), p.table...), 0), p.key...)
	size = len(b)
	b = binary.BigEndian.AppendUint64(append(b, p.seen...), p.system)
	b = binary.BigEndian.AppendUint64(b, uint64(p.start))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.key)))
	return binary.BigEndian.AppendUint32(b, uint32(len(p.seen))), size
}

func placeOf(pos connectors.Position) (place, error) {
	if p, ok := decodePlace(pos); ok {
		return p, nil
	}
	return place{}, connectors.Fatal(fmt.Errorf("the position %x is not of this source: reset the job's offsets, or give it the source that wrote them", []byte(pos)))
}

func decodePlace(b []byte) (p place, ok bool) {
	switch {
	case len(b) == streamSize && b[0] == inStream:
		p.streaming = true
		p.lsn = pgoutput.LSN(binary.BigEndian.Uint64(b[1:]))
		p.change, p.part = binary.BigEndian.Uint32(b[9:]), binary.BigEndian.Uint16(b[13:])
		p.system = binary.BigEndian.Uint64(b[15:])
		return p, true
	case len(b) > 1+hintSize && b[0] == inSnapshot:
		body, hints := b[1:len(b)-hintSize], b[len(b)-hintSize:]
		p.system, p.start = binary.BigEndian.Uint64(hints), pgoutput.LSN(binary.BigEndian.Uint64(hints[8:]))
		key, seen := uint64(binary.BigEndian.Uint32(hints[16:])), uint64(binary.BigEndian.Uint32(hints[20:]))
		n := uint64(len(body))
		if key+seen+1 > n || body[n-key-seen-1] != 0 {
			return p, false
		}
		p.table, p.key, p.seen = string(body[:n-key-seen-1]), body[n-key-seen:n-seen], string(body[n-seen:])
		return p, true
	}
	return p, false
}

// floor is the place in the log that the slot must not have gone beyond.
func (p place) floor() pgoutput.LSN {
	if p.streaming {
		return p.lsn
	}
	return p.start
}

// reached reports whether a message of the stream is at or before this place.
func (p place) reached(lsn pgoutput.LSN, change uint32, part uint16) bool {
	return cmp.Or(cmp.Compare(lsn, p.lsn), cmp.Compare(change, p.change), cmp.Compare(part, p.part)) <= 0
}

func (p place) String() string {
	if p.streaming {
		return fmt.Sprintf("change %d of the commit at %s", p.change, p.lsn)
	}
	return "the rows of " + p.table
}
