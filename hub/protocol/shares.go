package protocol

import (
	"context"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// shares keeps what share groups have of partitions: that whose partition of
// __share_group_state is led here. The windows themselves are where the
// partition that is shared is led (share_led.go); they read their state
// from here and have it written.
type shares struct {
	shards[*shareShard]
}

// shareKey names one partition that a group shares.
type shareKey struct {
	group     string
	topic     record.TopicID
	partition int32
}

// shareShard is one partition of __share_group_state with what it keeps.
type shareShard struct {
	part[*shareShard]
	states  map[shareKey]*shareState
	dirty   map[shareKey]bool // to be written; those that are not in states are to be removed
	waiting []chan<- error    // for what is dirty
}

// shareState is a window as it was last told.
type shareState struct {
	*share.Window
	epoch   int32 // counts resets by the operator
	leader  int32 // highest leader epoch of the partition that has read or written it; -1: none is known
	created int64 // milliseconds; 0: not yet written
	written int64 // milliseconds; when it was last written
}

func newShares(cfg Config, parts Partitions, meta Meta, vacant *vacancies) *shares {
	c := &shares{}
	c.shards = newShards(cfg, parts, meta, vacant, catalog.ShareStateTopic, cfg.OffsetsPartitions, c)
	c.eager = true // what nobody asks for has to expire
	return c
}

// shard implements keeper.
func (c *shares) shard(partition int32) *shareShard {
	return &shareShard{part: part[*shareShard]{partition: partition}, states: map[shareKey]*shareState{}, dirty: map[shareKey]bool{}}
}

// read implements keeper.
func (c *shares) read(ctx context.Context, log Partition) (func(time.Time, *shareShard), error) {
	kept, err := readShares(ctx, log, c.cfg.Share, c.log)
	return func(_ time.Time, sh *shareShard) { c.live(sh, kept) }, err
}

func (c *shares) live(sh *shareShard, kept map[shareKey]*shareState) {
	least := c.cfg.Clock().Add(comeBack - c.cfg.Group.Retention).UnixMilli()
	for _, w := range kept {
		w.written = max(w.written, least)
	}
	sh.states, sh.dirty = kept, map[shareKey]bool{}
}

// drop implements keeper.
func (c *shares) drop(_ time.Time, sh *shareShard, err error) {
	reply(sh.waiting, err)
	sh.states, sh.dirty, sh.waiting = map[shareKey]*shareState{}, map[shareKey]bool{}, nil
}

func reply(waiting []chan<- error, err error) {
	for _, ch := range waiting {
		ch <- err // has room for the one answer it gets
	}
}

// tick implements keeper: with a sweep it drops what is of topics that are gone,
// and what nobody has used for Group.Retention.
func (c *shares) tick(_ time.Time, sh *shareShard, sweep bool) {
	if !sweep {
		return
	}
	st := c.meta.State()
	since := c.cfg.Clock().Add(-c.cfg.Group.Retention).UnixMilli()
	for k, w := range sh.states {
		if _, ok := st.TopicByID(k.topic); !ok || w.unused(since) {
			sh.remove(k)
		}
	}
}

// comeBack is how long the members of a share group have after a load to be
// heard again, before what it has may expire.
const comeBack = 10 * time.Minute

// unused reports whether nobody has read or written the state since, in
// milliseconds. A window that is in use is written in time (shareWindows.next).
func (w *shareState) unused(since int64) bool { return w.written != 0 && w.written < since }

func (sh *shareShard) remove(k shareKey) {
	if _, ok := sh.states[k]; ok {
		delete(sh.states, k)
		sh.dirty[k] = true
	}
}

// put has a state written; what it returns gets the outcome.
func (sh *shareShard) put(k shareKey, w *shareState) <-chan error {
	sh.states[k], sh.dirty[k] = w, true
	return sh.wait()
}

// wait is for the outcome of all that is to be written.
func (sh *shareShard) wait() <-chan error {
	durable := make(chan error, 1)
	sh.waiting = append(sh.waiting, durable)
	return durable
}

// flush implements keeper: whatever has changed goes into few batches.
func (c *shares) flush(sh *shareShard) {
	if len(sh.dirty) == 0 {
		reply(sh.waiting, nil)
		sh.waiting = nil
		return
	}
	b := newGroupBatch(c.cfg.Clock().UnixMilli())
	for k := range sh.dirty {
		var value []byte
		if w, ok := sh.states[k]; ok {
			value = shareValue(w, b.now)
		}
		b.put(shareRecordKey(k), value)
	}
	waiting, partition := sh.waiting, sh.partition
	sh.waiting = nil
	clear(sh.dirty)
	batches, err := b.build()
	if err != nil {
		c.written(partition, waiting, err)
		return
	}
	sh.log.AppendFenced(batches, sh.epoch, -1, func(_ []record.Appended, err error) { c.written(partition, waiting, coordinatorError(err)) })
}

// written reports the outcome of a write. After one that failed the partition is
// read again: what was not written did not happen.
func (c *shares) written(partition int32, waiting []chan<- error, err error) {
	open := c.mail.put(event[*shareShard]{partition: partition, always: true, run: func(_ time.Time, sh *shareShard, _ error) {
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
