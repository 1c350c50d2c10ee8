// Package replica keeps a node's copies of partitions: one Raft group each,
// whose log is the topic log. The core (core.go) is a pure step function with
// all decisions: offsets, epochs, idempotence, mirror guards, when to campaign,
// what is committed. A Set drives the cores of a node: it hands proposals,
// messages and completed disk writes to them and does what they ask for.
// The rules are numbered in docs/invariants.md and cited as "Invariant N".
//
// Groups with other members reach them through a Transport, which Config has.
//
// Goroutines: Set.Run starts a fixed number of workers, which step whatever
// group has something to do, one that gives ticks to the groups with other
// members and sends the nodes' heartbeats, one that compacts logs, one at a time,
// two that fetch logs from other nodes (Config.Source), one that reads all logs
// to check them, and runs one ticker itself; all end with its context. There is
// none per group. Callbacks of Append run on
// a worker and must not block; Receive runs on the caller's goroutine.
package replica

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// MirrorGuard is what a link must know to append to a partition: it is checked
// against the log before anything is proposed, so that a link that lost the
// partition cannot write.
type MirrorGuard struct {
	Link  string
	Epoch int64 // of the MirrorStart that gave the link the partition
	Next  int64 // the offset at which the link thinks the partition ends
}

// Replica is this node's copy of one partition, or of a machine group. Its
// methods may be called from any goroutine.
type Replica struct {
	set   *Set
	id    storage.LogID
	log   *storage.Log
	topic atomic.Pointer[TopicConfig]
	room  *budget // bytes taken and not answered
	view  atomic.Pointer[view]
	inbox inbox
	// written is when something was last appended, in ms; after a start the
	// start, since nobody knows better.
	written atomic.Int64

	// Of the worker that runs the group, and of nobody else.
	core      *core // nil when quarantined
	stalled   []storage.Round
	in        input
	completed func(error) // the Done of every round
	waitedAt  time.Time   // when somebody was last seen to wait for a change

	coreConfig coreConfig // does not change

	mu struct {
		sync.Mutex
		changed chan struct{} // nil while nobody waits
	}
}

// ID is the identity of the replica's log.
func (r *Replica) ID() storage.LogID { return r.id }

// Append takes batches of a client that protocol has checked (Batch.Check). All
// of them are appended, in order, or none. done is called once, from another
// goroutine or from this one, when they are committed and as durable as the
// topic wants, or with an error that wraps one of record's; after ErrNotLeader,
// ErrLeaderUnknown, ErrOffline, ErrStopped and, rarely, ErrDiskFull they may
// have been appended all the same. done must not block.
//
// The batches belong to the replica from now on: base offset and epoch are
// written into them. Append blocks while the group, or the node, holds as many
// bytes as it may (Config.GroupBytes, TotalBytes): that is how a client that is
// faster than the disk is slowed down.
func (r *Replica) Append(batches []record.Batch, done func([]record.Appended, error)) {
	r.AppendContext(context.Background(), batches, done)
}

// AppendContext is Append that stops waiting for room when ctx ends: done gets
// an error wrapping record.ErrTimeout, and nothing is appended.
func (r *Replica) AppendContext(ctx context.Context, batches []record.Batch, done func([]record.Appended, error)) {
	r.submitBatches(ctx, &proposal{kind: propAppend, batches: batches, appended: done})
}

// AppendTransactional is Append for batches of one producer, refused with
// record.ErrTransactionState if a transaction of it has ended here since
// Transaction gave the guard.
func (r *Replica) AppendTransactional(batches []record.Batch, guard int64, done func([]record.Appended, error)) {
	r.submitBatches(context.Background(), &proposal{kind: propAppend, batches: batches, guarded: true, ended: guard, appended: done})
}

// AppendFenced is Append for who has read the log under a leader epoch, refused
// with record.ErrFencedEpoch in another one: there may be in it what it does not
// know of. With a guard of 0 or more it is AppendTransactional besides.
func (r *Replica) AppendFenced(batches []record.Batch, epoch int32, guard int64, done func([]record.Appended, error)) {
	r.submitBatches(context.Background(), &proposal{kind: propAppend, batches: batches, epoch: epoch, guarded: guard >= 0, ended: guard, appended: done})
}

