package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// core is one replica as a step function: messages, ticks, proposals and
// completed disk writes go in; rounds for the log, messages and answers come
// out. There is no goroutine, clock or file inside; it reads its log, and the
// driver writes it. The caller does what output says, in order, before the
// next step.
//
// The core decides itself when to campaign, from a seeded source: Raft's own
// timeouts come from crypto/rand and would make no simulation repeatable.
type core struct {
	cfg    coreConfig
	rn     *raft.RawNode
	log    *raftLog
	window window
	rng    *rand.Rand
	now    int64 // of this step, ms
	out    output

	// The end of the log, and what Raft knows of who leads.
	tail      logState
	conf      confState
	others    []uint64 // members besides this one, as of the configuration before othersAt
	othersAt  uint64   // one more than its index; 0: none was looked at yet
	role      raft.StateType
	lead      uint64
	term      uint64
	termStart uint64 // leader: index of its first entry; it serves once that is applied
	knownFrom uint64 // leader: whoever has this entry durably knows the members for good

	// The commit.
	applied       uint64
	appliedTerm   uint64 // of that entry; 0: not known
	hw            int64
	control       controlState // as of applied, or of the newest header if that is higher
	controlAt     uint64
	undecided     undecided    // transactions, as of the same entry as control
	durableCommit uint64       // highest commit that a synced hard state states
	heldApply     []pb.Message // committed entries that wait for durableCommit (Invariant 11)

	// What waits.
	props    []*proposal     // of this step, not looked at yet
	staged   []storage.Entry // given to Raft in this step, not seen in a Ready yet
	pending  queue[pending]
	inflight queue[inflight]

	// Between two leaders, at the old one (between.go).
	between    bool
	leaderless int // ticks since it has ceased to lead
	kept       []kept

	// Asked whether this member still leads, oldest first (confirm.go).
	confirms []confirming
	asked    uint64

	// The hard state as of the last round, and whether a commit has not been
	// written with one yet: it goes along with the next round.
	hard      storage.HardState
	hardDirty bool

	// Notes of commits (notes.go).
	counting bool     // Raft counts an acknowledgement
	waiting  []uint64 // leader: members at which somebody waits for what is committed

	// Rolling.
	roll        bool         // the log wants a new segment in this step
	before      *storage.Aux // taken before the first entry of this step
	beforeAt    uint64       // index of the entry before it
	sealedTo    uint64       // index before the newest segment whose header is durable
	beforeSnap  uint64       // index of the machine's snapshot in before
	snapshotAt  uint64       // the same of the newest durable header
	checkpoints []storage.State

	elapsed, timeout int               // ticks since a leader was heard, or as one since looked after lost snapshots; ticks until a campaign
	behind           map[uint64]uint64 // leader: who was sent a snapshot of which index and had not taken it at the last look
	hinted           bool              // the leader is said to have failed: timeout is short
	quiet            bool              // no ticks
	idle             int               // leader: ticks without anything to do
	agreed           []uint64          // leader: who has gone quiet in this rest
	failed           error
}

// coreConfig is what does not change over a core's life, but for topic.
type coreConfig struct {
	id            uint64
	topic         TopicConfig
	machine       Machine // nil for partitions
	electionTicks int
	quietTicks    int         // of rest before a group goes quiet; 0: never
	maxInflight   uint64      // bytes of appends on the way to one follower
	byFiles       func() bool // the log is so large that who lacks all of it gets files; nil: never
	mostProducers int
	seed          uint64
	logger        *slog.Logger
}

// input is what one step takes.
type input struct {
	now      int64 // ms since the Unix epoch
	roll     bool  // storage.Log.ShouldRoll
	rollNow  bool  // begin a new segment even without an entry
	trimmed  bool  // segments were deleted since the last step
	durable  int   // rounds completed since the last step, oldest first
	err      error // the log cannot be written any more
	msgs     []pb.Message
	unsent   []pb.Message // could not be sent; of their fields only Type and To
	ticks    int
	wake     bool   // a quiet group goes on
	suspect  uint64 // a member that is said to have failed
	campaign bool   // there is reason to think that the leader has failed (Invariant 16)
	props    []*proposal
	diskFull bool       // refuse what clients write
	expire   int64      // forget producers not seen since then, ms; 0: none
	flush    bool       // write a hard state that waits
	waited   bool       // somebody waits here for what is committed
	received classBytes // of msgs, for the driver
}

// output is what one step asks for. It is valid until the next step.
type output struct {
	rounds []storage.Round // to append in order; each one's completion is counted in input.durable
	msgs   []pb.Message    // to send, after nothing
	acks   []ack
	trim   bool   // the log start or a snapshot moved: segments may be deleted
	fetch  uint64 // the leader, when what this member lacks comes as files only
}

// ack ends a proposal.
type ack struct {
	p        *proposal
	appended []record.Appended
	result   any
	err      error
}

// pending is a proposal whose entries are in the log up to index.
type pending struct {
	index    uint64
	p        *proposal
	appended []record.Appended
	result   any
}

