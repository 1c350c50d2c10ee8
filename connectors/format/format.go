// Package format turns bytes into structured records and back: JSON, CSV,
// access-log lines, regular expressions and Parquet in; JSON, CSV, Parquet and
// Avro out.
//
// The rule is lossless or explicit. JSON numbers keep their digits, a text
// that does not fit a typed column is an error of class Poison that names the
// column, and nothing is rounded, cut or guessed in silence.
//
// Parsers and writers are not safe for use by several goroutines at once: a
// task has its own.
//
// Goroutines: none.
package format

import (
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
)

// slabSize is how much memory a parser takes at a time for the values it makes.
const slabSize = 64 << 10

// slab hands out memory for many small values with few allocations. Memory
// once handed out is never touched again.
type slab struct{ free []byte }

// room returns an empty slice with at least n bytes of capacity to append to.
func (s *slab) room(n int) []byte {
	if cap(s.free) < n {
		s.free = make([]byte, 0, max(n, slabSize))
	}
	return s.free[:0]
}

// keep claims what was appended to the slice from room, which may have grown
// out of the slab by then.
func (s *slab) keep(b []byte) []byte {
	if len(b) <= cap(s.free) && len(b) > 0 && &b[0] == &s.free[:1][0] {
		s.free = s.free[len(b):len(b):cap(s.free)]
	}
	return slices.Clip(b)
}

// Parser makes a structured record of a message: it replaces Value by JSON
// and sets Timestamp when the format has a time. On an error, which is of
// class Poison, the message is unchanged.
type Parser interface {
	Parse(m *connectors.Message) error
}
