package protocol

import (
	"context"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// shares drives the windows of share groups: those whose partition of
// __share_group_state is led here.
type shares struct {
	shards[*shareShard]
	use struct {
		sync.Mutex
		last map[string]time.Time // when a group was last heard of, by this node
	}
}

// shareKey names one partition that a group shares.
type shareKey struct {
	group     string
	topic     record.TopicID
	partition int32
}

// shareShard is one partition of __share_group_state with the windows it keeps.
type shareShard struct {
	part[*shareShard]
	windows map[shareKey]*shareWindow
	dirty   map[shareKey]bool // to be written; those that are not in windows are to be removed
	waiting []chan<- error    // for what is dirty
}

// shareWindow is a window with what only the driver needs.
type shareWindow struct {
	*share.Window
	epoch   int32         // counts resets by the operator
	created int64         // milliseconds; 0: not yet written
	written int64         // milliseconds; when it was last written
	durable bool          // some state of it is
	changed chan struct{} // closed when records became available
}

func newShares(cfg Config, parts Partitions, meta Meta) *shares {
	c := &shares{}
	c.use.last = map[string]time.Time{}
	c.shards = newShards(cfg, parts, meta, catalog.ShareStateTopic, cfg.OffsetsPartitions, c)
	c.eager = true // what nobody asks for has to expire
	return c
}

// shard implements keeper.
func (c *shares) shard(partition int32) *shareShard {
	return &shareShard{part: part[*shareShard]{partition: partition}, windows: map[shareKey]*shareWindow{}, dirty: map[shareKey]bool{}}
}

// read implements keeper.
func (c *shares) read(ctx context.Context, log Partition) (func(time.Time, *shareShard), error) {
	kept, err := readShares(ctx, log, c.cfg.Share, c.log)
	return func(_ time.Time, sh *shareShard) { c.live(sh, kept) }, err
}

func (c *shares) live(sh *shareShard, kept map[shareKey]*shareWindow) {
	least := c.cfg.Clock().Add(comeBack - c.cfg.Group.Retention).UnixMilli()
	for _, w := range kept {
		w.written = max(w.written, least)
	}
	sh.windows, sh.dirty = kept, map[shareKey]bool{}
}

// drop implements keeper.
func (c *shares) drop(_ time.Time, sh *shareShard, err error) {
	for _, w := range sh.windows {
		close(w.changed)
	}
	reply(sh.waiting, err)
	sh.windows, sh.dirty, sh.waiting = map[shareKey]*shareWindow{}, map[shareKey]bool{}, nil
}

func reply(waiting []chan<- error, err error) {
	for _, ch := range waiting {
		ch <- err // has room for the one answer it gets
	}
}

// tick implements keeper: it takes back what was held for too long, and with a
// sweep drops windows in topics that are gone and those that nobody has used for
// Group.Retention.
func (c *shares) tick(now time.Time, sh *shareShard, sweep bool) {
	if sweep {
		c.expire(sh)
	}
	st := c.meta.State()
	for k, w := range sh.windows {
		if w.Tick(now) {
			sh.released(k, w)
		}
		c.wakeBy(w.Deadline())
		if _, ok := st.TopicByID(k.topic); sweep && !ok {
			sh.remove(k)
		}
	}
}

// comeBack is how long the members of a share group have after a load to be
// heard again, before its windows may expire.
const comeBack = 10 * time.Minute

func (c *shares) expire(sh *shareShard) {
	since := c.cfg.Clock().Add(-c.cfg.Group.Retention)
	unused := c.unused(since)
	for k, w := range sh.windows {
		if w.written != 0 && w.written < since.UnixMilli() && unused(k.group) {
			sh.remove(k)
		}
	}
}

// released tells those who wait that there are records, and has it written.
func (sh *shareShard) released(k shareKey, w *shareWindow) {
	sh.dirty[k] = true
	close(w.changed)
	w.changed = make(chan struct{})
}

func (sh *shareShard) remove(k shareKey) {
	if w, ok := sh.windows[k]; ok {
		close(w.changed)
		delete(sh.windows, k)
		sh.dirty[k] = true
	}
}

// set puts a window in the place of the one before.
func (sh *shareShard) set(k shareKey, w *share.Window) *shareWindow {
	epoch := int32(0)
	if old, ok := sh.windows[k]; ok {
		epoch = old.epoch + 1
	}
	sh.remove(k)
	sh.windows[k] = &shareWindow{Window: w, epoch: epoch, changed: make(chan struct{})}
	sh.dirty[k] = true
	return sh.windows[k]
}

// flush implements keeper: whatever has changed goes into few batches.
func (c *shares) flush(sh *shareShard) {
	if len(sh.dirty) == 0 {
		reply(sh.waiting, nil)
		sh.waiting = nil
		return
	}
	b := newGroupBatch(c.cfg.Clock().UnixMilli())
	var fresh []*shareWindow
	for k := range sh.dirty {
		var value []byte
		if w, ok := sh.windows[k]; ok {
			value = shareValue(w, sh.epoch, b.now)
			if !w.durable {
				fresh = append(fresh, w)
			}
		}
		b.put(shareRecordKey(k), value)
	}
	waiting, partition := sh.waiting, sh.partition
	sh.waiting = nil
	clear(sh.dirty)
	batches, err := b.build()
	if err != nil {
		c.written(partition, fresh, waiting, err)
		return
	}
	sh.log.AppendFenced(batches, sh.epoch, -1, func(_ []record.Appended, err error) { c.written(partition, fresh, waiting, coordinatorError(err)) })
}

// written reports the outcome of a write, the first for some windows. After one
// that failed the partition is read again: what was not written did not happen.
func (c *shares) written(partition int32, fresh []*shareWindow, waiting []chan<- error, err error) {
	open := c.mail.put(event[*shareShard]{partition: partition, always: true, run: func(_ time.Time, sh *shareShard, _ error) {
		for _, w := range fresh {
			w.durable = err == nil
		}
		reply(waiting, err)
		if err != nil {
			c.log.Warn("cannot write the state of share groups", "partition", partition, "error", err)
			c.unload(sh, err)
		}
	}})
	if !open {
		reply(waiting, errNotCoordinator)
	}
}

// stopped implements keeper.
func (c *shares) stopped() {}