// inflight is a round on its way to the disk.
type inflight struct {
	responses []pb.Message // to deliver once it is durable
	commit    uint64
	sealed    uint64 // index before the segment that it begins, if any
	snapshot  uint64 // index of the machine's snapshot in that segment's header
}

// step takes everything in and returns what to do.
func (c *core) step(in *input) (out *output) {
	out = &c.out // also when reading the log fails half-way
	c.out.fetch = raft.None
	c.out.rounds, c.out.msgs, c.out.acks, c.out.trim = c.out.rounds[:0], c.out.msgs[:0], clearAcks(c.out.acks), false
	c.now, c.roll = in.now, in.roll
	if in.err != nil && c.failed == nil {
		c.fail(in.err)
	}
	if c.failed != nil {
		for _, p := range in.props {
			c.refuse(p, c.failed)
		}
		return out
	}
	c.props = in.props
	defer c.endOnReadError()
	if in.trimmed {
		c.log.first = c.log.log.Whole()
	}
	for range in.durable {
		c.durable()
	}
	for i := range in.unsent {
		c.notSent(&in.unsent[i])
	}
	for i := range in.msgs {
		c.receive(in.msgs[i])
	}
	if in.wake || in.campaign || len(in.props) > 0 || in.suspect != raft.None {
		c.wake(false)
	}
	if in.suspect != raft.None {
		c.suspect(in.suspect)
	}
	c.tick(in.ticks)
	if in.campaign {
		c.campaign()
	}
	if in.expire != 0 {
		c.tail.producers.expire(in.expire)
	}
	c.propose(in.diskFull)
	c.endConfirms()
	if in.flush || in.rollNow {
		c.flushHard(in.rollNow)
	}
	c.tellApplied()
	if in.waited {
		c.tellWaiting()
	}
	return out
}

func clearAcks(acks []ack) []ack {
	clear(acks)
	return acks[:0]
}

// receive takes a message of a peer.
func (c *core) receive(m pb.Message) {
	quiet := isQuiet(&m)
	if quiet {
		m.Context = nil
		if m.Type == pb.MsgHeartbeatResp && m.Term == c.term && c.role == raft.StateLeader {
			c.agrees(m.From)
		}
	} else {
		c.wake(m.From == c.lead)
		c.disagrees(m.From)
	}
	if (m.Type == pb.MsgVote || m.Type == pb.MsgPreVote) && c.joining() || c.countsOnAnother(&m) {
		return
	}
	if m.Type == pb.MsgSnap && ofFiles(m.Snapshot) {
		c.offered(&m)
		return
	}
	if m.Type == pb.MsgHeartbeat && m.Term >= c.term && m.Commit > c.tail.index {
		c.missing(&m)
		return
	}
	c.learnCommit(&m)
	// An error says that the sender is not in the configuration or the message
	// is not for a network: there is nobody to tell.
	if m.Type == pb.MsgAppResp && !m.Reject {
		c.hearsWaiting(&m)
		c.acknowledged(func() { _ = c.rn.Step(m) })
		return
	}
	_ = c.rn.Step(m)
	c.pump()
	if (m.Type == pb.MsgApp || m.Type == pb.MsgHeartbeat || m.Type == pb.MsgSnap) && c.lead == m.From {
		c.heard()
		if quiet {
			c.follows(&m)
		}
	}
}

// tick lets time pass. A lone voter campaigns at once, and again should a leader
// that is a member no more have been heard before its own vote was on the disk.
// Without other members there is nothing to time.
func (c *core) tick(n int) {
	if c.alone() && c.role == raft.StateFollower {
		c.pump() // Raft refuses while a change of the members is to be applied to the machine
		c.campaign()
	}
	if c.single() {
		return
	}
	for range n {
		if c.quiet {
			return
		}
		if c.role == raft.StateLeader {
			from := len(c.out.msgs)
			c.rn.Tick()
			c.pump()
			c.goQuiet(c.out.msgs[from:])
			if c.elapsed++; c.elapsed >= c.cfg.electionTicks {
				c.elapsed = 0
				c.sendSnapshotsAgain()
			}
			continue
		}
		c.leaderless++
		c.rn.TickQuiesced() // Raft's lease on its leader runs on it; its own timeout does not
		if c.elapsed++; c.elapsed >= c.timeout {
			c.campaign()
		}
	}
}

// sendSnapshotsAgain gives those up that were not taken between two looks: Raft
// sends nothing to a follower until its snapshot has arrived, and a message may
// be lost.
func (c *core) sendSnapshotsAgain() {
	was := c.behind
	c.behind = nil
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		switch {
		case p.State != tracker.StateSnapshot:
		case was[id] == p.PendingSnapshot:
			c.rn.ReportSnapshot(id, raft.SnapshotFailure)
		default:
			if c.behind == nil {
				c.behind = map[uint64]uint64{}
			}
			c.behind[id] = p.PendingSnapshot
		}
	})
	c.pump()
}

