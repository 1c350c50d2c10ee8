package hub

import (
	"sync"
	"time"
)

// reach is which other nodes this one is connected with, and since when.
type reach struct {
	self int32
	mu   struct {
		sync.Mutex
		up   map[int32]bool
		when map[int32]time.Time // of the last change
	}
}

func newReach(self int32) *reach {
	r := &reach{self: self}
	r.mu.up, r.mu.when = map[int32]bool{}, map[int32]time.Time{}
	return r
}

func (r *reach) set(node int32, up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.up[node] != up {
		r.mu.up[node], r.mu.when[node] = up, time.Now()
	}
}

// up reports whether a node can be reached.
func (r *reach) up(node int32) bool {
	up, _ := r.since(node)
	return up
}

// all are the other nodes that can be reached.
func (r *reach) all() (nodes []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for node, up := range r.mu.up {
		if up {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// anyUp reports whether another node can be reached.
func (r *reach) anyUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, up := range r.mu.up {
		if up {
			return true
		}
	}
	return false
}

// upLately reports whether a node can be reached, or could be a short while
// ago.
func (r *reach) upLately(node int32) bool {
	up, when := r.since(node)
	return up || time.Since(when) < downAfter
}

// since tells whether a node can be reached, and since when that is so.
func (r *reach) since(node int32) (up bool, when time.Time) {
	if node == r.self {
		return true, time.Time{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.mu.when[node]; !known {
		r.mu.when[node] = time.Now()
	}
	return r.mu.up[node], r.mu.when[node]
}
