package catalog

import (
	"cmp"
	"slices"
)

// PlanLevel evens out what the nodes have, as after one has come or gone, with
// few moves: first replicas that share a zone while another has none, then
// replicas from those that have most to those that have least, last the
// preferred leaders, which costs no copying. size tells the bytes of a
// partition; nil: each counts the same. What is being moved stays. most bounds
// the replicas that are copied; 0: no bound.
func (s *State) PlanLevel(size func(topic string, partition int32) int64, most int) []Reassignment {
	v := s.newLeveling(size, most)
	if len(v.layout.nodes) == 0 {
		return nil
	}
	v.spreadZones()
	for v.room() && v.levelOnce() {
	}
	for v.leadOnce() {
	}
	var plan []Reassignment
	for _, p := range v.parts {
		if !slices.Equal(p.to, p.from) {
			plan = append(plan, wish(p.topic, p.n, p.from, p.to))
		}
	}
	return plan
}

// leveling is a plan while it is made.
type leveling struct {
	layout *layout
	parts  []*levelPart
	weight map[int32]int64 // of a node
	bytes  bool
	copies int // still allowed
}

type levelPart struct {
	topic    *Topic
	n        int32
	from, to []int32
	weight   int64
}

func (s *State) newLeveling(size func(string, int32) int64, most int) *leveling {
	v := &leveling{layout: s.layout(), weight: map[int32]int64{}, bytes: size != nil, copies: most}
	if most <= 0 {
		v.copies = 1 << 30
	}
	stays := map[int32]bool{}
	for _, n := range v.layout.nodes {
		stays[n.ID] = true
	}
	s.eachPartition(func(t *Topic, n int32, p Partition) bool {
		w := int64(1)
		if size != nil {
			w = max(size(t.Name, n), 0)
		}
		for _, id := range p.Replicas {
			v.weight[id] += w
		}
		leaves := slices.ContainsFunc(p.Replicas, func(id int32) bool { return !stays[id] })
		if p.Move == nil && !leaves { // PlanLeaving sees to those
			v.parts = append(v.parts, &levelPart{t, n, p.Replicas, slices.Clone(p.Replicas), w})
		}
		return true
	})
	return v
}

func (v *leveling) room() bool { return v.copies > 0 }

// shift moves the replica at place i of a partition.
func (v *leveling) shift(p *levelPart, i int, to int32) {
	v.layout.remove(p.to)
	v.weight[p.to[i]] -= p.weight
	if !slices.Contains(p.from, to) {
		v.copies--
	}
	p.to[i] = to
	v.weight[to] += p.weight
	v.layout.add(p.to)
}

// spreadZones moves followers that share a zone to zones that have no replica.
func (v *leveling) spreadZones() {
	for _, p := range v.parts {
		for i := len(p.to) - 1; i > 0 && v.room(); i-- {
			if v.layout.countZones(p.to)[v.layout.zone(p.to[i])] < 2 {
				continue
			}
			rest := slices.Delete(slices.Clone(p.to), i, i+1)
			if to := v.layout.followerBeside(rest, p.to, int(p.n)); to != 0 && v.layout.countZones(rest)[v.layout.zone(to)] == 0 {
				v.shift(p, i, to)
			}
		}
	}
}

// levelOnce makes the move that evens out most between the node that has most
// and the one that has least of those that it can be made between.
func (v *leveling) levelOnce() bool {
	order := v.byWeight(func(n int32) int64 { return v.weight[n] })
	for h := len(order) - 1; h > 0; h-- {
		for l := range h {
			high, low := order[h], order[l]
			diff := v.weight[high] - v.weight[low]
			if diff <= v.tolerance() {
				break
			}
			if p, i := v.candidate(high, low, diff); p != nil {
				v.shift(p, i, low)
				return true
			}
		}
	}
	return false
}

// tolerance is how far two nodes may be apart: one replica, or a tenth of what a
// node has on average.
func (v *leveling) tolerance() int64 {
	if !v.bytes {
		return 1
	}
	var sum int64
	for _, n := range v.layout.nodes {
		sum += v.weight[n.ID]
	}
	return sum / int64(len(v.layout.nodes)) / 10
}

// candidate is the replica on high whose move to low evens out most.
func (v *leveling) candidate(high, low int32, diff int64) (best *levelPart, at int) {
	var gain int64
	for _, p := range v.parts {
		i := slices.Index(p.to, high)
		if i < 0 || slices.Contains(p.to, low) || !v.keepsZones(p.to, i, low) {
			continue
		}
		// The sum of squares falls by 2w(d-w).
		g := p.weight * (diff - p.weight)
		if p.weight == 0 || g <= 0 || g < gain || g == gain && !v.leadsBetter(p, i, best, at, high, low) {
			continue
		}
		best, at, gain = p, i, g
	}
	return best, at
}

// leadsBetter tells which of two equal moves is better for the leaders.
func (v *leveling) leadsBetter(p *levelPart, i int, best *levelPart, at int, high, low int32) bool {
	want := v.layout.led(high) > v.layout.led(low)
	return best != nil && (at == 0) != want && (i == 0) == want
}

// keepsZones reports whether a partition is in as many zones with its replica at
// place i on another node.
func (v *leveling) keepsZones(nodes []int32, i int, to int32) bool {
	before := len(v.layout.countZones(nodes))
	after := slices.Clone(nodes)
	after[i] = to
	return len(v.layout.countZones(after)) >= before
}

// leadOnce makes another replica the preferred leader of one partition, from a
// node that is it for most to one that is it for fewer.
func (v *leveling) leadOnce() bool {
	order := v.byWeight(func(n int32) int64 { return int64(v.layout.led(n)) })
	for h := len(order) - 1; h > 0; h-- {
		for l := range h {
			high, low := order[h], order[l]
			if v.layout.led(high)-v.layout.led(low) < 2 {
				break
			}
			for _, p := range v.parts {
				if i := slices.Index(p.to, low); i > 0 && p.to[0] == high {
					v.layout.remove(p.to)
					p.to[0], p.to[i] = p.to[i], p.to[0]
					v.layout.add(p.to)
					return true
				}
			}
		}
	}
	return false
}

// byWeight are the nodes that take replicas, the one with least first.
func (v *leveling) byWeight(weight func(int32) int64) []int32 {
	var ids []int32
	for _, n := range v.layout.nodes {
		ids = append(ids, n.ID)
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return cmp.Compare(weight(a), weight(b)) })
	return ids
}
