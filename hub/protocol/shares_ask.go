package protocol

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
)

// name is what Kafka hashes to find the partition of the state.
func (k shareKey) name() string {
	return fmt.Sprintf("%s:%s:%d", k.group, base64.RawURLEncoding.EncodeToString(k.topic[:]), k.partition)
}

// with runs f on the shard of a partition that a group shares, as whileAsked
// does.
func (c *shares) with(ctx context.Context, k shareKey, f func(now time.Time, sh *shareShard)) error {
	p, err := c.shardOf(ctx, k.name())
	if err != nil {
		return err
	}
	return c.whileAsked(ctx, p, f)
}

// tell is with for what has to be done also when the client is gone since; f
// writes to nothing that the caller reads.
func (c *shares) tell(ctx context.Context, k shareKey, f func(now time.Time, sh *shareShard)) error {
	p, err := c.shardOf(ctx, k.name())
	if err != nil {
		return err
	}
	return c.onShard(ctx, p, f)
}

// await waits until what was done before is durable.
func (c *shares) await(ctx context.Context, durable <-chan error) error {
	select {
	case err := <-durable:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNoCoordinator, ctx.Err())
	}
}

// shareSettings are what is set for a share group.
func shareSettings(st *catalog.State, group string) share.Settings {
	set := share.DefaultSettings()
	config := st.GroupConfig(group)
	for name, d := range map[string]*time.Duration{catalog.GroupShareLock: &set.Lock, catalog.GroupShareSession: &set.Session, catalog.GroupShareInterval: &set.Interval} {
		if v, ok := config[name]; ok {
			*d = milliseconds(v)
		}
	}
	set.Earliest = config[catalog.GroupShareReset] == "earliest"
	return set
}

// place is where a window is when a member asks for records.
type place struct {
	offset  int64 // to read from
	room    bool  // false: nothing can be handed out
	epoch   int32
	changed <-chan struct{}
}

// next finds where there may be records, and makes the window if this is the
// group's first look at the partition. Nobody is told of a window before it is
// durable: records that come between must not be passed over after a crash.
func (c *shares) next(ctx context.Context, k shareKey, set share.Settings, log Partition) (at place, err error) {
	c.heard(k.group)
	o := log.Offsets()
	var durable chan error // nil: it is
	err = c.with(ctx, k, func(_ time.Time, sh *shareShard) {
		w, ok := sh.windows[k]
		if !ok {
			start := o.HighWatermark
			if set.Earliest {
				start = o.Start
			}
			w = sh.set(k, share.NewWindow(start, c.cfg.Share))
		}
		if w.Trim(o.Start) {
			sh.dirty[k] = true
		}
		if !w.durable {
			durable = make(chan error, 1)
			sh.waiting = append(sh.waiting, durable)
			sh.dirty[k] = true // the write comes behind one that may be under way
		}
		at.offset, at.room = w.Next()
		at.epoch, at.changed = w.epoch, w.changed
	})
	if err == nil && durable != nil {
		err = c.await(ctx, durable)
	}
	return at, err
}

// acquire hands a member records of batches, which were read from at on.
func (c *shares) acquire(ctx context.Context, k shareKey, member string, most int64, lock time.Duration, at place, batches []share.Range) (held []share.Held, err error) {
	err = c.with(ctx, k, func(now time.Time, sh *shareShard) {
		w, ok := sh.windows[k]
		if !ok || w.epoch != at.epoch {
			return
		}
		start := w.Start()
		held = w.Acquire(now, member, most, lock, at.offset, batches)
		if w.Start() != start {
			sh.dirty[k] = true
		}
		c.wakeBy(w.Deadline())
	})
	return held, err
}

// acknowledge takes a member's word, also of one that is gone since. What it
// returns waits until it is durable.
func (c *shares) acknowledge(ctx context.Context, k shareKey, member string, lock time.Duration, acks []share.Ack, renew bool) (wait func() error) {
	durable := make(chan error, 1)
	err := c.tell(ctx, k, func(now time.Time, sh *shareShard) {
		w, ok := sh.windows[k]
		if !ok {
			durable <- share.ErrRecordState
			return
		}
		if err := w.Acknowledge(now, member, lock, acks, renew); err != nil {
			durable <- err
			return
		}
		sh.released(k, w)
		sh.waiting = append(sh.waiting, durable)
		c.wakeBy(w.Deadline())
	})
	if err != nil {
		return func() error { return err }
	}
	return func() error { return c.await(ctx, durable) }
}

// release takes back all that a member holds of a partition.
func (c *shares) release(ctx context.Context, k shareKey, member string) error {
	return c.tell(ctx, k, func(_ time.Time, sh *shareShard) {
		if w, ok := sh.windows[k]; ok && w.Release(member) {
			sh.released(k, w)
		}
	})
}

// reset puts a partition's start where an operator wants it, durably.
func (c *shares) reset(ctx context.Context, k shareKey, offset int64) error {
	durable := make(chan error, 1)
	err := c.with(ctx, k, func(_ time.Time, sh *shareShard) {
		sh.set(k, share.NewWindow(offset, c.cfg.Share))
		sh.waiting = append(sh.waiting, durable)
	})
	if err != nil {
		return err
	}
	return c.await(ctx, durable)
}

// forget removes what the accepted windows of a group have, durably, and tells
// how many there were.
func (c *shares) forget(ctx context.Context, accept func(shareKey) bool) (n int, err error) {
	t, ok := c.meta.State().Topic(c.topic)
	if !ok {
		return 0, nil
	}
	for p := range t.Partitions {
		durable := make(chan error, 1)
		err := c.whileAsked(ctx, int32(p), func(_ time.Time, sh *shareShard) {
			for k := range sh.windows {
				if accept(k) {
					n++
					sh.remove(k)
				}
			}
			sh.waiting = append(sh.waiting, durable)
		})
		if err == nil {
			err = c.await(ctx, durable)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// keeps reports whether a group has a window here.
func (c *shares) keeps(ctx context.Context, group string) (bool, error) {
	var found bool
	err := c.onEach(ctx, func(_ time.Time, sh *shareShard) {
		for k := range sh.windows {
			found = found || k.group == group
		}
	})
	return found, err
}

// heard notes that somebody uses a group: what it has of partitions is kept for
// Group.Retention from now on.
func (c *shares) heard(group string) {
	now := c.cfg.Clock()
	c.use.Lock()
	defer c.use.Unlock()
	c.use.last[group] = now
}

// unused drops the names of groups that nobody has used since, and reports
// whether a group is not among the others.
func (c *shares) unused(since time.Time) func(group string) bool {
	c.use.Lock()
	defer c.use.Unlock()
	maps.DeleteFunc(c.use.last, func(_ string, at time.Time) bool { return at.Before(since) })
	used := maps.Clone(c.use.last)
	return func(group string) bool {
		_, ok := used[group]
		return !ok
	}
}

// each calls f with every window that is kept here.
func (c *shares) each(ctx context.Context, f func(shareKey, *share.Window)) error {
	return c.onEach(ctx, func(_ time.Time, sh *shareShard) {
		for k, w := range sh.windows {
			f(k, w.Window)
		}
	})
}
