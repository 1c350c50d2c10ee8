package rabbitmq

import (
	"fmt"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// maxHeaders is what all properties and headers of a message may take, in
// bytes: they have to fit one frame, which RabbitMQ bounds to 128 KiB.
const maxHeaders = 120 << 10

// outgoing is a record on its way.
type outgoing struct {
	index         int // in the batch
	offset        int64
	exchange, key string
	amqp.Publishing
	confirm confirmation // once it is published
}

// messageID names a record: the same each time it is sent.
func messageID(m *connectors.Message) string {
	return fmt.Sprintf("%s-%d-%d", m.Partition.Topic, m.Partition.Partition, m.Offset)
}

// publishing makes the message of a record. Its errors are of class Poison:
// what the broker would close the channel for is found here.
func (s *sinkSettings) publishing(m *connectors.Message) (out outgoing, err error) {
	out.offset = m.Offset
	if out.exchange, err = s.exchange.of(m); err != nil {
		return out, fmt.Errorf("exchange: %w", err)
	}
	if out.key, err = s.routingKey.of(m); err != nil {
		return out, fmt.Errorf("routing_key: %w", err)
	}
	headers, err := amqpHeaders(m.Headers)
	if err != nil {
		return out, err
	}
	out.Publishing = amqp.Publishing{Headers: headers, MessageId: messageID(m), DeliveryMode: amqp.Transient, Body: m.Value}
	if s.persistent {
		out.DeliveryMode = amqp.Persistent
	}
	for _, h := range m.Headers {
		if !isProperty(h.Key) {
			continue
		}
		if err := properties[h.Key].set(&out.Publishing, string(h.Value)); err != nil || len(h.Value) > maxShort {
			return out, connectors.Poisonf("header %s: RabbitMQ does not take %.80q as this property", h.Key, h.Value)
		}
	}
	s.additions(m, &out.Publishing)
	if size := sizeOf(headers); size > maxHeaders {
		return out, connectors.Poisonf("the headers have %d bytes, RabbitMQ takes %d", size, maxHeaders)
	}
	return out, nil
}

// additions are what AMQP has no other place for.
func (s *sinkSettings) additions(m *connectors.Message, p *amqp.Publishing) {
	add := func(name string, v any) {
		if _, there := p.Headers[name]; !there {
			p.Headers[name] = v
		}
	}
	if m.Value == nil {
		add(nullHeader, true)
	}
	if s.keyHeader != "" && m.Key != nil {
		if utf8.Valid(m.Key) {
			add(s.keyHeader, string(m.Key))
		} else {
			add(s.keyHeader, append([]byte{}, m.Key...))
		}
	}
	if m.Timestamp >= 0 {
		if p.Timestamp.IsZero() {
			p.Timestamp = time.Unix(m.Timestamp/1000, 0)
		}
		add(millisHeader, m.Timestamp)
	}
}

// sizeOf is about the number of bytes that a value takes in a frame.
func sizeOf(v any) int {
	switch x := v.(type) {
	case string:
		return 5 + len(x)
	case []byte:
		return 5 + len(x)
	case []any:
		n := 5
		for _, one := range x {
			n += sizeOf(one)
		}
		return n
	case amqp.Table:
		n := 5
		for name, one := range x {
			n += 1 + len(name) + sizeOf(one)
		}
		return n
	}
	return 9
}
