package rabbitmq_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
)

// TestBrokerCrash: the broker is killed while a reader and a writer are at
// work, and comes back. Each message is read, and each record is published. The
// queues are new: the sink made them and let them settle.
func TestBrokerCrash(t *testing.T) {
	const n = 2000
	s := conntest.OwnRabbitMQ(t)
	b := &broker{T: t, url: s.VirtualHost(t), management: s.Management()}
	b.dial()
	w := b.sink(map[string]any{"in_flight": 64, "declare": true, "queues": []map[string]any{{"name": "in"}, {"name": "out"}}})
	b.publish("in", numbered(n)...)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	p, batch := records("out", 0, 10*n)
	written := make(chan error, 1)
	go func() {
		refused, err := w.Write(ctx, p, batch)
		if err == nil && len(refused) > 0 {
			err = refused[0].Err
		}
		written <- err
	}()
	b.until("the writer is at work", func() error {
		q, err := b.ch.QueueDeclarePassive("out", true, false, false, false, nil)
		if err == nil && q.Messages == 0 {
			err = errStill
		}
		return err
	})
	cfg := b.source("in", nil)
	r := b.open(cfg, "in", nil)
	first := b.read(r, 200)
	b.committed(r, first[149])
	s.Crash()
	b.until("the reader notices", func() error {
		_, err := r.Read(ctx, connectors.Limits{})
		if err == nil {
			return errStill
		}
		if connectors.ClassOf(err) != connectors.ClassRetry {
			t.Fatalf("class %v: %v", connectors.ClassOf(err), err)
		}
		return nil
	})
	b.close(r)
	s.Start(t)
	b.until("the reader is there again", func() error {
		var err error
		r, err = rabbitmq.Source{}.Open(ctx, conntest.Task(cfg), connectors.Split{ID: "in"}, first[149].Position)
		return err
	})
	seen := map[string]bool{}
	for _, m := range first[:150] {
		seen[string(m.Value)] = true
	}
	for len(seen) < n {
		got, err := r.Read(ctx, connectors.Limits{Records: 100, Wait: time.Second})
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(seen), n, err)
		}
		for _, m := range got.Messages {
			seen[string(m.Value)] = true
			b.committed(r, m)
		}
	}
	b.close(r)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	b.close(w)
	b.dial()
	all := b.drain("out", 10*n)
	t.Logf("%d records are published, %d messages", 10*n, len(all))
	if most := 10*n + 2*64; len(all) > most {
		t.Errorf("%d messages, want %d and at most those in flight twice", len(all), 10*n)
	}
}

// TestNewQuorumQueues: the broker loses a quorum queue, with what it has confirmed
// in it, when it is killed within a second of its declaration, and never elects
// a leader for it again. The sink lets those that it declares settle. One that
// somebody else has declared takes nothing any more, and the sink says so.
func TestNewQuorumQueues(t *testing.T) {
	s := conntest.OwnRabbitMQ(t)
	b := &broker{T: t, url: s.VirtualHost(t), management: s.Management()}
	b.dial()
	w := b.sink(map[string]any{"declare": true, "queues": []map[string]any{{"name": "settled"}}})
	p, batch := records("settled", 0, 10)
	if _, err := w.Write(t.Context(), p, batch); err != nil {
		t.Fatal(err)
	}
	s.Crash()
	s.Start(t)
	b.close(w)
	b.dial()
	if all := b.drain("settled", 10); len(all) != 10 {
		t.Errorf("%d messages", len(all))
	}
	// What the broker loses depends on when it last saved the names of its queues,
	// which it does twice a second.
	for i := range 8 {
		name := fmt.Sprintf("fresh-%d", i)
		b.queue(name, "quorum", nil)
		b.publish(name, numbered(10)...)
		s.Crash()
		s.Start(t)
		b.dial()
		if b.saysOfLostQueue(name) {
			t.Logf("the broker lost the queue of try %d", i+1)
			return
		}
	}
	t.Error("the broker has lost none of 8 new queues, so what the sink says of one was not seen")
}

// saysOfLostQueue writes to a queue that the broker may have lost, and reports
// whether it has: then the sink has to say so, and go on trying.
func (b *broker) saysOfLostQueue(name string) bool {
	t := b.T
	notes := make(chan error, 100)
	task := conntest.Task(conntest.Config(t, rabbitmq.Sink{}.Spec(), map[string]any{"url": b.url, "confirm_timeout": time.Second}))
	task.Noted = func(err error) { notes <- err }
	w, err := rabbitmq.Sink{}.Open(t.Context(), task, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() {
		p, batch := records(name, 10, 20)
		_, err := w.Write(ctx, p, batch)
		written <- err
	}()
	defer b.close(w)
	defer cancel()
	want := fmt.Sprintf(`no confirm in time: 10 messages have waited for 1s, the first of them with exchange "" and routing key %q`, name)
	for range 3 {
		select {
		case err := <-notes:
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("it says %v", err)
			}
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			return false
		}
	}
	cancel()
	if err := <-written; connectors.ClassOf(err) != connectors.ClassUnknown {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
	return true
}
