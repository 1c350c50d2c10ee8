package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// become puts a fetched log in the place of the replica's own and begins anew
// from it. errNotNeeded: it is not needed any more.
func (r *Replica) become(ctx context.Context, g *storage.Staging, o offer) error {
	if r.view.Load().role == RoleQuarantined {
		if !o.certain {
			return fmt.Errorf("%w: the damage was found after the log was offered", record.ErrQuarantined)
		}
		return r.recoverFrom(g, o)
	}
	for {
		done := make(chan error, 1)
		if err := r.inbox.call(func(c *core) { done <- r.beginAnew(c, g, o) }); err != nil {
			return err
		}
		r.set.ready(r)
		var err error
		select {
		case err = <-done:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", record.ErrStopped, ctx.Err())
		}
		if !errors.Is(err, errNotNow) {
			return err
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%w: %w", record.ErrStopped, ctx.Err())
		}
	}
}

// beginAnew exchanges the log and the core of a sound replica. It runs on the
// worker that steps it, so that nothing comes between the look at the term and
// the exchange.
func (r *Replica) beginAnew(c *core, g *storage.Staging, o offer) error {
	if len(r.stalled) > 0 {
		return errNotNow
	}
	if c != r.core {
		return record.ErrStopped
	}
	if err := c.mayBecome(o.term, o.manifest.State); err != nil {
		return err
	}
	if err := r.log.Install(g, ownHard(c.hard, o.term, o.commit)); err != nil {
		if errors.Is(err, record.ErrOffline) {
			c.fail(err)
			r.publish()
		}
		return err
	}
	next, err := openCore(r.coreConfig, r.log, r.set.cfg.Clock().UnixMilli())
	if err != nil {
		err = fmt.Errorf("begin from the fetched log: %w", err)
		c.fail(err)
		r.publish()
		return err
	}
	r.goOn(next, o)
	return nil
}

// recoverFrom gives a quarantined replica, which has no core, a log and a core.
// Its quarantine ends in the same step in which the log is exchanged.
func (r *Replica) recoverFrom(g *storage.Staging, o offer) error {
	if err := r.log.Install(g, ownHard(r.log.Promised(), o.term, o.commit)); err != nil {
		return err
	}
	next, err := openCore(r.coreConfig, r.log, r.set.cfg.Clock().UnixMilli())
	if err != nil {
		return fmt.Errorf("begin from the fetched log: %w", err)
	}
	s := r.set
	s.mu.Lock()
	if s.mu.byLog[r.id] != r || s.mu.ended {
		s.mu.Unlock()
		return record.ErrStopped
	}
	r.goOn(next, o)
	r.inbox.post(func(b *inbox) { b.mu.closed = nil })
	s.mu.Unlock()
	s.ready(r)
	return nil
}

// goOn lets the replica go on with a core that was made from a fetched log,
// and tells the leader that it has it.
func (r *Replica) goOn(next *core, o offer) {
	r.begin(next)
	r.in = input{}
	r.publish()
	if next.term == o.term {
		r.send([]pb.Message{next.has(o.member, o.manifest.State.Index)})
	}
}
