package replica

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// notSent takes that a message did not get away. Of small ones Raft sends
// another sooner or later.
func (c *core) notSent(m *pb.Message) {
	switch m.Type {
	case pb.MsgApp:
		c.rn.ReportUnreachable(m.To)
	case pb.MsgSnap:
		c.rn.ReportSnapshot(m.To, raft.SnapshotFailure)
	}
	c.pump()
}

// joining reports whether this member was added and its log does not reach the
// entry yet that did so. It may have been in the group before under the same ID,
// and have forgotten what it had: a member that was away since then, and takes it
// for the voter that it was, must not win by its vote with a log that lacks what is
// committed (Raft's votes are worth what the voter's log is). Nobody needs its vote:
// it is made a voter only once its log is beyond that entry (progress).
func (c *core) joining() bool {
	s := &c.conf.state
	return c.tail.index < c.conf.index && !slices.Contains(s.Voters, c.cfg.id) && !slices.Contains(s.VotersOutgoing, c.cfg.id) || c.tail.index == 0
}

// countsOnAnother reports whether a leader counts on a replica that was here
// before under the same ID and was deleted. A leader that added this one knows that
// it has acknowledged nothing, and makes it a learner first. One that was replaced
// and does not know it may still hold it for the voter that it was: filled by that
// one, it would be half of a majority that commits something else than the members
// of today have.
func (c *core) countsOnAnother(m *pb.Message) bool {
	switch {
	case c.tail.index > 0:
		return false
	case m.Type == pb.MsgHeartbeat:
		return m.Commit > 0
	}
	return m.Type == pb.MsgSnap && !slices.Contains(m.Snapshot.Metadata.ConfState.Learners, c.cfg.id)
}

// transfer hands the leadership over. The answer means that it is under way:
// until it is decided proposals wait.
func (c *core) transfer(p *proposal) {
	if p.to == c.cfg.id {
		c.out.acks = append(c.out.acks, ack{p: p})
		return
	}
	all := c.progress()
	i := slices.IndexFunc(all, func(m Progress) bool { return m.Member == p.to })
	if i < 0 {
		c.refuse(p, fmt.Errorf("%w: member %d of node %d is not in the group", record.ErrInvalidReplicas, p.to, NodeOf(p.to)))
		return
	}
	if m := all[i]; m.Learner || !m.Caught || !m.Active {
		c.refuse(p, fmt.Errorf("%w: node %d cannot lead now: %s", record.ErrInvalidReplicas, NodeOf(p.to), m))
		return
	}
	c.rn.TransferLeader(p.to)
	c.pump()
	c.between = true
	c.out.acks = append(c.out.acks, ack{p: p})
}

// Progress is how far a member of a group is, as its leader knows.
type Progress struct {
	Member   uint64
	Learner  bool   // it does not vote
	Match    uint64 // its log is the leader's up to this entry
	Caught   bool   // it has all that is committed, but for what is on its way, and the entry that made the members
	Snapshot bool   // it is being sent a whole state
	Active   bool   // it was heard lately
	Behind   int64  // bytes on the leader's disk that it lacks, about
}

// Node is the member's broker ID.
func (p Progress) Node() int32 { return NodeOf(p.Member) }

// String is for people.
func (p Progress) String() string {
	switch {
	case !p.Active:
		return "it is silent"
	case p.Snapshot:
		return "it takes in a whole state"
	case !p.Caught:
		return fmt.Sprintf("it is at entry %d", p.Match)
	case p.Learner:
		return "it is a learner"
	}
	return "it has everything"
}

// progress is what this leader knows of the members, by their IDs; nil when it
// does not lead.
func (c *core) progress() (all []Progress) {
	if c.failed != nil || c.role != raft.StateLeader {
		return nil
	}
	c.rn.WithProgress(func(id uint64, kind raft.ProgressType, pr tracker.Progress) {
		self := id == c.cfg.id
		all = append(all, Progress{
			Member: id, Learner: kind == raft.ProgressTypeLearner, Match: pr.Match, Snapshot: pr.State == tracker.StateSnapshot,
			Caught: self || pr.State == tracker.StateReplicate && pr.Next > c.hard.Commit && pr.Match >= c.conf.index,
			Active: self || pr.RecentActive,
		})
	})
	slices.SortFunc(all, func(a, b Progress) int { return cmp.Compare(a.Member, b.Member) })
	return all
}
