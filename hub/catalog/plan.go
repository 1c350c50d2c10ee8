package catalog

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// Plans are wishes to be proposed with AlterPartitionReassignments. They name
// the replicas that they were made for (Was), so a part of a plan that has been
// overtaken is refused.

func wish(t *Topic, n int32, from, to []int32) Reassignment {
	return Reassignment{Topic: t.Name, Partition: n, Replicas: to, Was: slices.Clone(from)}
}

// Stuck is a replica that should leave its node and has nowhere to go.
type Stuck struct {
	Topic     string
	Partition int32
	Node      int32
}

// PlanLeaving moves what is on nodes that are being decommissioned to others.
// What has nowhere to go waits until there are nodes for it.
func (s *State) PlanLeaving() (plan []Reassignment, stuck []Stuck) {
	leaving := map[int32]bool{}
	for _, n := range s.nodes {
		leaving[n.ID] = n.Leaving
	}
	l := s.layout()
	s.eachPartition(func(t *Topic, n int32, p Partition) bool {
		to := slices.Clone(p.Replicas)
		for i, id := range p.Replicas {
			if !leaving[id] {
				continue
			}
			rest := slices.DeleteFunc(slices.Clone(to), func(o int32) bool { return o == id })
			next := int32(0)
			if len(l.nodes) > 0 {
				next = l.followerBeside(rest, to, int(n))
			}
			if next == 0 {
				stuck = append(stuck, Stuck{t.Name, n, id})
				continue
			}
			l.remove(to)
			to[i] = next
			l.add(to)
		}
		if !slices.Equal(to, p.Replicas) {
			plan = append(plan, wish(t, n, p.Replicas, to))
		}
		return true
	})
	return plan, stuck
}

// PlanFactor gives every partition of a topic count replicas: more beside those
// that it has, or fewer of them. Its preferred leaders stay.
func (s *State) PlanFactor(topic string, count int) ([]Reassignment, error) {
	t, err := s.mustTopic(topic)
	if err != nil {
		return nil, err
	}
	l := s.layout()
	if count < 1 || count > len(l.nodes) {
		return nil, fmt.Errorf("%w: %d replicas for topic %q, %s", record.ErrInvalidReplicas, count, topic, s.describeLayout(l))
	}
	var plan []Reassignment
	for n, p := range t.Partitions {
		to := slices.Clone(p.Replicas)
		l.remove(to)
		for len(to) > count {
			to = l.without(to)
		}
		for len(to) < count {
			next := l.follower(to, n)
			if next == 0 { // the rest are on nodes that leave
				break
			}
			to = append(to, next)
		}
		l.add(to)
		if !slices.Equal(to, p.Replicas) {
			plan = append(plan, wish(t, int32(n), p.Replicas, to))
		}
	}
	return plan, nil
}

// without drops the replica that is missed least: one on a node that leaves,
// else in the zone that has most, then on the node that has most; never the
// preferred leader.
func (l *layout) without(nodes []int32) []int32 {
	inZone := l.countZones(nodes)
	stays := func(n int32) int {
		if slices.ContainsFunc(l.nodes, func(o Node) bool { return o.ID == n }) {
			return 1
		}
		return 0
	}
	worst := 1
	for i := 2; i < len(nodes); i++ {
		a, b := nodes[i], nodes[worst]
		if cmp.Or(cmp.Compare(stays(b), stays(a)), cmp.Compare(inZone[l.zone(a)], inZone[l.zone(b)]), cmp.Compare(l.has(a), l.has(b))) >= 0 {
			worst = i
		}
	}
	return slices.Delete(slices.Clone(nodes), worst, worst+1)
}

// MostReplicas is how many replicas a topic has at most that nobody has said a
// number for: three survive the loss of a node.
const MostReplicas = 3

// DefaultReplicas is how many replicas a topic has for which nobody has said a
// number, the hub's own among them: as many as there are nodes for them, up to
// most, and an odd number. Two need both to be written to, where one needs one;
// and when one of two has lost its data, the other cannot go on alone.
func (s *State) DefaultReplicas(most int) int {
	count := 0
	for _, n := range s.nodes {
		if !n.Leaving && count < most {
			count++
		}
	}
	if count%2 == 0 {
		count--
	}
	return max(count, 1)
}

// PlanInternal raises the hub's own topics to DefaultReplicas; it takes no
// replica away. A site that began with one node is made safe by it when others
// come.
func (s *State) PlanInternal(most int) []Reassignment {
	count := s.DefaultReplicas(most)
	var plan []Reassignment
	for _, t := range s.topics {
		if !IsInternal(t.Name) || !slices.ContainsFunc(t.Partitions, func(p Partition) bool { return len(p.Replicas) < count }) {
			continue
		}
		more, err := s.PlanFactor(t.Name, count)
		if err != nil {
			continue // there is no node
		}
		plan = append(plan, slices.DeleteFunc(more, func(r Reassignment) bool { return len(r.Replicas) < len(r.Was) })...)
	}
	return plan
}
