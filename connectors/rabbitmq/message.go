package rabbitmq

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// maxShort is the longest short string of AMQP, in bytes: names, routing keys,
// properties.
const maxShort = 255

// nullHeader marks a message without a body whose record had no value at all,
// and millisHeader holds the time that the property timestamp rounds to
// seconds, by the name that RabbitMQ itself uses.
const (
	nullHeader   = "kafka-null"
	millisHeader = "timestamp_in_ms"
)

// property reads and writes one property of a message as a header.
type property struct {
	get func(d *amqp.Delivery) string // "" when it is not there
	set func(p *amqp.Publishing, text string) error
}

// properties are the headers that stand for properties. Those without set are
// not restored: the sink gives a message-id and a delivery-mode of its own, and
// the broker takes no user-id but the connection's. What they were stays in
// the message as a header.
var properties = map[string]*property{
	ours + "content-type": {
		func(d *amqp.Delivery) string { return d.ContentType },
		func(p *amqp.Publishing, s string) error { p.ContentType = s; return nil },
	},
	ours + "content-encoding": {
		func(d *amqp.Delivery) string { return d.ContentEncoding },
		func(p *amqp.Publishing, s string) error { p.ContentEncoding = s; return nil },
	},
	ours + "correlation-id": {
		func(d *amqp.Delivery) string { return d.CorrelationId },
		func(p *amqp.Publishing, s string) error { p.CorrelationId = s; return nil },
	},
	ours + "reply-to": {
		func(d *amqp.Delivery) string { return d.ReplyTo },
		func(p *amqp.Publishing, s string) error { p.ReplyTo = s; return nil },
	},
	ours + "type": {
		func(d *amqp.Delivery) string { return d.Type },
		func(p *amqp.Publishing, s string) error { p.Type = s; return nil },
	},
	ours + "app-id": {
		func(d *amqp.Delivery) string { return d.AppId },
		func(p *amqp.Publishing, s string) error { p.AppId = s; return nil },
	},
	ours + "expiration": {
		func(d *amqp.Delivery) string { return d.Expiration },
		func(p *amqp.Publishing, s string) error {
			p.Expiration = s
			_, err := strconv.ParseUint(s, 10, 32)
			return err
		},
	},
	ours + "priority": {
		func(d *amqp.Delivery) string { return number(int64(d.Priority)) },
		func(p *amqp.Publishing, s string) error {
			n, err := strconv.ParseUint(s, 10, 8)
			p.Priority = uint8(n)
			return err
		},
	},
	ours + "timestamp": {
		func(d *amqp.Delivery) string {
			if d.Timestamp.IsZero() {
				return ""
			}
			return strconv.FormatInt(d.Timestamp.Unix(), 10)
		},
		func(p *amqp.Publishing, s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			p.Timestamp = time.Unix(n, 0)
			return err
		},
	},
	ours + "message-id":    {func(d *amqp.Delivery) string { return d.MessageId }, nil},
	ours + "user-id":       {func(d *amqp.Delivery) string { return d.UserId }, nil},
	ours + "delivery-mode": {func(d *amqp.Delivery) string { return number(int64(d.DeliveryMode)) }, nil},
}

// order of the properties' headers.
var propertyOrder = []string{
	ours + "content-type", ours + "content-encoding", ours + "message-id", ours + "correlation-id", ours + "reply-to", ours + "type",
	ours + "app-id", ours + "user-id", ours + "timestamp", ours + "expiration", ours + "priority", ours + "delivery-mode",
}

