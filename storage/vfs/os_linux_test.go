package vfs

import (
	"syscall"
	"testing"
)

// A call takes several buffers up to its bounds in number and bytes, and one of
// any size.
func TestOneCall(t *testing.T) {
	sized := func(sizes ...int) (vec []syscall.Iovec) {
		for _, n := range sizes {
			v := syscall.Iovec{}
			v.SetLen(n)
			vec = append(vec, v)
		}
		return vec
	}
	for _, c := range []struct {
		vec  []syscall.Iovec
		want int
	}{
		{sized(1), 1},
		{sized(maxGathered-64, 64), 2},
		{sized(maxGathered-63, 64), 1},
		{sized(64, maxGathered, 64), 1},
		{sized(3*maxGathered, 1), 1},
		{sized(64, 64, maxGathered), 2},
		{make([]syscall.Iovec, maxIovecs+1), maxIovecs},
	} {
		if got := oneCall(c.vec); got != c.want {
			t.Errorf("%d buffers, the first of %d bytes: %d in a call, want %d", len(c.vec), c.vec[0].Len, got, c.want)
		}
	}
}
