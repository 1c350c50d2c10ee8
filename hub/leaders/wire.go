package leaders

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// wireVersion is the first byte of an encoded list.
const wireVersion = 1

// Flags of a claim on the wire.
const flagGone = 1

// Encode writes what a node leads, for Decode at another. The node itself is
// not in it: the connection says who speaks.
func Encode(claims []Claim, whole bool) []byte {
	b := []byte{wireVersion, 0}
	if whole {
		b[1] = 1
	}
	b = binary.AppendUvarint(b, uint64(len(claims)))
	for _, c := range claims {
		b = binary.AppendUvarint(b, uint64(len(c.Topic)))
		b = append(b, c.Topic...)
		b = append(b, c.ID[:]...)
		b = binary.AppendUvarint(b, uint64(c.Partition))
		b = binary.AppendUvarint(b, c.Term)
		b = binary.AppendUvarint(b, uint64(c.Epoch))
		flags := byte(0)
		if c.Gone {
			flags = flagGone
		}
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(len(c.InSync)))
		for _, n := range c.InSync {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

// leastClaim is the fewest bytes of a claim.
const leastClaim = 1 + 16 + 1 + 1 + 1 + 1 + 1

// Decode reads what Encode wrote, from a node that may be broken.
func Decode(b []byte) (claims []Claim, whole bool, err error) {
	if len(b) < 2 || b[0] != wireVersion || b[1] > 1 {
		return nil, false, fmt.Errorf("leaders: %d bytes that do not begin with version %d, the one this node reads", len(b), wireVersion)
	}
	d := decoder{b: b[2:]}
	n := d.number(math.MaxInt32)
	if n > uint64(len(d.b)/leastClaim) {
		return nil, false, errors.New("leaders: there are more claims than bytes for them")
	}
	for range n {
		var c Claim
		c.Topic = string(d.take(d.number(math.MaxUint16)))
		copy(c.ID[:], d.take(uint64(len(c.ID))))
		c.Partition = int32(d.number(math.MaxInt32))
		c.Term = d.number(math.MaxUint64)
		c.Epoch = int32(d.number(math.MaxInt32))
		if f := d.take(1); len(f) == 1 {
			c.Gone = f[0]&flagGone != 0
		}
		members := d.number(math.MaxInt32)
		if members > uint64(len(d.b)) {
			d.bad = true
		}
		for i := uint64(0); i < members && !d.bad; i++ {
			c.InSync = append(c.InSync, int32(d.number(math.MaxInt32)))
		}
		claims = append(claims, c)
	}
	if d.bad || len(d.b) > 0 {
		return nil, false, errors.New("leaders: the list is cut off, or has more than it says")
	}
	return claims, b[1] == 1, nil
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) number(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > most {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}
