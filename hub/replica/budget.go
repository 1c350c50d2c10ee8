package replica

import (
	"context"
	"fmt"
	"sync"

	"github.com/entrepot-hub/entrepot/record"
)

// budget is a number of bytes that callers take and give back. Who must wait
// is served in order, so that a large batch is not starved by small ones.
type budget struct {
	size int64
	mu   struct {
		sync.Mutex
		free    int64
		waiting queue[*waiter]
		closed  bool
	}
}

type waiter struct {
	n     int64
	ready chan struct{} // closed once n is taken for it, or the budget is closed
	gone  bool
	taken bool
}

func newBudget(size int64) *budget {
	b := &budget{size: size}
	b.mu.free = size
	return b
}

// acquire takes n bytes, at most all there are. Errors wrap record.ErrTimeout
// or record.ErrStopped.
func (b *budget) acquire(ctx context.Context, n int64) error {
	n = min(n, b.size)
	w := b.take(n)
	if w == nil {
		return nil
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case w.taken:
		return nil // perhaps in the moment ctx ended: then there is no need to give up
	case b.mu.closed:
		return record.ErrStopped
	}
	w.gone = true
	return fmt.Errorf("%w: waiting for %d bytes of room: %w", record.ErrTimeout, n, ctx.Err())
}

// take takes n bytes at once, or returns what to wait for.
func (b *budget) take(n int64) *waiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.mu.closed:
		return &waiter{n: n, ready: closedChan()}
	case b.mu.waiting.len() == 0 && b.mu.free >= n:
		b.mu.free -= n
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	b.mu.waiting.push(w)
	return w
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// release gives n bytes back.
func (b *budget) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.free += min(n, b.size)
	for b.mu.waiting.len() > 0 {
		w := *b.mu.waiting.front()
		if !w.gone {
			if b.mu.free < w.n {
				return
			}
			b.mu.free -= w.n
			w.taken = true
			close(w.ready)
		}
		b.mu.waiting.pop()
	}
}

// close makes everybody who waits, and whoever comes, get record.ErrStopped.
func (b *budget) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
	for b.mu.waiting.len() > 0 {
		if w := b.mu.waiting.pop(); !w.gone {
			close(w.ready)
		}
	}
}

// used is the number of bytes taken.
func (b *budget) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size - b.mu.free
}
