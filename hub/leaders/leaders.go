// Package leaders knows which node of the site leads which partition, as the
// leaders themselves say. Each node tells every other what it leads: the whole
// list when they connect, then what changes. Of two that claim a partition the
// one with the higher Raft term is right; the other's claim is kept, since it is
// told once. A claim is a hint for clients and says nothing about who may write:
// the group decides that.
//
// Goroutines: none.
package leaders

import (
	"slices"
	"sync"

	"github.com/entrepot-hub/entrepot/record"
)

// Claim is what a leader says of a partition.
type Claim struct {
	Topic     string
	ID        record.TopicID
	Partition int32
	Node      int32 // the leader's broker ID
	Term      uint64
	Epoch     int32   // leader epoch
	InSync    []int32 // brokers that have caught up, the leader among them
	Gone      bool    // the node does not lead it any more
}

// key is a partition of one topic, which another of its name may follow.
type key struct {
	id        record.TopicID
	partition int32
}

// Table is what this node knows. Its methods may be called from any goroutine.
type Table struct {
	mu struct {
		sync.Mutex
		claims map[key][]Claim // one of each node that claims it
	}
}

// New is an empty table.
func New() *Table {
	t := &Table{}
	t.mu.claims = map[key][]Claim{}
	return t
}

// Update takes what a node says. With whole, it leads nothing besides.
func (t *Table) Update(node int32, claims []Claim, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if whole {
		for k := range t.mu.claims {
			t.drop(k, node)
		}
	}
	for _, c := range claims {
		c.Node = node
		k := key{c.ID, c.Partition}
		t.drop(k, node)
		if !c.Gone {
			t.mu.claims[k] = append(t.mu.claims[k], c)
		}
	}
}

// drop takes a node's claim away. The lock is held.
func (t *Table) drop(k key, node int32) {
	left := slices.DeleteFunc(t.mu.claims[k], func(c Claim) bool { return c.Node == node })
	if len(left) == 0 {
		delete(t.mu.claims, k)
		return
	}
	t.mu.claims[k] = left
}

// Leader is the claim on a partition with the highest term; of two with the same,
// the later: a group that began anew counts terms anew.
func (t *Table) Leader(id record.TopicID, partition int32) (Claim, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.mu.claims[key{id, partition}]
	if len(all) == 0 {
		return Claim{}, false
	}
	return newest(all), true
}

func newest(all []Claim) Claim {
	best := all[0]
	for _, c := range all[1:] {
		if c.Term >= best.Term {
			best = c
		}
	}
	return best
}

// Counts is how many partitions each node leads.
func (t *Table) Counts() map[int32]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := map[int32]int{}
	for _, all := range t.mu.claims {
		n[newest(all).Node]++
	}
	return n
}

// Changes compares what a node led with what it leads now: claims to tell, with
// Gone for those that are over.
func Changes(before, now map[Partition]Claim) []Claim {
	var out []Claim
	for k, c := range now {
		if old, ok := before[k]; !ok || !same(old, c) {
			out = append(out, c)
		}
	}
	for k, c := range before {
		if _, ok := now[k]; !ok {
			c.Gone, c.InSync = true, nil
			out = append(out, c)
		}
	}
	slices.SortFunc(out, compare)
	return out
}

// Partition names a partition among those that a node leads.
type Partition struct {
	ID        record.TopicID
	Partition int32
}

func same(a, b Claim) bool {
	return a.Term == b.Term && a.Epoch == b.Epoch && slices.Equal(a.InSync, b.InSync)
}

func compare(a, b Claim) int {
	if c := slices.Compare(a.ID[:], b.ID[:]); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}
