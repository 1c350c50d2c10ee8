package rabbitmq

import (
	"context"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// queue is one to declare.
type queue struct {
	name, typ string
	arguments amqp.Table
	bindings  []binding
}

type binding struct {
	exchange, key string
	arguments     amqp.Table
}

// tableOfTexts reads arguments: what looks like a whole number or a truth is
// one.
func tableOfTexts(texts map[string]string) amqp.Table {
	t := amqp.Table{}
	for name, text := range texts {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			t[name] = n
		} else if text == "true" || text == "false" {
			t[name] = text == "true"
		} else {
			t[name] = text
		}
	}
	return t
}

// onChannel runs calls on a channel of their own: the broker closes it with
// its answer to a wrong one.
func (l *link) onChannel(ctx context.Context, what string, calls func(ch *amqp.Channel) error) error {
	return setupError(ctx, what, l.ask(ctx, func() error {
		ch, err := l.conn.Channel()
		if err != nil {
			return err
		}
		defer func() { _ = ch.Close() }()
		return calls(ch)
	}))
}

// declare makes a queue with its bindings, or makes sure that it is as
// declared. The broker refuses, with both, one that is there and is another.
func (l *link) declare(ctx context.Context, q queue) error {
	err := l.onChannel(ctx, fmt.Sprintf("declare queue %q", q.name), func(ch *amqp.Channel) error {
		args := amqp.Table{amqp.QueueTypeArg: q.typ}
		for name, v := range q.arguments {
			args[name] = v
		}
		_, err := ch.QueueDeclare(q.name, true, false, false, false, args)
		return err
	})
	if err != nil {
		return err
	}
	for _, b := range q.bindings {
		what := fmt.Sprintf("bind queue %q to exchange %q by %q", q.name, b.exchange, b.key)
		err := l.onChannel(ctx, what, func(ch *amqp.Channel) error {
			return ch.QueueBind(q.name, b.key, b.exchange, false, b.arguments)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// look makes sure that a queue is there.
func (l *link) look(ctx context.Context, name string) error {
	return l.onChannel(ctx, fmt.Sprintf("look at queue %q", name), func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	})
}

// vacant waits until nobody consumes a queue, for vacancy at most: what the reader
// before has left comes back when the broker has noticed that it is gone, which
// can be after its connection was closed, and what follows would come first.
// Others may consume it all the time; then there is no order to keep, or the
// queue sees to it (x-single-active-consumer).
func (l *link) vacant(ctx context.Context, name string) error {
	what := fmt.Sprintf("look at queue %q", name)
	for end := time.Now().Add(vacancy); ; {
		consumers := 0
		err := l.onChannel(ctx, what, func(ch *amqp.Channel) error {
			q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
			consumers = q.Consumers
			return err
		})
		if err != nil || consumers == 0 || time.Now().After(end) {
			return err
		}
		if err := connectors.Pause(ctx, vacancy/40); err != nil {
			return err
		}
	}
}

// vacancy is longer than the broker takes to notice that a consumer is gone.
const vacancy = 2 * time.Second

// exchange declares an exchange, or makes sure that it is there.
func (l *link) exchange(ctx context.Context, name, kind string, declare bool) error {
	if name == "" {
		return nil
	}
	if declare {
		return l.onChannel(ctx, fmt.Sprintf("declare exchange %q", name), func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare(name, kind, true, false, false, false, nil)
		})
	}
	return l.onChannel(ctx, fmt.Sprintf("look at exchange %q", name), func(ch *amqp.Channel) error {
		return ch.ExchangeDeclarePassive(name, kind, true, false, false, false, nil)
	})
}

func argumentsField(example string) connectors.Field {
	return connectors.Field{
		Name: "arguments", Kind: connectors.KindStringMap, Example: example,
		Description: "arguments of its declaration; whole numbers and true or false are sent as such, all else as text",
	}
}
