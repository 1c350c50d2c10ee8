package rabbitmq_test

import (
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
)

// TestStreamResumesAnywhere: opening at an offset gives what follows it, and
// what was read stays.
func TestStreamResumesAnywhere(t *testing.T) {
	const n = 40
	b := shared(t)
	b.queue("s", "stream", nil)
	b.publish("s", numbered(n)...)
	open := func(from connectors.Position) (connectors.Reader, error) {
		cfg := conntest.Config(t, rabbitmq.Stream{}.Spec(), map[string]any{"url": b.url, "streams": []string{"s"}, "prefetch": 7})
		return rabbitmq.Stream{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "s"}, from)
	}
	r, err := open(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := b.read(r, n)
	b.close(r)
	if texts(all) != count(0, n) {
		t.Errorf("read %s", texts(all))
	}
	for i, m := range all[:n-1] {
		r, err := open(m.Position)
		if err != nil {
			t.Fatal(err)
		}
		rest := b.read(r, n-1-i)
		b.close(r)
		if texts(rest) != count(i+1, n) || rest[0].Position.Compare(all[i+1].Position) != 0 {
			t.Fatalf("after %d: %s", i, texts(rest))
		}
	}
	if _, err := open(connectors.Position("\x00foreign")); connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("a foreign position: %v", err)
	}
	// The stream of this name is another one, or has dropped messages.
	if _, err := b.ch.QueueDelete("s", false, false, false); err != nil {
		t.Fatal(err)
	}
	b.queue("s", "stream", nil)
	b.publish("s", amqp.Publishing{Body: []byte("other")})
	if r, err = open(all[20].Position); err == nil {
		_, err = r.Read(t.Context(), connectors.Limits{Wait: patience / 15})
		b.close(r)
	}
	if err != nil && !strings.Contains(err.Error(), "another stream") {
		t.Errorf("%v", err)
	}
}
