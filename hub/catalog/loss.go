package catalog

import (
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// Loss is what the site would have to do without if nodes were lost.
type Loss struct {
	Unavailable int // partitions that cannot be written, having no majority
	Gone        int // of those, partitions of which no copy is left
	First       record.TopicPartition
}

// LossOf tells what it would mean if these nodes were gone: for good, or for as
// long as they are. A partition that is being moved needs both the members that
// it had and those that it shall have.
func (s *State) LossOf(nodes ...int32) (loss Loss) {
	gone := func(m uint64) bool {
		return s.memberGone(m) || slices.Contains(nodes, memberNode(m))
	}
	s.eachPartition(func(t *Topic, i int32, p Partition) bool {
		wanted := s.Members(p)
		had := wanted
		if p.Move != nil {
			had = p.Move.From
		}
		if majority(had, gone) && majority(wanted, gone) {
			return true
		}
		if loss.Unavailable++; loss.Unavailable == 1 {
			loss.First = record.TopicPartition{Topic: t.Name, Partition: i}
		}
		if !slices.ContainsFunc(had, func(m uint64) bool { return !gone(m) }) {
			loss.Gone++
		}
		return true
	})
	return loss
}

// majority reports whether most of members are not gone.
func majority(members []uint64, gone func(uint64) bool) bool {
	left := 0
	for _, m := range members {
		if !gone(m) {
			left++
		}
	}
	return 2*left > len(members)
}

// MayLose tells for every node what the site would lose with it, beside those
// that are down already.
func (s *State) MayLose(down ...int32) map[int32]Loss {
	all := map[int32]Loss{}
	for _, n := range s.nodes {
		all[n.ID] = s.LossOf(append(slices.Clone(down), n.ID)...)
	}
	return all
}