// isProperty reports whether a header is restored as a property.
func isProperty(name string) bool { return properties[name] != nil && properties[name].set != nil }

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// message makes the record of a delivery. It has all but a position.
func (s *sourceSettings) message(queue string, d *amqp.Delivery) connectors.Message {
	m := connectors.Message{Value: d.Body, Original: d.Body, Timestamp: timeOf(d), Origin: connectors.Origin{Name: queue}}
	if null, _ := d.Headers[nullHeader].(bool); null && len(d.Body) == 0 {
		m.Value = nil
	} else if d.Body == nil {
		m.Value, m.Original = []byte{}, []byte{}
	}
	var err error
	if m.Headers, err = kafkaHeaders(d.Headers); err != nil {
		m.Err = connectors.Poison(err)
	}
	for _, name := range propertyOrder {
		if text := properties[name].get(d); text != "" {
			m.Headers = append(m.Headers, record.Header{Key: name, Value: []byte(text)})
		}
	}
	for i, text := range []string{d.Exchange, d.RoutingKey} {
		if text != "" {
			m.Headers = append(m.Headers, record.Header{Key: facts[i], Value: []byte(text)})
		}
	}
	if d.Redelivered {
		m.Headers = append(m.Headers, record.Header{Key: ours + "redelivered", Value: []byte("true")})
	}
	m.Key = s.key.of(d)
	m.ID = s.id.of(d)
	if n, most := deliveries(d), s.maxRedeliveries; most > 0 && d.Redelivered && n > most && m.Err == nil {
		m.Err = connectors.Poisonf("the queue has handed the message out %d times before, and max_redeliveries is %d", n, most)
	}
	return m
}

// timeOf is when the message was sent, if it says so.
func timeOf(d *amqp.Delivery) int64 {
	if ms, ok := d.Headers[millisHeader].(int64); ok && ms >= 0 {
		return ms
	}
	if s := d.Timestamp.Unix(); !d.Timestamp.IsZero() && s >= 0 && s < 1<<50 {
		return s * 1000
	}
	return connectors.NoTimestamp
}

// deliveries is how often the queue has handed the message out before, where
// the queue counts: a quorum queue.
func deliveries(d *amqp.Delivery) int64 {
	n, _ := whole(d.Headers[countHeader])
	return n
}

// part says what of a message is its key, or tells it from others.
type part string

const headerPart = "header:"

func checkPart(allowed ...string) func(any) error {
	return func(v any) error {
		s := v.(string)
		for _, one := range allowed {
			if s == one {
				return nil
			}
		}
		if name, ok := strings.CutPrefix(s, headerPart); ok && name != "" {
			return nil
		}
		return fmt.Errorf("%q is not one of %s or %sNAME", s, strings.Join(allowed, ", "), headerPart)
	}
}

func (p part) of(d *amqp.Delivery) []byte {
	text := ""
	switch p {
	case "none":
		return nil
	case "routing_key":
		return []byte(d.RoutingKey)
	case "message_id":
		text = d.MessageId
	case "correlation_id":
		text = d.CorrelationId
	case "content":
		return contentOf(d)
	default:
		name, _ := strings.CutPrefix(string(p), headerPart)
		if v := d.Headers[name]; v != nil {
			b, _, _ := textOf(v)
			return b
		}
	}
	if text == "" {
		return nil
	}
	return []byte(text)
}

// identity is the part of a message that tells it from others, with what it
// says: two messages of one ID and other bytes are two.
type identity part

func (i identity) of(d *amqp.Delivery) []byte {
	if i == "content" || i == "none" {
		return part(i).of(d)
	}
	id := part(i).of(d)
	if id == nil {
		return nil
	}
	sum := sha256.Sum256(d.Body)
	return append(append(id[:len(id):len(id)], 0), sum[:16]...)
}

// contentOf stands for all that a sender says in a message. It is nil where a
// part of that has no text: without it, two messages would seem to be one.
func contentOf(d *amqp.Delivery) []byte {
	h := sha256.New()
	add := func(b []byte) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	add(d.Body)
	add([]byte(d.Exchange))
	add([]byte(d.RoutingKey))
	for _, name := range propertyOrder {
		add([]byte(properties[name].get(d)))
	}
	own := amqp.Table{}
	for name, v := range d.Headers {
		if name != "x-death" && name != countHeader && !strings.HasPrefix(name, "x-first-death-") {
			own[name] = v
		}
	}
	plain, kinds, err := plainTable(own)
	if err != nil {
		return nil
	}
	text, err := encodeJSON([]any{plain, kinds})
	if err != nil {
		return nil
	}
	add(text)
	return h.Sum(nil)
}
