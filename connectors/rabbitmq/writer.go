package rabbitmq

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// writer publishes over one channel, which it makes again when it is lost. It
// remembers which records of the present plan are confirmed, so that within
// its life none is sent again that the broker has.
type writer struct {
	sinkSettings
	open func(ctx context.Context) (*outlet, error)
	note func(trouble error)
	log  *slog.Logger
	out  *outlet // nil when there is none

	plan      string
	confirmed map[int64]bool // offsets of the plan
	single    bool           // one at a time, to find the one that ends the channel
	said      time.Time      // when progress was last told of
}

// Resume implements connectors.Writer: the broker cannot tell.
func (*writer) Resume(context.Context, record.TopicPartition) (int64, bool, error) {
	return 0, false, nil
}

// ready connects, and makes ready what is published to.
func (w *writer) ready(ctx context.Context) error {
	if w.out != nil && !w.out.dead() {
		return nil
	}
	w.drop()
	out, err := w.open(ctx)
	if err == nil {
		w.out = out
	}
	return err
}

// connected is the way to an outlet at a broker.
func (s *sinkSettings) connected(a address, note func(error)) func(ctx context.Context) (*outlet, error) {
	return func(ctx context.Context) (*outlet, error) {
		l, err := a.connect(ctx)
		if err != nil {
			return nil, err
		}
		var out *outlet
		if err = s.prepare(ctx, l); err == nil {
			out, err = openOutlet(ctx, l, s.window, note)
		}
		if err != nil {
			l.close()
		}
		return out, err
	}
}

func (w *writer) drop() {
	if w.out != nil {
		w.out.close()
		w.out = nil
	}
}

// Write implements connectors.Writer. Everything that can be told of a record
// beforehand is told before the first is sent.
func (w *writer) Write(ctx context.Context, plan connectors.Plan, batch connectors.Batch) ([]connectors.RecordError, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if w.plan != plan.ID {
		w.plan, w.confirmed, w.single = plan.ID, map[int64]bool{}, false
	}
	todo := make([]*outgoing, 0, len(batch.Messages))
	var refused []connectors.RecordError
	for i := range batch.Messages {
		m := &batch.Messages[i]
		if w.confirmed[m.Offset] {
			continue
		}
		one, err := w.publishing(m)
		if err != nil {
			refused = append(refused, connectors.RecordError{Index: i, Offset: m.Offset, Err: err})
		}
		one.index = i
		todo = append(todo, &one)
	}
	if len(refused) > 0 || len(todo) == 0 {
		return refused, nil
	}
	return w.persist(ctx, todo)
}

// persist sends until the broker has confirmed or returned everything. What
// fails is sent again, in order: a refusal (a full queue), a lost connection,
// a broker that is down. Only the end of ctx, and what people have to mend,
// ends it.
func (w *writer) persist(ctx context.Context, todo []*outgoing) ([]connectors.RecordError, error) {
	var refused []connectors.RecordError
	sent := len(w.confirmed) > 0
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		before := len(todo)
		err := w.ready(ctx)
		if err == nil {
			sent = true
			var more []connectors.RecordError
			todo, more, err = w.send(ctx, todo)
			refused = append(refused, more...)
		}
		switch {
		case len(todo) == 0:
			return refused, nil
		case connectors.ClassOf(err) == connectors.ClassFatal:
			return nil, err
		case err != nil && !sent:
			return nil, err // nothing has happened: the runtime waits
		case err == nil:
			err = fmt.Errorf("the broker refuses %d messages for now, is a queue full?", len(todo))
		}
		if len(todo) < before {
			pause = firstPause
		}
		w.log.Warn("messages are sent again", "unconfirmed", len(todo), "error", err)
		w.note(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, connectors.Unknown(fmt.Errorf("%d messages are not confirmed: %w", len(todo), err))
		}
	}
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// send publishes todo in order and returns what the broker has not confirmed,
// in order, and what it has returned. With a window of 1 it ends at the first
// that the broker refuses.
func (w *writer) send(ctx context.Context, todo []*outgoing) (rest []*outgoing, refused []connectors.RecordError, err error) {
	out := w.out
	settled, nacked := map[*outgoing]bool{}, false
	done := func(m *outgoing, ack bool) {
		if why, ok := out.homeless[m.MessageId]; ok {
			refused = append(refused, connectors.RecordError{Index: m.index, Offset: m.offset, Err: connectors.Poisonf("%s", why)})
			settled[m] = true
		} else if ack {
			w.confirmed[m.offset] = true
			settled[m] = true
			w.progress()
		} else {
			nacked = true
		}
	}
	most := w.window
	if w.single {
		most = 1
	}
	clear(out.homeless)
	err = out.within(ctx, func() error {
		for _, m := range todo {
			if err := out.room(ctx, most, w.patience, done); err != nil {
				return err
			}
			if nacked && w.window == 1 {
				return nil // what follows must not overtake it
			}
			if err := out.publish(ctx, m, w.mandatory); err != nil {
				return err
			}
		}
		return out.room(ctx, 1, w.patience, done)
	})
	if err != nil {
		if bad := w.culprit(err); bad != nil {
			refused = append(refused, connectors.RecordError{Index: bad.index, Offset: bad.offset, Err: connectors.Poisonf("the broker ends the connection for it: %s", err)})
			settled[bad] = true
		}
		w.drop()
		err = publishError(ctx, err)
	}
	for _, m := range todo {
		if !settled[m] {
			rest = append(rest, m)
		}
	}
	return rest, refused, err
}

// progress says, once a second at most, that confirms come.
func (w *writer) progress() {
	if now := time.Now(); now.Sub(w.said) >= time.Second {
		w.said = now
		w.note(nil)
	}
}

// culprit finds the message that the broker ends the channel for: then one at
// a time is sent, until it is alone.
func (w *writer) culprit(err error) *outgoing {
	e, word := said(err)
	if !word {
		return nil
	}
	switch e.Code {
	case amqp.PreconditionFailed, amqp.ContentTooLarge, amqp.FrameError, amqp.SyntaxError:
	case amqp.NotFound:
		if _, constant := w.exchange.constant(); constant {
			return nil
		}
	default:
		return nil
	}
	if w.single && len(w.out.flying) == 1 {
		return w.out.flying[0]
	}
	w.single = true
	return nil
}

// publishError gives an error while publishing its class.
func publishError(ctx context.Context, err error) error {
	if e, word := said(err); word && e.Code == amqp.AccessRefused {
		return setupError(ctx, "publish", err)
	}
	return connectors.Unknown(fmt.Errorf("publish: %w", err))
}

// Close implements connectors.Writer.
func (w *writer) Close(context.Context) error {
	w.drop()
	return nil
}
