package rabbitmq

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// suspicious is how often a message was handed out before it is read alone, with
// none after it on the way. A lost connection hands all out a second time; of
// those that were lost with one twice, one may be the reason.
const suspicious = 2

// reader reads a queue over one channel. It lives as long as the channel: when
// that ends, the reader is at an end, and a new one gets what was not
// acknowledged.
//
// Invariant: the number in a position is base plus the delivery tag, so a
// position tells the tag, and a tag of another channel is never used.
type reader struct {
	sourceSettings
	consumer
	name   string
	base   uint64         // of the positions: what was handed out before this channel
	given  uint64         // tag of the last message that Read returned
	acked  uint64         // tag up to which all are acknowledged
	narrow bool           // the prefetch is 1
	held   *amqp.Delivery // came, and did not fit the limits
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	if err := ctx.Err(); err != nil {
		return connectors.Batch{}, err
	}
	timer := time.NewTimer(limits.Wait)
	defer timer.Stop()
	wait := timer.C
	var out connectors.Batch
	for size := 0; limits.Records == 0 || len(out.Messages) < limits.Records; {
		d, err := r.take(ctx, wait)
		if err != nil && len(out.Messages) > 0 {
			return out, nil // it is found again
		}
		if err != nil || d == nil {
			return out, err
		}
		if r.narrow && !r.suspects(d) {
			if err := r.widen(ctx); err != nil {
				return out, err
			}
		}
		m := r.message(r.name, d)
		if size += m.Size(); limits.Bytes > 0 && size > limits.Bytes && len(out.Messages) > 0 {
			r.held = d
			return out, nil
		}
		if d.DeliveryTag != r.given+1 {
			return out, connectors.Retry(0, fmt.Errorf("queue %q: delivery tag %d comes after %d", r.name, d.DeliveryTag, r.given))
		}
		r.given = d.DeliveryTag
		m.Position = position(queuePosition, r.base+d.DeliveryTag)
		out.Messages = append(out.Messages, m)
		wait = nil
	}
	return out, nil
}

func (r *reader) take(ctx context.Context, wait <-chan time.Time) (*amqp.Delivery, error) {
	if d := r.held; d != nil {
		r.held = nil
		return d, nil
	}
	d, err := r.next(ctx, wait)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("queue %q: %w", r.name, err)
	}
	return d, err
}

// Committed implements connectors.Reader: the broker may forget the messages.
func (r *reader) Committed(ctx context.Context, upTo connectors.Position) error {
	n, err := numberOf(queuePosition, upTo)
	if err != nil {
		return err
	}
	if n <= r.base+r.acked { // of an earlier channel, or done
		return nil
	}
	tag := n - r.base
	if tag > r.given {
		return connectors.Fatalf("queue %q: message %d is said to be committed, and %d was the last", r.name, n, r.base+r.given)
	}
	if r.ch.IsClosed() {
		return nil // the tags are void, the messages come again, and Read tells why
	}
	if err = r.link.within(ctx, func() error { return r.ch.Ack(tag, true) }); err != nil {
		return connectors.Retry(0, fmt.Errorf("queue %q: acknowledge: %w", r.name, err))
	}
	r.acked = tag
	return nil
}

// suspects reports whether a message may be what has ended the readers before.
func (r *reader) suspects(d *amqp.Delivery) bool {
	return r.maxRedeliveries > 0 && deliveries(d) >= min(suspicious, r.maxRedeliveries)
}

// widen goes over to the prefetch of the config, on the same channel, with one
// message that has come and is not acknowledged. There is none on its way: it
// would go back into the queue, behind those after it.
func (r *reader) widen(ctx context.Context) error {
	if err := r.halt(ctx); err != nil {
		return connectors.Retry(0, fmt.Errorf("queue %q: %w", r.name, err))
	}
	r.narrow = false
	return r.consume(ctx, r.name, r.prefetch, nil)
}

// Close implements connectors.Reader. The end of the connection gives back what
// is not acknowledged, to where it was in the queue. Neither a cancel nor a nack
// comes before it: after either, quorum queues hand out what follows first
// (seen with RabbitMQ 3.10).
func (r *reader) Close(context.Context) error {
	r.end()
	return nil
}
