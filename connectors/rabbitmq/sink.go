package rabbitmq

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Sink publishes to an exchange.
type Sink struct{}

// Spec implements connectors.Sink.
func (Sink) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "rabbitmq",
		Summary:   "Publishes records to an exchange of RabbitMQ, with publisher confirms.",
		Guarantee: "at-least-once (publisher confirms; message-id topic-partition-offset, by which consumers drop what comes twice)",
		Since:     "0.1",
		Fields:    sinkFields(),
	}
}

// sinkSettings are the fields of a sink in the form the writer needs.
type sinkSettings struct {
	exchange, routingKey  template
	persistent, mandatory bool
	keyHeader             string
	window                int
	patience              time.Duration
	declare               bool
	kind                  string // of the exchange
	queues                []queue
}

func sinkSettingsOf(cfg connectors.Config) (s sinkSettings, err error) {
	s = sinkSettings{
		persistent: cfg.Bool("persistent"), mandatory: cfg.Bool("mandatory"), keyHeader: cfg.String("key_header"),
		window: int(cfg.Int("in_flight")), patience: cfg.Duration("confirm_timeout"),
		declare: cfg.Bool("declare"), kind: cfg.String("exchange_type"),
	}
	if s.exchange, err = parseTemplate(cfg.String("exchange")); err != nil {
		return s, connectors.Fatalf("exchange: %w", err)
	}
	if s.routingKey, err = parseTemplate(cfg.String("routing_key")); err != nil {
		return s, connectors.Fatalf("routing_key: %w", err)
	}
	exchange, _ := s.exchange.constant()
	for _, q := range cfg.Objects("queues") {
		one := queue{name: q.String("name"), typ: q.String("type"), arguments: tableOfTexts(q.StringMap("arguments"))}
		for _, key := range q.Strings("routing_keys") {
			one.bindings = append(one.bindings, binding{exchange: exchange, key: key})
		}
		s.queues = append(s.queues, one)
	}
	return s, nil
}

func (s *sinkSettings) check() []connectors.Finding {
	var all []connectors.Finding
	add := func(field, message, hint string, warning bool) {
		all = append(all, connectors.Finding{Field: field, Message: message, Hint: hint, Warning: warning})
	}
	exchange, constant := s.exchange.constant()
	if s.declare && !constant {
		add("declare", "an exchange whose name comes from the record cannot be declared", "set declare: false", false)
	}
	if !s.declare && len(s.queues) > 0 {
		add("queues", "queues are only made with declare: true", "set declare: true, or leave queues out", false)
	}
	for _, q := range s.queues {
		if exchange == "" && len(q.bindings) > 0 {
			add("queues", fmt.Sprintf("queue %q: the default exchange has every queue by its name, and takes no bindings", q.name), "leave routing_keys out, or name an exchange", false)
		}
	}
	if !s.mandatory {
		add("mandatory", "a message that no queue takes is confirmed all the same, and is gone", "leave mandatory at true", true)
	}
	if !s.persistent {
		add("persistent", "messages that are confirmed do not survive a restart of the broker", "leave persistent at true", true)
	}
	return all
}

func sinkFields() []connectors.Field {
	return []connectors.Field{
		urlField(),
		{
			Name: "exchange", Kind: connectors.KindString, Check: checkTemplate, Example: "shop",
			Description: "exchange to publish to, by default the one that has every queue by its name; {key}, {topic}, {partition}, {header.NAME} and {value.FIELD} stand for what the record says",
		},
		{
			Name: "routing_key", Kind: connectors.KindString, Default: "{key}", Check: checkTemplate, Example: "orders.{value.country}",
			Description: "routing key of the message, with the same names in braces",
		},
		{
			Name: "persistent", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "true has the broker keep messages on disk: a confirm then means that it does",
		},
		{
			Name: "mandatory", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "true sends a record that no queue takes to the dead letters; false loses it",
		},
		{
			Name: "key_header", Kind: connectors.KindString, Default: "kafka-key", Check: checkShort, Example: "customer",
			Description: "header of the message that holds the record's key; empty sends no such header",
		},
		{
			Name: "in_flight", Kind: connectors.KindInt, Default: int64(1024), Min: 1, Max: 65536, Example: "1",
			Description: "messages that are published and not yet confirmed. With 1 the order of a partition is kept even when the broker refuses a message for a while, and it is slow",
		},
		{
			Name: "confirm_timeout", Kind: connectors.KindDuration, Default: 30 * time.Second, Min: int64(time.Second), Max: int64(time.Hour), Example: "1m",
			Description: "how long to wait for the next confirm before the connection is made anew and the unconfirmed are sent again; time for which the broker blocks publishers does not count",
		},
		{
			Name: "declare", Kind: connectors.KindBool, Example: "true",
			Description: "true makes the exchange and the queues, or makes sure that they are as declared here, and waits three seconds when a quorum queue is new; false only looks whether the exchange is there",
		},
		{
			Name: "exchange_type", Kind: connectors.KindString, Options: []string{"direct", "fanout", "topic", "headers"}, Default: "topic", Example: "direct",
			Description: "type of the exchange that is declared",
		},
		{
			Name: "queues", Kind: connectors.KindObjects, Fields: sinkQueueFields(),
			Description: "queues to declare, and to bind to the exchange",
		},
		{
			Name: "batch", Kind: connectors.KindObject, Fields: batchFields(),
			Description: "when to publish what has come, by what is reached first; what a killed hub sends again is at most one batch of each partition",
		},
	}
}

func sinkQueueFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "name", Kind: connectors.KindString, Required: true, Check: checkShort, Example: "orders",
			Description: "name of the queue",
		},
		{
			Name: "type", Kind: connectors.KindString, Options: []string{amqp.QueueTypeClassic, amqp.QueueTypeQuorum, amqp.QueueTypeStream}, Default: amqp.QueueTypeQuorum, Example: "classic",
			Description: "type of the queue",
		},
		argumentsField("{x-max-length: \"100000\", x-overflow: reject-publish}"),
		{
			Name: "routing_keys", Kind: connectors.KindStrings, Example: "[orders.#]",
			Description: "routing keys, or patterns of them, by which to bind it to the exchange",
		},
	}
}

func batchFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "rows", Kind: connectors.KindInt, Default: int64(1000), Min: 1, Max: 100_000, Example: "200",
			Description: "records in one batch",
		},
		{
			Name: "bytes", Kind: connectors.KindSize, Default: int64(4 << 20), Min: 1, Max: 1 << 30, Example: "1MiB",
			Description: "bytes of keys and values in one batch",
		},
		{
			Name: "every", Kind: connectors.KindDuration, Default: 100 * time.Millisecond, Min: int64(time.Millisecond), Max: int64(time.Hour), Example: "1s",
			Description: "how long a record waits at most for others to come",
		},
	}
}

func checkTemplate(v any) error {
	t, err := parseTemplate(v.(string))
	if err != nil {
		return err
	}
	text, _ := t.constant()
	return checkShort(text)
}

// Validate implements connectors.Sink.
func (Sink) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s, err := sinkSettingsOf(cfg)
	if err != nil {
		return []connectors.Finding{{Message: err.Error()}}
	}
	findings := s.check()
	if probe != connectors.ProbeLive || fatal(findings) != nil {
		return findings
	}
	return append(findings, probeLive(ctx, cfg, func(l *link) error {
		if s.declare { // what is not there is made when the job starts
			return nil
		}
		return s.prepare(ctx, l)
	})...)
}

// Batching implements connectors.Sink.
func (Sink) Batching(cfg connectors.Config) connectors.Limits {
	b := cfg.Object("batch")
	return connectors.Limits{Records: int(b.Int("rows")), Bytes: int(b.Size("bytes")), Wait: b.Duration("every")}
}

// Open implements connectors.Sink.
func (Sink) Open(ctx context.Context, task connectors.TaskContext, _ []record.TopicPartition) (connectors.Writer, error) {
	s, err := sinkSettingsOf(task.Config)
	if err == nil {
		err = fatal(s.check())
	}
	if err != nil {
		return nil, err
	}
	a, err := addressOf(task)
	if err != nil {
		return nil, err
	}
	w := &writer{sinkSettings: s, open: s.connected(a, task.Note), note: task.Note, log: task.Logger}
	if err := w.ready(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

// prepare declares or looks at what is published to.
func (s *sinkSettings) prepare(ctx context.Context, l *link) error {
	exchange, constant := s.exchange.constant()
	if !constant {
		return nil
	}
	if err := l.exchange(ctx, exchange, s.kind, s.declare); err != nil {
		return err
	}
	made := false
	for _, q := range s.queues {
		if q.typ == amqp.QueueTypeQuorum {
			made = absent(l.look(ctx, q.name)) || made
		}
		if err := l.declare(ctx, q); err != nil {
			return err
		}
	}
	if made {
		return connectors.Pause(ctx, settleTime)
	}
	return nil
}

// settleTime is how long a new quorum queue is left alone. The broker writes the
// name of the folder with its messages to disk up to a second later. Killed
// before, it begins with another folder, in which there are no messages and no
// leader is ever elected; what it has confirmed by then is lost.
const settleTime = 3 * time.Second
