package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The handshake: the dialing end says hello, the accepting end says hello and
// its verdict, the dialing end its own. Each is in an envelope:
//
//	magic "ENTPEER1", uint32 length of the text, uint32 CRC32C of the text
//
// The text of a hello begins with the versions, which never move; what a newer
// version adds comes at the end, and an older one does not read it.
const (
	magic        = "ENTPEER1"
	envelopeSize = len(magic) + 8
	maxText      = 4 << 10
)

// hello is what an end says of itself.
type hello struct {
	min, max uint16 // versions
	class    Class  // which connection this is; the accepting end repeats it
	callOnly bool   // dialed for one call, beside the lasting connections
	Identity
}

// appendEnvelope adds a text in its envelope.
func appendEnvelope(b, text []byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(text, crcTable))
	return append(b, text...)
}

// decodeEnvelope reads an envelope's front: length and sum of the text.
func decodeEnvelope(b []byte) (length int, sum uint32, err error) {
	if len(b) < envelopeSize {
		return 0, 0, fmt.Errorf("%d bytes, want %d", len(b), envelopeSize)
	}
	if b[0] == 0x16 && b[1] == 0x03 { // a TLS handshake record
		return 0, 0, errors.New("the other end begins with TLS, and this node has none for its peers: give both certificates, or neither")
	}
	if b[0] == 0x15 && b[1] == 0x03 { // a TLS alert
		return 0, 0, errors.New("the other end answers with TLS, and this node has none for its peers: give both certificates, or neither")
	}
	if string(b[:len(magic)]) != magic {
		return 0, 0, fmt.Errorf("the other end begins with % x and not as a peer port does", b[:len(magic)])
	}
	length = int(binary.BigEndian.Uint32(b[len(magic):]))
	if length > maxText {
		return 0, 0, fmt.Errorf("a handshake of %d bytes, the most is %d", length, maxText)
	}
	return length, binary.BigEndian.Uint32(b[len(magic)+4:]), nil
}

// text is the hello without its envelope:
//
//	uint16 min, uint16 max, uint8 class, uint8 flags (1: call only),
//	16 bytes cluster, int32 node, uint32 incarnation, uint8 length and name
func (h hello) text() []byte {
	b := binary.BigEndian.AppendUint16(nil, h.min)
	b = binary.BigEndian.AppendUint16(b, h.max)
	var flags byte
	if h.callOnly {
		flags = 1
	}
	b = append(b, byte(h.class), flags)
	b = append(b, h.Cluster[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Node))
	b = binary.BigEndian.AppendUint32(b, h.Incarnation)
	b = append(b, byte(len(h.Name)))
	return append(b, h.Name...)
}

// helloFixed is the length of a hello with an empty name.
const helloFixed = 31

// decodeHello reads a hello's text. Only the versions are certain to be right
// if they do not fit: the rest is then not looked at.
func decodeHello(b []byte) (hello, error) {
	var h hello
	if len(b) < helloFixed || len(b) < helloFixed+int(b[helloFixed-1]) {
		return h, fmt.Errorf("a hello of %d bytes ends too early", len(b))
	}
	h.min, h.max = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	h.class, h.callOnly = Class(b[4]), b[5]&1 != 0
	copy(h.Cluster[:], b[6:22])
	h.Node = int32(binary.BigEndian.Uint32(b[22:]))
	h.Incarnation = binary.BigEndian.Uint32(b[26:])
	h.Name = string(b[helloFixed : helloFixed+int(b[helloFixed-1])])
	return h, nil
}

// verdictText is a verdict without its envelope: uint16 code (0: welcome) and
// the reason.
func verdictText(r *RefusedError) []byte {
	if r == nil {
		return []byte{0, 0}
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(r.Code)), r.Reason...)
}

// decodeVerdict reads a verdict's text.
func decodeVerdict(b []byte) (*RefusedError, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("a verdict of %d bytes, want 2 and more", len(b))
	}
	code := Refusal(binary.BigEndian.Uint16(b))
	if code == 0 {
		return nil, nil
	}
	return &RefusedError{Code: code, Reason: string(b[2:]), ByOther: true}, nil
}
