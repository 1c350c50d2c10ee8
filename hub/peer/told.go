package peer

import "sync"

// told remembers what was logged, so that what stays wrong is said once.
type told struct {
	mu struct {
		sync.Mutex
		last map[string]string
	}
}

// mostTold bounds what is remembered; others are then told again.
const mostTold = 1024

// isNew reports whether something else was told of who before.
func (t *told) isNew(who, what string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.last[who] == what {
		return false
	}
	if t.mu.last == nil || len(t.mu.last) >= mostTold {
		t.mu.last = map[string]string{}
	}
	t.mu.last[who] = what
	return true
}
