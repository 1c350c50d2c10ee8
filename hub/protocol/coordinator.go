package protocol

import (
	"context"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// coordinator drives the group state machines of this node: those whose
// partition of __consumer_offsets is led here.
type coordinator struct {
	shards[*shard]
	// shared reports whether a share group of this name has offsets.
	shared func(ctx context.Context, id string) (bool, error)

	// The rest belongs to run's goroutine.
	site   groupTopics // the topics at the last look
	parked map[group.Ticket]chan<- group.Answer
	ticket group.Ticket
}

func newCoordinator(cfg Config, parts Partitions, meta Meta, vacant *vacancies) *coordinator {
	c := &coordinator{parked: map[group.Ticket]chan<- group.Answer{}}
	c.shards = newShards(cfg, parts, meta, vacant, catalog.OffsetsTopic, cfg.OffsetsPartitions, c)
	return c
}

// tick implements keeper.
func (c *coordinator) tick(now time.Time, sh *shard, sweep bool) {
	c.groupsDue(now, sh, sweep)
	c.sharesDue(now, sh)
	if sweep {
		c.prune(sh, true)
	}
}

func (c *coordinator) groupsDue(now time.Time, sh *shard, sweep bool) {
	for _, g := range sh.groups {
		if d := g.Deadline(); !d.IsZero() && !now.Before(d) {
			c.apply(sh, g, g.Tick(now, c.topics()))
		} else {
			c.wakeBy(d)
		}
		if sweep {
			c.apply(sh, g, g.Expire(now))
		}
	}
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

// stopped implements keeper.
func (c *coordinator) stopped() {
	for t, reply := range c.parked {
		reply <- group.Answer{Ticket: t, Err: errNotCoordinator}
	}
	clear(c.parked)
}
