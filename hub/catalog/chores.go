package catalog

import "slices"

// maxWishes bounds the reassignments in one command.
const maxWishes = 1000

// Chores is what the node that leads the catalog proposes by itself, in this
// order: the hub's own topics get as many replicas as internal says, or as the
// site can give; nodes that are being decommissioned are emptied, and those that
// are empty and have no vote in the catalog's group (voters) are removed. Each
// time a part of it; empty: nothing is to be done now. stuck are replicas that
// wait for another node to come.
func (s *State) Chores(internal int, voters []uint64) (commands []Command, stuck []Stuck) {
	plan := s.PlanInternal(internal)
	away, stuck := s.PlanLeaving()
	for _, r := range away {
		if !slices.ContainsFunc(plan, func(o Reassignment) bool { return o.Topic == r.Topic && o.Partition == r.Partition }) {
			plan = append(plan, r) // the rest comes next time
		}
	}
	if len(plan) > 0 {
		commands = append(commands, AlterPartitionReassignments{plan[:min(len(plan), maxWishes)]})
	}
	for _, n := range s.nodes {
		if !n.Leaving || slices.ContainsFunc(voters, func(m uint64) bool { return memberNode(m) == n.ID }) {
			continue
		}
		if have, _ := s.Replicas(n.ID); have == 0 {
			commands = append(commands, RemoveNode{n.ID})
		}
	}
	return commands, stuck
}
