package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// outlet is a channel in confirm mode, and what has to be heard beside the
// confirms. It lives as long as its connection.
type outlet struct {
	port
	note     func(trouble error)
	closed   <-chan *amqp.Error
	returns  <-chan amqp.Return
	blocks   <-chan amqp.Blocking
	blocked  string            // why the broker takes nothing, or ""
	homeless map[string]string // message-id of returned messages, and why
	flying   []*outgoing       // published, not confirmed, in this order
}

// port is what an outlet needs of a connection and its channel.
type port interface {
	// within runs calls to the broker, and cuts the connection when ctx ends first.
	within(ctx context.Context, calls func() error) error
	send(m *outgoing, mandatory bool) (confirmation, error)
	dead() bool
	close()
}

// confirmation is the broker's answer to a message.
type confirmation interface {
	Done() <-chan struct{}
	Acked() bool // once it is done
}

// channelPort is the port of a real broker.
type channelPort struct {
	*link
	ch *amqp.Channel
}

func (p channelPort) dead() bool { return p.ch.IsClosed() }

func (p channelPort) send(m *outgoing, mandatory bool) (confirmation, error) {
	return p.ch.PublishWithDeferredConfirm(m.exchange, m.key, mandatory, false, m.Publishing)
}

// errNoConfirm says that the broker takes too long.
var errNoConfirm = errors.New("no confirm in time")

func openOutlet(ctx context.Context, l *link, window int, note func(error)) (*outlet, error) {
	o := &outlet{note: note, homeless: map[string]string{}}
	err := l.ask(ctx, func() error {
		ch, err := l.conn.Channel()
		if err != nil {
			return err
		}
		o.port = channelPort{l, ch}
		o.closed = ch.NotifyClose(make(chan *amqp.Error, 1))
		// The driver drops a return that nobody takes for 5 s: there is room
		// for one of each message in flight, and it comes before the confirm.
		o.returns = ch.NotifyReturn(make(chan amqp.Return, 2*window))
		o.blocks = l.conn.NotifyBlocked(make(chan amqp.Blocking, 16))
		return ch.Confirm(false)
	})
	return o, setupError(ctx, "open a channel with confirms", err)
}

// room waits until fewer than most messages are in flight. done hears of those
// that the broker has answered.
func (o *outlet) room(ctx context.Context, most int, patience time.Duration, done func(*outgoing, bool)) error {
	for len(o.flying) >= most {
		if err := o.settle(ctx, patience, done); err != nil {
			return err
		}
	}
	return nil
}

// publish sends a message.
func (o *outlet) publish(ctx context.Context, m *outgoing, mandatory bool) error {
	if err := o.unblocked(ctx); err != nil {
		return err
	}
	var err error
	if m.confirm, err = o.send(m, mandatory); err != nil {
		return o.why(ctx, err)
	}
	o.flying = append(o.flying, m)
	return nil
}

// settle waits until the oldest message in flight is answered.
func (o *outlet) settle(ctx context.Context, patience time.Duration, done func(*outgoing, bool)) error {
	m := o.flying[0]
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-m.confirm.Done():
			return o.answered(ctx, m, done)
		default:
		}
		select {
		case <-m.confirm.Done():
			return o.answered(ctx, m, done)
		case b, open := <-o.blocks:
			if !open {
				return o.why(ctx, amqp.ErrClosed)
			}
			o.blocked = reason(b)
			timer.Reset(patience)
		case r, open := <-o.returns:
			if !open {
				return o.why(ctx, amqp.ErrClosed)
			}
			o.returned(r)
		case <-timer.C:
			if o.blocked == "" {
				return fmt.Errorf("%w: %d messages have waited for %v, the first of them with exchange %q and routing key %q; has its queue a leader (rabbitmq-queues quorum_status)?",
					errNoConfirm, len(o.flying), patience, m.exchange, m.key)
			}
			o.note(o.alarm())
			timer.Reset(patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answered takes the oldest message out of flight. The driver answers all with
// a refusal when its channel ends: that is no word of the broker.
func (o *outlet) answered(ctx context.Context, m *outgoing, done func(*outgoing, bool)) error {
	if !m.confirm.Acked() && o.dead() {
		return o.why(ctx, amqp.ErrClosed)
	}
	o.hear()
	o.flying = o.flying[1:]
	done(m, m.confirm.Acked())
	return nil
}

// hear takes what has come without waiting. Each channel is emptied also when
// the other is closed: a return that stays unheard would make its message one
// that was delivered.
func (o *outlet) hear() {
	for more := true; more; {
		select {
		case r, open := <-o.returns:
			if more = open; open {
				o.returned(r)
			}
		default:
			more = false
		}
	}
	for more := true; more; {
		select {
		case b, open := <-o.blocks:
			if more = open; open {
				o.blocked = reason(b)
			}
		default:
			more = false
		}
	}
}

func (o *outlet) returned(r amqp.Return) {
	o.homeless[r.MessageId] = fmt.Sprintf("no queue takes it: exchange %q, routing key %q (%s, %d)", r.Exchange, r.RoutingKey, r.ReplyText, r.ReplyCode)
}

// unblocked waits while the broker takes nothing (its memory or disk alarm).
func (o *outlet) unblocked(ctx context.Context) error {
	if o.hear(); o.blocked == "" {
		return nil
	}
	tick := time.NewTicker(alarmEvery)
	defer tick.Stop()
	for o.blocked != "" {
		o.note(o.alarm())
		select {
		case <-tick.C:
		case b, open := <-o.blocks:
			if !open {
				return o.why(ctx, amqp.ErrClosed)
			}
			o.blocked = reason(b)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", o.alarm(), ctx.Err())
		}
	}
	return nil
}

// alarmEvery is how often it is said that the broker blocks publishers.
const alarmEvery = 10 * time.Second

func (o *outlet) alarm() error { return fmt.Errorf("the broker blocks publishers: %s", o.blocked) }

func reason(b amqp.Blocking) string {
	if b.Active {
		return "alarm: " + b.Reason
	}
	return ""
}

// why is the reason that the broker has given for the end of the channel.
func (o *outlet) why(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if end := endOf(o.closed); !errors.Is(end, amqp.ErrClosed) {
		return end
	}
	return err
}
