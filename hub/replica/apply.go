package replica

import (
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// errEnough ends a replay.
var errEnough = errors.New("enough")

// durable takes the completion of the oldest round: what Raft wanted to say
// once it is durable is said now.
func (c *core) durable() {
	if c.inflight.len() == 0 {
		panic("replica: rounds completed > rounds written")
	}
	r := c.inflight.pop()
	c.durableCommit = max(c.durableCommit, r.commit)
	if r.sealed > c.sealedTo {
		c.sealedTo, c.snapshotAt, c.out.trim = r.sealed, max(c.snapshotAt, r.snapshot), true
	}
	c.acknowledged(func() { c.deliver(r.responses) })
}

// deliver hands responses to Raft here or to peers.
func (c *core) deliver(responses []pb.Message) {
	for _, m := range responses {
		if m.To != c.cfg.id {
			c.out.msgs = append(c.out.msgs, m)
			continue
		}
		_ = c.rn.Step(m) // as for receive
	}
}

// apply applies the committed entries that wait, and answers the proposals
// they end. It reports whether Raft heard of it and may have more.
func (c *core) apply() (again bool) {
	for len(c.heldApply) > 0 {
		m := c.heldApply[0]
		for i := range m.Entries {
			if m.Entries[i].Index > c.applied && !c.applyEntry(&m.Entries[i]) {
				c.answer()
				return again
			}
		}
		c.heldApply[0] = pb.Message{}
		c.heldApply = c.heldApply[1:]
		c.answer()
		c.deliver(m.Responses)
		again = true
	}
	c.heldApply = c.heldApply[:0]
	return again
}

// applyEntry applies the entry after the last one applied. It reports false
// for a configuration change whose commit is not durable yet (Invariant 11).
func (c *core) applyEntry(r *pb.Entry) bool {
	if c.window.len() == 0 || c.window.first() != r.Index || r.Index != c.applied+1 {
		panic(fmt.Sprintf("replica: entry %d to apply != applied %d + 1", r.Index, c.applied))
	}
	e, _ := c.window.get(r.Index)
	if e.Kind == storage.KindData {
		c.control.lineage = addEpoch(c.control.lineage, e.LeaderEpoch, e.BaseOffset)
		if b := e.Batch(); b.IsTransactional() && e.Index > c.controlAt {
			c.undecided.apply(b)
		}
	} else if !c.applyControl(e, r) {
		return false
	}
	c.hw = max(c.hw, e.NextOffset())
	c.applied, c.appliedTerm, c.controlAt = r.Index, r.Term, max(c.controlAt, r.Index)
	c.window.pop()
	return true
}

func (c *core) applyControl(e *storage.Entry, r *pb.Entry) bool {
	switch {
	case isConfChange(e.Payload):
		return c.applyConf(e)
	case isCommand(e.Payload):
		if c.cfg.machine == nil {
			return true
		}
		result := c.cfg.machine.Apply(e.Index, r.Data[2:])
		for i := c.pending.head; i < len(c.pending.buf) && c.pending.buf[i].index <= e.Index; i++ {
			if c.pending.buf[i].index == e.Index {
				c.pending.buf[i].result = result
			}
		}
		return true
	case e.Index <= c.controlAt:
		return true // the state at open was of a later entry
	}
	ctl, err := decodeControl(e.Payload)
	if err != nil {
		panic(fmt.Sprintf("replica: entry %d was observed and cannot be decoded: %v", e.Index, err))
	}
	start := c.control.logStart
	c.control.apply(ctl, c.hw)
	c.out.trim = c.out.trim || c.control.logStart != start
	return true
}

func (c *core) applyConf(e *storage.Entry) bool {
	if e.Index <= c.conf.index {
		return true // it was in the state at open
	}
	if c.durableCommit < e.Index {
		if c.hardDirty {
			c.flushHard(false)
		}
		return false
	}
	cc, err := decodeConfChange(e.Payload)
	if err != nil {
		panic(fmt.Sprintf("replica: entry %d is committed and cannot be decoded: %v", e.Index, err))
	}
	c.conf.applied(e.Index, *c.rn.ApplyConfChange(cc))
	c.knownFrom = c.tail.index + 1
	return true
}

// answer ends the proposals whose last entry is applied. They are this
// leader's own: a change of role has ended the others.
func (c *core) answer() {
	for c.pending.len() > 0 && c.pending.front().index <= c.applied {
		if c.role != raft.StateLeader {
			panic("replica: a proposal is pending without leadership")
		}
		p := c.pending.pop()
		for i := range p.appended {
			p.appended[i].LogStart = c.control.logStart
		}
		c.out.acks = append(c.out.acks, ack{p: p.p, appended: p.appended, result: p.result})
	}
}
