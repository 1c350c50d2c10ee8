package rabbitmq

import (
	"encoding/binary"

	"github.com/entrepot-hub/entrepot/connectors"
)

// The first byte of a position says what it counts: the messages that a queue
// has handed out, or the offset of a stream.
const (
	queuePosition  = 'q'
	streamPosition = 's'
)

// A position is a number. That of a stream has a mark of the message behind it,
// by which it is known again; older ones have none.
const (
	numberSize = 9
	markSize   = 8
)

// position is a number as a place in a split: 9 bytes, ordered as the numbers.
func position(kind byte, n uint64) connectors.Position {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

// numberOf is the inverse of position; nil is before the first, 0.
func numberOf(kind byte, p connectors.Position) (uint64, error) {
	if p == nil {
		return 0, nil
	}
	if len(p) != numberSize && (kind != streamPosition || len(p) != numberSize+markSize) || p[0] != kind {
		return 0, connectors.Fatalf("the checkpoint %x is not one of this source: reset the job's offsets", []byte(p))
	}
	return binary.BigEndian.Uint64(p[1:]), nil
}

// markOf is the mark of a position of a stream; nil when it has none.
func markOf(p connectors.Position) []byte {
	if len(p) != numberSize+markSize {
		return nil
	}
	return p[numberSize:]
}
