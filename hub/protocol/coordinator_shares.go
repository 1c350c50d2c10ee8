package protocol

import (
	"context"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/share"
)

// errShares refuses a member of another protocol.
var errShares = fmt.Errorf("%w: it is a share group", group.ErrOtherProtocol)

// sharesDue removes members of share groups that are not heard any more.
func (c *coordinator) sharesDue(now time.Time, sh *shard) {
	for id, g := range sh.shares {
		if d := g.Deadline(); !d.IsZero() && !now.Before(d) {
			g.Tick(now, c.topics())
		}
		if g.Empty() {
			delete(sh.shares, id)
			continue
		}
		c.wakeBy(g.Deadline())
	}
}

// hearShare hears a member of a share group, also one that leaves and does not
// wait for the answer.
func (c *coordinator) hearShare(ctx context.Context, id string, set share.Settings, h share.Heartbeat) (share.Answer, error) {
	p, err := c.shardOf(ctx, id)
	if err != nil {
		return share.Answer{}, err
	}
	var a share.Answer
	var refused error
	err = c.onShard(ctx, p, func(now time.Time, sh *shard) {
		g := sh.shares[id]
		switch {
		case sh.groups[id] != nil:
			refused = group.ErrOtherProtocol
			return
		case g == nil && h.Epoch != 0:
			refused = share.ErrMember
			return
		case g == nil:
			g = share.NewGroup(c.cfg.Share)
			sh.shares[id] = g
		}
		a, refused = g.Heartbeat(now, set, h, c.topics())
		if g.Empty() {
			delete(sh.shares, id)
		}
		c.wakeBy(g.Deadline())
	})
	if err != nil {
		return share.Answer{}, err
	}
	return a, refused
}

// lookShare calls f with a share group, nil if it has no members, and returns
// what it returns. A group of another protocol is group.ErrOtherProtocol.
func (c *coordinator) lookShare(ctx context.Context, id string, f func(g *share.Group) error) error {
	p, err := c.shardOf(ctx, id)
	if err != nil {
		return err
	}
	var refused error
	err = c.whileAsked(ctx, p, func(_ time.Time, sh *shard) {
		if sh.groups[id] != nil {
			refused = group.ErrOtherProtocol
			return
		}
		refused = f(sh.shares[id])
	})
	if err == nil {
		err = refused
	}
	return err
}

// vacantShare is an error unless the name is a share group's without members.
func (c *coordinator) vacantShare(ctx context.Context, id string) error {
	return c.lookShare(ctx, id, func(g *share.Group) error {
		if g != nil {
			return share.ErrNotEmpty
		}
		return nil
	})
}

// eachShare runs f on every share group with members that this node
// coordinates.
func (c *coordinator) eachShare(ctx context.Context, f func(id string, g *share.Group)) error {
	return c.onEach(ctx, func(_ time.Time, sh *shard) {
		for id, g := range sh.shares {
			f(id, g)
		}
	})
}
