package rabbitmq_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
)

// TestMemoryAlarm: a broker without memory takes nothing. The writer says so,
// waits for longer than it waits for a confirm, sends nothing twice, and goes on
// when the alarm is over.
func TestMemoryAlarm(t *testing.T) {
	const n = 3000
	s := conntest.OwnRabbitMQ(t)
	b := &broker{T: t, url: s.VirtualHost(t), management: s.Management()}
	b.dial()
	b.queue("q", "classic", nil)
	notes := make(chan error, 10_000)
	task := conntest.Task(conntest.Config(t, rabbitmq.Sink{}.Spec(), map[string]any{"url": b.url, "in_flight": 16, "confirm_timeout": time.Second}))
	task.Noted = func(err error) { notes <- err }
	w, err := rabbitmq.Sink{}.Open(t.Context(), task, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Control(t, "set_vm_memory_high_watermark", "absolute", "1MB")
	written := make(chan error, 1)
	go func() {
		p, batch := records("q", 0, n)
		refused, err := w.Write(t.Context(), p, batch)
		if len(refused) > 0 {
			err = errors.Join(err, refused[0])
		}
		written <- err
	}()
	said := func(want string) {
		t.Helper()
		for {
			select {
			case err := <-notes:
				if err != nil && strings.Contains(err.Error(), want) {
					return
				}
			case err := <-written:
				t.Fatalf("the write has ended: %v", err)
			case <-time.After(patience):
				t.Fatalf("nobody says %q", want)
			}
		}
	}
	said("the broker blocks publishers: alarm: low on memory")
	said("the broker blocks publishers: alarm: low on memory") // and again, later
	q, err := b.ch.QueueDeclarePassive("q", true, false, false, false, nil)
	if err != nil || q.Messages >= n {
		t.Errorf("%d messages under the alarm, %v", q.Messages, err)
	}
	s.Control(t, "set_vm_memory_high_watermark", "0.4")
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	b.close(w)
	if all := bodies(b.drain("q", n)); all != count(0, n) {
		t.Errorf("the queue has %d messages, want %d, each once and in order", strings.Count(all, " ")+1, n)
	}
	t.Logf("%d records, %d messages were there under the alarm", n, q.Messages)
}
