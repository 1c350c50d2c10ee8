package catalog

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// layout is what each node that takes replicas has, as it is wanted. Choosing
// from it is part of the state machine: every node of the site must choose the
// same, so another way of choosing needs another version of the commands.
type layout struct {
	all   []Node // by ID
	nodes []Node // of those, the ones that take replicas
	// By place in all:
	zones    []string
	replicas []int
	leads    []int // partitions of which a node is the preferred leader
}

func (s *State) layout() *layout {
	l := &layout{all: s.nodes, replicas: make([]int, len(s.nodes)), leads: make([]int, len(s.nodes))}
	for _, n := range s.nodes {
		l.zones = append(l.zones, zoneOf(n))
		if !n.Leaving {
			l.nodes = append(l.nodes, n)
		}
	}
	if len(s.nodes) == 1 {
		return l // there is nothing to choose
	}
	s.eachPartition(func(_ *Topic, _ int32, p Partition) bool {
		l.add(p.Replicas)
		return true
	})
	return l
}

// zoneOf is where a node fails together with others. One that does not say is a
// zone of its own.
func zoneOf(n Node) string {
	if n.Rack == "" {
		return fmt.Sprintf("\x00%d", n.ID)
	}
	return n.Rack
}

// place is where a node is in all. IDs count from 1 and hardly any is missing.
func (l *layout) place(id int32) int {
	if i := int(id) - 1; i < len(l.all) && l.all[i].ID == id {
		return i
	}
	i, _ := slices.BinarySearchFunc(l.all, id, func(n Node, id int32) int { return cmp.Compare(n.ID, id) })
	return i
}

func (l *layout) zone(id int32) string { return l.zones[l.place(id)] }
func (l *layout) has(id int32) int     { return l.replicas[l.place(id)] }
func (l *layout) led(id int32) int     { return l.leads[l.place(id)] }

func (l *layout) add(replicas []int32)    { l.count(replicas, 1) }
func (l *layout) remove(replicas []int32) { l.count(replicas, -1) }

func (l *layout) count(replicas []int32, by int) {
	for i, n := range replicas {
		at := l.place(n)
		l.replicas[at] += by
		if i == 0 {
			l.leads[at] += by
		}
	}
}

// best is the node of the lowest rank that is not in chosen; of equals the first
// from turn on. 0: there is none.
func (l *layout) best(chosen []int32, turn int, rank func(a, b int32) int) int32 {
	var best int32
	for i := range l.nodes {
		n := l.nodes[(turn%len(l.nodes)+i)%len(l.nodes)].ID
		if slices.Contains(chosen, n) {
			continue
		}
		if best == 0 || rank(n, best) < 0 {
			best = n
		}
	}
	return best
}

// leader picks the preferred leader of a new partition: who leads least, then
// who has least.
func (l *layout) leader(turn int) int32 {
	return l.best(nil, turn, func(a, b int32) int {
		return cmp.Or(cmp.Compare(l.led(a), l.led(b)), cmp.Compare(l.has(a), l.has(b)))
	})
}

// follower picks one more replica beside chosen.
func (l *layout) follower(chosen []int32, turn int) int32 {
	return l.followerBeside(chosen, chosen, turn)
}

// followerBeside picks a replica beside others on a node that is not taken: in
// the zone that has fewest of them (KIP-36), then who has least.
func (l *layout) followerBeside(others, taken []int32, turn int) int32 {
	inZone := l.countZones(others)
	return l.best(taken, turn, func(a, b int32) int {
		return cmp.Or(cmp.Compare(inZone[l.zone(a)], inZone[l.zone(b)]), cmp.Compare(l.has(a), l.has(b)))
	})
}

func (l *layout) countZones(nodes []int32) map[string]int {
	counts := map[string]int{}
	for _, n := range nodes {
		counts[l.zone(n)]++
	}
	return counts
}

// assign chooses the replicas of one new partition; turn varies who of equals is
// taken. There must be enough nodes.
func (l *layout) assign(count, turn int) []int32 {
	nodes := []int32{l.leader(turn)}
	for len(nodes) < count {
		// The followers are shifted once more in each round, so that those of one
		// leader are not always the same.
		nodes = append(nodes, l.follower(nodes, turn+1+turn/len(l.nodes)))
	}
	l.add(nodes)
	return nodes
}

// place chooses the nodes of count partitions numbered from first: as assigned,
// or else by the site's layout, beginning somewhere that depends on the name.
func (s *State) place(topic string, first, count, replicas int32, assigned [][]int32) ([]Partition, error) {
	if assigned != nil {
		count = int32(min(len(assigned), MaxPartitions+1))
	}
	if count < 1 || first+count > MaxPartitions {
		return nil, fmt.Errorf("%w: topic %q would have %d, want 1 to %d", record.ErrInvalidPartitions, topic, first+count, MaxPartitions)
	}
	parts := make([]Partition, count)
	if assigned != nil {
		for i, nodes := range assigned {
			if err := s.checkReplicas(topic, nodes); err != nil {
				return nil, err
			}
			parts[i] = s.born(slices.Clone(nodes))
		}
		return parts, nil
	}
	l := s.layout()
	if replicas < 1 || int(replicas) > len(l.nodes) {
		return nil, fmt.Errorf("%w: %d replicas for topic %q, %s", record.ErrInvalidReplicas, replicas, topic, s.describeLayout(l))
	}
	h := fnv.New32a()
	h.Write([]byte(topic)) // never fails
	start := int(h.Sum32()) % len(l.nodes)
	for i := range parts {
		parts[i] = s.born(l.assign(int(replicas), start+int(first)+i))
	}
	return parts, nil
}

// describeLayout says what the site has for replicas.
func (s *State) describeLayout(l *layout) string {
	text := fmt.Sprintf("the site has %d nodes", len(l.nodes))
	if len(l.nodes) == 1 {
		text = "the site has 1 node"
	}
	if out := len(s.nodes) - len(l.nodes); out > 0 {
		text += fmt.Sprintf(" beside %d that are being decommissioned", out)
	}
	return text
}
