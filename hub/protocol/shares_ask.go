package protocol

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// name is what Kafka hashes to find the partition of the state.
func (k shareKey) name() string {
	return fmt.Sprintf("%s:%s:%d", k.group, base64.RawURLEncoding.EncodeToString(k.topic[:]), k.partition)
}

// errShareState refuses who goes by a state that an operator has reset or
// removed since.
var errShareState = errors.New("the share group begins anew in this partition")

// change runs f on the shard that keeps a key's state, and waits until what f
// wants written is durable; nil: nothing.
func (c *shares) change(ctx context.Context, k shareKey, f func(sh *shareShard) (<-chan error, error)) error {
	p, err := c.shardOf(ctx, k.name())
	if err != nil {
		return err
	}
	var durable <-chan error
	var refused error
	err = c.whileAsked(ctx, p, func(_ time.Time, sh *shareShard) { durable, refused = f(sh) })
	switch {
	case err != nil:
		return err
	case refused != nil:
		return refused
	case durable == nil:
		return nil
	}
	select {
	case err := <-durable:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNoCoordinator, ctx.Err())
	}
}

// shareFound is a state as it is read.
type shareFound struct {
	there   bool
	epoch   int32
	start   int64
	batches []share.Batch
}

// look reads a state for the leader of the partition that is shared. Leaders of
// lower epochs can neither read nor write it from then on; that, and what was
// read, is durable. -1 reads it for nobody.
func (c *shares) look(ctx context.Context, k shareKey, leader int32) (found shareFound, err error) {
	err = c.change(ctx, k, func(sh *shareShard) (<-chan error, error) {
		w, ok := sh.states[k]
		if !ok {
			return nil, nil
		}
		if leader >= 0 && leader < w.leader {
			return nil, fmt.Errorf("%w: %d, it was read under %d", record.ErrFencedEpoch, leader, w.leader)
		}
		found = shareFound{there: true, epoch: w.epoch}
		found.start, found.batches = w.Snapshot()
		if leader < 0 {
			return nil, nil
		}
		w.leader = leader
		return sh.put(k, w), nil // also what is on its way to the log is durable then
	})
	return found, err
}

// begin makes a state, or puts one of a lower epoch back to a start.
func (c *shares) begin(ctx context.Context, k shareKey, epoch int32, start int64) error {
	return c.change(ctx, k, func(sh *shareShard) (<-chan error, error) {
		now := &shareState{Window: share.NewWindow(start, c.cfg.Share), epoch: epoch, leader: -1}
		if w, ok := sh.states[k]; ok {
			if epoch < w.epoch {
				return nil, fmt.Errorf("%w: its state is of epoch %d, not %d", errShareState, w.epoch, epoch)
			}
			if epoch == w.epoch {
				return sh.put(k, w), nil // said again, or by two at once: it has to be durable for both
			}
			now.leader = w.leader
		}
		return sh.put(k, now), nil
	})
}

// store takes over what a leader has of a window.
func (c *shares) store(ctx context.Context, k shareKey, epoch, leader int32, start int64, batches []share.Batch) error {
	next, err := share.Restore(start, batches, c.cfg.Share)
	if err != nil {
		return fmt.Errorf("%w: %w", record.ErrInvalidRequest, err)
	}
	return c.change(ctx, k, func(sh *shareShard) (<-chan error, error) {
		w, ok := sh.states[k]
		switch {
		case !ok:
			return nil, fmt.Errorf("%w: its state was removed", errShareState)
		case leader < w.leader:
			return nil, fmt.Errorf("%w: %d, it was read under %d", record.ErrFencedEpoch, leader, w.leader)
		case epoch != w.epoch:
			return nil, fmt.Errorf("%w: its state is of epoch %d, not %d", errShareState, w.epoch, epoch)
		}
		w.Window, w.leader = next, leader
		return sh.put(k, w), nil
	})
}

// remove forgets a state.
func (c *shares) remove(ctx context.Context, k shareKey) error {
	return c.change(ctx, k, func(sh *shareShard) (<-chan error, error) {
		delete(sh.states, k)
		sh.dirty[k] = true // also one that is on its way to the log is gone then
		return sh.wait(), nil
	})
}

// each calls f with every state that is kept here.
func (c *shares) each(ctx context.Context, f func(shareKey, *share.Window)) error {
	return c.onEach(ctx, func(_ time.Time, sh *shareShard) {
		for k, w := range sh.states {
			f(k, w.Window)
		}
	})
}
