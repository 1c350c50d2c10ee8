package replica

import (
	"errors"
	"fmt"
	"sync"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// runQueue holds the groups that have something to do.
type runQueue struct {
	more *sync.Cond
	mu   struct {
		sync.Mutex
		groups queue[*Replica]
		closed bool
	}
}

func newRunQueue() *runQueue {
	q := &runQueue{}
	q.more = sync.NewCond(&q.mu)
	return q
}

func (q *runQueue) push(r *Replica) {
	q.mu.Lock()
	q.mu.groups.push(r)
	q.mu.Unlock()
	q.more.Signal()
}

// next waits for a group; nil means that the queue is closed.
func (q *runQueue) next() *Replica {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.mu.groups.len() == 0 && !q.mu.closed {
		q.more.Wait()
	}
	if q.mu.closed {
		return nil
	}
	return q.mu.groups.pop()
}

func (q *runQueue) close() {
	q.mu.Lock()
	q.mu.closed = true
	q.mu.Unlock()
	q.more.Broadcast()
}

// ready puts a group into the queue unless it is there or a worker has it.
func (s *Set) ready(r *Replica) {
	if r.inbox.wake() {
		s.queue.push(r)
	}
}

// work steps groups until the queue is closed.
func (s *Set) work() {
	for r := s.queue.next(); r != nil; r = s.queue.next() {
		calls, ok := r.inbox.begin(&r.in)
		if !ok {
			continue
		}
		r.step(calls)
		if r.inbox.end() {
			s.queue.push(r)
		}
	}
}

// step runs the core once and does what it asks for.
func (r *Replica) step(calls []func(*core)) {
	now := r.set.cfg.Clock()
	r.in.now = now.UnixMilli()
	r.in.roll = r.log.ShouldRoll(now)
	r.in.diskFull = r.set.diskFull.Load() || len(r.stalled) > 0 // nothing joins what waits
	r.in.waited = r.waited(now)
	r.core.cfg.topic = *r.topic.Load()
	failed := r.core.failed
	out := r.core.step(&r.in)
	if err := r.core.failed; err != nil && failed == nil && !errors.Is(err, record.ErrStopped) {
		r.set.cfg.Logger.Error("a replica has failed and answers nothing any more", "topic", r.id.Topic, "partition", r.id.Partition, "error", err)
	}
	r.send(out.msgs)
	r.retryStalled()
	r.append(out.rounds)
	r.set.taken(&r.in.received)
	r.publish()
	r.answer(out.acks)
	for _, f := range calls {
		f(r.core)
	}
	if out.fetch != 0 {
		r.set.want(r, NodeOf(out.fetch))
	}
	if out.trim {
		r.trim()
	}
	if errors.Is(r.core.failed, record.ErrQuarantined) {
		r.endQuarantined()
	}
}

// append hands rounds to the log. On a full disk they wait: Raft has counted
// on them. Who waits for an answer gets record.ErrDiskFull at once.
func (r *Replica) append(rounds []storage.Round) {
	for i := range rounds {
		rounds[i].Done = r.completed
		if len(r.stalled) > 0 || !r.write(&rounds[i]) {
			r.stalled = append(r.stalled, rounds[i])
		}
		rounds[i] = storage.Round{}
	}
}

// write appends one round. It reports false when the disk is full.
func (r *Replica) write(round *storage.Round) bool {
	err := r.log.Append(*round)
	switch {
	case err == nil:
		if len(round.Entries) > 0 {
			r.written.Store(r.set.cfg.Clock().UnixMilli())
		}
	case errors.Is(err, record.ErrDiskFull):
		r.core.failPending(err)
		return false
	default:
		if !errors.Is(err, record.ErrOffline) && !errors.Is(err, record.ErrStopped) && !errors.Is(err, record.ErrQuarantined) {
			err = fmt.Errorf("%w: %w", record.ErrOffline, err)
		}
		r.completed(err)
	}
	return true
}

// retryStalled tries the rounds again that did not fit on the disk. The log
// may want a new segment for the first: what a failed write left behind cannot
// be appended to.
func (r *Replica) retryStalled() {
	rounds := r.stalled
	if len(rounds) == 0 {
		return
	}
	if rounds[0].Before == nil && rounds[0].Reset == nil && r.log.ShouldRoll(r.set.cfg.Clock()) {
		last, _ := r.log.Last()
		before, err := r.core.auxAt(last)
		if err != nil {
			r.completed(err)
			return
		}
		rounds[0].Before = before
	}
	for len(rounds) > 0 && r.write(&rounds[0]) {
		rounds[0] = storage.Round{}
		rounds = rounds[1:]
	}
	r.stalled = rounds
}

// begin gives the replica a core. The Done of its rounds counts them: they
// complete in order. Those of a core before it are counted no more.
func (r *Replica) begin(c *core) {
	r.core, r.stalled = c, nil
	var life int
	r.inbox.post(func(b *inbox) {
		b.mu.life++
		life, b.mu.durable, b.mu.err = b.mu.life, 0, nil
	})
	r.completed = func(err error) {
		r.inbox.completed(life, err)
		r.set.ready(r)
		if errors.Is(err, record.ErrOffline) {
			r.set.volumeOffline(err)
		}
	}
}

func (r *Replica) answer(acks []ack) {
	for i := range acks {
		a := &acks[i]
		r.release(int64(a.p.bytes))
		if a.err != nil {
			a.err = r.wrap("append", a.err)
		}
		a.p.finish(*a)
	}
}

// shut ends a group that no worker has any more: what waits gets why, and a
// commit that is not written yet is handed to the log.
func (r *Replica) shut(why error) {
	props, calls := r.inbox.close(why)
	for _, p := range props {
		r.answer([]ack{{p: p, err: why}})
	}
	if r.core == nil {
		return
	}
	for _, f := range calls {
		f(r.core)
	}
	r.set.taken(&r.inbox.mu.received) // no worker has it
	r.in = input{now: r.in.now, flush: true}
	out := r.core.step(&r.in)
	r.append(out.rounds)
	r.answer(out.acks)
	r.core.out.acks = clearAcks(r.core.out.acks)
	r.core.fail(why)
	r.answer(r.core.out.acks)
	r.publish()
	r.room.close()
	r.wake()
}
