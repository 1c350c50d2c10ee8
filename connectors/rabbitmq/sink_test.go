package rabbitmq_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
	"github.com/entrepot-hub/entrepot/record"
)

var errStill = errors.New("still going on")

func header(m connectors.Message, name string) string {
	for _, h := range m.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// TestSinkSuite: the destination is what a consumer has of it that drops what
// comes twice, by the message-id.
func TestSinkSuite(t *testing.T) {
	conntest.Sink(t, rabbitmq.Sink{}, func(t *testing.T) conntest.SinkCase {
		b := shared(t)
		if err := b.ch.ExchangeDeclare("rows", "topic", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		b.queue("rows", "classic", nil)
		if err := b.ch.QueueBind("rows", "row.#", "rows", false, nil); err != nil {
			t.Fatal(err)
		}
		seen := map[string]amqp.Delivery{}
		drain := func() {
			for _, d := range b.rest("rows") {
				seen[d.MessageId] = d
			}
		}
		return conntest.SinkCase{
			Config: conntest.Config(t, rabbitmq.Sink{}.Spec(), map[string]any{"url": b.url, "exchange": "rows", "routing_key": "row.{value.id}", "in_flight": 16}),
			Rows: func(t *testing.T) (ids []int64) {
				drain()
				for _, d := range seen {
					var id int64
					if _, err := fmt.Sscanf(d.RoutingKey, "row.%d", &id); err != nil {
						t.Fatal(err)
					}
					ids = append(ids, id)
				}
				return ids
			},
			State: func(*testing.T) string {
				drain()
				var all []string
				for _, d := range seen {
					all = append(all, fmt.Sprintf("%s %s %v %s", d.MessageId, d.RoutingKey, d.Headers, d.Body))
				}
				slices.Sort(all)
				return strings.Join(all, "\n")
			},
		}
	})
}

func (b *broker) sink(values map[string]any) connectors.Writer {
	b.Helper()
	values["url"] = b.url
	w, err := rabbitmq.Sink{}.Open(b.Context(), conntest.Task(conntest.Config(b, rabbitmq.Sink{}.Spec(), values)), nil)
	if err != nil {
		b.Fatal(err)
	}
	return w
}

// records makes a plan of records "from" to "to"-1 with the key.
func records(key string, from, to int64) (connectors.Plan, connectors.Batch) {
	tp := record.TopicPartition{Topic: "t", Partition: 3}
	p := connectors.Plan{Partition: tp, From: from, To: to, Epoch: 1, ID: fmt.Sprintf("t/%d/%d", from, to)}
	var b connectors.Batch
	for o := from; o < to; o++ {
		b.Messages = append(b.Messages, connectors.Message{Key: []byte(key), Value: fmt.Append(nil, o), Timestamp: 1431857103123, Partition: tp, Offset: o})
	}
	return p, b
}

// TestReturned: what no queue takes is named, though the broker confirms it,
// and the rest of the plan is not sent a second time.
func TestReturned(t *testing.T) {
	b := shared(t)
	b.queue("q", "classic", nil)
	w := b.sink(map[string]any{})
	p, batch := records("q", 0, 50)
	batch.Messages[7].Key, batch.Messages[30].Key = []byte("nowhere"), []byte("nor here")
	refused, err := w.Write(t.Context(), p, batch)
	if err != nil || len(refused) != 2 || refused[0].Offset != 7 || refused[1].Index != 30 || connectors.ClassOf(refused[0].Err) != connectors.ClassPoison {
		t.Fatalf("refused %v, %v", refused, err)
	}
	if !strings.Contains(refused[0].Err.Error(), `routing key "nowhere" (NO_ROUTE, 312)`) {
		t.Errorf("%v", refused[0].Err)
	}
	batch.Messages = slices.Delete(batch.Messages, 30, 31)
	batch.Messages = slices.Delete(batch.Messages, 7, 8)
	if refused, err := w.Write(t.Context(), p, batch); err != nil || len(refused) > 0 {
		t.Fatalf("refused %v, %v", refused, err)
	}
	b.close(w)
	rest := b.rest("q")
	if len(rest) != 48 {
		t.Errorf("%d messages: %s", len(rest), bodies(rest))
	}
	if d := rest[0]; d.MessageId != "t-3-0" || d.DeliveryMode != amqp.Persistent || d.Headers["kafka-key"] != "q" || d.Headers["timestamp_in_ms"] != int64(1431857103123) {
		t.Errorf("%+v", d)
	}
}
