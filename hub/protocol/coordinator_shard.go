package protocol

import (
	"context"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// shard is one partition of __consumer_offsets with the groups it keeps.
type shard struct {
	part[*shard]
	groups map[string]*group.Group
	writes []groupWrite
	shares map[string]*share.Group // members of share groups, which are not kept
}

// shard implements keeper.
func (c *coordinator) shard(partition int32) *shard {
	return &shard{part: part[*shard]{partition: partition}, shares: map[string]*share.Group{}}
}

// groupWrite is a write that a group wants durable.
type groupWrite struct {
	g *group.Group
	w group.Write
}

// maxGroupBatch is the size of a batch above which it has one record: far below
// what any topic takes, so that a large group can write what changed.
const maxGroupBatch = 256 << 10

// read implements keeper.
func (c *coordinator) read(ctx context.Context, log Partition) (func(time.Time, *shard), error) {
	kept, err := readGroups(ctx, log, c.log)
	return func(now time.Time, sh *shard) {
		sh.groups = make(map[string]*group.Group, len(kept))
		for id, k := range kept {
			g, err := k.live(id, c.configOf(id), now)
			if err != nil { // the group goes on without what cannot be used
				c.log.Error("a consumer group was not loaded as it was", "group", id, "error", err)
			}
			k.pend(g)
			sh.groups[id] = g
			c.wakeBy(g.Deadline())
		}
		c.prune(sh, false)
	}, err
}

// prune removes offsets in topics that were deleted: nobody may have told this
// node, or it was not there. An offset from before a topic was made is one in
// an older topic of its name; see committedAt. Those of names that do not exist
// go with a sweep alone, so that a catalog that lags behind costs no offset.
func (c *coordinator) prune(sh *shard, missing bool) {
	st := c.meta.State()
	for _, g := range sh.groups {
		c.apply(sh, g, g.Prune(func(tp record.TopicPartition, o group.Offset) bool {
			t, ok := st.Topic(tp.Topic)
			if !ok {
				return missing
			}
			return o.CommitTime < t.Created
		}))
	}
}

// committedAt is the time of a commit in a topic. It is never before the
// topic's, whatever the clocks of two nodes say.
func committedAt(t *catalog.Topic, now int64) int64 { return max(now, t.Created) }

// drop implements keeper.
func (c *coordinator) drop(now time.Time, sh *shard, err error) {
	groups, lost := sh.groups, sh.writes
	sh.groups, sh.writes = nil, nil
	clear(sh.shares)
	for _, g := range groups {
		c.apply(sh, g, g.Close(err))
	}
	for _, l := range lost {
		c.apply(sh, l.g, l.g.Written(now, l.w.ID, err))
	}
}

// flush implements keeper: it makes few batches of all writes.
func (c *coordinator) flush(sh *shard) {
	for len(sh.writes) > 0 {
		b, n := c.batch(sh.writes)
		writes := sh.writes[:n:n]
		sh.writes = sh.writes[n:]
		batches, err := b.build()
		if err != nil {
			c.written(sh.partition, writes, fmt.Errorf("encode group records: %w", err))
			continue
		}
		partition := sh.partition
		done := func(_ []record.Appended, err error) { c.written(partition, writes, coordinatorError(err)) }
		guard := int64(-1)
		if t := writes[0].w.Transactional; t != nil {
			guard = t.Guard
		}
		sh.log.AppendFenced(batches, sh.epoch, guard, done)
	}
}

// batch puts the first writes, n of them, into one batch. A write of a
// transaction has one of its own.
func (c *coordinator) batch(writes []groupWrite) (b *groupBatch, n int) {
	b = newGroupBatch(c.cfg.Clock().UnixMilli())
	if t := writes[0].w.Transactional; t != nil {
		b.of(t)
	}
	for _, w := range writes {
		if n > 0 && (b.size() >= maxGroupBatch || w.w.Transactional != nil || writes[0].w.Transactional != nil) {
			break
		}
		b.add(w.g.ID(), w.w)
		n++
	}
	return b, n
}

// written reports the outcome of writes to their groups.
func (c *coordinator) written(partition int32, writes []groupWrite, err error) {
	c.mail.put(event[*shard]{partition: partition, always: true, run: func(now time.Time, sh *shard, _ error) {
		for _, w := range writes {
			c.apply(sh, w.g, w.g.Written(now, w.w.ID, err))
		}
	}})
}
