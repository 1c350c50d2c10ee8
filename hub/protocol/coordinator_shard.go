package protocol

import (
	"context"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// shard is one partition of __consumer_offsets with the groups it keeps.
type shard struct {
	partition int32
	state     shardState
	epoch     int32 // leader epoch of the load
	since     time.Time
	log       Partition
	cancel    context.CancelFunc // ends the load
	groups    map[string]*group.Group
	waiting   []event // for the load
	writes    []groupWrite
}

type shardState uint8

const (
	unloaded shardState = iota
	loading
	ready
)

// groupWrite is a write that a group wants durable.
type groupWrite struct {
	g *group.Group
	w group.Write
}

// patience is how long a request waits for a load before it is sent away with
// COORDINATOR_LOAD_IN_PROGRESS; the client comes back.
const patience = 5 * time.Second

// maxGroupBatch is the size at which writes of several groups are no longer
// put into one batch.
const maxGroupBatch = 256 << 10

// load reads the partition in the background.
func (c *coordinator) load(now time.Time, sh *shard, log Partition) {
	ctx, cancel := context.WithCancel(c.ctx)
	sh.state, sh.since, sh.log, sh.cancel = loading, now, log, cancel
	sh.epoch = log.Offsets().LeaderEpoch
	c.wakeBy(now.Add(patience))
	epoch := sh.epoch
	c.loads.Go(func() {
		kept, err := readGroups(ctx, log, c.log)
		c.mail.put(event{partition: sh.partition, always: true, run: func(now time.Time, sh *shard, _ error) {
			if sh.state == loading && sh.epoch == epoch {
				c.loaded(now, sh, kept, err)
			}
		}})
	})
}

// loaded brings the groups to life and runs what has waited.
func (c *coordinator) loaded(now time.Time, sh *shard, kept map[string]*keptGroup, err error) {
	if err != nil {
		c.log.Error("cannot load consumer groups", "partition", sh.partition, "error", err)
		c.unload(sh, coordinatorError(err))
		return
	}
	sh.cancel()
	sh.state, sh.groups = ready, make(map[string]*group.Group, len(kept))
	for id, k := range kept {
		g := group.Load(id, c.cfg.Group, now, k.metadata, k.writes())
		sh.groups[id] = g
		c.wakeBy(g.Deadline())
	}
	waiting := sh.waiting
	sh.waiting = nil
	for _, e := range waiting {
		e.run(now, sh, nil)
	}
}

// impatient sends requests away that have waited too long for a load.
func (c *coordinator) impatient(now time.Time, sh *shard) {
	if now.Sub(sh.since) < patience {
		c.wakeBy(sh.since.Add(patience))
		return
	}
	waiting := sh.waiting
	sh.waiting = nil
	for _, e := range waiting {
		e.run(now, sh, errLoading)
	}
	c.wakeBy(now.Add(patience))
}

// unload drops the groups and answers everything that waits with err. The
// shard is loaded again when it is next asked for.
func (c *coordinator) unload(sh *shard, err error) {
	if sh.state == unloaded {
		return
	}
	sh.cancel()
	groups, waiting := sh.groups, sh.waiting
	sh.state, sh.groups, sh.waiting, sh.log = unloaded, nil, nil, nil
	lost := sh.writes
	sh.writes = nil
	now := time.Now()
	for _, e := range waiting {
		e.run(now, sh, err)
	}
	for _, g := range groups {
		c.apply(sh, g, g.Close(err))
	}
	for _, l := range lost {
		c.apply(sh, l.g, l.g.Written(now, l.w.ID, err))
	}
}

// flush appends what the groups of a shard want written, as few batches.
func (c *coordinator) flush(sh *shard) {
	for len(sh.writes) > 0 {
		b := newGroupBatch(c.cfg.Clock().UnixMilli())
		n := 0
		for n < len(sh.writes) && (n == 0 || b.size() < maxGroupBatch) {
			b.add(sh.writes[n].g.ID(), sh.writes[n].w)
			n++
		}
		writes := sh.writes[:n:n]
		sh.writes = sh.writes[n:]
		batch, err := b.build()
		if err != nil {
			c.written(sh.partition, writes, fmt.Errorf("encode group records: %w", err))
			continue
		}
		partition := sh.partition
		sh.log.Append([]record.Batch{batch}, func(_ []record.Appended, err error) {
			c.written(partition, writes, coordinatorError(err))
		})
	}
}

// written reports the outcome of writes to their groups.
func (c *coordinator) written(partition int32, writes []groupWrite, err error) {
	c.mail.put(event{partition: partition, always: true, run: func(now time.Time, sh *shard, _ error) {
		for _, w := range writes {
			c.apply(sh, w.g, w.g.Written(now, w.w.ID, err))
		}
	}})
}
