package replica

import (
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Members are those of a group, as member IDs.
type Members struct {
	Voters   []uint64
	Learners []uint64
	Outgoing []uint64 // voters of the configuration that a joint one leaves behind; nil for others
}

func membersOf(s *pb.ConfState) Members {
	return Members{Voters: s.Voters, Learners: slices.Concat(s.Learners, s.LearnersNext), Outgoing: s.VotersOutgoing}
}

func (m *Members) has(id uint64) bool {
	return slices.Contains(m.Voters, id) || slices.Contains(m.Learners, id) || slices.Contains(m.Outgoing, id)
}

// moveStep is what a leader does next on the way to the wanted members.
type moveStep struct {
	kind   moveKind
	change pb.ConfChangeV2 // of moveChange
	to     uint64          // of moveTransfer
	what   string          // for people
}

type moveKind uint8

const (
	moveDone     moveKind = iota
	moveWait              // for members that are behind, or for a change that is not committed
	moveChange            // propose a change of the configuration
	moveTransfer          // let another member lead first
	moveConfirm           // append an entry that tells the members what is committed
)

// nextStep is the whole of a move: the leader compares what is wanted with the
// configuration that is in force and takes one step, each safe by itself; a
// leader that comes after goes on from there. Members come as learners, one at
// a time, until they have everything; then one joint change makes all voters
// what they should be, and is left; then learners go that nobody wants. A leader that
// is not to stay hands over first: when it removes itself, nobody leads until an
// election (Raft thesis 4.2.2, 4.3).
func nextStep(self uint64, want, have Members, progress []Progress) moveStep {
	at := func(id uint64) Progress {
		for _, p := range progress {
			if p.Member == id {
				return p
			}
		}
		return Progress{Member: id}
	}
	if len(have.Outgoing) > 0 {
		if !slices.Contains(have.Voters, self) {
			return handOver(have.Voters, at)
		}
		return moveStep{kind: moveChange, what: "leave the joint configuration"}
	}
	for _, id := range slices.Concat(want.Voters, want.Learners) {
		if !have.has(id) {
			return simple(pb.ConfChangeAddLearnerNode, id, "add node %d as a learner")
		}
	}
	if !sameMembers(want.Voters, have.Voters) {
		return changeVoters(self, want, have, at)
	}
	for _, id := range have.Learners {
		if !slices.Contains(want.Learners, id) {
			return simple(pb.ConfChangeRemoveNode, id, "remove the learner on node %d")
		}
	}
	return moveStep{kind: moveDone, what: "done"}
}

// changeVoters makes the one joint change, once its new voters are ready.
func changeVoters(self uint64, want, have Members, at func(uint64) Progress) moveStep {
	var behind []string
	for _, id := range want.Voters {
		if p := at(id); !slices.Contains(have.Voters, id) && !(p.Caught && p.Active) {
			behind = append(behind, fmt.Sprintf("node %d: %s", NodeOf(id), p))
		}
	}
	if len(behind) > 0 {
		return moveStep{kind: moveWait, what: "wait until new members have everything: " + strings.Join(behind, ", ")}
	}
	if !slices.Contains(want.Voters, self) {
		// Only a voter can lead. Where none stays, the joint configuration has
		// the new ones.
		stay := slices.DeleteFunc(slices.Clone(want.Voters), func(id uint64) bool { return !slices.Contains(have.Voters, id) })
		if len(stay) > 0 {
			return handOver(stay, at)
		}
	}
	step := moveStep{kind: moveChange, what: "change the voters"}
	step.change.Transition = pb.ConfChangeTransitionJointExplicit
	add := func(t pb.ConfChangeType, id uint64) {
		step.change.Changes = append(step.change.Changes, pb.ConfChangeSingle{Type: t, NodeID: id})
	}
	for _, id := range want.Voters {
		if !slices.Contains(have.Voters, id) {
			add(pb.ConfChangeAddNode, id)
		}
	}
	for _, id := range have.Voters {
		switch {
		case slices.Contains(want.Voters, id):
		case slices.Contains(want.Learners, id):
			add(pb.ConfChangeAddLearnerNode, id)
		default:
			add(pb.ConfChangeRemoveNode, id)
		}
	}
	return step
}

// handOver picks the first of the members that can lead.
func handOver(to []uint64, at func(uint64) Progress) moveStep {
	for _, id := range to {
		if p := at(id); p.Caught && p.Active && !p.Learner {
			return moveStep{kind: moveTransfer, to: id, what: fmt.Sprintf("let node %d lead", NodeOf(id))}
		}
	}
	return moveStep{kind: moveWait, what: "wait for a member that can lead"}
}

func simple(t pb.ConfChangeType, id uint64, what string) moveStep {
	return moveStep{
		kind:   moveChange,
		change: pb.ConfChangeV2{Changes: []pb.ConfChangeSingle{{Type: t, NodeID: id}}},
		what:   fmt.Sprintf(what, NodeOf(id)),
	}
}

// sameMembers compares sets.
func sameMembers(a, b []uint64) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(id uint64) bool { return !slices.Contains(b, id) })
}

// move is what this leader does next.
func (c *core) move(want Members) (moveStep, []Progress) {
	progress := c.progress()
	switch {
	case c.role != raft.StateLeader:
		return moveStep{kind: moveWait, what: "not leading any more"}, nil
	case len(c.conf.pending) > 0:
		return moveStep{kind: moveWait, what: "wait until a change of the members is committed"}, progress
	}
	step := nextStep(c.cfg.id, want, membersOf(&c.conf.state), progress)
	if step.kind == moveDone && !c.membersKnown() {
		step = moveStep{kind: moveWait, what: "wait until a majority knows the members for good"}
		if c.tail.index < c.knownFrom {
			step.kind = moveConfirm
		}
	}
	return step, progress
}

// membersKnown reports whether a majority of the members would come back from a
// crash under the configuration in force, or a newer one (Invariant 11). Before that a removed
// member must not lose its data: should this leader fail, the others would ask it
// for its vote. An entry appended under the configuration goes out with a commit
// that covers the change, and is durable together with it, so such an entry that is
// committed is proof.
func (c *core) membersKnown() bool { return c.serving() && c.applied >= c.knownFrom }
