package file

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// fingerprintBytes is how much of a file's beginning tells it from others.
const fingerprintBytes = 1024

// identity is what is known of a file's content and place.
type identity struct {
	dev, ino uint64
	fpLen    uint16 // bytes that fp covers, at most fingerprintBytes
	fp       uint64
}

// fingerprint is the first 8 bytes of the SHA-256 of head.
func fingerprint(head []byte) uint64 {
	sum := sha256.Sum256(head)
	return binary.BigEndian.Uint64(sum[:])
}

// matches reports whether a file that begins with head can be this one.
func (id identity) matches(head []byte) bool {
	return len(head) >= int(id.fpLen) && fingerprint(head[:id.fpLen]) == id.fp
}

// position is where the reader stands after a line. Its encoding is big
// endian with the deciding fields first, so that byte order is reading order:
// the generation grows with each file, the offset within one.
type position struct {
	generation uint32
	offset     int64 // bytes after the line and its newline, uncompressed
	line       int64 // lines up to here
	mtime      int64 // of the file when it was read, nanoseconds
	identity
}

const (
	positionVersion = 1
	positionSize    = 1 + 4 + 8 + 8 + 8 + 8 + 8 + 2 + 8

	// placeSize is what names a line: version, generation and offset. All else
	// says how the file looked when it was read, and a file that grows, is
	// renamed or compressed looks otherwise the next time.
	placeSize = 1 + 4 + 8
)

func (p position) append(b []byte) []byte {
	b = append(b, positionVersion)
	b = binary.BigEndian.AppendUint32(b, p.generation)
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(p.line))
	b = binary.BigEndian.AppendUint64(b, uint64(p.mtime))
	b = binary.BigEndian.AppendUint64(b, p.dev)
	b = binary.BigEndian.AppendUint64(b, p.ino)
	b = binary.BigEndian.AppendUint16(b, p.fpLen)
	return binary.BigEndian.AppendUint64(b, p.fp)
}

// decodePosition reads what append wrote.
func decodePosition(b connectors.Position) (position, error) {
	if len(b) != positionSize || b[0] != positionVersion {
		return position{}, connectors.Fatalf("the position %x is not one of the file source: want %d bytes of version %d", []byte(b), positionSize, positionVersion)
	}
	u64 := func(i int) uint64 { return binary.BigEndian.Uint64(b[i:]) }
	p := position{
		generation: binary.BigEndian.Uint32(b[1:]), offset: int64(u64(5)), line: int64(u64(13)), mtime: int64(u64(21)),
		identity: identity{dev: u64(29), ino: u64(37), fpLen: binary.BigEndian.Uint16(b[45:]), fp: u64(47)},
	}
	if p.offset < 0 || p.line < 0 || p.fpLen > fingerprintBytes {
		return position{}, connectors.Fatalf("the position %x is damaged: offset %d, line %d, fingerprint of %d bytes", []byte(b), p.offset, p.line, p.fpLen)
	}
	return p, nil
}

// String is the form people and logs read.
func (p position) String() string {
	return fmt.Sprintf("generation %d, byte %d, line %d", p.generation, p.offset, p.line)
}
