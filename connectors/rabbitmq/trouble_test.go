package rabbitmq_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
	"github.com/entrepot-hub/entrepot/record"
)

// TestPoisonByRedelivery: what a quorum queue has handed out too often is
// marked, and nothing else is. The one that is read alone comes after those that
// were lost with it.
func TestPoisonByRedelivery(t *testing.T) {
	b := shared(t)
	b.queue("q", "quorum", nil)
	b.publish("q", numbered(2)...)
	cfg := b.source("q", map[string]any{"max_redeliveries": 2})
	for i := range 3 {
		r := b.open(cfg, "q", nil)
		if got := b.read(r, 1)[0]; got.Err != nil || string(got.Original) != "0" {
			t.Errorf("time %d: %s, %v", i+1, got.Original, got.Err)
		}
		b.close(r)
	}
	r := b.open(cfg, "q", nil)
	for _, want := range []string{"1", "0"} {
		got := b.read(r, 1)[0]
		if bad := got.Err != nil; string(got.Original) != want || bad != (want == "0") || bad && connectors.ClassOf(got.Err) != connectors.ClassPoison {
			t.Errorf("%s, want %s: %v, delivered %q before", got.Original, want, got.Err, header(got, "x-delivery-count"))
		}
		b.committed(r, got)
	}
	b.close(r)
	if rest := b.rest("q"); len(rest) > 0 {
		t.Errorf("left: %s", bodies(rest))
	}
}

// TestAnotherQueueIsThere: the job is parked, with both sides told.
func TestAnotherQueueIsThere(t *testing.T) {
	b := shared(t)
	b.queue("q", "classic", nil)
	_, err := rabbitmq.Source{}.Open(t.Context(), conntest.Task(b.source("q", map[string]any{"declare": true})), connectors.Split{ID: "q"}, nil)
	if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "received the value 'true'") || !strings.Contains(err.Error(), "current is none") {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
	_, err = rabbitmq.Source{}.Open(t.Context(), conntest.Task(b.source("none", nil)), connectors.Split{ID: "none"}, nil)
	if connectors.ClassOf(err) != connectors.ClassRetry || !strings.Contains(err.Error(), `queue "none"`) {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
	for url, want := range map[string]string{
		strings.Replace(b.url, "guest:guest", "guest:wrong", 1): "login is refused",
		b.url + "-not":      "check the virtual host",
		"amqp://u:p@ss@[:x": "it cannot be read",
	} {
		cfg := conntest.Config(t, rabbitmq.Source{}.Spec(), map[string]any{"url": url, "queues": []string{"q"}})
		_, err := rabbitmq.Source{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "q"}, nil)
		if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("class %v: %v, want %q", connectors.ClassOf(err), err, want)
		}
		if f := (rabbitmq.Source{}).Validate(t.Context(), cfg, connectors.ProbeLive); len(f) != 1 || f[0].Field != "url" {
			t.Errorf("findings %v", f)
		}
	}
}

