package catalog

import (
	"cmp"
	"slices"
)

// MoveLimits bound how many moves are under way at a time, by the copies that
// have to be made.
type MoveLimits struct {
	PerNode int // copies that one node receives; below 1: 1
	Site    int // moves of the whole site; below 1: 1
}

// PendingMove is a partition that is not where it shall be.
type PendingMove struct {
	Topic     *Topic
	Partition int32
	Seq       int64
	// Active: the group's leader may take the next step. One that has begun goes
	// on in any case: to stop half way helps nobody.
	Active bool
	// Repair: a member is gone for good, so there are fewer copies than wanted
	// until this is done.
	Repair bool
	// Blocked: a node that is to get a copy is not up. It takes nobody's turn.
	Blocked bool
	// Stalled: most of the members that the group had have lost their data, so
	// it cannot decide anything, this move included. It takes nobody's turn.
	Stalled bool
}

// PendingMoves are all moves that are not done, in the order in which they get
// their turn: repairs first, then as they were wished for. All who see the same
// state, the same limits and the same nodes up see the same ones active, so
// that the leaders of groups keep the bounds without asking each other; up may
// be nil.
func (s *State) PendingMoves(limits MoveLimits, up func(node int32) bool) []PendingMove {
	if s.moving == 0 {
		return nil
	}
	all := make([]PendingMove, 0, s.moving)
	s.eachPartition(func(t *Topic, n int32, p Partition) bool {
		if p.Move != nil {
			all = append(all, PendingMove{Topic: t, Partition: n, Seq: p.Move.Seq, Repair: s.isRepair(p)})
		}
		return true
	})
	slices.SortFunc(all, func(a, b PendingMove) int {
		if a.Repair != b.Repair {
			return map[bool]int{true: -1, false: 1}[a.Repair]
		}
		return cmp.Compare(a.Seq, b.Seq)
	})
	site, receives := 0, map[int32]int{}
	for i := range all {
		m := &all[i]
		targets := s.copies(m.Topic.Partitions[m.Partition])
		m.Blocked = up != nil && slices.ContainsFunc(targets, func(n int32) bool { return !up(n) })
		m.Stalled = !majority(m.Topic.Partitions[m.Partition].Move.From, s.memberGone)
		if m.Blocked || m.Stalled {
			continue
		}
		m.Active = len(targets) == 0 || site < max(limits.Site, 1) &&
			!slices.ContainsFunc(targets, func(n int32) bool { return receives[n] >= max(limits.PerNode, 1) })
		if m.Active && len(targets) > 0 {
			site++
			for _, n := range targets {
				receives[n]++
			}
		}
	}
	return all
}

// copies are the nodes to which a move copies the partition.
func (s *State) copies(p Partition) []int32 {
	var nodes []int32
	for _, m := range s.Members(p) {
		if !slices.Contains(p.Move.From, m) {
			nodes = append(nodes, memberNode(m))
		}
	}
	return nodes
}

// isRepair reports whether a member from which the partition moves has lost its
// data, or is a node that is gone.
func (s *State) isRepair(p Partition) bool { return slices.ContainsFunc(p.Move.From, s.memberGone) }
