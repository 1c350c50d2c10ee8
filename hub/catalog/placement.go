package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"time"
)

const (
	// failedGrace is how long a task stays with a node that gossip calls
	// failed: most come back. One that has left loses its tasks at once.
	failedGrace = 10 * time.Second
	// moveEvery is the least time between two moves away from a node that is
	// well. What lost its node does not wait for this.
	moveEvery = time.Second
)

// Health is what gossip says of a node.
type Health uint8

// The states of a node. A node of which nothing is known has left, and one that
// drains or is being decommissioned counts as having left: its tasks go at once.
const (
	Left Health = iota
	Alive
	Failed
)

// Member is a node that may run tasks.
type Member struct {
	Node   int32
	Weight int // of its capacity, relative to others; 0 counts as 1
	Health Health
	Since  time.Time // of Health
}

// Task is something that one node has to run.
type Task struct {
	Name  string
	Nodes []int32 // that may run it; nil: all
}

// Placement decides which node runs which task: by weighted rendezvous hashing
// over the nodes that are well, so that all who know the same decide the same,
// and a node that comes or goes moves only what is its own. A task stays where
// it is as long as its node is well, unless another node that wants it more
// has at least two tasks less for its weight. The tasks of one job are spread
// first: a node that has fewer of them wants one more than a node with more. It
// is a pure value; every node steps its own, and proposes what it is to get itself.
type Placement struct{ moved time.Time }

// Step returns the grants to propose now, and when to step again at the
// latest; zero: when something changes.
func (p *Placement) Step(now time.Time, tasks []Task, members []Member, leases map[string]Lease) (grants []GrantLease, again time.Time) {
	v := view{now: now, members: map[int32]Member{}, load: map[int32]int{}, jobs: map[spot]int{}}
	for _, m := range members {
		v.members[m.Node] = m
	}
	for _, t := range tasks {
		v.load[leases[t.Name].Node]++
		v.jobs[spot{JobOf(t.Name), leases[t.Name].Node}]++
	}
	for _, t := range slices.SortedFunc(slices.Values(tasks), func(a, b Task) int { return cmp.Compare(a.Name, b.Name) }) {
		l := leases[t.Name]
		best := v.best(t, l.Node)
		switch well, until := v.keeps(t, l); {
		case best == 0 || best == l.Node:
			continue
		case well && !v.lighter(best, l.Node) && !v.fewer(t, best, l.Node):
			continue
		case well && now.Sub(p.moved) < moveEvery:
			again = earlier(again, p.moved.Add(moveEvery))
			continue
		case well:
			p.moved = now
		case until.After(now):
			again = earlier(again, until)
			continue
		}
		v.load[l.Node]--
		v.load[best]++
		v.jobs[spot{JobOf(t.Name), l.Node}]--
		v.jobs[spot{JobOf(t.Name), best}]++
		grants = append(grants, GrantLease{Task: t.Name, Node: best, After: l.Epoch})
	}
	return grants, again
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

type view struct {
	now     time.Time
	members map[int32]Member
	load    map[int32]int // tasks of each node
	jobs    map[spot]int  // of them, those of one job
}

// spot is a job at a node.
type spot struct {
	job  string
	node int32
}

// keeps tells whether the task is at a node that is well, and otherwise until
// when it stays all the same; in the past: not at all.
func (v view) keeps(t Task, l Lease) (well bool, until time.Time) {
	m := v.members[l.Node]
	switch {
	case !t.allows(l.Node):
		return false, time.Time{}
	case m.Health == Failed:
		return false, m.Since.Add(failedGrace)
	}
	return m.Health == Alive, time.Time{}
}

func (t Task) allows(node int32) bool { return t.Nodes == nil || slices.Contains(t.Nodes, node) }

// best is the node with the highest score of those that have the fewest other
// tasks of the job; 0 when there is none. here is the node that has the task.
func (v view) best(t Task, here int32) (node int32) {
	top, fewest := math.Inf(-1), math.MaxInt
	for id, m := range v.members {
		if m.Health != Alive || !t.allows(id) {
			continue
		}
		others := v.jobs[spot{JobOf(t.Name), id}]
		if id == here {
			others--
		}
		s := score(t.Name, m)
		if others < fewest || others == fewest && (s > top || s == top && id < node) {
			node, top, fewest = id, s, others
		}
	}
	return node
}

// fewer reports whether node a would still have fewer tasks of the job than node
// b after it has taken this one from b.
func (v view) fewer(t Task, a, b int32) bool {
	job := JobOf(t.Name)
	return v.jobs[spot{job, a}]+1 < v.jobs[spot{job, b}]
}

// lighter reports whether node a would still have less to do for its weight
// than node b after it has taken a task from b.
func (v view) lighter(a, b int32) bool {
	wa, wb := max(v.members[a].Weight, 1), max(v.members[b].Weight, 1)
	return (v.load[a]+1)*wb < v.load[b]*wa
}

// score is the weighted rendezvous score of a task at a node: the highest of
// all nodes wins, each with a probability in proportion to its weight.
func score(task string, m Member) float64 {
	h := sha256.New()
	h.Write([]byte(task))
	h.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(m.Node)))
	n := binary.BigEndian.Uint64(h.Sum(nil))
	return -float64(max(m.Weight, 1)) / math.Log((float64(n>>11)+0.5)/(1<<53))
}
