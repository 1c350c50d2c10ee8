package protocol

import (
	"context"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

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
	window  *shareWindow
	offset  int64 // to read from
	room    bool  // false: nothing can be handed out
	changed <-chan struct{}
}

// next finds where there may be records, and makes the window if this is the
// group's first look at the partition.
func (c *shareWindows) next(ctx context.Context, k shareKey, set share.Settings, log Partition) (at place, err error) {
	o := log.Offsets()
	start := o.HighWatermark
	if set.Earliest {
		start = o.Start
	}
	w, err := c.open(ctx, k, o.LeaderEpoch, start)
	if err != nil {
		return place{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.all[k] != w {
		return place{}, record.ErrNotLeader // it ended a moment ago
	}
	old := c.cfg.Clock().Sub(w.kept) > c.cfg.Group.Retention/2 // its state would expire, though it is used
	if w.Trim(o.Start) || old {
		c.write(w)
	}
	at.window, at.changed = w, w.changed
	at.offset, at.room = w.Next()
	return at, nil
}

// acquire hands a member records of batches, which were read from at on.
func (c *shareWindows) acquire(member string, most int64, lock time.Duration, at place, batches []share.Range) []share.Held {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := at.window
	if c.mu.all[w.k] != w {
		return nil
	}
	start := w.Start()
	held := w.Acquire(time.Now(), member, most, lock, at.offset, batches)
	if w.Start() != start {
		c.write(w)
	}
	c.wakeBy(w.Deadline())
	return held
}

// live is a window that has been read; nil: there is none.
func (c *shareWindows) live(k shareKey) *shareWindow {
	if w := c.mu.all[k]; w != nil && w.Window != nil {
		return w
	}
	return nil
}

// acknowledge takes a member's word. What it returns waits until it is durable.
func (c *shareWindows) acknowledge(k shareKey, member string, lock time.Duration, acks []share.Ack, renew bool) (wait func(context.Context) error) {
	durable := make(chan error, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	w, err := c.live(k), share.ErrRecordState
	if w != nil {
		err = w.Acknowledge(time.Now(), member, lock, acks, renew)
	}
	if err != nil {
		durable <- err
	} else {
		w.waiting = append(w.waiting, durable)
		c.released(w)
		c.wakeBy(w.Deadline())
	}
	return func(ctx context.Context) error {
		select {
		case err := <-durable:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errNoCoordinator, ctx.Err())
		}
	}
}

// release takes back all that a member holds of a partition.
func (c *shareWindows) release(k shareKey, member string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.live(k); w != nil && w.Release(member) {
		c.released(w)
	}
}

// forget drops a window whose state was changed past it.
func (c *shareWindows) forget(k shareKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.mu.all[k]; w != nil {
		c.drop(w, errShareState)
	}
}
