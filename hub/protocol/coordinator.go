package protocol

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// coordinator drives the group state machines of this node: those whose
// partition of __consumer_offsets is led here. One goroutine owns all of them;
// requests, the outcomes of appends and the ends of loads come to it through a
// mailbox, so that there is no lock around a group and nothing waits while
// holding one.
type coordinator struct {
	cfg   Config
	parts Partitions
	meta  Meta
	log   *slog.Logger
	mail  mailbox
	turn  chan struct{} // held while the offsets topic is being created

	// The rest belongs to run's goroutine.
	ctx    context.Context
	loads  *sync.WaitGroup
	shards map[int32]*shard
	parked map[group.Ticket]chan<- group.Answer
	ticket group.Ticket
	next   time.Time // when tick is due; zero: never
	sweep  time.Time // when expired offsets are looked for
}

// event is something for run's goroutine to do with a shard. With an error the
// shard cannot be used.
type event struct {
	partition int32
	run       func(now time.Time, sh *shard, err error)
	always    bool // the shard need not be loaded
}

func newCoordinator(cfg Config, parts Partitions, meta Meta) *coordinator {
	return &coordinator{
		cfg: cfg, parts: parts, meta: meta, log: cfg.Logger,
		mail:   mailbox{ready: make(chan struct{}, 1)},
		turn:   make(chan struct{}, 1),
		shards: map[int32]*shard{},
		parked: map[group.Ticket]chan<- group.Answer{},
	}
}

// run handles events until ctx ends, then answers everything that waits.
func (c *coordinator) run(ctx context.Context) error {
	var loads sync.WaitGroup
	defer loads.Wait()
	c.ctx, c.loads = ctx, &loads
	c.sweep = time.Now().Add(c.cfg.GroupSweep)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.mail.ready:
		case <-timer.C:
		case <-ctx.Done():
			c.stop()
			return nil
		}
		now := time.Now()
		for _, e := range c.mail.all() {
			c.dispatch(now, e)
		}
		c.tick(now)
		for _, sh := range c.shards {
			c.flush(sh)
		}
		timer.Reset(time.Until(c.wake()))
	}
}

// dispatch hands an event its shard, or lets it wait for the load.
func (c *coordinator) dispatch(now time.Time, e event) {
	sh := c.shards[e.partition]
	if sh == nil {
		sh = &shard{partition: e.partition}
		c.shards[e.partition] = sh
	}
	if e.always {
		e.run(now, sh, nil)
		return
	}
	log, err := c.parts.Partition(catalog.OffsetsTopic, e.partition)
	if err == nil {
		err = log.Serving()
	}
	if err != nil {
		err = coordinatorError(err)
		c.unload(sh, err)
		e.run(now, sh, err)
		return
	}
	if epoch := log.Offsets().LeaderEpoch; sh.state != unloaded && sh.epoch != epoch {
		// Another node may have written since.
		c.unload(sh, errNotCoordinator)
	}
	if sh.state == ready {
		e.run(now, sh, nil)
		return
	}
	sh.waiting = append(sh.waiting, e)
	if sh.state == unloaded {
		c.load(now, sh, log)
	}
}

// tick does what is due: timeouts of groups, loads that take long, the sweep.
func (c *coordinator) tick(now time.Time) {
	sweep := !now.Before(c.sweep)
	if sweep {
		c.sweep = now.Add(c.cfg.GroupSweep)
	}
	if !sweep && (c.next.IsZero() || now.Before(c.next)) {
		return
	}
	c.next = time.Time{}
	for _, sh := range c.shards {
		if sh.state == loading {
			c.impatient(now, sh)
			continue
		}
		for _, g := range sh.groups {
			if d := g.Deadline(); !d.IsZero() && !now.Before(d) {
				c.apply(sh, g, g.Tick(now))
			} else {
				c.wakeBy(d)
			}
			if sweep {
				c.apply(sh, g, g.Expire(now))
			}
		}
	}
}

// wakeBy makes sure that tick comes no later than d.
func (c *coordinator) wakeBy(d time.Time) {
	if !d.IsZero() && (c.next.IsZero() || d.Before(c.next)) {
		c.next = d
	}
}

func (c *coordinator) wake() time.Time {
	if !c.next.IsZero() && c.next.Before(c.sweep) {
		return c.next
	}
	return c.sweep
}

// apply delivers the answers of an output and queues its writes.
func (c *coordinator) apply(sh *shard, g *group.Group, out group.Output) {
	for _, a := range out.Answers {
		if reply, ok := c.parked[a.Ticket]; ok {
			delete(c.parked, a.Ticket)
			reply <- a // has room for the one answer it gets
		}
	}
	if sh.groups[g.ID()] != g {
		return // handed over: it writes nothing any more
	}
	for _, w := range out.Writes {
		sh.writes = append(sh.writes, groupWrite{g, w})
	}
	if g.State() == group.Dead || g.Vacant() {
		delete(sh.groups, g.ID())
		return
	}
	c.wakeBy(g.Deadline())
}

// stop answers everything that waits with NOT_COORDINATOR.
func (c *coordinator) stop() {
	for _, sh := range c.shards {
		c.unload(sh, errNotCoordinator)
	}
	for _, e := range c.mail.close() {
		e.run(time.Now(), &shard{}, errNotCoordinator)
	}
	for t, reply := range c.parked {
		reply <- group.Answer{Ticket: t, Err: errNotCoordinator}
	}
	clear(c.parked)
}
