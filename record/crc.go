package record

import "hash/crc32"

// A checksum of two runs of bytes is that of the first, multiplied by x to the
// power of the bits in the second, plus that of the second: a polynomial over
// GF(2) modulo Castagnoli's. So the checksum of a batch's end follows from the
// one that its header states and that of its beginning, without its bytes.
// Polynomials are written as CRC-32C writes them: bit 31 is x^0.
const unit = uint32(1) << 31

// powers[k] is x to the power of 2^k.
var powers = func() (t [64]uint32) {
	t[0] = unit >> 1
	for k := 1; k < len(t); k++ {
		t[k] = multiply(t[k-1], t[k-1])
	}
	return t
}()

// multiply returns a·b modulo the polynomial.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&unit != 0 {
			product ^= b
		}
		carry := b & 1
		if b >>= 1; carry != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}

// shiftCRC is what the checksum c adds to the one of n more bytes behind those
// that it is of.
func shiftCRC(c uint32, n int) uint32 {
	for k := 3; n > 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			c = multiply(powers[k], c)
		}
	}
	return c
}

// TailCRC is CRC(b[from:]), made from the checksum that the header states. It
// takes about a microsecond whatever the batch's size. Check must have passed:
// of a batch whose checksum is wrong, so is this one. from is at least 21,
// where the header's checksum begins to count, and at most len(b).
func (b Batch) TailCRC(from int) uint32 {
	return b.CRC() ^ shiftCRC(CRC(b[posAttributes:from]), len(b)-from)
}