func (c *core) campaign() {
	c.hinted = false
	c.elapsed, c.timeout = 0, c.cfg.electionTicks+c.rng.IntN(c.cfg.electionTicks)
	// An error says that this node is no voter or has changes to apply first.
	_ = c.rn.Campaign()
	c.pump()
}

// alone reports whether this node is the only voter.
func (c *core) alone() bool {
	s := &c.conf.state
	return len(s.Voters) == 1 && s.Voters[0] == c.cfg.id && len(s.VotersOutgoing) == 0
}

// single reports whether this node is the only member.
func (c *core) single() bool {
	return c.alone() && len(c.conf.state.Learners) == 0
}

// pump handles all that Raft has ready, until nothing more comes of it.
func (c *core) pump() {
	for again := true; again; again = c.apply() {
		for c.rn.HasReady() {
			c.ready(c.rn.Ready())
		}
	}
}

func (c *core) ready(rd raft.Ready) {
	if rd.SoftState != nil {
		c.roleChanged(rd.SoftState)
	}
	c.confirmed(rd.ReadStates)
	// Votes are asked for once the own one is durable (Invariant 6). Raft only
	// counts it later than the others, and a majority of others is one, too: who
	// led by it and forgot the term with its power could win it again, and write
	// something else at the same index in the same term.
	var asks []pb.Message
	for i := range rd.Messages {
		switch m := &rd.Messages[i]; {
		case m.Type == pb.MsgVote:
			asks = append(asks, *m)
		case m.To == raft.LocalAppendThread: // it comes behind what is sent
			if len(asks) > 0 {
				m.Responses = append(asks, m.Responses...)
			}
			c.write(m)
		case m.To == raft.LocalApplyThread:
			c.heldApply = append(c.heldApply, *m)
		case m.To == raft.None: // the answer to learnCommit
		case c.spares(m):
		default:
			c.out.msgs = append(c.out.msgs, *m)
		}
	}
}

func (c *core) roleChanged(s *raft.SoftState) {
	was := c.role
	c.role, c.lead = s.RaftState, s.Lead
	if was == c.role {
		return
	}
	c.stir()
	if was == raft.StateLeader {
		c.keep()
	}
	if c.role == raft.StateLeader {
		c.term = c.rn.BasicStatus().Term
		c.termStart = c.tail.index + 1
		c.knownFrom = c.termStart
		c.waiting = c.waiting[:0]
	}
}

// notLeader is the error of a replica that does not lead.
func (c *core) notLeader() error {
	if c.lead == raft.None || c.lead == c.cfg.id {
		return record.ErrLeaderUnknown
	}
	return fmt.Errorf("%w: node %d is", record.ErrNotLeader, NodeOf(c.lead))
}

// serving reports whether reads and writes are answered here: this node leads,
// and its high watermark is at or above every one before it.
func (c *core) serving() bool {
	return c.failed == nil && c.role == raft.StateLeader && c.applied >= c.termStart
}

// epoch is the leader epoch of what is appended now (Invariant 4).
func (c *core) epoch() int32 { return leaderEpoch(c.term, c.tail.control.epochBase) }

func leaderEpoch(term uint64, base int32) int32 {
	e := int64(min(term, math.MaxInt32)) + int64(base)
	return int32(min(e, math.MaxInt32))
}

// fail ends the core: it answers everything with err from now on.
func (c *core) fail(err error) {
	if c.role == raft.StateLeader && !errors.Is(err, record.ErrStopped) {
		c.handOver()
	}
	c.failed = err
	c.role, c.lead = raft.StateFollower, raft.None
	c.failPending(err)
	c.refuseKept(err)
	c.refuseConfirms(err)
}

// handOver has the voter that has most of the log stand for election at once:
// this leader can do no more, and the others would only notice by its silence.
func (c *core) handOver() {
	best, match := uint64(raft.None), uint64(0)
	c.rn.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		if id != c.cfg.id && kind == raft.ProgressTypePeer && p.RecentActive && p.Match >= match {
			best, match = id, p.Match
		}
	})
	if best != raft.None {
		c.out.msgs = append(c.out.msgs, pb.Message{Type: pb.MsgTimeoutNow, To: best, From: c.cfg.id, Term: c.term})
	}
}

func (c *core) failPending(err error) {
	for c.pending.len() > 0 {
		c.refuse(c.pending.pop().p, err)
	}
}

func (c *core) refuse(p *proposal, err error) { c.out.acks = append(c.out.acks, ack{p: p, err: err}) }

// endOnReadError turns Raft's panic over a log that cannot be read into the end of
// this one replica. Any other panic is a broken invariant and goes on.
func (c *core) endOnReadError() {
	if c.log.err == nil {
		return
	}
	recover() //nolint:errcheck // the panic repeats log.err
	c.fail(c.log.err)
	for _, p := range c.props {
		c.refuse(p, c.failed)
	}
	c.props = nil
}
