package replica

import (
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// What the core has to do with logs that go from node to node as files. A
// leader that cannot make messages of what a follower lacks (its log is
// compacted, or so large that messages are a slow way) sends a snapshot without
// a state. The follower's driver fetches the leader's whole log, to its last
// entry, puts it in the place of the own one and begins a new core from it: as
// if all of it had come in messages, and the process had restarted.

// offered takes a leader's word that there are files.
func (c *core) offered(m *pb.Message) {
	// It is a heartbeat besides: who leads, and in which term.
	c.receive(pb.Message{Type: pb.MsgHeartbeat, From: m.From, To: m.To, Term: m.Term})
	switch {
	case c.lead != m.From || c.term != m.Term:
	case c.durableCommit >= m.Snapshot.Metadata.Index:
		c.out.msgs = append(c.out.msgs, c.has(m.From, c.durableCommit)) // the offer is an old one
	default:
		c.out.fetch = m.From
	}
}

// has tells a leader up to which entry this log is durable and the same as its
// own: what Raft says when it has taken a snapshot in.
func (c *core) has(leader, index uint64) pb.Message {
	return pb.Message{Type: pb.MsgAppResp, To: leader, From: c.cfg.id, Term: c.term, Index: index}
}

// offer is the state at the end of a leader's log. It need not serve yet: to
// commit something it may need the very member that asks.
func (c *core) offer() (end storage.State, term, commit uint64, err error) {
	switch {
	case c.failed != nil:
		return end, 0, 0, c.failed
	case c.role != raft.StateLeader:
		return end, 0, 0, c.notLeader()
	}
	end = storage.State{Index: c.tail.index, Term: c.tail.term, NextOffset: c.tail.next, Aux: *c.auxAtEnd(c.machineSnapshot())}
	return end, c.term, c.hard.Commit, nil
}

// errNotNow: the core is busy, ask again in a moment.
var errNotNow = errors.New("rounds are on their way to the disk")

// errNotNeeded: this log has come further than the one that was fetched.
var errNotNeeded = errors.New("the log is not needed any more")

// mayBecome says whether a log that the leader of a term had up to some entry
// may take the place of this one. It must still be the leader's term: a later
// one may have brought entries that this node has acknowledged. In that term it
// has acknowledged nothing that the log does not hold.
func (c *core) mayBecome(term uint64, end storage.State) error {
	switch {
	case c.failed != nil:
		return c.failed
	case c.role != raft.StateFollower || c.term != term:
		return fmt.Errorf("%w: the files are of term %d, this member is in term %d", record.ErrNotLeader, term, c.term)
	case c.inflight.len() > 0:
		return errNotNow
	case c.hard.Commit >= end.Index || c.tail.term == term && c.tail.index >= end.Index:
		return fmt.Errorf("%w: this one has come further meanwhile, to entry %d of term %d", errNotNeeded, c.tail.index, c.tail.term)
	}
	return nil
}

// ownHard is the hard state that this member goes on with behind an installed
// log: its own term and vote, or the leader's term without a vote if that is
// higher.
func ownHard(own storage.HardState, term, commit uint64) storage.HardState {
	if term > own.Term {
		own.Term, own.Vote = term, raft.None
	}
	own.Commit = commit
	return own
}
