package protocol

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// shards is what the coordinators of groups and of transactions have in common:
// the partitions of an internal topic that are led here, each with state
// machines that are loaded from its log. One goroutine owns them all; requests,
// the outcomes of appends and the ends of loads come to it through a mailbox,
// so that there is no lock around a state machine and nothing waits while
// holding one.
type shards[S anyShard[S]] struct {
	cfg   Config
	parts Partitions
	meta  Meta
	log   *slog.Logger
	topic string
	count int32 // partitions of the topic if it is created here
	eager bool  // load what is led here without being asked
	keep  keeper[S]
	mail  mailbox[S]
	turn  chan struct{} // held while the topic is being created

	vacant *vacancies

	// The rest belongs to run's goroutine.
	ctx   context.Context
	loads *sync.WaitGroup
	all   map[int32]S
	next  time.Time // when due has to be called; zero: never
	sweep time.Time // when what has expired is looked for
	watch time.Time // when it is seen to that all that is loaded is still led here
	look  time.Time // eager: when it is seen to that all is loaded
	pause time.Duration
}

// keeper is how one coordinator differs from the other. All methods but read
// are called by run's goroutine.
type keeper[S any] interface {
	// shard makes an empty one.
	shard(partition int32) S
	// read reads a partition to its end, in the background, and returns what
	// brings to life what it found.
	read(ctx context.Context, log Partition) (live func(now time.Time, sh S), err error)
	// drop ends all that the shard has; whoever waits for it gets err.
	drop(now time.Time, sh S, err error)
	// tick does what is due in a shard that is ready, and looks for what has
	// expired when it is time to sweep.
	tick(now time.Time, sh S, sweep bool)
	// flush appends what the shard wants written.
	flush(sh S)
	// stopped answers whoever still waits.
	stopped()
}

// anyShard is a shard of one coordinator, which embeds part.
type anyShard[S any] interface{ common() *part[S] }

// part is one partition of the topic.
type part[S any] struct {
	partition int32
	state     shardState
	epoch     int32 // leader epoch of the load
	since     time.Time
	log       Partition
	cancel    context.CancelFunc // ends the load
	waiting   []event[S]         // for the load
}

func (p *part[S]) common() *part[S] { return p }

type shardState uint8

const (
	unloaded shardState = iota
	loading
	ready
)

// event is something for run's goroutine to do with a shard. With an error the
// shard cannot be used.
type event[S any] struct {
	partition int32
	run       func(now time.Time, sh S, err error)
	always    bool // the shard need not be loaded
}

// patience is how long a request waits for a load before it is sent away with
// COORDINATOR_LOAD_IN_PROGRESS; the client comes back.
const patience = 5 * time.Second

func newShards[S anyShard[S]](cfg Config, parts Partitions, meta Meta, vacant *vacancies, topic string, count int32, keep keeper[S]) shards[S] {
	return shards[S]{
		cfg: cfg, parts: parts, meta: meta, vacant: vacant, log: cfg.Logger, topic: topic, count: count, keep: keep,
		mail: mailbox[S]{ready: make(chan struct{}, 1)},
		turn: make(chan struct{}, 1),
		all:  map[int32]S{},
	}
}

// run handles events until ctx ends, then answers everything that waits.
func (c *shards[S]) run(ctx context.Context) {
	var loads sync.WaitGroup
	defer loads.Wait()
	c.ctx, c.loads = ctx, &loads
	c.sweep, c.look, c.pause = time.Now().Add(c.cfg.GroupSweep), time.Now(), lookSoon
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.mail.ready:
		case <-timer.C:
		case <-ctx.Done():
			c.stop()
			return
		}
		now := time.Now()
		for _, e := range c.mail.all() {
			c.dispatch(now, e)
		}
		c.lookAround(now)
		c.loadAll(now)
		c.due(now)
		for _, sh := range c.all {
			c.keep.flush(sh)
		}
		timer.Reset(time.Until(c.wake()))
	}
}

// dispatch hands an event its shard, or lets it wait for the load.
func (c *shards[S]) dispatch(now time.Time, e event[S]) {
	sh, ok := c.all[e.partition]
	if !ok {
		sh = c.keep.shard(e.partition)
		c.all[e.partition] = sh
	}
	if e.always {
		e.run(now, sh, nil)
		return
	}
	p := sh.common()
	log, err := c.led(sh)
	if err != nil {
		e.run(now, sh, err)
		return
	}
	if p.state == ready {
		e.run(now, sh, nil)
		return
	}
	p.waiting = append(p.waiting, e)
	if p.state == unloaded {
		c.load(now, sh, log)
	}
}

