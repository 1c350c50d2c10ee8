package replica

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"

	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// firstState is the state before the first entry of a new group. All replicas
// begin with the same one; index and term are 1 so that Raft's zeros keep
// their meaning of "nothing".
func firstState(voters []uint64) storage.State {
	conf := confState{index: 1, state: pb.ConfState{Voters: voters}}
	var control controlState
	return storage.State{
		Index: 1, Term: 1,
		Hard: storage.HardState{Term: 1, Commit: 1},
		Aux:  storage.Aux{Conf: conf.encode(), Control: control.encode(machineSnapshot{index: 1}), Producers: (&producers{}).encode()},
	}
}

// joiningState is the state of a member that the group was not created with:
// nothing at all, not even the entry before the first one, so that a leader
// always begins by sending it a state.
func joiningState() storage.State {
	var conf confState
	var control controlState
	return storage.State{Aux: storage.Aux{Conf: conf.encode(), Control: control.encode(machineSnapshot{}), Producers: (&producers{}).encode()}}
}

// openCore rebuilds a core from its log: the newest segment header's state and
// what follows it. now is in ms.
func openCore(cfg coreConfig, log entryLog, now int64) (*core, error) {
	c := &core{cfg: cfg, now: now, hard: log.Hard(), rng: rand.New(rand.NewPCG(cfg.seed, cfg.id))}
	last, _ := log.Last()
	first := log.First().Index
	c.hard.Commit = min(max(c.hard.Commit, first), last)
	c.durableCommit, c.term = c.hard.Commit, c.hard.Term
	c.log = &raftLog{log: log, window: &c.window, first: log.Whole(), last: last, hard: c.hard, snapshot: c.snapshot, byFiles: cfg.byFiles}

	snap, err := c.rebuild(log, last)
	if err != nil {
		return nil, err
	}
	if cfg.machine != nil {
		if err := cfg.machine.Restore(snap.data); err != nil {
			return nil, fmt.Errorf("restore the machine at entry %d: %w", snap.index, err)
		}
	}
	if err := c.conf.fold(c.hard.Commit); err != nil {
		return nil, err
	}
	c.log.conf = c.conf.state
	c.timeout = cfg.electionTicks + c.rng.IntN(cfg.electionTicks)
	c.rn, err = raft.NewRawNode(&raft.Config{
		ID:                        cfg.id,
		ElectionTick:              cfg.electionTicks,
		HeartbeatTick:             1,
		Storage:                   c.log,
		Applied:                   c.applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             1 << 20,
		MaxCommittedSizePerReady:  16 << 20,
		MaxInflightMsgs:           256,
		MaxInflightBytes:          cfg.maxInflight,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
		Logger:                    raftLogger{cfg.logger},
	})
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	return c, nil
}

// rebuild computes the tail, and what of it is committed. Entries that Raft
// will hand out again go to the window.
func (c *core) rebuild(log entryLog, last uint64) (machineSnapshot, error) {
	tip := log.Tip()
	tail, snap, conf, err := decodeState(tip, c.cfg.mostProducers)
	if err != nil {
		return snap, fmt.Errorf("state before entry %d: %w", tip.Index+1, err)
	}
	c.tail, c.conf, c.control, c.controlAt = tail, conf, tail.control, tip.Index
	c.applied, c.hw, c.sealedTo = c.hard.Commit, tail.next, tip.Index
	c.undecided = openIn(&tail.producers)
	if c.cfg.machine != nil {
		// The machine is as of its snapshot: what was committed above it is
		// applied again. What it had applied was committed, though the commit as
		// it was written may be lower: a round that waited for room on the disk
		// has that of its time, and the state of the time when there was room.
		if snap.index > last || snap.index < log.First().Index {
			return snap, fmt.Errorf("the machine's snapshot is of entry %d, the log has %d to %d", snap.index, log.First().Index, last)
		}
		c.hard.Commit = max(c.hard.Commit, snap.index)
		c.durableCommit, c.log.hard.Commit = c.hard.Commit, c.hard.Commit
		c.applied = snap.index
	}
	if c.applied < tip.Index && c.cfg.machine == nil {
		// The commit is below the newest header, which may have the offsets of
		// what will be superseded. The next entry does not say where the one
		// before ended: there may be a gap between them.
		before, err := log.StateBefore(c.applied)
		if err == nil {
			var s logState
			s, err = c.replayTo(before, c.applied)
			c.hw, c.appliedTerm = s.next, s.term
		}
		if err != nil {
			return snap, fmt.Errorf("state at entry %d: %w", c.applied, err)
		}
	}
	switch {
	case c.applied == tip.Index:
		c.appliedTerm = tip.Term
	case c.applied < tip.Index && c.cfg.machine != nil:
		// The newest segment began above what the machine had applied.
		if c.appliedTerm, err = log.Term(c.applied); err != nil {
			return snap, fmt.Errorf("term of entry %d: %w", c.applied, err)
		}
	}
	c.window.partial = last
	from := min(tip.Index, c.applied) + 1
	if from > last {
		return snap, nil
	}
	return snap, log.Replay(from, c.replayed)
}

// replayed takes one entry of the log at open.
func (c *core) replayed(e storage.Entry) error {
	if e.Index > c.tail.index {
		if err := c.tail.observe(&e, c.now); err != nil {
			return err
		}
		if e.Kind == storage.KindControl {
			if err := c.conf.observe(e.Index, e.Payload); err != nil {
				return err
			}
		}
		if e.Index <= c.applied {
			c.control, c.controlAt, c.hw, c.appliedTerm = c.tail.control, e.Index, c.tail.next, e.Term
			if b := e.Batch(); e.Kind == storage.KindData && b.IsTransactional() {
				c.undecided.apply(b)
			}
		}
	}
	if e.Index > c.applied {
		e.Payload = bytes.Clone(e.Payload) // the log's replay reuses it
		c.window.push(e)
	}
	return nil
}

// raftLogger keeps Raft's chatter away and its complaints visible.
type raftLogger struct{ l *slog.Logger }

func (raftLogger) Debug(...any)          {}
func (raftLogger) Debugf(string, ...any) {}
func (raftLogger) Info(...any)           {}
func (raftLogger) Infof(string, ...any)  {}

func (r raftLogger) Warning(v ...any)            { r.l.Debug("raft", "message", fmt.Sprint(v...)) }
func (r raftLogger) Warningf(f string, v ...any) { r.l.Debug("raft", "message", fmt.Sprintf(f, v...)) }
func (r raftLogger) Error(v ...any)              { r.l.Warn("raft", "message", fmt.Sprint(v...)) }
func (r raftLogger) Errorf(f string, v ...any)   { r.l.Warn("raft", "message", fmt.Sprintf(f, v...)) }
func (raftLogger) Fatal(v ...any)                { panic("raft: " + fmt.Sprint(v...)) }
func (raftLogger) Fatalf(f string, v ...any)     { panic("raft: " + fmt.Sprintf(f, v...)) }
func (raftLogger) Panic(v ...any)                { panic("raft: " + fmt.Sprint(v...)) }
func (raftLogger) Panicf(f string, v ...any)     { panic("raft: " + fmt.Sprintf(f, v...)) }
