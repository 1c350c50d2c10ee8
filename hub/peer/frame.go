package peer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A frame is a header and a payload, all numbers big-endian:
//
//	 0  uint32  length of the payload, bytes
//	 4  uint8   kind
//	 5  uint8   flags: 1 says that the payload has no sum here
//	 6  2 bytes zero
//	 8  uint64  id: of a call or stream, as its caller numbered it; of a
//	            keep-alive, its time at the sender; of a message 0
//	16  uint32  CRC32C of the payload, or 0
//	20  uint32  CRC32C of bytes 0 to 19
//
// The header has a sum of its own so that a damaged length is not waited for.
const headerSize = 24

// kind says what a frame is.
type kind uint8

// What the dialing end sends, and what comes back to it.
const (
	kindMessage kind = iota + 1 // → payload: the message
	kindCall                    // → method, body
	kindCancel                  // → the caller has given up; ends a call or a stream
	kindAnswer                  // ← body
	kindFailure                 // ← text of the error
	kindPing                    // →
	kindPong                    // ←
	kindOpen                    // → window, method, body
	kindCredit                  // → uint32: bytes that the receiver has room for, more than before
	kindData                    // ← bytes of a stream
	kindEnd                     // ← clean end: uint64 length of the whole stream
	kindLast
)

// crcTable is CRC32C's.
var crcTable = crc32.MakeTable(crc32.Castagnoli)

// flagUnsummed says that the payload carries sums of its own.
const flagUnsummed = 1

// header is a frame's header.
type header struct {
	length   uint32
	kind     kind
	unsummed bool
	id       uint64
	sum      uint32
}

// appendHeader adds the header of the frame.
func appendHeader(b []byte, f frame) []byte {
	var length, sum uint32
	for _, part := range f.payload {
		length += uint32(len(part))
		if !f.unsummed {
			sum = crc32.Update(sum, crcTable, part)
		}
	}
	flags := byte(0)
	if f.unsummed {
		flags = flagUnsummed
	}
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, length)
	b = append(b, byte(f.kind), flags, 0, 0)
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = binary.BigEndian.AppendUint32(b, sum)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], crcTable))
}

// decodeHeader reads a header. It refuses a payload above max bytes.
func decodeHeader(b []byte, maxPayload int) (header, error) {
	if len(b) < headerSize {
		return header{}, fmt.Errorf("a header of %d bytes, want %d", len(b), headerSize)
	}
	if got, want := crc32.Checksum(b[:20], crcTable), binary.BigEndian.Uint32(b[20:]); got != want {
		return header{}, fmt.Errorf("frame header is damaged: CRC32C %08x, header says %08x", got, want)
	}
	h := header{
		length: binary.BigEndian.Uint32(b), kind: kind(b[4]), unsummed: b[5] == flagUnsummed,
		id: binary.BigEndian.Uint64(b[8:]), sum: binary.BigEndian.Uint32(b[16:]),
	}
	if b[5] > flagUnsummed || b[6] != 0 || b[7] != 0 || h.kind == 0 || h.kind >= kindLast {
		return header{}, fmt.Errorf("frame of unknown kind % x", b[4:8])
	}
	if int64(h.length) > int64(maxPayload) {
		return header{}, fmt.Errorf("frame of %d bytes, the most is %d", h.length, maxPayload)
	}
	return h, nil
}

// check compares the payload with the header's sum, if it has one.
func (h header) check(payload []byte) error {
	if h.unsummed {
		return nil
	}
	if got := crc32.Checksum(payload, crcTable); got != h.sum {
		return fmt.Errorf("frame payload of %d bytes is damaged: CRC32C %08x, header says %08x", len(payload), got, h.sum)
	}
	return nil
}

// maxMethod bounds the name of a method, bytes.
const maxMethod = 255

// methodHead is what stands before the body in a call: the method's name.
func methodHead(method string) []byte {
	return append([]byte{byte(len(method))}, method...)
}

// cutMethod takes the method's name off; the body aliases b.
func cutMethod(b []byte) (method string, body []byte, err error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", nil, fmt.Errorf("a call of %d bytes ends within its method", len(b))
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n:], nil
}