// led is the log of a shard, if it is led here. A shard that was loaded under
// another leadership is dropped: somebody else may have written since.
func (c *shards[S]) led(sh S) (Partition, error) {
	p := sh.common()
	log, err := c.parts.Partition(c.topic, p.partition)
	if err == nil {
		err = log.Serving()
	}
	if err != nil {
		err = coordinatorError(err)
		c.unload(sh, err)
		return nil, err
	}
	if p.state != unloaded && p.epoch != log.Offsets().LeaderEpoch {
		c.unload(sh, errNotCoordinator)
	}
	return log, nil
}

// watchEvery is how often it is seen to that what is loaded is still led here,
// without being asked: who waits for an answer has to look elsewhere.
const watchEvery = 200 * time.Millisecond

// lookAround drops what is not led here any more.
func (c *shards[S]) lookAround(now time.Time) {
	if now.Before(c.watch) {
		return
	}
	c.watch = time.Time{}
	for _, sh := range c.all {
		if p := sh.common(); p.state == unloaded {
			continue
		}
		if _, err := c.led(sh); err == nil {
			c.watch = now.Add(watchEvery)
		}
	}
}

// How often an eager coordinator looks for partitions to load: at first, while
// some are missing, as after a start, and in the end.
const (
	lookSoon  = 50 * time.Millisecond
	lookLater = 2 * time.Second
)

// loadAll loads what is led here, if the coordinator is eager.
func (c *shards[S]) loadAll(now time.Time) {
	if !c.eager || now.Before(c.look) {
		return
	}
	missing := false
	if t, ok := c.meta.State().Topic(c.topic); ok {
		for p := range int32(len(t.Partitions)) {
			c.dispatch(now, event[S]{partition: p, run: func(time.Time, S, error) {}})
			missing = missing || c.all[p].common().state != ready
		}
	}
	if c.pause = min(2*c.pause, lookLater); !missing {
		c.pause = lookLater
	}
	c.look = now.Add(c.pause)
}

// load reads the partition in the background.
func (c *shards[S]) load(now time.Time, sh S, log Partition) {
	ctx, cancel := context.WithCancel(c.ctx)
	p := sh.common()
	p.state, p.since, p.log, p.cancel = loading, now, log, cancel
	p.epoch = log.Offsets().LeaderEpoch
	c.wakeBy(now.Add(patience))
	if c.watch.IsZero() {
		c.watch = now.Add(watchEvery)
	}
	epoch := p.epoch
	c.loads.Go(func() {
		live, err := c.keep.read(ctx, log)
		c.mail.put(event[S]{partition: p.partition, always: true, run: func(now time.Time, sh S, _ error) {
			if p := sh.common(); p.state == loading && p.epoch == epoch {
				c.loaded(now, sh, live, err)
			}
		}})
	})
}

// loaded brings the shard to life and runs what has waited.
func (c *shards[S]) loaded(now time.Time, sh S, live func(time.Time, S), err error) {
	p := sh.common()
	if err != nil {
		c.log.Error("cannot load a coordinator's partition", "topic", c.topic, "partition", p.partition, "error", err)
		c.unload(sh, coordinatorError(err))
		return
	}
	p.cancel()
	p.state = ready
	live(now, sh)
	waiting := p.waiting
	p.waiting = nil
	for _, e := range waiting {
		e.run(now, sh, nil)
	}
}

// impatient sends requests away that have waited too long for a load.
func (c *shards[S]) impatient(now time.Time, sh S) {
	p := sh.common()
	if now.Sub(p.since) < patience {
		c.wakeBy(p.since.Add(patience))
		return
	}
	waiting := p.waiting
	p.waiting = nil
	for _, e := range waiting {
		e.run(now, sh, errLoading)
	}
	c.wakeBy(now.Add(patience))
}

// unload drops what the shard has and answers everything that waits with err.
// It is loaded again when it is next asked for.
func (c *shards[S]) unload(sh S, err error) {
	p := sh.common()
	if p.state == unloaded {
		return
	}
	p.cancel()
	waiting := p.waiting
	p.state, p.waiting, p.log = unloaded, nil, nil
	now := time.Now()
	for _, e := range waiting {
		e.run(now, sh, err)
	}
	c.keep.drop(now, sh, err)
}

// due does what is due: timeouts, loads that take long, the sweep.
func (c *shards[S]) due(now time.Time) {
	sweep := !now.Before(c.sweep)
	if sweep {
		c.sweep = now.Add(c.cfg.GroupSweep)
	}
	if !sweep && (c.next.IsZero() || now.Before(c.next)) {
		return
	}
	c.next = time.Time{}
	for _, sh := range c.all {
		switch sh.common().state {
		case loading:
			c.impatient(now, sh)
		case ready:
			c.keep.tick(now, sh, sweep)
		}
	}
}

// wakeBy makes sure that due comes no later than d.
func (c *shards[S]) wakeBy(d time.Time) {
	if !d.IsZero() && (c.next.IsZero() || d.Before(c.next)) {
		c.next = d
	}
}

