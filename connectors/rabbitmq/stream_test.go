package rabbitmq_test

import (
	"strings"
	"testing"
	"time"

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
}

// TestStreamHasDropped: the retention takes away what was not read; the job
// stops, each time.
func TestStreamHasDropped(t *testing.T) {
	b := shared(t)
	b.queue("s", "stream", amqp.Table{"x-max-length-bytes": 20_000, "x-stream-max-segment-size-bytes": 5_000})
	open := func(from connectors.Position) connectors.Reader {
		cfg := conntest.Config(t, rabbitmq.Stream{}.Spec(), map[string]any{"url": b.url, "streams": []string{"s"}})
		r, err := rabbitmq.Stream{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "s"}, from)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	b.publish("s", numbered(2)...)
	r := open(nil)
	first := b.read(r, 2)
	b.close(r)
	for range 100 {
		b.publish("s", amqp.Publishing{Body: make([]byte, 1000)})
	}
	r = open(first[1].Position)
	for range 2 {
		batch, err := r.Read(t.Context(), connectors.Limits{Wait: patience})
		if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "comes after 1: its retention has dropped what is between") {
			t.Errorf("%d messages, class %v: %v", len(batch.Messages), connectors.ClassOf(err), err)
		}
	}
	b.close(r)
}

// TestStreamWithinLimits: a message that does not fit any more comes first the
// next time.
func TestStreamWithinLimits(t *testing.T) {
	const n = 20
	b := shared(t)
	b.queue("s", "stream", nil)
	b.publish("s", numbered(n)...)
	cfg := conntest.Config(t, rabbitmq.Stream{}.Spec(), map[string]any{"url": b.url, "streams": []string{"s"}})
	r, err := rabbitmq.Stream{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.readInPieces(r, n)
	b.close(r)
}

// TestStreamStartsAtNext: what is there when the job begins is not read.
func TestStreamStartsAtNext(t *testing.T) {
	b := shared(t)
	b.queue("s", "stream", nil)
	b.publish("s", numbered(3)...)
	cfg := conntest.Config(t, rabbitmq.Stream{}.Spec(), map[string]any{"url": b.url, "streams": []string{"s"}, "start": "next"})
	r, err := rabbitmq.Stream{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.publish("s", amqp.Publishing{Body: []byte("new")})
	if got := b.read(r, 1); string(got[0].Value) != "new" {
		t.Errorf("read %s", texts(got))
	}
	b.close(r)
}

// TestStreamMadeAnew: another stream of the name is not taken for the one that was
// read, whether it has as many messages or not; a position of before, without a
// mark, still goes.
func TestStreamMadeAnew(t *testing.T) {
	const n = 10
	b := shared(t)
	open := func(from connectors.Position) connectors.Reader {
		cfg := conntest.Config(t, rabbitmq.Stream{}.Spec(), map[string]any{"url": b.url, "streams": []string{"s"}})
		r, err := rabbitmq.Stream{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "s"}, from)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	b.queue("s", "stream", nil)
	b.publish("s", numbered(n)...)
	r := open(nil)
	all := b.read(r, n)
	b.close(r)
	last := all[n-1].Position
	r = open(last[:9])
	b.publish("s", amqp.Publishing{Body: []byte("more")})
	if got := b.read(r, 1); string(got[0].Value) != "more" {
		t.Errorf("after a position without a mark: %s", texts(got))
	}
	b.close(r)
	if _, err := b.ch.QueueDelete("s", false, false, false); err != nil {
		t.Fatal(err)
	}
	b.queue("s", "stream", nil)
	b.publish("s", numbered(n-1)...)
	r = open(last)
	if got, err := r.Read(t.Context(), connectors.Limits{Wait: 100 * time.Millisecond}); err != nil || len(got.Messages) > 0 {
		t.Errorf("of a stream with fewer messages: %v, %v", got, err)
	}
	for range 3 {
		b.publish("s", amqp.Publishing{Body: []byte("other")})
	}
	b.until("the reader refuses the stream", func() error {
		got, err := r.Read(t.Context(), connectors.Limits{Wait: time.Second})
		if len(got.Messages) > 0 {
			t.Fatalf("read %s", texts(got.Messages))
		}
		if err == nil {
			return errStill
		}
		if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "the message at offset 9 is another than the one that was read") {
			t.Fatalf("class %v: %v", connectors.ClassOf(err), err)
		}
		return nil
	})
	b.close(r)
}
