package webhook

import (
	"time"
)

// pacer says when the next request may go: by the rate, and by the breaker. It
// is a pure value; times are given to it.
type pacer struct {
	every    time.Duration // between two requests; 0 does not bound
	failures int           // in a row that open the breaker
	pause    time.Duration // for which it is open

	next   time.Time // when the rate allows another
	failed int       // in a row
	until  time.Time // open
	trying bool      // the one request that is let through when the pause is over
}

// ask returns 0 when a request may go now; then tell has to follow. Otherwise
// it is how long to wait before asking again.
func (p *pacer) ask(now time.Time) time.Duration {
	if p.failed >= p.failures {
		if now.Before(p.until) {
			return p.until.Sub(now)
		}
		if p.trying {
			return max(p.pause/10, time.Millisecond)
		}
	}
	if wait := p.next.Sub(now); wait > 0 {
		return wait
	}
	if p.every > 0 {
		if p.next = p.next.Add(p.every); p.next.Before(now) { // nothing is saved up
			p.next = now.Add(p.every)
		}
	}
	p.trying = p.failed >= p.failures
	return 0
}

// tell says how the request ended: whether the endpoint works.
func (p *pacer) tell(now time.Time, works bool) {
	p.trying = false
	if works {
		p.failed = 0
		return
	}
	if p.failed++; p.failed >= p.failures {
		p.until = now.Add(p.pause)
	}
}

// backoff is the wait before try n, from 1: 100 ms, doubled up to 10 s.
func backoff(n int) time.Duration {
	return min(100*time.Millisecond<<min(n-1, 7), 10*time.Second)
}
