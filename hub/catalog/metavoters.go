package catalog

import (
	"cmp"
	"slices"
)

// MaxMetaVoters is the most voters that the catalog's group has: the others
// learn it, so that more nodes do not make each change slower.
const MaxMetaVoters = 5

// MetaMembers are the members that the group of the catalog shall have. Every
// node is one; up to five vote, an odd number of them, spread over the zones.
// Those that vote now, as current tells, go on as long as that is no worse; a
// node that up says is down votes only when there are too few others. up may be
// nil.
func (s *State) MetaMembers(current []uint64, up func(node int32) bool) (voters, learners []uint64) {
	var stay []Node
	for _, n := range s.nodes {
		if !n.Leaving {
			stay = append(stay, n)
		}
	}
	count := min(len(stay), MaxMetaVoters)
	if count%2 == 0 && count > 0 {
		count--
	}
	inZone := map[string]int{}
	for len(voters) < count {
		best := -1
		for i, n := range stay {
			if slices.Contains(voters, n.Member()) {
				continue
			}
			if best < 0 || compareVoters(n, stay[best], inZone, current, up) < 0 {
				best = i
			}
		}
		voters = append(voters, stay[best].Member())
		inZone[zoneOf(stay[best])]++
	}
	slices.Sort(voters)
	for _, n := range s.nodes {
		if !slices.Contains(voters, n.Member()) {
			learners = append(learners, n.Member())
		}
	}
	return voters, learners
}

// compareVoters tells which of two nodes is the better next voter: up, in a zone
// with fewer voters, one that votes already, the lower ID.
func compareVoters(a, b Node, inZone map[string]int, current []uint64, up func(int32) bool) int {
	down := func(n Node) int {
		if up == nil || up(n.ID) {
			return 0
		}
		return 1
	}
	fresh := func(n Node) int {
		if slices.Contains(current, n.Member()) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(down(a), down(b)), cmp.Compare(inZone[zoneOf(a)], inZone[zoneOf(b)]), cmp.Compare(fresh(a), fresh(b)), cmp.Compare(a.ID, b.ID))
}
