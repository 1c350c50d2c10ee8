package storage

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
)

// Without its header a log's first segment is of no use, whole as its frames may
// be: nothing else holds the state that they begin with. If just one bit of it has
// flipped, the checksum tells which: up to 2^31 bits any two words with a right
// CRC-32C differ in four bits at least (Koopman, "32-bit cyclic redundancy codes
// for internet applications", 2002), so that there is one right word at most at a
// distance of one bit, and none that is not right after two have flipped.

// mendHeader reads a segment header in which one bit has flipped, and says in
// which byte. It returns an error if it is not that.
func mendHeader(f source) (h segHeader, at int64, err error) {
	size, err := f.Size()
	if err != nil {
		return h, 0, err
	}
	b := make([]byte, min(size, maxHeader))
	n, err := readFull(f, b, 0)
	if err != nil || n < headerFixed {
		return h, 0, errors.Join(errShort, err)
	}
	b = b[:n]
	length := binary.BigEndian.Uint32(b[hdLength:])
	for bit := range 33 { // the last time as it stands there
		flipped := length
		if bit < 32 {
			flipped ^= 1 << bit
		}
		if flipped < headerFixed || flipped%8 != 0 || int64(flipped) > int64(len(b)) {
			continue
		}
		whole := append([]byte(nil), b[:flipped]...)
		binary.BigEndian.PutUint32(whole[hdLength:], flipped)
		at = int64(hdLength + 3 - bit/8)
		if bit == 32 {
			at = flipBack(whole)
		}
		if h, err = parseHeader(whole); err == nil || errors.Is(err, errVersion) {
			return h, at, err
		}
	}
	return h, 0, errors.New("more than one bit of the segment header is wrong")
}

// flipBack flips the bit of a header that makes its checksum right, if there is
// one, and returns the byte that it is in.
func flipBack(b []byte) (at int64) {
	be := binary.BigEndian
	wrong := headerCRC(b) ^ be.Uint32(b[hdCRC:])
	if bits.OnesCount32(wrong) == 1 {
		be.PutUint32(b[hdCRC:], headerCRC(b))
		return hdCRC + 3 - int64(bits.TrailingZeros32(wrong))/8
	}
	i, mask := flippedBit(len(b)-4, wrong)
	if i < 0 {
		return 0
	}
	if i >= hdCRC {
		i += 4 // the checksum does not cover itself
	}
	b[i] ^= mask
	return int64(i)
}

// flippedBit finds the bit which, flipped in one of n bytes, changes their
// CRC-32C by wrong; -1 if there is none.
func flippedBit(n int, wrong uint32) (at int, mask byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	var change [8]uint32 // by a bit of byte at
	for k := range change {
		change[k] = table[1<<k]
	}
	for at = n - 1; at >= 0; at-- {
		for k, c := range change {
			if c == wrong {
				return at, 1 << k
			}
			change[k] = table[byte(c)] ^ c>>8
		}
	}
	return -1, 0
}