// TestThereAndBack: a message goes through a record and is the same message.
func TestThereAndBack(t *testing.T) {
	b := shared(t)
	b.queue("a", "quorum", nil)
	b.queue("b", "quorum", nil)
	sent := amqp.Publishing{
		Headers: amqp.Table{
			"t": true, "b": int8(-1), "B": uint8(255), "s": int16(-2), "u": uint16(65535), "I": int32(-3), "i": uint32(1 << 31), "l": int64(1) << 62,
			"f": float32(0.1), "d": 0.1, "D": amqp.Decimal{Scale: 3, Value: -5}, "S": "é\xff", "T": time.Unix(1431857103, 0), "x": []byte{0, 255}, "V": nil,
			"A": []any{int32(1), "two", amqp.Table{"deep": []any{nil}}}, "F": amqp.Table{"n": amqp.Table{"T": time.Unix(0, 0)}}, "amqp.odd": "mine",
		},
		ContentType: "application/json", ContentEncoding: "identity", Priority: 5, CorrelationId: "c", ReplyTo: "r", Expiration: "3600000",
		MessageId: "original", Timestamp: time.Unix(1431857103, 0), Type: "order", UserId: "guest", AppId: "shop", Body: []byte("{}"),
	}
	b.publish("a", sent)
	r := b.open(b.source("a", nil), "a", nil)
	m := b.read(r, 1)[0]
	b.committed(r, m)
	b.close(r)
	if string(m.Key) != "a" || m.Timestamp != 1431857103000 || m.Origin.Name != "a" {
		t.Errorf("%+v", m)
	}
	m.Partition, m.Offset = record.TopicPartition{Topic: "t"}, 9
	w := b.sink(map[string]any{"routing_key": "b"})
	p := connectors.Plan{Partition: m.Partition, From: 9, To: 10, ID: "t/0/9"}
	if refused, err := w.Write(t.Context(), p, connectors.Batch{Messages: []connectors.Message{m}}); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	b.close(w)
	got := b.rest("b")[0]
	want := sent
	want.MessageId, want.UserId, want.DeliveryMode = "t-0-9", "", amqp.Persistent
	for name, v := range map[string]any{"amqp.message-id": "original", "amqp.user-id": "guest", "kafka-key": "a", "x-delivery-count": int64(0), "timestamp_in_ms": int64(1431857103000)} {
		want.Headers[name] = v
	}
	back := amqp.Publishing{
		Headers: got.Headers, ContentType: got.ContentType, ContentEncoding: got.ContentEncoding, Priority: got.Priority, CorrelationId: got.CorrelationId, ReplyTo: got.ReplyTo,
		Expiration: got.Expiration, MessageId: got.MessageId, Timestamp: got.Timestamp, Type: got.Type, UserId: got.UserId, AppId: got.AppId, Body: got.Body, DeliveryMode: got.DeliveryMode,
	}
	if !reflect.DeepEqual(back, want) {
		t.Errorf("got\n%#v\nwant\n%#v", back, want)
	}
}

// TestTombstoneAndNothing: a record without a value is not one with an empty
// value.
func TestTombstoneAndNothing(t *testing.T) {
	b := shared(t)
	b.queue("q", "classic", nil)
	w := b.sink(map[string]any{})
	p, batch := records("q", 0, 2)
	batch.Messages[0].Value, batch.Messages[1].Value = nil, []byte{}
	if refused, err := w.Write(t.Context(), p, batch); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	b.close(w)
	r := b.open(b.source("q", nil), "q", nil)
	got := b.read(r, 2)
	b.close(r)
	if got[0].Value != nil || got[1].Value == nil {
		t.Errorf("%v, %v", got[0].Value, got[1].Value)
	}
}

