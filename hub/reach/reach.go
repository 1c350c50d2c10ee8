// Package reach knows which other nodes of the site this one is connected with,
// and since when, and asks all of them at once.
//
// Goroutines: one for each node that Ask asks; it waits for them.
package reach

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Time is how long a node that is asked with all others may take to answer.
const Time = 3 * time.Second

// Call asks one node something.
type Call func(ctx context.Context, node int32, method string, body []byte) ([]byte, error)

// Nodes are those of the site as this one sees them. Its methods may be called
// from any goroutine.
type Nodes struct {
	self int32
	call Call
	log  *slog.Logger
	mu   struct {
		sync.Mutex
		up     map[int32]bool
		when   map[int32]time.Time // of the last change
		ending map[int32]bool      // nodes that have said so since they were connected with
	}
}

// New is what a node knows before it is connected with any.
func New(self int32, call Call, log *slog.Logger) *Nodes {
	n := &Nodes{self: self, call: call, log: log}
	n.mu.up, n.mu.when, n.mu.ending = map[int32]bool{}, map[int32]time.Time{}, map[int32]bool{}
	return n
}

// Set takes that a node is connected with, or is not any more.
func (n *Nodes) Set(node int32, up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.up[node] != up {
		n.mu.up[node], n.mu.when[node] = up, time.Now()
	}
	delete(n.mu.ending, node)
}

// Ends takes that a node is about to end.
func (n *Nodes) Ends(node int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.ending[node] = true
}

// Stays reports whether a node can be reached and is not about to end.
func (n *Nodes) Stays(node int32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return (node == n.self || n.mu.up[node]) && !n.mu.ending[node]
}

// Up reports whether a node can be reached.
func (n *Nodes) Up(node int32) bool {
	up, _ := n.Since(node)
	return up
}

// Others are the other nodes that can be reached, in order.
func (n *Nodes) Others() (all []int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for node, up := range n.mu.up {
		if up && node != n.self {
			all = append(all, node)
		}
	}
	slices.Sort(all)
	return all
}

// UpWithin reports whether a node can be reached, or could be as short a while
// ago.
func (n *Nodes) UpWithin(node int32, ago time.Duration) bool {
	up, when := n.Since(node)
	return up || time.Since(when) < ago
}

// Since tells whether a node can be reached, and since when that is so.
func (n *Nodes) Since(node int32) (up bool, when time.Time) {
	if node == n.self {
		return true, time.Time{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.mu.when[node]; !known {
		n.mu.when[node] = time.Now()
	}
	return n.mu.up[node], n.mu.when[node]
}

// Ask asks all other nodes that are in reach, or the ones of only, and hands take
// what each answers, as JSON, one after the other. One that does not answer is
// left out.
func Ask[T any](ctx context.Context, n *Nodes, method string, only []int32, take func(node int32, answer T)) {
	ctx, cancel := context.WithTimeout(ctx, Time)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, node := range n.Others() {
		if only != nil && !slices.Contains(only, node) {
			continue
		}
		wg.Go(func() {
			var one T
			b, err := n.call(ctx, node, method, nil)
			if err == nil {
				err = json.Unmarshal(b, &one)
			}
			if err != nil {
				n.log.Debug("a node does not answer", "node", node, "method", method, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			take(node, one)
		})
	}
	wg.Wait()
}
