package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// consumer is one channel of a link, on which one queue is consumed. Delivery
// tags count the messages of the channel from 1 without a gap, also when it
// begins to consume anew.
type consumer struct {
	link     *link
	ch       *amqp.Channel
	incoming <-chan amqp.Delivery
	backlog  []amqp.Delivery // came before incoming
	closed   chan *amqp.Error
	tag      string
	starts   int
}

// consume begins, or begins anew, with another prefetch.
func (c *consumer) consume(ctx context.Context, queue string, prefetch int, args amqp.Table) error {
	return setupError(ctx, describe(queue), c.link.ask(ctx, func() error {
		if c.ch == nil {
			var err error
			if c.ch, err = c.link.conn.Channel(); err != nil {
				return err
			}
			c.closed = c.ch.NotifyClose(make(chan *amqp.Error, 1))
		}
		if err := c.ch.Qos(prefetch, 0, false); err != nil {
			return err
		}
		c.starts++
		c.tag = fmt.Sprintf("entrepot-%d", c.starts)
		raw, err := c.ch.Consume(queue, c.tag, false, false, false, false, args)
		if err != nil {
			return err
		}
		c.incoming = buffered(raw, prefetch)
		return nil
	}))
}

// buffered hands on what comes, with room for all that may be unacknowledged:
// the driver's channel has none, so that nobody could see whether more is there.
func buffered(raw <-chan amqp.Delivery, room int) <-chan amqp.Delivery {
	out := make(chan amqp.Delivery, room)
	go func() {
		defer close(out)
		for d := range raw {
			out <- d
		}
	}()
	return out
}

// end closes the connection and waits for what was started.
func (c *consumer) end() {
	c.link.close()
	if c.incoming == nil {
		return
	}
	for range c.incoming { // until it is closed
	}
}

// halt ends the consumer and takes what has come already, which stays
// unacknowledged on the channel.
func (c *consumer) halt(ctx context.Context) error {
	return c.link.ask(ctx, func() error {
		if err := c.ch.Cancel(c.tag, false); err != nil {
			return err
		}
		for d := range c.incoming { // the driver closes it
			c.backlog = append(c.backlog, d)
		}
		return nil
	})
}

// next waits for a delivery; nil when none came.
func (c *consumer) next(ctx context.Context, timeout <-chan time.Time) (*amqp.Delivery, error) {
	if len(c.backlog) > 0 {
		d := &c.backlog[0]
		c.backlog = c.backlog[1:]
		return d, nil
	}
	select {
	case d, ok := <-c.incoming:
		if !ok {
			return nil, c.ended()
		}
		return &d, nil
	default:
	}
	if timeout == nil {
		return nil, nil
	}
	select {
	case d, ok := <-c.incoming:
		if !ok {
			return nil, c.ended()
		}
		return &d, nil
	case <-timeout:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ended is why there are no more deliveries. All that was not acknowledged
// comes again, on another channel and with other tags.
func (c *consumer) ended() error {
	if !c.ch.IsClosed() {
		return connectors.Retry(0, errors.New("the broker has ended the consumer: the queue was deleted, or has moved to another node"))
	}
	return connectors.Retry(0, fmt.Errorf("the connection to the queue has ended: %w", endOf(c.closed)))
}
