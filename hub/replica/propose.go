package replica

import (
	"fmt"
	"math"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// proposal is something to be appended, of one of the kinds below.
type proposal struct {
	kind    proposalKind
	batches []record.Batch // append, mirrored
	guard   MirrorGuard    // mirrored
	epoch   int32          // append: only in this leader epoch; 0: in any
	guarded bool           // append: only if ended is the guard of the producer
	ended   int64          // record.Transaction.Guard
	marker  record.TransactionMarker
	control ControlEntry // control
	payload []byte       // command: the control payload
	change  pb.ConfChangeV2
	to      uint64 // transfer: the member that is to lead
	bytes   int    // that it holds of the budget

	// The callback, one of these.
	appended func([]record.Appended, error)
	failed   func(error)
	applied  func(any, error)
}

type proposalKind uint8

const (
	propAppend proposalKind = iota + 1
	propMirrored
	propMarker
	propControl
	propCommand
	propConfChange
	propBarrier // an empty entry
	propTransfer
	propConfirm // nothing is appended
)

// propose checks all proposals of the step against the end of the log, writes
// offsets and epochs into the batches, and gives what passes to Raft in one
// message.
func (c *core) propose(diskFull bool) {
	c.decideKept()
	if len(c.props) == 0 {
		return
	}
	refused := c.mayPropose()
	var questions []*proposal
	for len(c.props) > 0 {
		p := c.props[0]
		switch members := p.kind == propConfChange || p.kind == propTransfer; {
		case c.between && !members:
			c.kept = append(c.kept, kept{p: p})
		case refused != nil:
			c.refuse(p, refused)
		case p.kind == propConfirm:
			questions = append(questions, p)
		case members:
			c.flushStaged()
			c.proposeMembers(p)
		default:
			c.stageProposal(p, diskFull)
		}
		c.props = c.props[1:]
	}
	if refused == nil {
		c.flushStaged()
		c.answer() // what was in the log before, and is committed
	}
	c.askAll(questions)
}

func (c *core) stageProposal(p *proposal, diskFull bool) {
	appended, err := c.stage(p, diskFull)
	if err != nil {
		c.refuse(p, err)
		return
	}
	c.pending.push(pending{index: c.tail.index, p: p, appended: appended})
}

func (c *core) mayPropose() error {
	if c.role != raft.StateLeader {
		return c.notLeader()
	}
	if c.handingOver() {
		return fmt.Errorf("%w: leadership is being handed over", record.ErrNotLeader)
	}
	return nil
}

// stage checks one proposal and stages its entries.
func (c *core) stage(p *proposal, diskFull bool) ([]record.Appended, error) {
	if diskFull && (p.kind == propAppend || p.kind == propMirrored || p.kind == propMarker) {
		return nil, record.ErrDiskFull
	}
	switch p.kind {
	case propAppend:
		return c.stageAppend(p)
	case propMarker:
		return nil, c.stageMarker(p.marker)
	case propMirrored:
		return nil, c.stageMirrored(p.guard, p.batches)
	case propControl:
		return nil, c.stageControl(p.control)
	case propBarrier:
		return nil, c.stageEntry(storage.Entry{Kind: storage.KindControl})
	case propCommand:
		if c.cfg.machine == nil {
			return nil, fmt.Errorf("%w: a command for a partition", record.ErrInvalidRequest)
		}
		return nil, c.stageEntry(storage.Entry{Kind: storage.KindControl, Payload: p.payload})
	}
	return nil, fmt.Errorf("%w: proposal of kind %d", record.ErrInvalidRequest, p.kind)
}

// stageAppend takes a client's batches, all or none.
func (c *core) stageAppend(p *proposal) ([]record.Appended, error) {
	switch ctl := &c.tail.control; {
	case c.cfg.machine != nil:
		return nil, fmt.Errorf("%w: records for a group without records", record.ErrInvalidRequest)
	case ctl.mirror.Active:
		return nil, fmt.Errorf("%w: it is written at site %q", record.ErrReadOnly, ctl.mirror.Source)
	case ctl.readOnly || c.cfg.topic.ReadOnly:
		return nil, fmt.Errorf("%w: no link holds it at present", record.ErrReadOnly)
	}
	if p.epoch != 0 && p.epoch != c.epoch() {
		return nil, fmt.Errorf("%w: %d, now %d", record.ErrFencedEpoch, p.epoch, c.epoch())
	}
	batches := p.batches
	if id := batches[0].ProducerID(); p.guarded && c.tail.producers.byID[id].guard() != p.ended {
		return nil, fmt.Errorf("%w: the transaction of producer %d has ended here", record.ErrTransactionState, id)
	}
	appended := make([]record.Appended, len(batches))
	if err := c.checkAppend(batches, appended); err != nil {
		return nil, err
	}
	epoch, stamp := c.epoch(), int64(-1)
	if c.cfg.topic.LogAppendTime {
		stamp = c.now
	}
	for i, b := range batches {
		appended[i].LogAppendTime = -1
		if appended[i].Duplicate {
			continue
		}
		appended[i].BaseOffset, appended[i].LogAppendTime = c.tail.next, stamp
		b.SetBaseOffset(c.tail.next)
		b.SetLeaderEpoch(epoch)
		if stamp >= 0 {
			b.SetLogAppendTime(stamp)
		}
		if err := c.stageEntry(storage.Entry{Kind: storage.KindData, BaseOffset: c.tail.next, LeaderEpoch: epoch, Payload: b}); err != nil {
			return nil, err
		}
	}
	return appended, nil
}

// checkAppend decides about all batches of a request before any is taken. The
// tail includes what is not committed yet: checked against less, a batch sent
// again while the first is on its way would be appended twice (Invariant 17).
func (c *core) checkAppend(batches []record.Batch, appended []record.Appended) error {
	st := stage{ps: &c.tail.producers}
	next := c.tail.next
	for i, b := range batches {
		if most := c.cfg.topic.MaxMessageBytes; most > 0 && len(b) > most {
			return fmt.Errorf("%w: %d bytes, max.message.bytes is %d", record.ErrBatchTooLarge, len(b), most)
		}
		if next > math.MaxInt64-int64(b.LastDelta())-1 {
			return fmt.Errorf("%w: the partition has no offsets left", record.ErrOffsetOutOfRange)
		}
		var v verdict
		var err error
		if len(batches) == 1 {
			v, err = c.tail.producers.byID[b.ProducerID()].check(b)
		} else {
			v, err = st.check(b, next)
		}
		if err != nil {
			return err
		}
		if appended[i].Duplicate, appended[i].BaseOffset = v.duplicate, v.base; !v.duplicate {
			next += int64(b.LastDelta()) + 1
		}
	}
	return nil
}

// stageMirrored takes batches of the link that holds the partition. They keep
// their offsets and epochs; the local epoch is raised first if it is below.
func (c *core) stageMirrored(g MirrorGuard, batches []record.Batch) error {
	m := c.tail.control.mirror
	if !m.Active || m.Link != g.Link || m.Epoch != g.Epoch {
		return fmt.Errorf("%w: link %q with epoch %d appends, the partition is held by %q with epoch %d", record.ErrMirrorFenced, g.Link, g.Epoch, m.Link, m.Epoch)
	}
	if g.Next != c.tail.next {
		return fmt.Errorf("%w: the link would continue at %d, the partition ends at %d", record.ErrOffsetOutOfRange, g.Next, c.tail.next)
	}
	next, epoch := c.tail.next, int32(0)
	if l := c.tail.control.lineage; len(l) > 0 {
		epoch = l[len(l)-1].epoch
	}
	for _, b := range batches {
		if len(b) < record.BatchHeaderSize {
			return fmt.Errorf("%w: a mirrored batch of %d bytes", record.ErrInvalidBatch, len(b))
		}
		if b.BaseOffset() < next || b.LastDelta() < 0 || b.BaseOffset() > math.MaxInt64-int64(b.LastDelta())-1 {
			return fmt.Errorf("%w: a mirrored batch at offset %d, with delta %d, after %d", record.ErrInvalidBatch, b.BaseOffset(), b.LastDelta(), next)
		}
		if b.LeaderEpoch() < epoch {
			return fmt.Errorf("%w: a mirrored batch of epoch %d at offset %d after epoch %d", record.ErrInvalidBatch, b.LeaderEpoch(), b.BaseOffset(), epoch)
		}
		next, epoch = b.NextOffset(), b.LeaderEpoch()
	}
	if len(batches) > 0 {
		if err := c.raiseEpoch(epoch); err != nil {
			return err
		}
	}
	for _, b := range batches {
		if err := c.stageEntry(storage.Entry{Kind: storage.KindData, BaseOffset: b.BaseOffset(), LeaderEpoch: b.LeaderEpoch(), Payload: b}); err != nil {
			return err
		}
	}
	return nil
}

// epochStride is how far the local epoch is raised above a source's, so that
// elections over there do not each cost an entry here.
const epochStride = 10

// raiseEpoch stages a new epoch base unless the leader epoch is at least the
// least one wanted.
func (c *core) raiseEpoch(least int32) error {
	if c.epoch() >= least {
		return nil
	}
	base := int64(least) - int64(c.term) + epochStride
	if base > math.MaxInt32-epochStride {
		return fmt.Errorf("%w: leader epoch %d", record.ErrInvalidBatch, least)
	}
	return c.stageEntry(storage.Entry{Kind: storage.KindControl, Payload: EpochBase{Base: int32(base)}.encode()})
}

// stageEntry puts an entry at the end of the tail, to be given to Raft at the
// end of the step.
func (c *core) stageEntry(e storage.Entry) error {
	if len(c.staged) == 0 {
		c.captureBefore(c.roll)
	}
	e.Index, e.Term = c.tail.index+1, c.term
	if err := c.observe(&e); err != nil {
		// All checks have passed: the entry contradicts itself.
		panic("replica: a checked proposal cannot be appended: " + err.Error())
	}
	c.staged = append(c.staged, e)
	return nil
}

// flushStaged gives what is staged to Raft.
func (c *core) flushStaged() {
	if len(c.staged) == 0 {
		return
	}
	es := make([]pb.Entry, len(c.staged))
	for i := range c.staged {
		es[i].Data = c.staged[i].Payload
	}
	if err := c.rn.Step(pb.Message{Type: pb.MsgProp, From: c.cfg.id, Entries: es}); err != nil {
		// mayPropose knows all reasons but one: this node is no longer in the
		// configuration. Nothing of it is in the log.
		c.staged = nil
		c.failPending(fmt.Errorf("%w: %w", record.ErrNotLeader, err))
		c.rewind(c.log.last)
		return
	}
	c.pump()
}

// proposeMembers takes what is about the members and not about the log.
func (c *core) proposeMembers(p *proposal) {
	if err := c.mayPropose(); err != nil { // a proposal before it may have changed that
		c.refuse(p, err)
	} else if p.kind == propTransfer {
		c.transfer(p)
	} else {
		c.proposeConfChange(p)
	}
}

// proposeConfChange gives a configuration change to Raft, which refuses one
// beside another by putting an empty entry in its place.
func (c *core) proposeConfChange(p *proposal) {
	err := c.conf.allows(p.change)
	if err == nil {
		err = c.rn.ProposeConfChange(p.change)
	}
	if err != nil {
		c.refuse(p, fmt.Errorf("%w: %w", record.ErrInvalidRequest, err))
		return
	}
	c.pump()
	if n := len(c.conf.pending); n == 0 || c.conf.pending[n-1].index != c.tail.index {
		c.refuse(p, fmt.Errorf("%w: another configuration change is under way", record.ErrInvalidRequest))
		return
	}
	c.pending.push(pending{index: c.tail.index, p: p})
}
