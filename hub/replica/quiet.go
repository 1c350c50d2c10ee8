package replica

import (
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// A group with nothing to do goes quiet: no ticks, no heartbeats. The leader
// begins it: once every member has all there is and was heard in each of the
// last ticks, its heartbeats ask for quiet. A follower that is in line goes quiet
// and says so in its answer; when all have said so, the leader is quiet too.
// Whatever else comes wakes who gets it: a message, a proposal, the news that
// another member's node is silent, has failed or has begun anew. A follower that
// wakes tells its leader, which then sends heartbeats again.
//
// Time does not stand still meanwhile. The nodes themselves send each other
// heartbeats, and a group that is woken because a node is silent is given the
// ticks for which it was: its followers campaign as soon, and its leader steps
// down as soon, as if the group had never been quiet (DESIGN.md).

// quietMark is the context of a heartbeat that asks for quiet, and of the answer
// that agrees.
var quietMark = []byte("quiet") //nolint:gochecknoglobals // a constant

func isQuiet(m *pb.Message) bool {
	return (m.Type == pb.MsgHeartbeat || m.Type == pb.MsgHeartbeatResp) && string(m.Context) == string(quietMark)
}

// wake ends the quiet. told is set when the leader knows: it woke this member.
func (c *core) wake(told bool) {
	if !c.quiet {
		return
	}
	c.quiet = false
	c.stir()
	if c.role == raft.StateFollower && c.lead != raft.None && !told {
		c.out.msgs = append(c.out.msgs, pb.Message{Type: pb.MsgHeartbeatResp, From: c.cfg.id, To: c.lead, Term: c.term})
	}
}

// goQuiet is called after each tick of a leader, with the messages that it has
// sent in it.
func (c *core) goQuiet(sent []pb.Message) {
	if c.cfg.quietTicks <= 0 || !c.rests() {
		c.stir()
		return
	}
	if c.idle++; c.idle < c.cfg.quietTicks {
		return
	}
	for i := range sent {
		if sent[i].Type == pb.MsgHeartbeat {
			sent[i].Context = quietMark
		}
	}
	c.quiet = len(c.agreed) > 0 && !slices.ContainsFunc(sent, func(m pb.Message) bool {
		return m.Type == pb.MsgHeartbeat && !slices.Contains(c.agreed, m.To)
	})
}

// stir begins the rest anew: what members have agreed to was about another one.
func (c *core) stir() { c.idle, c.agreed = 0, c.agreed[:0] }

// agrees takes the answer of a member that has gone quiet. Answers come in
// order, so that no older one follows that would wake a quiet leader.
func (c *core) agrees(member uint64) {
	if c.idle >= c.cfg.quietTicks && !slices.Contains(c.agreed, member) {
		c.agreed = append(c.agreed, member)
	}
}

// rests reports whether a leader and its group have nothing to do.
func (c *core) rests() bool {
	if !c.serving() || c.applied != c.tail.index || !c.settled() || c.between {
		return false
	}
	inLine := true
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		inLine = inLine && (id == c.cfg.id || p.State == tracker.StateReplicate && p.Match == c.tail.index && p.RecentActive)
	})
	return inLine
}

// settled reports whether nothing is on its way to the disk or waits to be
// proposed in this step, and no change of the members is under way.
func (c *core) settled() bool {
	return len(c.props) == 0 && c.inflight.len() == 0 && c.pending.len() == 0 && len(c.staged) == 0 && len(c.confirms) == 0 && len(c.conf.pending) == 0 && len(c.conf.state.VotersOutgoing) == 0
}

// follows takes a heartbeat that asks for quiet, after Raft has taken it: the
// answer that Raft has written says whether this member agrees.
func (c *core) follows(m *pb.Message) {
	if c.role != raft.StateFollower || c.lead != m.From || c.term != m.Term || m.Commit != c.tail.index || c.applied != c.tail.index || !c.settled() {
		return
	}
	c.quiet = true
	for i := range c.out.msgs {
		if a := &c.out.msgs[i]; a.Type == pb.MsgHeartbeatResp && a.To == m.From && len(a.Context) == 0 {
			a.Context = quietMark
		}
	}
}

// disagrees takes that a member sent something else: it is not quiet any more.
func (c *core) disagrees(member uint64) {
	if i := slices.Index(c.agreed, member); i >= 0 {
		c.agreed = slices.Delete(c.agreed, i, i+1)
	}
}

// suspect takes that a member is said to have failed, and was not heard since.
// If it led, this member forgets it, so that it may vote for another at once,
// and campaigns after a short time of chance (Invariant 16: if the leader is
// heard again all is as before).
func (c *core) suspect(member uint64) {
	if c.failed != nil || c.role != raft.StateFollower || c.lead != member {
		return
	}
	_ = c.rn.ForgetLeader() // an error says that there is none
	c.pump()
	c.elapsed, c.timeout, c.hinted = 0, 1+c.rng.IntN(max(2, c.cfg.electionTicks/2)), true
}

// heard notes that the leader lives.
func (c *core) heard() {
	c.elapsed = 0
	if c.hinted {
		c.hinted, c.timeout = false, c.cfg.electionTicks+c.rng.IntN(c.cfg.electionTicks)
	}
}

// missing takes a heartbeat of a leader that knows of more entries in this log
// than there are. A leader states no more than what was acknowledged to it. With
// durability=replicated that may be lost in a power cut: then another election
// makes whoever leads look for the log's end again. Else the log is damaged in a
// way that its checksums do not show, and the replica must not vote (Invariant 8).
func (c *core) missing(m *pb.Message) {
	if !c.cfg.topic.Replicated {
		c.log.err = fmt.Errorf("%w: the log ends at entry %d, its leader knows that it had entry %d", record.ErrQuarantined, c.tail.index, m.Commit)
		panic(c.log.err)
	}
	m.Commit = c.tail.index
	_ = c.rn.Step(*m)
	_ = c.rn.Step(pb.Message{Type: pb.MsgTimeoutNow, From: m.From, To: c.cfg.id, Term: m.Term})
	c.pump()
}

// others are the members besides this one.
func (m *Members) others(self uint64) (ids []uint64) {
	for _, id := range slices.Concat(m.Voters, m.Learners, m.Outgoing) {
		if id != self && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
