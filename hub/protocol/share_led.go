package protocol

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// shareWindows are the windows of the partitions that are led here. A window is
// read from the node that keeps its state, and every change that has to last is
// written there, all of the window each time. Who leads a partition reads its
// windows anew, after which the leader before can write them no more.
type shareWindows struct {
	cfg   Config
	parts Partitions
	meta  Meta
	log   *slog.Logger
	ask   shareKeeper
	wake  chan struct{}

	mu struct {
		sync.Mutex
		ctx   context.Context // of run; nil: it has not begun, and reads wait for it
		ended bool
		work  sync.WaitGroup // reads and writes of states
		all   map[shareKey]*shareWindow
		next  time.Time // when something that is held has to be taken back; zero: never
	}
}

// shareKeeper reaches the node that keeps a state.
type shareKeeper interface {
	look(ctx context.Context, k shareKey, leader int32) (shareFound, error)
	begin(ctx context.Context, k shareKey, epoch int32, start int64) error
	store(ctx context.Context, k shareKey, epoch, leader int32, start int64, batches []share.Batch) error
}

// shareWindow is a window with what only the driver needs. All but ready and err
// belong to the lock of shareWindows.
type shareWindow struct {
	k      shareKey
	leader int32         // epoch of the partition under which it was read
	start  int64         // where a group that has nothing yet begins
	ready  chan struct{} // closed once it was read, or could not be
	err    error         // why it could not
	*share.Window
	epoch   int32         // of its state
	changed chan struct{} // closed when records became available, or at its end
	dirty   bool          // has to be written
	writing bool
	waiting []chan<- error // for the write that comes next
	kept    time.Time      // when it was last read or written
}

func newShareWindows(cfg Config, parts Partitions, meta Meta, ask shareKeeper) *shareWindows {
	c := &shareWindows{cfg: cfg, parts: parts, meta: meta, log: cfg.Logger, ask: ask, wake: make(chan struct{}, 1)}
	c.mu.all = map[shareKey]*shareWindow{}
	return c
}

// run takes back what was held for too long, until ctx ends, and waits for what
// is being read and written.
func (c *shareWindows) run(ctx context.Context) {
	c.mu.Lock()
	c.mu.ctx = ctx
	for _, w := range c.mu.all {
		c.mu.work.Go(func() { c.read(ctx, w) })
	}
	c.mu.Unlock()
	sweep := time.NewTicker(c.cfg.GroupSweep)
	defer sweep.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-sweep.C:
			c.sweep()
		case <-timer.C:
			c.tick(time.Now())
		case <-c.wake:
		}
		if d := c.due(); !d.IsZero() {
			timer.Reset(time.Until(d))
		}
	}
	c.mu.Lock()
	c.mu.ended = true
	for _, w := range c.mu.all {
		c.drop(w, errNotCoordinator)
	}
	c.mu.Unlock()
	c.mu.work.Wait()
}

func (c *shareWindows) due() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.next
}

// tick takes back what was held for too long.
func (c *shareWindows) tick(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.next = time.Time{}
	for _, w := range c.mu.all {
		if w.Window == nil {
			continue
		}
		if w.Tick(now) {
			c.released(w)
		}
		c.wakeBy(w.Deadline())
	}
}

// sweep drops the windows of partitions that are not led here any more.
func (c *shareWindows) sweep() {
	c.mu.Lock()
	all := maps.Clone(c.mu.all)
	c.mu.Unlock()
	st := c.meta.State()
	for k, w := range all {
		if t, ok := st.TopicByID(k.topic); ok {
			log, err := c.parts.Partition(t.Name, k.partition)
			if err == nil && log.Serving() == nil && log.Offsets().LeaderEpoch == w.leader {
				continue
			}
		}
		c.mu.Lock()
		c.drop(w, record.ErrNotLeader)
		c.mu.Unlock()
	}
}

// wakeBy makes sure that tick comes no later than d.
func (c *shareWindows) wakeBy(d time.Time) {
	if d.IsZero() || !c.mu.next.IsZero() && !d.Before(c.mu.next) {
		return
	}
	c.mu.next = d
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// drop ends a window: it is read anew when it is next asked for.
func (c *shareWindows) drop(w *shareWindow, err error) {
	if c.mu.all[w.k] != w {
		return
	}
	delete(c.mu.all, w.k)
	close(w.changed)
	reply(w.waiting, err)
	w.waiting = nil
	if c.mu.ctx == nil { // nobody reads it
		w.err = err
		close(w.ready)
	}
}

// released tells those who wait that there are records, and has it written.
func (c *shareWindows) released(w *shareWindow) {
	close(w.changed)
	w.changed = make(chan struct{})
	c.write(w)
}

// open finds a window, and reads it first if need be. A group that has none yet
// begins at start.
func (c *shareWindows) open(ctx context.Context, k shareKey, leader int32, start int64) (*shareWindow, error) {
	c.mu.Lock()
	w := c.mu.all[k]
	if w != nil && w.leader != leader {
		c.drop(w, record.ErrNotLeader)
		w = nil
	}
	if w == nil {
		if c.mu.ended {
			c.mu.Unlock()
			return nil, errNotCoordinator
		}
		w = &shareWindow{k: k, leader: leader, start: start, ready: make(chan struct{}), changed: make(chan struct{})}
		c.mu.all[k] = w
		if ctx := c.mu.ctx; ctx != nil {
			c.mu.work.Go(func() { c.read(ctx, w) })
		}
	}
	c.mu.Unlock()
	select {
	case <-w.ready:
		return w, w.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// read brings a window to life. Nobody is told of it before there is a durable
// state: records that come between must not be passed over after a crash.
func (c *shareWindows) read(ctx context.Context, w *shareWindow) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, err := c.ask.look(ctx, w.k, w.leader)
	if err == nil && !found.there {
		if err = c.ask.begin(ctx, w.k, 0, w.start); err == nil || errors.Is(err, errShareState) {
			found, err = c.ask.look(ctx, w.k, w.leader)
		}
	}
	var window *share.Window
	switch {
	case err != nil:
	case !found.there:
		err = errShareState // removed since
	default:
		window, err = share.Restore(found.start, found.batches, c.cfg.Share)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.mu.all[w.k] != w {
		err = record.ErrNotLeader
	}
	if err == nil {
		w.Window, w.epoch, w.kept = window, found.epoch, c.cfg.Clock()
	} else {
		c.drop(w, err)
	}
	w.err = err
	close(w.ready)
}

// write has a window written once what is being written of it is.
func (c *shareWindows) write(w *shareWindow) {
	w.dirty = true
	if w.writing {
		return
	}
	run := c.mu.ctx
	if c.mu.ended {
		c.drop(w, errNotCoordinator)
		return
	}
	w.dirty, w.writing = false, true
	waiting := w.waiting
	w.waiting = nil
	start, batches := w.Snapshot()
	c.mu.work.Go(func() {
		ctx, cancel := context.WithTimeout(run, patience)
		defer cancel()
		c.written(w, waiting, c.ask.store(ctx, w.k, w.epoch, w.leader, start, batches))
	})
}

// written reports the outcome of a write. What was not written did not happen:
// the window is read anew.
func (c *shareWindows) written(w *shareWindow, waiting []chan<- error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reply(waiting, err)
	w.writing = false
	switch {
	case err != nil:
		c.log.Warn("cannot write the state of a share group", "group", w.k.group, "partition", w.k.partition, "error", err)
		c.drop(w, err)
	case c.mu.all[w.k] == w:
		w.kept = c.cfg.Clock()
		if w.dirty {
			c.write(w)
		}
	}
}
