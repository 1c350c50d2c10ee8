package replica

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
)

// Role is what a replica is to its group.
type Role string

// The roles of a replica.
const (
	RoleLeader      Role = "leader"
	RoleFollower    Role = "follower"
	RoleCandidate   Role = "candidate"
	RoleQuarantined Role = "quarantined" // its log is damaged (Invariant 8)
	RoleFailed      Role = "failed"      // its log cannot be written or read any more
)

// view is what the rest of the node sees of a replica. Each step publishes a
// new one; a view is never changed.
type view struct {
	role                         Role
	leader                       uint64
	term, commit, applied, index uint64
	serving                      bool
	readable                     bool // it can be read up to its own high watermark
	ticks                        bool // there are other members: time matters
	handingOver                  bool // it leads and lets another one lead
	members                      Members
	others                       []uint64 // members besides this one
	quiet                        bool
	err                          error // of a replica that is quarantined or failed
	stalled                      bool
	offsets                      record.Offsets
	next                         int64 // end of the log, committed or not
	lastEpoch                    int32 // of the last record in the log; -1 when there is none
	lineage                      []epochStart
	aborted                      abortedList
	mirror                       Mirror
	readOnly                     bool
}

// publish makes the core's state visible and wakes who waits for a change.
func (r *Replica) publish() {
	old := r.view.Load()
	v := r.core.view()
	v.stalled = len(r.stalled) > 0
	r.show(v)
	if old == nil || old.offsets != v.offsets || old.serving != v.serving || old.readable != v.readable || old.leader != v.leader || old.role != v.role || old.handingOver != v.handingOver {
		r.wake()
	}
}

// show makes a view the present one.
func (r *Replica) show(v *view) {
	if old := r.view.Swap(v); old.leads() != v.leads() {
		r.set.led.Add(1)
	}
}

// leads is the term and leader epoch in which the replica leads and answers;
// zero where it does not.
func (v *view) leads() (is struct {
	term  uint64
	epoch int32
}) {
	if v != nil && v.serving && v.err == nil {
		is.term, is.epoch = v.term, v.offsets.LeaderEpoch
	}
	return is
}

func (c *core) view() *view {
	v := &view{
		role: RoleFollower, leader: c.lead, term: c.term, commit: c.hard.Commit, applied: c.applied, index: c.tail.index,
		serving: c.serving(), readable: c.readable(), ticks: !c.single() && !c.quiet && c.failed == nil, quiet: c.quiet, err: c.failed, offsets: c.offsets(),
		next: c.tail.next, lastEpoch: -1, lineage: c.control.lineage, mirror: c.control.mirror, readOnly: c.control.readOnly,
		aborted: c.tail.producers.aborted, members: membersOf(&c.conf.state),
	}
	if c.othersAt != c.conf.index+1 {
		c.others, c.othersAt = v.members.others(c.cfg.id), c.conf.index+1
	}
	v.others = c.others
	v.handingOver = c.handingOver()
	if l := c.tail.control.lineage; len(l) > 0 {
		v.lastEpoch = l[len(l)-1].epoch
	}
	switch {
	case c.failed != nil:
		v.role = RoleFailed
	case c.role == raft.StateLeader:
		v.role = RoleLeader
	case c.role != raft.StateFollower:
		v.role = RoleCandidate
	}
	return v
}

// offsets are the committed ones.
func (c *core) offsets() record.Offsets {
	return record.Offsets{
		Start:         c.control.logStart,
		LastStable:    c.lastStable(),
		HighWatermark: c.hw,
		LeaderEpoch:   leaderEpoch(c.term, c.control.epochBase),
	}
}

// lastStable is where the first transaction begins that no committed marker
// decides, or the high watermark. As long as the newest header is above what
// is applied nobody knows, and nothing is served: then none is stable.
func (c *core) lastStable() int64 {
	if c.controlAt > c.applied {
		return min(c.control.logStart, c.hw)
	}
	return min(max(c.undecided.lowest, c.control.logStart), c.hw)
}

// Status describes a replica.
type Status struct {
	Role                  Role
	Leader                int32 // node; 0 when there is none
	Term                  uint64
	Commit, Applied, Last uint64 // Raft indexes
	Serving               bool   // reads and writes are answered here
	Quiet                 bool   // nothing has happened for a while: all members are in line, and rest
	Quarantined           bool
	Err                   error // why it is quarantined or failed
	Offsets               record.Offsets
	Next                  int64 // end of the log, committed or not
	LastEpoch             int32 // of the last record in the log; -1 when there is none
	Bytes                 int64 // on disk
	Buffered              int64 // taken and not answered, bytes
	Mirror                Mirror
	ReadOnly              bool
	Fetching              *Fetching // its log from another node; nil when it is not
}

// Status is the replica as of its last step.
func (r *Replica) Status() Status {
	v := r.view.Load()
	return Status{
		Role: v.role, Leader: NodeOf(v.leader), Term: v.term, Commit: v.commit, Applied: v.applied, Last: v.index,
		Serving: v.serving, Quiet: v.quiet, Quarantined: v.role == RoleQuarantined, Err: v.err,
		Offsets: v.offsets, Next: v.next, LastEpoch: v.lastEpoch,
		Bytes: r.log.Size(), Buffered: r.room.used(), Mirror: v.mirror, ReadOnly: v.readOnly,
		Fetching: r.set.fetchProgress(r.id),
	}
}

// Offsets are the replica's committed offsets.
func (r *Replica) Offsets() record.Offsets { return r.view.Load().offsets }

// Next is where the log ends, committed or not, and the epoch of its last
// record, -1 when there is none: what a link must know to go on.
func (r *Replica) Next() (offset int64, lastEpoch int32) {
	v := r.view.Load()
	return v.next, v.lastEpoch
}

// Leader is the node that leads the group, 0 when none is known, and the
// leader epoch.
func (r *Replica) Leader() (node, epoch int32) {
	v := r.view.Load()
	return NodeOf(v.leader), v.offsets.LeaderEpoch
}

// Serving is nil when reads and writes are answered here: this node leads and
// knows of everything that was ever acknowledged. Otherwise it wraps
// record.ErrNotLeader, ErrLeaderUnknown, ErrQuarantined or what the group
// failed of.
func (r *Replica) Serving() error {
	if err := r.view.Load().mayServe(); err != nil {
		return fmt.Errorf("%s: %w", r.id, err)
	}
	return nil
}

func (v *view) mayServe() error {
	switch {
	case v.err != nil:
		return v.err
	case v.serving:
		return nil
	case v.role == RoleLeader || v.leader == 0:
		return record.ErrLeaderUnknown
	}
	return fmt.Errorf("%w: node %d is", record.ErrNotLeader, NodeOf(v.leader))
}