// submitBatches checks what protocol must have checked, and submits.
func (r *Replica) submitBatches(ctx context.Context, p *proposal) {
	for _, b := range p.batches {
		if err := b.CheckProduced(); err != nil {
			p.appended(nil, r.wrap("append", err))
			return
		}
		p.bytes += len(b)
	}
	if len(p.batches) == 0 {
		p.appended(nil, nil)
		return
	}
	r.submit(ctx, p)
}

// EndTransaction appends the marker that ends a producer's transaction here, if
// one is open; the producer has the marker's epoch from then on. Errors wrap
// record.ErrProducerFenced for a lower epoch than the known one,
// record.ErrCoordinatorFenced for an older coordinator, or are those of Append.
func (r *Replica) EndTransaction(m record.TransactionMarker, done func(error)) {
	r.submit(context.Background(), &proposal{kind: propMarker, marker: m, failed: done})
}

// AppendMirrored takes batches as their source has them, offsets and epochs
// included, for the link that holds the partition. Offsets may leave gaps. done
// is as for Append.
func (r *Replica) AppendMirrored(g MirrorGuard, batches []record.Batch, done func(error)) {
	size := 0
	for _, b := range batches {
		size += len(b)
	}
	r.submit(context.Background(), &proposal{kind: propMirrored, guard: g, batches: batches, bytes: size, failed: done})
}

// Control appends a control entry and waits until it is applied. When ctx ends
// first, whether it will be is not known.
func (r *Replica) Control(ctx context.Context, e ControlEntry) error {
	return r.wait(ctx, &proposal{kind: propControl, control: e})
}

// SetLogStart makes records below the offset unreadable (DeleteRecords, or the
// trim of a mirror).
func (r *Replica) SetLogStart(ctx context.Context, offset int64) error {
	return r.Control(ctx, LogStart{Offset: offset})
}

// Propose appends a command and returns what the group's Machine makes of it.
// When ctx ends first, whether it will be applied is not known.
func (r *Replica) Propose(ctx context.Context, cmd []byte) (any, error) {
	type outcome struct {
		result any
		err    error
	}
	done := make(chan outcome, 1)
	r.submit(ctx, &proposal{
		kind: propCommand, payload: append(control(subCommand), cmd...), bytes: len(cmd),
		applied: func(result any, err error) { done <- outcome{result, err} },
	})
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return nil, r.wrap("command", fmt.Errorf("%w: %w", record.ErrTimeout, ctx.Err()))
	}
}

// submit waits for room and hands p to the group.
func (r *Replica) submit(ctx context.Context, p *proposal) {
	if err := r.acquire(ctx, int64(p.bytes)); err != nil {
		p.finish(ack{p: p, err: r.wrap("append", err)})
		return
	}
	if err := r.inbox.propose(p); err != nil {
		r.release(int64(p.bytes))
		p.finish(ack{p: p, err: r.wrap("append", err)})
		return
	}
	r.set.ready(r)
}

func (r *Replica) acquire(ctx context.Context, n int64) error {
	if n == 0 {
		return nil
	}
	if err := r.room.acquire(ctx, n); err != nil {
		return err
	}
	if err := r.set.room.acquire(ctx, n); err != nil {
		r.room.release(n)
		return err
	}
	return nil
}

func (r *Replica) release(n int64) {
	if n > 0 {
		r.set.room.release(n)
		r.room.release(n)
	}
}

// wrap says which replica an error is of.
func (r *Replica) wrap(what string, err error) error {
	return fmt.Errorf("%s to %s: %w", what, r.id, err)
}

// finish calls the callback that p has.
func (p *proposal) finish(a ack) {
	switch {
	case p.appended != nil:
		p.appended(a.appended, a.err)
	case p.failed != nil:
		p.failed(a.err)
	case p.applied != nil:
		p.applied(a.result, a.err)
	}
}

// Changed is closed at the next change of the high watermark, the log start or
// the leadership. To miss nothing, take it first and look at the replica then.
func (r *Replica) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.changed == nil {
		r.mu.changed = make(chan struct{})
	}
	return r.mu.changed
}

// waited reports whether somebody waits for a change, or has within waitedTime:
// who reads as fast as records come is busy now and then. Of a worker's clock.
func (r *Replica) waited(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.changed != nil {
		r.waitedAt = now
	}
	return now.Sub(r.waitedAt) < waitedTime
}

const waitedTime = time.Second

func (r *Replica) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.changed != nil {
		close(r.mu.changed)
		r.mu.changed = nil
	}
}
