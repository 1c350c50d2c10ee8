package rabbitmq_test

import (
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
)

// TestPreview tells where messages would go and which no queue would take, and
// leaves the broker as it is: nothing is published, taken or declared.
func TestPreview(t *testing.T) {
	b := shared(t)
	b.queue("there", "classic", nil)
	b.publish("there", numbered(3)...)
	sample := []connectors.Message{{Key: []byte("there"), Value: []byte("a")}, {Key: []byte("gone"), Value: []byte("b")}, {Value: []byte("no key")}}
	cfg := conntest.Config(t, rabbitmq.Sink{}.Spec(), map[string]any{"url": b.url})
	got, err := rabbitmq.Sink{}.Preview(t.Context(), conntest.Task(cfg), sample)
	if err != nil || len(got.Refused) != 2 || got.Refused[0].Index != 1 || !strings.Contains(got.Target, "default exchange") {
		t.Errorf("got %+v, %v", got, err)
	}
	cfg = conntest.Config(t, rabbitmq.Sink{}.Spec(), map[string]any{
		"url": b.url, "exchange": "shop", "declare": true,
		"queues": []map[string]any{{"name": "new", "routing_keys": []string{"#"}}},
	})
	if got, err = (rabbitmq.Sink{}).Preview(t.Context(), conntest.Task(cfg), sample[:1]); err != nil || len(got.Makes) != 2 || len(got.Refused) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, gone := range []string{"gone", "new"} {
		if _, err := b.ch.QueueDeclarePassive(gone, true, false, false, false, nil); err == nil {
			t.Errorf("queue %s was made", gone)
		}
		b.dial() // the broker has closed the channel
	}
	if err := b.ch.ExchangeDeclarePassive("shop", "topic", true, false, false, false, nil); err == nil {
		t.Error("the exchange was made")
	}
	b.dial()
	if left := b.rest("there"); len(left) != 3 || left[0].Redelivered {
		t.Errorf("%d messages are left of 3", len(left))
	}
	if _, can := any(rabbitmq.Source{}).(connectors.Sampler); can {
		t.Error("a queue says that it can be looked into")
	}
}
