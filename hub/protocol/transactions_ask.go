package protocol

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/txn"
)

// input is something for the machine of a transactional ID.
type input func(now time.Time, x *txn.Txn, t txn.Ticket) txn.Output

// start gives the machine of a transactional ID an input and calls done once,
// from any goroutine, with the answer. One that does not exist is made if the
// request may, and is answered with txn.ErrUnknownProducer otherwise. The
// answer to what takes longer than patience is txn.ErrConcurrent.
func (c *transactions) start(partition int32, id string, create bool, f input, done func(txn.Answer)) {
	open := c.mail.put(event[*txnShard]{partition: partition, run: func(now time.Time, sh *txnShard, err error) {
		if err != nil {
			done(txn.Answer{Err: err})
			return
		}
		x := sh.txns[id]
		if x == nil && !create {
			done(txn.Answer{Err: fmt.Errorf("%w: %q is not known", txn.ErrUnknownProducer, id)})
			return
		}
		if x == nil {
			x = txn.New(id, c.cfg.Txn, now)
			sh.txns[id] = x
		}
		c.ticket++
		t := c.ticket
		c.parked[t] = done
		c.apply(sh, x, f(now, x, t))
		if _, waits := c.parked[t]; waits {
			c.limit(partition, t)
		}
	}})
	if !open {
		done(txn.Answer{Err: errNotCoordinator})
	}
}

// limit ends the wait of a parked request: what it asked for may still happen.
func (c *transactions) limit(partition int32, t txn.Ticket) {
	timer := time.AfterFunc(patience, func() {
		c.mail.put(event[*txnShard]{partition: partition, always: true, run: func(time.Time, *txnShard, error) {
			if reply, ok := c.parked[t]; ok {
				delete(c.parked, t)
				reply(txn.Answer{Ticket: t, Err: fmt.Errorf("%w: not within %v", txn.ErrConcurrent, patience)})
			}
		}})
	})
	reply := c.parked[t]
	c.parked[t] = func(a txn.Answer) {
		timer.Stop()
		reply(a)
	}
}

// ask is start for a request that waits for its answer.
func (c *transactions) ask(ctx context.Context, id string, create bool, f input) (txn.Answer, error) {
	if id == "" {
		return txn.Answer{}, txn.ErrInvalidID
	}
	p, err := c.shardOf(ctx, id)
	if err != nil {
		return txn.Answer{}, err
	}
	c.vacant.here(ctx, c.topic, p)
	reply := make(chan txn.Answer, 1)
	c.start(p, id, create, f, func(a txn.Answer) { reply <- a })
	select {
	case a := <-reply:
		return a, a.Err
	case <-ctx.Done():
		return txn.Answer{}, fmt.Errorf("%w: %w", errNoCoordinator, ctx.Err())
	}
}

// askFresh is ask for what may need an unused producer ID.
func (c *transactions) askFresh(ctx context.Context, id string, create bool, draw func(context.Context) (int64, error), f func(fresh int64) input) (txn.Answer, error) {
	a, err := c.ask(ctx, id, create, f(-1))
	if !errors.Is(err, txn.ErrNeedsID) {
		return a, err
	}
	fresh, err := draw(ctx)
	if err != nil {
		c.log.Warn("cannot give a producer ID", "error", err)
		return txn.Answer{}, errNoCoordinator // retriable for every client
	}
	return c.ask(ctx, id, create, f(fresh))
}

// look calls f with the machine of a transactional ID, nil if there is none.
func (c *transactions) look(ctx context.Context, id string, f func(x *txn.Txn)) error {
	if id == "" {
		return txn.ErrInvalidID
	}
	p, err := c.shardOf(ctx, id)
	if err != nil {
		return err
	}
	return c.whileAsked(ctx, p, func(_ time.Time, sh *txnShard) { f(sh.txns[id]) })
}

// each runs f on every transactional ID that this node coordinates.
func (c *transactions) each(ctx context.Context, f func(x *txn.Txn)) error {
	return c.onEach(ctx, func(_ time.Time, sh *txnShard) {
		for _, x := range sh.txns {
			f(x)
		}
	})
}
