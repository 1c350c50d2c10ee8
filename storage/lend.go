package storage

import (
	"math/bits"
	"sync"
)

// lender keeps the memory of reads that have ended for those that follow: new
// memory would have to be cleared, mapped and collected for every megabyte
// that a consumer reads. It comes in sizes of a power of two.
type lender struct {
	pools [lentSizes]sync.Pool // of *[]byte; the collector empties them in time
}

const (
	smallestLent = 16 // as a power of two: 64 KiB
	lentSizes    = 7  // up to 4 MiB; what is larger is not kept
)

// loan is what one read has taken. The zero value takes from the collector.
type loan struct {
	from *lender
	bufs []*[]byte
}

// take returns n bytes with anything in them.
func (l *loan) take(n int) []byte {
	size := max(bits.Len(uint(max(n-1, 0))), smallestLent) - smallestLent
	if l.from == nil || size >= lentSizes {
		return make([]byte, n)
	}
	b, ok := l.from.pools[size].Get().(*[]byte)
	if !ok {
		fresh := make([]byte, 1<<(size+smallestLent))
		b = &fresh
	}
	l.bufs = append(l.bufs, b)
	return (*b)[:n]
}

// giveBack returns all that was taken. Nobody may look at it any more.
func (l *loan) giveBack() {
	for _, b := range l.bufs {
		l.from.pools[bits.Len(uint(len(*b)))-1-smallestLent].Put(b)
	}
	l.bufs = nil
}
