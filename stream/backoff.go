package stream

import "time"

// The pauses before a failed job is tried again: they double from the first
// to the last, and begin anew once a run has been healthy for a while.
const (
	backoffFirst  = time.Second
	backoffLast   = time.Minute
	backoffHealed = 10 * time.Minute
)

// backoff is the restart policy of one job. It is a pure value.
type backoff struct{ failures int }

// next returns the pause after a run that lasted for ran. An error may ask
// for a longer one.
func (b *backoff) next(ran, atLeast time.Duration) time.Duration {
	if ran >= backoffHealed {
		b.failures = 0
	}
	pause := backoffLast
	if b.failures < 6 { // 1 s << 6 is over a minute
		pause = min(backoffFirst<<b.failures, backoffLast)
	}
	b.failures++
	return max(pause, atLeast)
}

// failureWindow stops a job when more than limit of the last size records
// were dead letters. The zero value never does. It is a pure value.
type failureWindow struct {
	limit, size int
	ring        []bool
	next, count int
}

func newFailureWindow(limit, size int) *failureWindow {
	return &failureWindow{limit: limit, size: size, ring: make([]bool, size)}
}

// add counts one record and reports whether the limit is passed.
func (w *failureWindow) add(failed bool) bool {
	if w.size == 0 {
		return false
	}
	if w.ring[w.next] {
		w.count--
	}
	w.ring[w.next] = failed
	if failed {
		w.count++
	}
	w.next = (w.next + 1) % w.size
	return w.count > w.limit
}
