package protocol

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// do runs f on a group that exists; nil stands for one that does not.
func (c *coordinator) do(ctx context.Context, id string, f func(now time.Time, g *group.Group) group.Output) error {
	p, err := c.shardOf(ctx, id)
	if err != nil {
		return err
	}
	return c.whileAsked(ctx, p, func(now time.Time, sh *shard) {
		g := sh.groups[id]
		out := f(now, g)
		if g != nil {
			c.apply(sh, g, out)
		}
	})
}

// ask runs f on a group, which it creates if need be, and waits for the answer
// to the ticket that f gets. It creates none under the name of a share group
// that has offsets.
func (c *coordinator) ask(ctx context.Context, id string, f func(now time.Time, g *group.Group, t group.Ticket) group.Output) (group.Answer, error) {
	a, err := c.askOnce(ctx, id, false, f)
	if !errors.Is(err, errNoGroup) {
		return a, err
	}
	kept, err := c.shared(ctx, id)
	switch {
	case err != nil:
		return group.Answer{}, err
	case kept:
		return group.Answer{}, errShares
	}
	return c.askOnce(ctx, id, true, f)
}

// errNoGroup: askOnce may not create the group.
var errNoGroup = errors.New("the group is not there yet")

func (c *coordinator) askOnce(ctx context.Context, id string, create bool, f func(now time.Time, g *group.Group, t group.Ticket) group.Output) (group.Answer, error) {
	p, err := c.shardOf(ctx, id)
	if err != nil {
		return group.Answer{}, err
	}
	reply := make(chan group.Answer, 1)
	var ticket group.Ticket
	err = c.onShard(ctx, p, func(now time.Time, sh *shard) {
		g := sh.groups[id]
		if sh.shares[id] != nil {
			reply <- group.Answer{Err: errShares}
			return
		}
		if g == nil && !create {
			reply <- group.Answer{Err: errNoGroup}
			return
		}
		if g == nil {
			g = group.New(id, c.configOf(id), now)
			sh.groups[id] = g
		}
		c.ticket++
		ticket = c.ticket
		c.parked[ticket] = reply
		c.apply(sh, g, f(now, g, ticket))
	})
	if err != nil {
		return group.Answer{}, err
	}
	select {
	case a := <-reply:
		return a, a.Err
	case <-ctx.Done():
		c.forget(p, ticket)
		return group.Answer{}, fmt.Errorf("%w: %w", errNoCoordinator, ctx.Err())
	}
}

// configOf is the configuration of a group, with what was set for it.
func (c *coordinator) configOf(id string) group.Config {
	set := c.meta.State().GroupConfig(id)
	if len(set) == 0 {
		return c.cfg.Group
	}
	return c.cfg.Group.WithTiming(timing(c.cfg.Group, set))
}

// timing is what a group's settings make of the node's defaults.
func timing(cfg group.Config, set map[string]string) group.Timing {
	t := cfg.Consumer
	for name, d := range map[string]*time.Duration{catalog.GroupSession: &t.Session, catalog.GroupInterval: &t.Interval} {
		if v, ok := set[name]; ok {
			*d = milliseconds(v)
		}
	}
	return t
}

// forget drops the wait of a client that is gone. Its member stays until the
// session ends: it may come back on another connection.
func (c *coordinator) forget(p int32, t group.Ticket) {
	c.mail.put(event[*shard]{partition: p, always: true, run: func(time.Time, *shard, error) { delete(c.parked, t) }})
}

// ended takes over, or drops, what a producer's transaction committed in the
// groups of a partition: its marker is durable. It does not wait.
func (c *coordinator) ended(partition int32, m record.TransactionMarker) {
	c.mail.put(event[*shard]{partition: partition, run: func(_ time.Time, sh *shard, err error) {
		if err != nil {
			return // it is read with the partition
		}
		for _, g := range sh.groups {
			if g.EndTransaction(m.ProducerID, m.Commit) {
				c.apply(sh, g, group.Output{})
			}
		}
	}})
}

// topicDeleted drops the offsets of a deleted topic in all loaded groups; a
// topic of the same name that comes later must not begin at them. It does not
// wait.
func (c *coordinator) topicDeleted(topic string) {
	t, ok := c.meta.State().Topic(catalog.OffsetsTopic)
	if !ok {
		return
	}
	for p := range t.Partitions {
		c.mail.put(event[*shard]{partition: int32(p), run: func(_ time.Time, sh *shard, err error) {
			if err != nil {
				return
			}
			for _, g := range sh.groups {
				c.apply(sh, g, g.Forget(topic))
			}
		}})
	}
}

// each runs f on every group that this node coordinates.
func (c *coordinator) each(ctx context.Context, f func(g *group.Group)) error {
	return c.onEach(ctx, func(_ time.Time, sh *shard) {
		for _, g := range sh.groups {
			f(g)
		}
	})
}

// coordinates reports whether a group's coordinator is here.
func (c *coordinator) coordinates(id string) bool {
	t, ok := c.meta.State().Topic(c.topic)
	if !ok {
		return false
	}
	log, err := c.parts.Partition(c.topic, partitionOf(id, int32(len(t.Partitions))))
	return err == nil && log.Serving() == nil
}
