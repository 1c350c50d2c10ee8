package rabbitmq_test

import (
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// TestPoisonEndsItsReaders: one message of 10,000 ends each reader that sees it,
// before what was read with it is committed. With a delivery limit of 3 at the
// broker it alone is told to be poison; all others come in order, the broker drops
// none, and hands few out again.
func TestPoisonEndsItsReaders(t *testing.T) {
	const n, bad = 10_000, 6_543
	b := shared(t)
	b.queue("dropped", "classic", nil)
	b.queue("q", "quorum", amqp.Table{"x-delivery-limit": 3, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dropped"})
	b.publish("q", numbered(n)...)
	cfg := b.source("q", map[string]any{"max_redeliveries": 2})
	var good []string
	var poison []connectors.Message
	again, readers := 0, 0
	var from connectors.Position
	for len(good)+len(poison) < n {
		if readers++; readers > 20 {
			t.Fatalf("%d readers, %d messages", readers, len(good))
		}
		r := b.open(cfg, "q", from)
		for len(good)+len(poison) < n {
			batch, err := r.Read(b.Context(), connectors.Limits{Records: 100, Wait: patience})
			if err != nil {
				t.Fatal(err)
			}
			died := false
			for _, m := range batch.Messages {
				if header(m, "amqp.redelivered") == "true" {
					again++
				}
				died = died || m.Err == nil && string(m.Value) == fmt.Sprint(bad)
			}
			if died {
				break // with it, all of the batch are not committed
			}
			for _, m := range batch.Messages {
				if m.Err != nil {
					poison = append(poison, m)
				} else {
					good = append(good, string(m.Value))
				}
			}
			last := batch.Messages[len(batch.Messages)-1]
			b.committed(r, last)
			from = last.Position
		}
		b.close(r)
	}
	if len(poison) != 1 || string(poison[0].Original) != fmt.Sprint(bad) {
		t.Errorf("%d messages are poison: %s", len(poison), texts(poison))
	}
	next := 0
	for _, text := range good {
		if next == bad {
			next++
		}
		if text != fmt.Sprint(next) {
			t.Fatalf("%s comes where %d should", text, next)
		}
		next++
	}
	if dropped := len(b.rest("dropped")); dropped != 0 || len(good) != n-1 {
		t.Errorf("%d messages in order, the broker has dropped %d", len(good), dropped)
	}
	t.Logf("%d in order, %d poison, %d readers ended, %d messages were handed out again", len(good), len(poison), readers-1, again)
	if again > 2*256+8 {
		t.Errorf("%d messages were handed out again", again)
	}
}