func (c *shards[S]) wake() time.Time {
	d := c.sweep
	if !c.next.IsZero() && c.next.Before(d) {
		d = c.next
	}
	if c.eager && c.look.Before(d) {
		d = c.look
	}
	if !c.watch.IsZero() && c.watch.Before(d) {
		d = c.watch
	}
	return d
}

// stop answers everything that waits with NOT_COORDINATOR.
func (c *shards[S]) stop() {
	for _, sh := range c.all {
		c.unload(sh, errNotCoordinator)
	}
	for _, e := range c.mail.close() {
		e.run(time.Now(), c.keep.shard(e.partition), errNotCoordinator)
	}
	c.keep.stopped()
}

// partitionOf is the partition, of n, of a group or a transactional ID: Java's
// String.hashCode without its sign, modulo n, as in Kafka.
func partitionOf(id string, n int32) int32 {
	var h int32
	for _, r := range id {
		if r >= 0x10000 { // Java hashes UTF-16
			r -= 0x10000
			h = 31*h + int32(0xd800+r>>10)
			r = 0xdc00 + r&0x3ff
		}
		h = 31*h + r
	}
	return (h & 0x7fffffff) % n
}

// shardOf finds the partition of a group or a transactional ID, and creates
// the topic first if nobody has used one before.
func (c *shards[S]) shardOf(ctx context.Context, id string) (int32, error) {
	n, err := c.partitions(ctx)
	if err != nil {
		return 0, err
	}
	return partitionOf(id, n), nil
}

// partitions is the number of partitions of the topic.
func (c *shards[S]) partitions(ctx context.Context) (int32, error) {
	if t, ok := c.meta.State().Topic(c.topic); ok {
		return int32(len(t.Partitions)), nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return 0, errNoCoordinator
	}
	st := c.meta.State()
	if t, ok := st.Topic(c.topic); ok {
		return int32(len(t.Partitions)), nil
	}
	id, err := record.NewTopicID(c.cfg.Rand)
	if err != nil {
		return 0, err
	}
	cmd := catalog.InternalTopic(c.topic, id, c.count, enoughReplicas(st), c.cfg.Clock().UnixMilli())
	if _, err := c.meta.Propose(ctx, cmd); err != nil && !errors.Is(err, record.ErrTopicExists) {
		return 0, fmt.Errorf("%w: create %s: %w", errNoCoordinator, c.topic, err)
	}
	if t, ok := c.meta.State().Topic(c.topic); ok {
		return int32(len(t.Partitions)), nil
	}
	return 0, errNoCoordinator
}

// confirm returns once what is read of a shard after it has all that any
// coordinator has acknowledged before the call: this node may have been cut off, and
// another one may coordinate since. Where this node does not lead it may lead later,
// with all that was acknowledged by then.
func (c *shards[S]) confirm(ctx context.Context, partition int32) error {
	c.vacant.here(ctx, c.topic, partition)
	log, err := c.parts.Partition(c.topic, partition)
	if err == nil {
		err = log.Confirm(ctx)
	}
	if errors.Is(err, record.ErrNotLeader) || errors.Is(err, record.ErrLeaderUnknown) {
		return nil
	}
	return coordinatorError(err)
}

// onShard runs f in run's goroutine once the partition has a leader and the shard
// is loaded, and returns after it. When ctx ends first f still runs, as what a
// client that is gone has asked for: nothing that f writes to may be read then.
func (c *shards[S]) onShard(ctx context.Context, partition int32, f func(now time.Time, sh S)) error {
	c.vacant.here(ctx, c.topic, partition)
	done := make(chan error, 1)
	open := c.mail.put(event[S]{partition: partition, run: func(now time.Time, sh S, err error) {
		if err == nil {
			f(now, sh)
		}
		done <- err
	}})
	if !open {
		return errNotCoordinator
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNoCoordinator, ctx.Err())
	}
}

// whileAsked is onShard for an f that writes to what its caller reads: it does
// not begin any more once ctx has ended, and has ended when this returns.
func (c *shards[S]) whileAsked(ctx context.Context, partition int32, f func(now time.Time, sh S)) error {
	var taken atomic.Bool // by f, or by the end of ctx
	ended := make(chan struct{})
	err := c.onShard(ctx, partition, func(now time.Time, sh S) {
		if !taken.Swap(true) {
			defer close(ended)
			f(now, sh)
		}
	})
	if err != nil && taken.Swap(true) {
		<-ended
	}
	return err
}

// onEach is whileAsked for every shard that this node coordinates.
func (c *shards[S]) onEach(ctx context.Context, f func(now time.Time, sh S)) error {
	t, ok := c.meta.State().Topic(c.topic)
	if !ok {
		return nil
	}
	for p := range t.Partitions {
		if err := c.whileAsked(ctx, int32(p), f); err != nil && !errors.Is(err, errNotCoordinator) {
			return err
		}
	}
	return nil
}
