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

// partitionOf is the partition of __consumer_offsets, of n, that keeps a
// group: Java's String.hashCode without its sign, modulo n, as in Kafka.
func partitionOf(group string, n int32) int32 {
	var h int32
	for _, r := range group {
		if r >= 0x10000 { // Java hashes UTF-16
			r -= 0x10000
			h = 31*h + int32(0xd800+r>>10)
			r = 0xdc00 + r&0x3ff
		}
		h = 31*h + r
	}
	return (h & 0x7fffffff) % n
}

// shardOf finds the partition of a group, and creates the topic first if
// nobody has used a group before.
func (c *coordinator) shardOf(ctx context.Context, id string) (int32, error) {
	n, err := c.partitions(ctx)
	if err != nil {
		return 0, err
	}
	return partitionOf(id, n), nil
}

// partitions is the number of partitions of __consumer_offsets.
func (c *coordinator) partitions(ctx context.Context) (int32, error) {
	if t, ok := c.meta.State().Topic(catalog.OffsetsTopic); ok {
		return int32(len(t.Partitions)), nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return 0, errNoCoordinator
	}
	st := c.meta.State()
	if t, ok := st.Topic(catalog.OffsetsTopic); ok {
		return int32(len(t.Partitions)), nil
	}
	id, err := record.NewTopicID(c.cfg.Rand)
	if err != nil {
		return 0, err
	}
	replicas := max(1, min(int32(len(st.Nodes())), 3))
	cmd := catalog.InternalTopic(catalog.OffsetsTopic, id, c.cfg.OffsetsPartitions, replicas, c.cfg.Clock().UnixMilli())
	if _, err := c.meta.Propose(ctx, cmd); err != nil && !errors.Is(err, record.ErrTopicExists) {
		return 0, fmt.Errorf("%w: create %s: %w", errNoCoordinator, catalog.OffsetsTopic, err)
	}
	if t, ok := c.meta.State().Topic(catalog.OffsetsTopic); ok {
		return int32(len(t.Partitions)), nil
	}
	return 0, errNoCoordinator
}

// onShard runs f in the coordinator's goroutine once the shard is loaded, and
// returns after it. When ctx ends first f may still run, with nobody to see it.
func (c *coordinator) onShard(ctx context.Context, partition int32, f func(now time.Time, sh *shard)) error {
	done := make(chan error, 1)
	open := c.mail.put(event{partition: partition, run: func(now time.Time, sh *shard, err error) {
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

// do runs f on a group that exists; nil stands for one that does not.
func (c *coordinator) do(ctx context.Context, id string, f func(now time.Time, g *group.Group) group.Output) error {
	p, err := c.shardOf(ctx, id)
	if err != nil {
		return err
	}
	return c.onShard(ctx, p, func(now time.Time, sh *shard) {
		g := sh.groups[id]
		out := f(now, g)
		if g != nil {
			c.apply(sh, g, out)
		}
	})
}

// ask runs f on a group, which it creates if need be, and waits for the answer
// to the ticket that f gets.
func (c *coordinator) ask(ctx context.Context, id string, f func(now time.Time, g *group.Group, t group.Ticket) group.Output) (group.Answer, error) {
	p, err := c.shardOf(ctx, id)
	if err != nil {
		return group.Answer{}, err
	}
	reply := make(chan group.Answer, 1)
	var ticket group.Ticket
	err = c.onShard(ctx, p, func(now time.Time, sh *shard) {
		g := sh.groups[id]
		if g == nil {
			g = group.New(id, c.cfg.Group, now)
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

// forget drops the wait of a client that is gone. Its member stays until the
// session ends: it may come back on another connection.
func (c *coordinator) forget(p int32, t group.Ticket) {
	c.mail.put(event{partition: p, always: true, run: func(time.Time, *shard, error) { delete(c.parked, t) }})
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
		c.mail.put(event{partition: int32(p), run: func(_ time.Time, sh *shard, err error) {
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
	t, ok := c.meta.State().Topic(catalog.OffsetsTopic)
	if !ok {
		return nil
	}
	for p := range t.Partitions {
		err := c.onShard(ctx, int32(p), func(_ time.Time, sh *shard) {
			for _, g := range sh.groups {
				f(g)
			}
		})
		if err != nil && !errors.Is(err, errNotCoordinator) {
			return err
		}
	}
	return nil
}
