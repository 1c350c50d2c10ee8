package files

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// place is where the source stands behind a row. Its encoding is big endian
// with the deciding fields first, so that byte order is reading order.
type place struct {
	format.Place
	number int64   // rows up to here, from 1
	print  [8]byte // of the file as it was read
}

const (
	placeVersion = 1
	placeSize    = 1 + 8 + 8 + 8 + 8
	// placeKey is as much as names a row: version, block and row.
	placeKey = 1 + 8 + 8
)

// endOfFile is the block of the place behind a file whose rest cannot be read.
const endOfFile = math.MaxInt64

func (p place) append(b []byte) []byte {
	b = append(b, placeVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Block))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Row))
	b = binary.BigEndian.AppendUint64(b, uint64(p.number))
	return append(b, p.print[:]...)
}

// decodePlace reads what append wrote.
func decodePlace(b connectors.Position) (place, error) {
	if len(b) != placeSize || b[0] != placeVersion {
		return place{}, connectors.Fatalf("the position %x is not one of the files source: want %d bytes of version %d", []byte(b), placeSize, placeVersion)
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
	p := place{Place: format.Place{Block: n(1), Row: n(9)}, number: n(17), print: [8]byte(b[25:])}
	if p.Block < 0 || p.Row < 0 || p.number < 0 {
		return place{}, connectors.Fatalf("the position %x is damaged: %s", []byte(b), p)
	}
	return p, nil
}

// String is the form people and logs read.
func (p place) String() string {
	return fmt.Sprintf("row %d (block %d, row %d)", p.number, p.Block, p.Row)
}
