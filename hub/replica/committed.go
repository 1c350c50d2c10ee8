package replica

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// What is committed is told along with votes as well. Raft lets only leaders tell
// it, and an election may fail for lack of it: a member that does not know that a
// change of membership is committed asks the old voters, and one that has been
// removed has a longer log, refuses, and never stands itself. So requests for
// votes and their answers name the last entry that the sender has applied, by
// index and term: who has that entry has everything before it, and may take all
// of it for committed. Raft does not use these two fields of votes.

// isVote reports whether a message is a request for a vote or an answer to one.
func isVote(t pb.MessageType) bool {
	switch t {
	case pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp:
		return true
	}
	return false
}

// tellApplied adds to votes that go out what is applied here.
func (c *core) tellApplied() {
	for i := range c.out.msgs {
		if m := &c.out.msgs[i]; isVote(m.Type) {
			m.Commit, m.RejectHint = c.applied, c.appliedTerm
		}
	}
}

// learnCommit takes what the sender of a vote has applied, where there is no
// leader to tell it and a change of membership waits for it. Else it would gain
// nothing, and take the candidate out of its election.
func (c *core) learnCommit(m *pb.Message) {
	if !isVote(m.Type) || c.role == raft.StateLeader || c.lead != raft.None {
		return
	}
	if p := c.conf.pending; len(p) == 0 || p[0].index > m.Commit || m.Commit <= c.hard.Commit {
		return
	}
	if e, ok := c.window.get(m.Commit); !ok || e.Term != m.RejectHint {
		return // another entry, or none: what this member lacks another has
	}
	// A heartbeat of nobody: Raft takes the commit and has no leader after it.
	_ = c.rn.Step(pb.Message{Type: pb.MsgHeartbeat, To: c.cfg.id, Term: c.rn.BasicStatus().Term, Commit: m.Commit})
	c.pump()
}
