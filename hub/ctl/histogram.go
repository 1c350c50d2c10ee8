package ctl

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are at most 1/32 (3 %) wide, from
// 1 µs to over a day, in fixed memory. One goroutine at a time adds.
type histogram struct {
	counts [buckets]int64
	total  int64
	max    time.Duration
}

const (
	subBits = 5 // 32 buckets for each power of two
	buckets = (37 - subBits + 2) << subBits
)

func (h *histogram) add(d time.Duration) {
	us := max(d.Microseconds(), 0)
	h.counts[bucketOf(us)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile is the upper edge of the bucket that holds the q-th part of all
// durations, and never more than the greatest of them.
func (h *histogram) quantile(q float64) time.Duration {
	want := int64(q*float64(h.total) + 0.5)
	var seen int64
	for i, n := range h.counts {
		if seen += n; seen >= want && n > 0 {
			return min(time.Duration(upperEdge(i))*time.Microsecond, h.max)
		}
	}
	return h.max
}

// bucketOf: below 64 µs each microsecond is a bucket; above, the top six bits
// of the number are.
func bucketOf(us int64) int {
	shift := max(bits.Len64(uint64(us))-subBits-1, 0)
	return min(shift<<subBits+int(us>>shift), buckets-1)
}

func upperEdge(bucket int) int64 {
	shift := max(bucket>>subBits-1, 0)
	return int64(bucket-shift<<subBits+1)<<shift - 1
}
