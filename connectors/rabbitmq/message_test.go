package rabbitmq

import (
	"bytes"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestIdentity: what is one message and what is two. One ID for two that differ
// would lose the second.
func TestIdentity(t *testing.T) {
	base := func() *amqp.Delivery {
		return &amqp.Delivery{MessageId: "m", RoutingKey: "k", Body: []byte("body"), Headers: amqp.Table{"event": "e", "none": "n", "n": int32(1)}}
	}
	change := map[string]func(d *amqp.Delivery){
		"body":  func(d *amqp.Delivery) { d.Body = []byte("other") },
		"id":    func(d *amqp.Delivery) { d.MessageId = "other" },
		"event": func(d *amqp.Delivery) { d.Headers["event"] = "other" },
		"type":  func(d *amqp.Delivery) { d.Headers["n"] = int64(1) },
		"redelivery": func(d *amqp.Delivery) {
			d.Redelivered, d.Headers[countHeader], d.Headers["x-death"] = true, int64(3), []any{}
		},
	}
	for id, differ := range map[identity]map[string]bool{
		"message_id":   {"body": true, "id": true},
		"header:event": {"body": true, "event": true},
		"content":      {"body": true, "id": true, "event": true, "type": true},
	} {
		for name, do := range change {
			d := base()
			do(d)
			if same := bytes.Equal(id.of(base()), id.of(d)); same == differ[name] {
				t.Errorf("%s: with another %s the same: %t", id, name, same)
			}
		}
	}
	unnamed := base()
	unnamed.Headers["\xff"] = "x"
	for id, d := range map[identity]*amqp.Delivery{"none": base(), "message_id": {}, "header:event": {}, "content": unnamed} {
		if got := id.of(d); got != nil {
			t.Errorf("%s: ID %x of a message that has none", id, got)
		}
	}
	if key := part("none").of(base()); key != nil {
		t.Errorf("key none is %q", key)
	}
}

// TestReturnsAreHeard also when the connection has ended.
func TestReturnsAreHeard(t *testing.T) {
	for range 50 {
		returns, blocks := make(chan amqp.Return, 2), make(chan amqp.Blocking)
		o := &outlet{returns: returns, blocks: blocks, homeless: map[string]string{}}
		returns <- amqp.Return{MessageId: "a"}
		returns <- amqp.Return{MessageId: "b"}
		close(returns)
		close(blocks)
		if o.hear(); len(o.homeless) != 2 {
			t.Fatalf("of two returned messages %d are heard of", len(o.homeless))
		}
	}
}
