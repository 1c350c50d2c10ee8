package peer

import (
	"sync"
	"time"
)

// bucket is a token bucket of bytes as a value. It may be overdrawn: who comes
// next waits for it.
type bucket struct {
	rate   float64 // bytes a second; 0: no limit
	burst  float64 // the most that is saved up
	tokens float64
	at     time.Time // when tokens were counted last
}

// setRate changes the rate. What is saved up is kept up to a hundredth of a second:
// what comes at once after a pause is in the way of everybody else at the disk.
func (b *bucket) setRate(now time.Time, rate float64) {
	b.refill(now)
	b.rate, b.burst = rate, rate/100
	b.tokens = min(b.tokens, b.burst)
}

func (b *bucket) refill(now time.Time) {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens = min(b.tokens+passed*b.rate, b.burst)
	}
	b.at = now
}

// take takes n bytes if the bucket is not overdrawn, else says for how long it
// will be.
func (b *bucket) take(now time.Time, n int) (wait time.Duration) {
	if b.rate <= 0 {
		return 0
	}
	b.refill(now)
	if b.tokens < 0 {
		return time.Duration(-b.tokens/b.rate*float64(time.Second)) + time.Microsecond
	}
	b.tokens -= float64(n)
	return 0
}

// throttle is a bucket that waits.
type throttle struct {
	mu struct {
		sync.Mutex
		bucket
		changed chan struct{} // closed when the rate changes
	}
}

func newThrottle() *throttle {
	t := new(throttle)
	t.mu.changed = make(chan struct{})
	return t
}

func (t *throttle) setRate(rate int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.bucket.setRate(time.Now(), float64(max(rate, 0)))
	close(t.mu.changed)
	t.mu.changed = make(chan struct{})
}

func (t *throttle) rate() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(t.mu.bucket.rate)
}

// wait takes n bytes; false if stop was closed before.
func (t *throttle) wait(n int, stop <-chan struct{}) bool {
	for {
		t.mu.Lock()
		wait, changed := t.mu.take(time.Now(), n), t.mu.changed
		t.mu.Unlock()
		if wait == 0 {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-stop:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}
