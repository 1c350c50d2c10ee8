package replica

import (
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// write turns Raft's request to its log into a round.
func (c *core) write(m *pb.Message) {
	voted := c.takeHard(m)
	if m.Snapshot != nil {
		c.reset(m)
		return
	}
	if len(m.Entries) == 0 && !voted {
		// A commit alone goes along with the next round; what Raft wants to
		// hear of waits for the rounds before it.
		if c.inflight.len() > 0 {
			b := c.inflight.back()
			b.responses = append(b.responses, m.Responses...)
		} else {
			c.deliver(m.Responses)
		}
		return
	}
	entries := c.entries(m.Entries)
	r := storage.Round{Entries: entries, Before: c.takeBefore(entries), NoSync: c.cfg.topic.Replicated && !voted}
	c.emit(r, m.Responses)
}

// takeHard notes the hard state of a request and reports whether its term or
// vote is new.
func (c *core) takeHard(m *pb.Message) (voted bool) {
	h := storage.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	if h == (storage.HardState{}) {
		return false
	}
	voted = h.Term != c.hard.Term || h.Vote != c.hard.Vote
	if h.Vote != c.hard.Vote && h.Vote != raft.None && h.Vote != c.cfg.id {
		c.elapsed = 0 // it got our vote: let it try
	}
	c.hard, c.hardDirty = h, true
	c.term = max(c.term, h.Term)
	return voted
}

// emit hands out a round, with the hard state if that has changed.
func (c *core) emit(r storage.Round, responses []pb.Message) {
	if c.hardDirty {
		h := c.hard
		r.Hard, c.hardDirty = &h, false
	}
	if n := len(r.Entries); n > 0 {
		c.log.last = r.Entries[n-1].Index
	}
	c.out.rounds = append(c.out.rounds, r)
	f := inflight{responses: responses, commit: c.hard.Commit}
	if r.Before != nil {
		f.sealed, f.snapshot = c.beforeAt, c.beforeSnap
	}
	c.inflight.push(f)
}

// entries are Raft's entries as the log's: those proposed in this step as they
// were staged, others as they came, superseding what is in their place.
func (c *core) entries(es []pb.Entry) []storage.Entry {
	if len(es) == 0 {
		return nil
	}
	if len(c.staged) > 0 && c.staged[0].Index == es[0].Index && len(c.staged) == len(es) {
		out := c.staged
		c.staged = nil
		for i := range out {
			if out[i].Index != es[i].Index || out[i].Term != es[i].Term {
				panic(fmt.Sprintf("replica: staged entry %d of term %d != %d of term %d as Raft has it", out[i].Index, out[i].Term, es[i].Index, es[i].Term))
			}
		}
		return out
	}
	if k := es[0].Index; k <= c.tail.index {
		c.supersede(k - 1)
	}
	c.captureBefore(c.roll)
	out := make([]storage.Entry, len(es))
	for i := range es {
		e, err := fromRaft(&es[i])
		if err == nil {
			err = c.observe(&e)
		}
		if err != nil {
			c.log.err = fmt.Errorf("entries from the leader: %w", err)
			panic(c.log.err)
		}
		out[i] = e
	}
	return out
}

// observe adds an entry to the tail.
func (c *core) observe(e *storage.Entry) error {
	if err := c.tail.observe(e, c.now); err != nil {
		return err
	}
	if e.Kind == storage.KindControl {
		e.BaseOffset = c.tail.next
		e.LeaderEpoch = leaderEpoch(e.Term, c.tail.control.epochBase)
		if err := c.conf.observe(e.Index, e.Payload); err != nil {
			return err
		}
	}
	c.window.push(*e)
	return nil
}

// supersede takes the entries above index back: another leader's come in their
// place (Invariant 10).
func (c *core) supersede(index uint64) {
	if index < c.applied {
		panic(fmt.Sprintf("replica: supersede above %d < applied %d", index, c.applied))
	}
	c.rewind(index)
	if c.pending.len() > 0 {
		panic("replica: entries are superseded while proposals are pending")
	}
	c.before = nil
	c.captureBefore(true)
}

// rewind makes the tail what it was at index.
func (c *core) rewind(index uint64) {
	s, err := c.stateAt(index)
	if err != nil {
		c.log.err = err
		panic(err)
	}
	c.tail = s
	if index < c.controlAt {
		c.forgetHeader()
	}
	c.window.truncate(index)
	c.conf.truncate(index)
	c.checkpoints = slices.DeleteFunc(c.checkpoints, func(s storage.State) bool { return s.Index > index })
}

// forgetHeader makes the committed state what it was at the last entry applied:
// the newest header, from which it was taken at open, states entries that are
// superseded now.
func (c *core) forgetHeader() {
	s, err := c.stateAt(c.applied)
	if err != nil {
		c.log.err = err
		panic(err)
	}
	c.control, c.controlAt, c.undecided = s.control, c.applied, openIn(&s.producers)
}

// stateAt computes the state at an index of the tail anew, from the newest state
// at or below it. Above what is applied the window has the entries: when the
// disk is full the log may be behind, or not know yet what supersedes its end.
func (c *core) stateAt(index uint64) (logState, error) {
	known := min(index, c.applied)
	from, err := c.log.log.StateBefore(known)
	for _, s := range c.checkpoints {
		if s.Index <= index && s.Index > from.Index {
			from = s
		}
	}
	var s logState
	if err == nil {
		s, err = c.replayTo(from, known)
	}
	for err == nil && s.index < index {
		e, ok := c.window.get(s.index + 1)
		if !ok {
			panic(fmt.Sprintf("replica: entry %d is neither applied, %d, nor in the window", s.index+1, c.applied))
		}
		err = s.observe(e, c.now)
	}
	if err != nil {
		return s, fmt.Errorf("rebuild the state at entry %d: %w", index, err)
	}
	return s, nil
}

// replayTo computes the state at an entry of the log, unless from is above it.
func (c *core) replayTo(from storage.State, index uint64) (logState, error) {
	s, _, _, err := decodeState(from, c.cfg.mostProducers)
	if err != nil || s.index >= index {
		return s, err
	}
	err = c.log.log.Replay(s.index+1, func(e storage.Entry) error {
		if e.Index > index {
			return errEnough
		}
		return s.observe(&e, c.now)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return s, err
}

// auxAt is the state for a new segment after an entry that is in the log,
// below the tail: for a round that is tried again after it could not be
// written.
func (c *core) auxAt(index uint64) (*storage.Aux, error) {
	from, err := c.log.log.StateBefore(index)
	var s logState
	if err == nil {
		s, err = c.replayTo(from, index)
	}
	if err != nil {
		return nil, fmt.Errorf("rebuild the state at entry %d: %w", index, err)
	}
	conf := confState{index: c.conf.index, state: c.conf.state, pending: slices.Clone(c.conf.pending)}
	conf.truncate(index)
	return &storage.Aux{Conf: conf.encode(), Control: s.control.encode(c.machineSnapshot()), Producers: s.producers.encode()}, nil
}

// auxAtEnd is the state at the end of the log.
func (c *core) auxAtEnd(snap machineSnapshot) *storage.Aux {
	return &storage.Aux{Conf: c.conf.encode(), Control: c.tail.control.encode(snap), Producers: c.tail.producers.encode()}
}

func (c *core) machineSnapshot() machineSnapshot {
	if c.cfg.machine == nil {
		return machineSnapshot{}
	}
	return machineSnapshot{c.applied, c.cfg.machine.Snapshot()}
}

// captureBefore takes the state before this step's first entry, if a new
// segment is wanted, while it is still that.
func (c *core) captureBefore(wanted bool) {
	if !wanted || c.before != nil && c.beforeAt == c.tail.index {
		return
	}
	snap := c.machineSnapshot()
	c.beforeSnap = snap.index
	c.before = c.auxAtEnd(snap)
	c.beforeAt = c.tail.index
	if c.alone() {
		return // nobody supersedes what a lone voter wrote
	}
	for len(c.checkpoints) > 1 && c.checkpoints[1].Index <= c.applied {
		c.checkpoints = c.checkpoints[1:]
	}
	c.checkpoints = append(c.checkpoints, storage.State{Index: c.tail.index, Term: c.tail.term, NextOffset: c.tail.next, Aux: *c.before})
}

// takeBefore is the state for a round with these entries, if a segment is to
// begin with it.
func (c *core) takeBefore(entries []storage.Entry) *storage.Aux {
	if len(entries) == 0 {
		c.captureBefore(c.roll) // the tail is what is in the log
	}
	b := c.before
	if b != nil && len(entries) > 0 && entries[0].Index != c.beforeAt+1 {
		panic(fmt.Sprintf("replica: state before entry %d != state after %d", entries[0].Index, c.beforeAt))
	}
	if b != nil {
		c.roll = false
	}
	c.before = nil
	return b
}

// flushHard writes a hard state that waits for a round, or begins a new
// segment in front of whatever comes, unless the newest one is empty: two that
// begin at the same index could not be told apart when old ones are deleted.
func (c *core) flushHard(roll bool) {
	roll = roll && c.log.log.Tip().Index < c.tail.index
	if c.hardDirty || roll {
		c.roll = c.roll || roll
		c.emit(storage.Round{Before: c.takeBefore(nil)}, nil)
	}
}

// reset begins from a leader's snapshot: all before it is discarded (Invariant
// 12). Term and vote are this node's own.
func (c *core) reset(m *pb.Message) {
	st, err := decodeSnapshot(m.Snapshot)
	if err == nil {
		err = c.restore(st)
	}
	if err != nil {
		c.log.err = fmt.Errorf("snapshot from the leader: %w", err)
		panic(c.log.err)
	}
	c.failPending(c.notLeader())
	c.window.truncate(0)
	c.before, c.checkpoints, c.staged = nil, nil, nil
	c.log.first, c.log.last = st.Index+1, st.Index
	st.Hard, c.hardDirty = c.hard, true
	entries := c.entries(m.Entries)
	c.emit(storage.Round{Reset: &st, Entries: entries}, m.Responses)
}

// restore takes a state as both the tail and the commit.
func (c *core) restore(st storage.State) error {
	tail, snap, conf, err := decodeState(st, c.cfg.mostProducers)
	if err != nil {
		return err
	}
	if err := conf.fold(st.Index); err != nil {
		return err
	}
	if c.cfg.machine != nil {
		if snap.index != st.Index {
			return fmt.Errorf("%w: machine's snapshot of entry %d in a state of entry %d", record.ErrInvalidRequest, snap.index, st.Index)
		}
		if err := c.cfg.machine.Restore(snap.data); err != nil {
			return fmt.Errorf("restore the machine at entry %d: %w", st.Index, err)
		}
	}
	c.tail, c.conf = tail, conf
	c.control, c.controlAt, c.applied, c.appliedTerm, c.hw = tail.control, st.Index, st.Index, st.Term, tail.next
	c.undecided = openIn(&tail.producers)
	c.out.trim = true
	return nil
}
