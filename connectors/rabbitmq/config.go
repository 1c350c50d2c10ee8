package rabbitmq

import (
	"errors"
	"fmt"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// sourceSettings are the fields of a source in the form the reader needs.
type sourceSettings struct {
	queues          []string
	declare         bool
	typ             string
	arguments       amqp.Table
	bindings        []binding
	prefetch        int
	key             part
	id              identity
	maxRedeliveries int64
}

func sourceSettingsOf(cfg connectors.Config) sourceSettings {
	s := sourceSettings{
		queues: cfg.Strings("queues"), declare: cfg.Bool("declare"), typ: cfg.String("queue_type"),
		arguments: tableOfTexts(cfg.StringMap("arguments")), prefetch: int(cfg.Int("prefetch")),
		key: part(cfg.String("key")), id: identity(cfg.String("id")), maxRedeliveries: cfg.Int("max_redeliveries"),
	}
	if cfg.Bool("single_active_consumer") {
		s.arguments[amqp.SingleActiveConsumerArg] = true
	}
	for _, b := range cfg.Objects("bindings") {
		s.bindings = append(s.bindings, binding{b.String("exchange"), b.String("routing_key"), tableOfTexts(b.StringMap("arguments"))})
	}
	return s
}

func (s *sourceSettings) queue(name string) queue {
	return queue{name: name, typ: s.typ, arguments: s.arguments, bindings: s.bindings}
}

// check finds what the single fields cannot tell.
func (s *sourceSettings) check() []connectors.Finding {
	var all []connectors.Finding
	add := func(field, message, hint string, warning bool) {
		all = append(all, connectors.Finding{Field: field, Message: message, Hint: hint, Warning: warning})
	}
	if !s.declare && len(s.bindings) > 0 {
		add("bindings", "bindings are made with the queue, and declare is false", "set declare: true, or leave bindings out", false)
	}
	if s.id == "none" {
		add("id", "without an id, messages that the broker hands out again after a lost connection are in the topic twice", "", true)
	}
	if s.id == "content" {
		add("id", "by their content, two equal messages are one: the second is dropped", "use it where senders never send the same twice", true)
	}
	return all
}

// fatal is the first finding that is not only a warning, as an error.
func fatal(findings []connectors.Finding) error {
	for _, f := range findings {
		if !f.Warning {
			return connectors.Fatalf("%s: %s; %s", f.Field, f.Message, f.Hint)
		}
	}
	return nil
}

func checkQueues(v any) error {
	all := v.([]string)
	if len(all) == 0 {
		return errors.New("name at least one queue")
	}
	for i, name := range all {
		if err := checkShort(name); err != nil {
			return err
		}
		if name == "" || slices.Contains(all[:i], name) {
			return fmt.Errorf("queue %q is empty or there twice", name)
		}
	}
	return nil
}

func checkShort(v any) error {
	if s := v.(string); len(s) > maxShort {
		return fmt.Errorf("%.20q… is longer than the %d bytes that AMQP takes", s, maxShort)
	}
	return nil
}

func urlField() connectors.Field {
	return connectors.Field{
		Name: "url", Kind: connectors.KindSecret, Required: true, Example: "${env:RABBITMQ_URL}",
		Description: "how to connect: amqp://user:password@host:5672/vhost, or amqps with TLS and the parameters cacertfile, certfile, keyfile and server_name_indication; several with commas between are the nodes of a cluster, tried in turn",
	}
}

func sourceFields() []connectors.Field {
	return []connectors.Field{
		urlField(),
		{
			Name: "queues", Kind: connectors.KindStrings, Required: true, Check: checkQueues, Example: "[orders]",
			Description: "queues to read, each on a connection of its own and in its order",
		},
		{
			Name: "declare", Kind: connectors.KindBool, Example: "true",
			Description: "true makes the queues and their bindings, or makes sure that they are as declared here; false only looks whether the queues are there",
		},
		{
			Name: "queue_type", Kind: connectors.KindString, Options: []string{amqp.QueueTypeClassic, amqp.QueueTypeQuorum}, Default: amqp.QueueTypeQuorum, Example: "classic",
			Description: "type of a queue that is declared; quorum queues count how often a message was handed out",
		},
		argumentsField("{x-dead-letter-exchange: orders.dead}"),
		{
			Name: "single_active_consumer", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "true declares the queue with x-single-active-consumer, so that a second reader waits and the order stays",
		},
		{
			Name: "bindings", Kind: connectors.KindObjects, Fields: bindingFields(),
			Description: "what to bind the declared queues to",
		},
		{
			Name: "prefetch", Kind: connectors.KindInt, Default: int64(256), Min: 1, Max: 65535, Example: "1000",
			Description: "messages of a queue that are on their way and not acknowledged; what a lost connection hands out again at most. A commit comes at the latest with half of it, so more is faster",
		},
		{
			Name: "key", Kind: connectors.KindString, Default: "routing_key", Example: "header:customer", Check: checkPart("routing_key", "message_id", "correlation_id", "none"),
			Description: "key of the record, which decides on its partition: routing_key, message_id, correlation_id, header:NAME or none",
		},
		{
			Name: "id", Kind: connectors.KindString, Default: "message_id", Example: "header:event-id", Check: checkPart("message_id", "content", "none"),
			Description: "what tells that a message comes again: message_id or header:NAME, each with a hash of the body; content, a hash of all that the sender says, for which two equal messages are one; or none. A message that does not have it is written each time it comes",
		},
		connectors.DedupField(100_000),
		{
			Name: "max_redeliveries", Kind: connectors.KindInt, Default: int64(10), Max: 1_000_000, Example: "3",
			Description: "a message that a quorum queue has handed out more often goes to the dead letters, so that one that ends its reader each time does not hold the others up; 0 never does. Classic queues do not count. Keep it below the queue's own delivery limit, over which the broker drops",
		},
	}
}

func bindingFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "exchange", Kind: connectors.KindString, Required: true, Check: checkShort, Example: "shop",
			Description: "exchange to bind to; it has to be there",
		},
		{
			Name: "routing_key", Kind: connectors.KindString, Check: checkShort, Example: "orders.#",
			Description: "routing key, or the pattern of one",
		},
		argumentsField("{x-match: all, kind: order}"),
	}
}

// commitAfter bounds how long a message waits for its acknowledgement.
const commitAfter = 100 * time.Millisecond
