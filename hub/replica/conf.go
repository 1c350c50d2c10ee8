package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"go.etcd.io/raft/v3/confchange"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// confState is the Raft configuration as applied up to an index, and the
// changes that lie in the log above it. Raft acts under a configuration once
// the change is committed, so a segment header, which may stand above the
// commit, must hold both.
type confState struct {
	index   uint64 // changes up to here are in state
	state   pb.ConfState
	pending []confChange
}

// confChange is a configuration change in the log.
type confChange struct {
	index   uint64
	payload []byte // of the control entry
}

// observe takes in a control entry of the log. The payload may be gone when it
// returns: a replay reuses it. A change that cannot be applied after those
// before it is an error: once it is committed it would be too late for one.
func (c *confState) observe(index uint64, payload []byte) error {
	if !isConfChange(payload) || index <= c.index { // a snapshot's may be ahead of its entries
		return nil
	}
	next := *c
	next.pending = append(slices.Clip(c.pending), confChange{index, bytes.Clone(payload)})
	pending := next.pending
	if err := next.fold(index); err != nil {
		return err
	}
	c.pending = pending
	return nil
}

// allows reports why a change cannot be applied. Raft itself refuses one while
// another is pending.
func (c *confState) allows(cc pb.ConfChangeV2) error {
	if len(c.pending) > 0 {
		return nil
	}
	_, err := applyConfChange(c.state, cc, c.index)
	return err
}

// truncate forgets the changes above index, which were superseded.
func (c *confState) truncate(index uint64) {
	for n := len(c.pending); n > 0 && c.pending[n-1].index > index; n-- {
		c.pending = c.pending[:n-1]
	}
}

// applied notes what Raft says the configuration is after the change at index.
func (c *confState) applied(index uint64, state pb.ConfState) {
	c.index, c.state = index, state
	for len(c.pending) > 0 && c.pending[0].index <= index {
		c.pending = c.pending[1:]
	}
}

// fold applies the pending changes up to a committed index, as Raft did before
// the node stopped.
func (c *confState) fold(commit uint64) error {
	for len(c.pending) > 0 && c.pending[0].index <= commit {
		p := c.pending[0]
		cc, err := decodeConfChange(p.payload)
		if err != nil {
			return fmt.Errorf("entry %d: %w", p.index, err)
		}
		next, err := applyConfChange(c.state, cc, p.index)
		if err != nil {
			return fmt.Errorf("entry %d: %w", p.index, err)
		}
		c.applied(p.index, next)
	}
	return nil
}

// applyConfChange computes what raft.RawNode.ApplyConfChange would return.
func applyConfChange(cs pb.ConfState, cc pb.ConfChangeV2, index uint64) (pb.ConfState, error) {
	chg := confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0), LastIndex: index}
	cfg, progress, err := confchange.Restore(chg, cs)
	if err != nil {
		return pb.ConfState{}, fmt.Errorf("restore configuration %v: %w", cs, err)
	}
	chg.Tracker.Config, chg.Tracker.Progress = cfg, progress
	if cc.LeaveJoint() {
		cfg, progress, err = chg.LeaveJoint()
	} else if autoLeave, joint := cc.EnterJoint(); joint {
		cfg, progress, err = chg.EnterJoint(autoLeave, cc.Changes...)
	} else {
		cfg, progress, err = chg.Simple(cc.Changes...)
	}
	if err != nil {
		return pb.ConfState{}, fmt.Errorf("apply configuration change %v to %v: %w", cc, cs, err)
	}
	chg.Tracker.Config, chg.Tracker.Progress = cfg, progress
	return chg.Tracker.ConfState(), nil
}

// checkConf reports what is wrong with a configuration that came from elsewhere.
func checkConf(cs pb.ConfState) error {
	same, err := applyConfChange(cs, pb.ConfChangeV2{Changes: []pb.ConfChangeSingle{{Type: pb.ConfChangeUpdateNode}}}, 0)
	if err == nil {
		err = cs.Equivalent(same)
	}
	return err
}

// confVersion is the first byte of an encoded confState.
const confVersion = 1

func (c *confState) encode() []byte {
	b := binary.AppendUvarint([]byte{confVersion}, c.index)
	for _, ids := range [][]uint64{c.state.Voters, c.state.Learners, c.state.VotersOutgoing, c.state.LearnersNext} {
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, id)
		}
	}
	b = appendBool(b, c.state.AutoLeave)
	b = binary.AppendUvarint(b, uint64(len(c.pending)))
	for _, p := range c.pending {
		b = binary.AppendUvarint(b, p.index)
		b = appendString(b, string(p.payload))
	}
	return b
}

// decodeConf reads what encode wrote and nothing else.
func decodeConf(b []byte) (c confState, err error) {
	if len(b) == 0 || b[0] != confVersion {
		return c, fmt.Errorf("raft configuration of %d bytes does not begin with version %d, the one this node reads", len(b), confVersion)
	}
	d := decoder{b: b[1:]}
	c.index = uint64(d.int64())
	for _, ids := range []*[]uint64{&c.state.Voters, &c.state.Learners, &c.state.VotersOutgoing, &c.state.LearnersNext} {
		for range d.count(1) {
			*ids = append(*ids, d.uvarint(math.MaxUint64))
		}
	}
	c.state.AutoLeave = d.bool()
	for range d.count(2) {
		p := confChange{index: uint64(d.int64()), payload: d.bytes()}
		if d.err == nil && !isConfChange(p.payload) {
			d.fail("a pending entry that is no configuration change")
		}
		c.pending = append(c.pending, p)
	}
	if err := d.end(); err != nil {
		return confState{}, fmt.Errorf("raft configuration: %w", err)
	}
	return c, nil
}
