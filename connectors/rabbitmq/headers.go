package rabbitmq

import (
	"fmt"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Names of the headers that a message of RabbitMQ has in a topic beside its
// own. Own headers whose names begin with ours come after headerEscape.
const (
	ours         = "amqp."
	headerEscape = ours + "header."
	headerTypes  = ours + "types"
)

// facts are headers that tell of one delivery. A sink does not send them.
var facts = []string{ours + "exchange", ours + "routing-key", ours + "redelivered", ours + "delivery-mode", countHeader}

// countHeader is how often a quorum queue has handed a message out before.
const countHeader = "x-delivery-count"

// kafkaHeaders gives the headers of a table, sorted by their names. Texts are
// as they came; what has another type is a text too, and headerTypes says
// which type it was.
func kafkaHeaders(t amqp.Table) ([]record.Header, error) {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]record.Header, 0, len(t)+8)
	kinds := map[string]any{}
	for _, name := range names {
		value, kind, err := textOf(t[name])
		if err != nil {
			return nil, fmt.Errorf("header %q: %w", name, err)
		}
		if kind != "S" {
			kinds[name] = kind
		}
		key := name
		if strings.HasPrefix(name, ours) {
			key = headerEscape + name
		}
		out = append(out, record.Header{Key: key, Value: value})
	}
	if len(kinds) == 0 {
		return out, nil
	}
	text, err := encodeJSON(kinds)
	return append(out, record.Header{Key: headerTypes, Value: text}), err
}

// amqpHeaders gives the table of a record's headers. What headerTypes does not
// name is a text; one without a value is void; several of one name are an
// array. Its errors are of class Poison.
func amqpHeaders(headers []record.Header) (amqp.Table, error) {
	kinds, err := kindsOf(headers)
	if err != nil {
		return nil, err
	}
	t := amqp.Table{}
	for _, h := range headers {
		name := h.Key
		switch {
		case name == headerTypes || slices.Contains(facts, name) || isProperty(name):
			continue
		case strings.HasPrefix(name, headerEscape):
			name = strings.TrimPrefix(name, headerEscape)
		}
		if len(name) > maxShort {
			return nil, connectors.Poisonf("header %.40q…: its name has %d bytes, AMQP takes %d", name, len(name), maxShort)
		}
		v, err := valueOf(h.Value, kinds[name])
		if err != nil {
			return nil, connectors.Poison(fmt.Errorf("header %q: %w", name, err))
		}
		if before, twice := t[name]; twice {
			v = appended(before, v)
		}
		t[name] = v
	}
	return t, checkReserved(t)
}

// appended makes an array of the values of a name that is there again.
func appended(before, v any) any {
	if all, ok := before.(repeated); ok {
		return append(all, v)
	}
	return repeated{before, v}
}

// repeated is an array that was not one in the record.
type repeated []any

// kindsOf reads headerTypes.
func kindsOf(headers []record.Header) (map[string]any, error) {
	for _, h := range headers {
		if h.Key != headerTypes {
			continue
		}
		v, err := decodeJSON(h.Value)
		kinds, ok := v.(map[string]any)
		if err != nil || !ok {
			return nil, connectors.Poisonf("header %s is not an object of types: %.80q", headerTypes, h.Value)
		}
		return kinds, nil
	}
	return nil, nil
}

// checkReserved looks at the headers that the broker reads itself: a wrong one
// would make it close the channel.
func checkReserved(t amqp.Table) error {
	for name, v := range t {
		if all, ok := v.(repeated); ok {
			t[name] = []any(all)
			v = []any(all)
		}
		if name != "CC" && name != "BCC" {
			continue
		}
		all, ok := v.([]any)
		for _, one := range all {
			if _, text := one.(string); !text {
				ok = false
			}
		}
		if !ok {
			return connectors.Poisonf("header %q is more routing keys to RabbitMQ: want an array of texts, got %.80q", name, fmt.Sprint(v))
		}
	}
	return nil
}
