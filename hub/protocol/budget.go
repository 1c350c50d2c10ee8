package protocol

import (
	"context"
	"sync"
)

// budget is a number of bytes that many goroutines draw from. A draw larger
// than what is free waits; draws are served in the order in which they came,
// so that a large one is not starved.
type budget struct {
	mu struct {
		sync.Mutex
		free  int64
		queue []*draw
	}
	total int64
}

type draw struct {
	n     int64
	ready chan struct{}
}

func newBudget(total int64) *budget {
	b := &budget{total: total}
	b.mu.free = total
	return b
}

// take waits until n bytes are free; n above the total counts as the total.
// It returns how much was taken, to be given back.
func (b *budget) take(ctx context.Context, n int64) (int64, error) {
	n = min(n, b.total)
	b.mu.Lock()
	if len(b.mu.queue) == 0 && b.mu.free >= n {
		b.mu.free -= n
		b.mu.Unlock()
		return n, nil
	}
	d := &draw{n: n, ready: make(chan struct{})}
	b.mu.queue = append(b.mu.queue, d)
	b.mu.Unlock()
	select {
	case <-d.ready:
		return n, nil
	case <-ctx.Done():
		return b.giveUp(d, ctx.Err())
	}
}

// takeNow takes n bytes if they are free and nobody waits, and reports whether
// it did.
func (b *budget) takeNow(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mu.queue) > 0 || b.mu.free < n {
		return false
	}
	b.mu.free -= n
	return true
}

// giveUp ends a wait; the draw may have been served at the same moment.
func (b *budget) giveUp(d *draw, err error) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, o := range b.mu.queue {
		if o == d {
			b.mu.queue = append(b.mu.queue[:i], b.mu.queue[i+1:]...)
			b.serve()
			return 0, err
		}
	}
	return d.n, nil
}

// give returns n bytes.
func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.free += n
	b.serve()
}

// serve hands free bytes to those who wait.
func (b *budget) serve() {
	for len(b.mu.queue) > 0 && b.mu.queue[0].n <= b.mu.free {
		d := b.mu.queue[0]
		b.mu.queue = b.mu.queue[1:]
		b.mu.free -= d.n
		close(d.ready)
	}
}

func (b *budget) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total - b.mu.free
}
