package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Move is where a group is on the way to other members.
type Move struct {
	Done     bool
	Doing    string // what was done, or what is waited for
	Progress []Progress
}

// Reconcile takes one step on the way to the wanted members, if this replica
// leads, and says where the group is then. Ask again until it is Done; whoever
// leads then goes on. Want has no Outgoing. Errors are those of Serving, or say
// that the step was not taken; when ctx ends first, whether it was is not known.
func (r *Replica) Reconcile(ctx context.Context, want Members) (Move, error) {
	if len(want.Voters) == 0 || want.Outgoing != nil {
		return Move{}, r.wrap("move", fmt.Errorf("%w: voters %v, outgoing %v", record.ErrInvalidReplicas, want.Voters, want.Outgoing))
	}
	if err := r.Serving(); err != nil {
		return Move{}, err
	}
	var step moveStep
	var m Move
	if err := r.ask(ctx, func(c *core) { step, m.Progress = c.move(want) }); err != nil {
		return Move{}, err
	}
	r.measure(m.Progress)
	m.Doing, m.Done = step.what, step.kind == moveDone
	switch step.kind {
	case moveChange:
		return m, r.change(ctx, step.change)
	case moveTransfer:
		return m, r.transfer(ctx, step.to)
	case moveConfirm:
		return m, r.wait(ctx, &proposal{kind: propBarrier})
	}
	return m, nil
}

// Progress is how far each member is, by member ID; nil where this replica does
// not lead.
func (r *Replica) Progress(ctx context.Context) (all []Progress, err error) {
	if r.view.Load().role != RoleLeader {
		return nil, nil
	}
	if err := r.ask(ctx, func(c *core) { all = c.progress() }); err != nil {
		return nil, err
	}
	r.measure(all)
	return all, nil
}

// Members are the group's, as of what is applied here.
func (r *Replica) Members() Members { return r.view.Load().members }

// TransferTo lets the replica on another node lead, which must be a voter and
// have caught up. It returns once another leads, or with an error when this one
// still does. Meanwhile proposals wait, and are then appended or refused with
// record.ErrNotLeader.
func (r *Replica) TransferTo(ctx context.Context, node int32) error {
	if err := r.Serving(); err != nil {
		return err
	}
	for _, id := range r.Members().Voters {
		if NodeOf(id) == node {
			return r.transfer(ctx, id)
		}
	}
	return r.wrap("transfer", fmt.Errorf("%w: node %d has no voter", record.ErrInvalidReplicas, node))
}

// Campaign makes this member stand for election now rather than when it has
// heard of no leader for long enough: the group is new, or its leader is said to
// have failed. While a leader is heard the others refuse it (Invariant 16).
func (r *Replica) Campaign() {
	r.inbox.post(func(b *inbox) { b.mu.campaign = true })
	r.set.ready(r)
}

// ask has f run between two steps.
func (r *Replica) ask(ctx context.Context, f func(*core)) error {
	done := make(chan struct{})
	if err := r.inbox.call(func(c *core) { f(c); close(done) }); err != nil {
		return r.wrap("ask", err)
	}
	r.set.ready(r)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return r.wrap("ask", fmt.Errorf("%w: %w", record.ErrTimeout, ctx.Err()))
	}
}

// change proposes a change of the configuration and waits until it is applied.
func (r *Replica) change(ctx context.Context, cc pb.ConfChangeV2) error {
	return r.wait(ctx, &proposal{kind: propConfChange, change: cc})
}

func (r *Replica) transfer(ctx context.Context, to uint64) error {
	if err := r.wait(ctx, &proposal{kind: propTransfer, to: to}); err != nil {
		return err
	}
	for {
		changed := r.Changed()
		switch v := r.view.Load(); {
		case v.leader == to, v.leader != 0 && v.role != RoleLeader:
			return nil
		case v.role == RoleLeader && !v.handingOver:
			return r.wrap("transfer", fmt.Errorf("%w: node %d did not take over in time", errNotTaken, NodeOf(to)))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return r.wrap("transfer", fmt.Errorf("%w: %w", record.ErrTimeout, ctx.Err()))
		}
	}
}

// errNotTaken is a transfer that did not happen: this replica leads on.
var errNotTaken = errors.New("leadership was not handed over")

// wait proposes what has no result and waits until it is committed, and applied
// if it is a change.
func (r *Replica) wait(ctx context.Context, p *proposal) error {
	done := make(chan error, 1)
	p.failed = func(err error) { done <- err }
	r.submit(ctx, p)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return r.wrap("propose", fmt.Errorf("%w: %w", record.ErrTimeout, ctx.Err()))
	}
}

// measure fills in how many bytes each member lacks.
func (r *Replica) measure(all []Progress) {
	segments := r.log.Segments()
	for i := range all {
		all[i].Behind = behind(segments, all[i].Match)
	}
}

// behind is about how many bytes of a log lie above an index: segments as their
// files say, the one with the index in proportion.
func behind(segments []storage.SegmentInfo, index uint64) (bytes int64) {
	for _, s := range segments {
		switch n := int64(s.LastIndex) - int64(s.FirstIndex) + 1; {
		case n <= 0 || index >= s.LastIndex:
		case index < s.FirstIndex:
			bytes += s.Bytes
		default:
			bytes += s.Bytes / n * int64(s.LastIndex-index)
		}
	}
	return bytes
}
