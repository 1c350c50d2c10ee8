package rabbitmq_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// bothTypes runs a test on a classic and on a quorum queue.
func bothTypes(t *testing.T, run func(b *broker, queue string)) {
	for _, typ := range []string{"classic", "quorum"} {
		t.Run(typ, func(t *testing.T) {
			b := shared(t)
			b.queue("q", typ, nil)
			run(b, "q")
		})
	}
}

// TestAcknowledgedAfterCommit: what Committed names is gone, what it does not
// is there, in the old order, also what was only on its way.
func TestAcknowledgedAfterCommit(t *testing.T) {
	bothTypes(t, func(b *broker, q string) {
		b.publish(q, numbered(50)...)
		r := b.open(b.source(q, nil), q, nil)
		got := b.read(r, 20)
		if texts(got) != count(0, 20) {
			b.Errorf("read %s", texts(got))
		}
		b.committed(r, got[11])
		b.close(r)
		if rest := bodies(b.rest(q)); rest != count(12, 50) {
			b.Errorf("%d messages committed, the queue still has %s", 12, rest)
		}
	})
}

// TestOrderOverManyStops: after each stop the queue goes on where the commits
// have ended.
func TestOrderOverManyStops(t *testing.T) {
	bothTypes(t, func(b *broker, q string) {
		b.publish(q, numbered(125)...)
		var all []connectors.Message
		var from connectors.Position
		for stop := range 6 {
			r := b.open(b.source(q, map[string]any{"prefetch": 30, "max_redeliveries": 0}), q, from)
			got := b.read(r, 25)
			b.committed(r, got[19])
			all, from = append(all, got[:20]...), got[19].Position
			b.close(r)
			if texts(all) != count(0, 20*(stop+1)) {
				b.Fatalf("after stop %d: %s", stop, texts(all))
			}
		}
		if rest := bodies(b.rest(q)); rest != count(120, 125) {
			b.Errorf("left: %s", rest)
		}
	})
}

// TestConnectionCut: the reader ends, a late commit acknowledges nothing, and
// the next reader gets everything that was not acknowledged, flagged.
func TestConnectionCut(t *testing.T) {
	bothTypes(t, func(b *broker, q string) {
		b.publish(q, numbered(40)...)
		r := b.open(b.source(q, nil), q, nil)
		got := b.read(r, 20)
		b.committed(r, got[9])
		b.cut()
		b.until("the reader notices", func() error {
			_, err := r.Read(b.Context(), connectors.Limits{})
			if err == nil {
				return errStill
			}
			if c := connectors.ClassOf(err); c != connectors.ClassRetry {
				b.Fatalf("class %v: %v", c, err)
			}
			return nil
		})
		b.committed(r, got[19])
		b.close(r)
		again := b.open(b.source(q, nil), q, got[19].Position)
		more := b.read(again, 30)
		if texts(more) != count(10, 40) {
			b.Errorf("after the cut: %s", texts(more))
		}
		if more[0].Position.Compare(got[19].Position) <= 0 {
			b.Errorf("position %x does not come after %x", more[0].Position, got[19].Position)
		}
		if string(more[0].ID) != string(got[10].ID) || string(more[1].ID) == string(more[0].ID) {
			b.Error("the ID of a message that comes again is another")
		}
		if v := header(more[0], "amqp.redelivered"); v != "true" {
			b.Errorf("redelivered: %q", v)
		}
		// A position of the channel that was cut is no tag of this one.
		b.committed(again, got[19])
		b.committed(again, more[29])
		b.close(again)
		if rest := b.rest(q); len(rest) != 0 {
			b.Errorf("left: %s", bodies(rest))
		}
	})
}

// TestQueueDeleted: the broker ends the consumer and the reader says so; with
// declare the queue is made anew.
func TestQueueDeleted(t *testing.T) {
	b := shared(t)
	cfg := b.source("q", map[string]any{"declare": true, "arguments": map[string]string{"x-max-length": "1000"}})
	r := b.open(cfg, "q", nil)
	b.publish("q", numbered(3)...)
	got := b.read(r, 3)
	if _, err := b.ch.QueueDelete("q", false, false, false); err != nil {
		t.Fatal(err)
	}
	b.until("the reader notices", func() error {
		_, err := r.Read(b.Context(), connectors.Limits{})
		if err == nil {
			return errStill
		}
		if connectors.ClassOf(err) != connectors.ClassRetry || !strings.Contains(err.Error(), "the broker has ended the consumer") {
			t.Fatalf("%v", err)
		}
		return nil
	})
	_ = r.Committed(b.Context(), got[2].Position)
	b.close(r)
	r = b.open(cfg, "q", got[2].Position)
	b.publish("q", amqp.Publishing{Body: []byte("new")})
	if got := b.read(r, 1); string(got[0].Value) != "new" {
		t.Errorf("got %s", texts(got))
	}
	b.close(r)
}

// TestWithinLimits: a message that does not fit any more comes first the next
// time.
func TestWithinLimits(t *testing.T) {
	bothTypes(t, func(b *broker, q string) {
		b.publish(q, numbered(8)...)
		r := b.open(b.source(q, nil), q, nil)
		b.readInPieces(r, 8)
		b.close(r)
	})
}

// TestSuspectsAreReadAlone: what was handed out twice comes one by one, each after
// the commit of the one before; the first that was not brings the others.
func TestSuspectsAreReadAlone(t *testing.T) {
	b := shared(t)
	b.queue("q", "quorum", nil)
	b.publish("q", numbered(5)...)
	for range 2 {
		r := b.open(b.source("q", nil), "q", nil)
		b.read(r, 5)
		b.close(r)
	}
	b.publish("q", numbered(20)[5:]...)
	r := b.open(b.source("q", nil), "q", nil)
	for i := range 5 {
		got := b.read(r, 1)
		if more, err := r.Read(b.Context(), connectors.Limits{Wait: 200 * time.Millisecond}); err != nil || len(more.Messages) > 0 {
			b.Errorf("%d more without a commit, %v", len(more.Messages), err)
		}
		if texts(got) != fmt.Sprint(i) {
			t.Errorf("got %s", texts(got))
		}
		b.committed(r, got[0])
	}
	if got := b.read(r, 15); texts(got) != count(5, 20) {
		b.Errorf("then: %s", texts(got))
	}
	b.close(r)
}