// TestFullQueue: what the broker refuses is sent again, and with one in flight
// nothing overtakes it; what it has is not sent again.
func TestFullQueue(t *testing.T) {
	b := shared(t)
	b.queue("q", "classic", amqp.Table{"x-max-length": 20, "x-overflow": "reject-publish"})
	w := b.sink(map[string]any{"in_flight": 1})
	done := make(chan error, 1)
	go func() {
		p, batch := records("q", 0, 100)
		refused, err := w.Write(b.Context(), p, batch)
		if err == nil && len(refused) > 0 {
			err = refused[0].Err
		}
		done <- err
	}()
	var seen []amqp.Delivery
	b.until("all are there", func() error {
		if seen = append(seen, b.rest("q")...); len(seen) < 100 {
			return fmt.Errorf("%d of 100", len(seen))
		}
		return nil
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.close(w)
	if bodies(seen) != count(0, 100) {
		t.Errorf("the queue had %s", bodies(seen))
	}
}

// TestConnectionCutWhilePublishing: the writer connects again and sends what
// is not confirmed; nothing is lost.
func TestConnectionCutWhilePublishing(t *testing.T) {
	b := shared(t)
	b.queue("q", "quorum", nil)
	relayed := *b
	var cuts *atomic.Int64
	relayed.url, cuts = b.relay(200_000, 400_000)
	w := relayed.sink(map[string]any{"in_flight": 32})
	const n = 20_000
	p, batch := records("q", 0, n)
	if _, err := w.Write(b.Context(), p, batch); err != nil {
		t.Fatal(err)
	}
	b.close(w)
	all := len(b.drain("q", n))
	t.Logf("%d records, %d messages, %d cuts", n, all, cuts.Load())
	if cuts.Load() != 2 {
		t.Errorf("%d connections were cut, want 2", cuts.Load())
	}
	if all > n+2*32 {
		t.Errorf("%d messages, want %d and at most %d twice", all, n, 2*32)
	}
}

// TestTheOneThatEndsTheChannel: the broker closes the channel for a message; it
// is found, and the others go through.
func TestTheOneThatEndsTheChannel(t *testing.T) {
	b := shared(t)
	b.queue("q", "classic", nil)
	w := b.sink(map[string]any{"exchange": "{header.to}", "routing_key": "q"})
	p, batch := records("q", 0, 30)
	for i := range batch.Messages {
		batch.Messages[i].Headers = []record.Header{{Key: "to", Value: nil}}
	}
	batch.Messages[13].Headers = []record.Header{{Key: "to", Value: []byte("not-there")}}
	refused, err := w.Write(t.Context(), p, batch)
	if err != nil || len(refused) != 1 || refused[0].Index != 13 || !strings.Contains(refused[0].Err.Error(), "NOT_FOUND") {
		t.Fatalf("refused %v, %v", refused, err)
	}
	b.close(w)
	seen := map[string]bool{}
	for _, d := range b.rest("q") {
		seen[string(d.Body)] = true
	}
	if len(seen) != 29 {
		t.Errorf("%d of 29", len(seen))
	}
}

// TestFoundBefore: nothing is sent of a plan with a record that no message can
// hold.
func TestFoundBefore(t *testing.T) {
	b := shared(t)
	b.queue("q", "classic", nil)
	w := b.sink(map[string]any{})
	for name, spoil := range map[string]func(m *connectors.Message){
		"routing_key": func(m *connectors.Message) { m.Key = []byte(strings.Repeat("k", 256)) },
		"header CC":   func(m *connectors.Message) { m.Headers = []record.Header{{Key: "CC", Value: []byte("x")}} },
		"amqp.expiration": func(m *connectors.Message) {
			m.Headers = []record.Header{{Key: "amqp.expiration", Value: []byte("1h")}}
		},
		"the headers have": func(m *connectors.Message) { m.Headers = []record.Header{{Key: "h", Value: make([]byte, 130<<10)}} },
		"amqp.correlation-id": func(m *connectors.Message) {
			m.Headers = []record.Header{{Key: "amqp.correlation-id", Value: make([]byte, 256)}}
		},
	} {
		p, batch := records("q", 0, 3)
		p.ID = name
		spoil(&batch.Messages[1])
		refused, err := w.Write(t.Context(), p, batch)
		if err != nil || len(refused) != 1 || refused[0].Index != 1 || connectors.ClassOf(refused[0].Err) != connectors.ClassPoison {
			t.Errorf("%s: refused %v, %v", name, refused, err)
		}
	}
	b.close(w)
	if rest := b.rest("q"); len(rest) > 0 {
		t.Errorf("sent: %s", bodies(rest))
	}
}

// TestReadEndsWithItsContext.
func TestReadEndsWithItsContext(t *testing.T) {
	b := shared(t)
	b.queue("q", "classic", nil)
	r := b.open(b.source("q", nil), "q", nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Read(ctx, connectors.Limits{Wait: time.Hour})
		done <- err
	}()
	cancel()
	if err := <-done; connectors.ClassOf(err) != connectors.ClassStopped {
		t.Errorf("%v", err)
	}
	if batch, err := r.Read(t.Context(), connectors.Limits{Wait: time.Millisecond}); err != nil || len(batch.Messages) > 0 {
		t.Errorf("%v, %v", batch, err)
	}
	b.close(r)
	if _, err := (rabbitmq.Source{}).Open(t.Context(), conntest.Task(b.source("q", nil)), connectors.Split{ID: "q"}, connectors.Position("\x00foreign")); connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("a foreign position: %v", err)
	}
}
