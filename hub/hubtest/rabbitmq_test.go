package hubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// rabbit is a virtual host under a load.
type rabbit struct {
	url, management string
	ch              *amqp.Channel
}

// openRabbit makes a queue each for what goes in and what comes out.
func openRabbit(t *testing.T) *rabbit {
	t.Helper()
	r := &rabbit{}
	r.url, r.management = conntest.RabbitMQ(t)
	conn, err := amqp.Dial(r.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if r.ch, err = conn.Channel(); err != nil {
		t.Fatal(err)
	}
	for q, kind := range map[string]string{"in": "classic", "out": "classic", "stream": "stream"} {
		if _, err := r.ch.QueueDeclare(q, true, false, false, false, amqp.Table{"x-queue-type": kind}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// fill publishes n messages, with IDs or without, and waits for the confirms.
func (r *rabbit) fill(t *testing.T, queue string, n int, ids bool) {
	t.Helper()
	if err := r.ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	var flying []*amqp.DeferredConfirmation
	for i := range n {
		m := amqp.Publishing{Body: fmt.Appendf(nil, `{"id":%d}`, i), DeliveryMode: amqp.Persistent, Headers: amqp.Table{"n": int64(i)}}
		if ids {
			m.MessageId = fmt.Sprintf("message-%d", i)
		}
		c, err := r.ch.PublishWithDeferredConfirm("", queue, true, false, m)
		if err != nil {
			t.Fatal(err)
		}
		if flying = append(flying, c); len(flying) == 2000 || i == n-1 {
			for _, c := range flying {
				if !c.Wait() {
					t.Fatal("the broker refuses a message")
				}
			}
			flying = nil
		}
	}
}

// left is how many messages a queue still has, handed out or not.
func (r *rabbit) left(queue string) (int, error) {
	var q struct {
		Messages *int `json:"messages"`
	}
	if err := r.ask(queue, &q); err != nil || q.Messages == nil {
		return 0, fmt.Errorf("queue %s: no count: %v", queue, err)
	}
	return *q.Messages, nil
}

// ask gets what the broker says of a queue.
func (r *rabbit) ask(queue string, out any) error {
	u, err := url.Parse(r.url)
	if err != nil {
		return err
	}
	res, err := http.Get(r.management + "/api/queues" + u.Path + "/" + queue)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return json.NewDecoder(res.Body).Decode(out)
}

// absent is how many of the messages that fill has sent are not there.
func absent[V any](seen map[string]V, rows int) (n int) {
	for i := range rows {
		if _, ok := seen[fmt.Sprintf(`{"id":%d}`, i)]; !ok {
			n++
		}
	}
	return n
}

// rabbitRows is the size of the load, in messages.
func rabbitRows() int { return fullRows(30_000) }

// TestKilledRabbitMQSource kills the hub again and again while it reads a
// queue or a stream. Nothing is lost. Of a stream, and with message IDs,
// nothing is there twice; without, at most what was handed out at each kill.
func TestKilledRabbitMQSource(t *testing.T) {
	for _, c := range []struct {
		name, source string
		ids          bool
	}{
		{"ids=true", "type: rabbitmq, queues: [in]", true}, {"ids=false", "type: rabbitmq, queues: [in]", false},
		{"stream", "type: rabbitmq-stream, streams: [stream]", false},
	} {
		rows := rabbitRows()
		if c.name == "stream" {
			rows = fullRows(200_000) // which is read in fewer, larger transactions
		}
		t.Run(c.name, func(t *testing.T) { killedRabbitSource(t, rows, kills(t, 4), c.source, c.ids) })
	}
}

func killedRabbitSource(t *testing.T, rows, times int, source string, ids bool) {
	const prefetch = 1000
	r, stream := openRabbit(t), strings.Contains(source, "stream")
	queue := "in"
	if stream {
		queue = "stream"
	}
	r.fill(t, queue, rows, ids)
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: rows, partitions: 6}
connectors:
  - name: rows-in
    source: {%s, url: "${env:TEST_URL}", prefetch: %d}
    topic: rows
    key: string(value.id)
`, source, prefetch), "TEST_URL="+r.url)
	topic := collect(t, n.Kafka, "rows")
	l := load{n: n, what: "records are in the topic", total: rows, limit: 5 * time.Minute, late: 60 * time.Millisecond}
	l.count = func() (int, error) { return topic.count(), nil }
	l.kill(t, times)
	l.done(t, 10*time.Minute, func() error {
		if stream { // keeps what was read
			return nil
		}
		left, err := r.left("in")
		if err == nil && left > 0 {
			err = fmt.Errorf("%d messages are in the queue", left)
		}
		return err
	})
	// What was counted so far has some messages twice, and the broker's count of
	// what is left is some seconds old: so more may be on the way.
	var seen map[string]bool
	var records int
	Until(t, time.Minute, "every message is in the topic", func() error {
		seen, records = map[string]bool{}, 0
		readEach(t, time.Minute, n.Kafka, "rows", func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				records++
				seen[string(r.Value)] = true
			}
		})
		if lost := absent(seen, rows); lost > 0 {
			return fmt.Errorf("%d of %d are not, with %d records there", lost, rows, records)
		}
		return nil
	})
	twice, lost := records-len(seen), absent(seen, rows)
	most := prefetch * times
	if ids || stream {
		most = 0
	}
	conntest.Figures(t, "%d kills, %d messages, %d records, %d distinct: %d lost, %d twice (bound %d)", times, rows, records, len(seen), lost, twice, most)
	if lost > 0 || len(seen) != rows {
		t.Errorf("%d of %d messages are lost, %d distinct", lost, rows, len(seen))
	}
	if twice > most {
		t.Errorf("%d records are there twice, at most %d may be", twice, most)
	}
}

// TestKilledRabbitMQSink kills the hub again and again while it publishes a
// topic. Nothing is lost, what is there twice has the same message-id, and it
// is at most a batch of each partition for each kill.
func TestKilledRabbitMQSink(t *testing.T) {
	const batch, partitions = 500, 6
	rows, times := rabbitRows(), kills(t, 4)
	r := openRabbit(t)
	input := inputFile(t, rows, func(i int) string { return fmt.Sprintf(`{"id":%d}`, i) })
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: rows, partitions: %d}
connectors:
  - name: rows-in
    source: {type: file, path: %q, follow: false}
    transforms: [{parse: {format: json}}]
    topic: rows
    key: string(value.id)
  - name: rows-out
    topic: rows
    sink: {type: rabbitmq, url: "${env:TEST_URL}", routing_key: out, batch: {rows: %d}}
`, partitions, input, batch), "TEST_URL="+r.url)
	deliveries, err := r.ch.Consume("out", "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen, all := map[string]string{}, 0
	take := func() (int, error) { // what comes within 20 ms
		for end := time.After(20 * time.Millisecond); ; {
			select {
			case d := <-deliveries:
				all++
				if before, ok := seen[string(d.Body)]; ok && before != d.MessageId {
					t.Errorf("%s has the message-ids %s and %s", d.Body, before, d.MessageId)
				}
				seen[string(d.Body)] = d.MessageId
			case <-end:
				return len(seen), nil
			}
		}
	}
	l := load{n: n, what: "messages are published", total: rows, count: take, limit: 5 * time.Minute, late: 60 * time.Millisecond}
	l.kill(t, times)
	l.done(t, 10*time.Minute, caughtUp(n, "rows-out"))
	for before := -1; before < all; { // those that came twice
		before = all
		_, _ = take()
	}
	ids := map[string]bool{}
	for _, id := range seen {
		ids[id] = true
	}
	lost, most := absent(seen, rows), batch*partitions*times
	conntest.Figures(t, "%d kills, %d records, %d messages, %d distinct, %d message-ids: %d lost, %d twice (bound %d)", times, rows, all, len(seen), len(ids), lost, all-len(seen), most)
	if lost > 0 || len(seen) != rows || len(ids) != rows {
		t.Errorf("%d records lost, %d distinct, %d message-ids, want %d", lost, len(seen), len(ids), rows)
	}
	if all-len(seen) > most {
		t.Errorf("%d messages are there twice, at most %d may be", all-len(seen), most)
	}
}

// TestPoisonInRabbitMQ: one message of 10,000 is none that the job can take. It
// alone is in the dead letters, all others are in the topic in their order, and
// the queue, with a delivery limit of 3, has handed none out again.
func TestPoisonInRabbitMQ(t *testing.T) {
	const n, bad = 10_000, 6_543
	r := openRabbit(t)
	args := amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 3, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "out"}
	if _, err := r.ch.QueueDeclare("q", true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		m := amqp.Publishing{Body: fmt.Appendf(nil, `{"id":%d}`, i), DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(i)}
		if i == bad {
			m.Body = []byte(`{"id":`)
		}
		if err := r.ch.PublishWithContext(t.Context(), "", "q", true, false, m); err != nil {
			t.Fatal(err)
		}
	}
	node := jobsNode(t, `
topics:
  - {name: rows, partitions: 1}
connectors:
  - name: rows-in
    source: {type: rabbitmq, url: "${env:TEST_URL}", queues: [q]}
    topic: rows
    key: string(value.id)
`, "TEST_URL="+r.url)
	began := time.Now()
	Until(t, time.Minute, "all messages are taken", func() error {
		j, err := job(node.Admin, "rows-in")
		if err == nil && (j.Counters["written"] != n-1 || j.Counters["dead"] != 1) {
			err = fmt.Errorf("%v, want %d written and 1 dead; %s", j.Counters, n-1, j.Reason)
		}
		return err
	})
	took := time.Since(began)
	letters := readAll(t, node.Kafka, "rows-in.dlq", 0)
	if len(letters) != 1 || string(letters[0].Value) != `{"id":` {
		t.Fatalf("%d dead letters", len(letters))
	}
	next := 0
	for _, rec := range readAll(t, node.Kafka, "rows", 0) {
		if next == bad {
			next++
		}
		if want := fmt.Sprintf(`{"id":%d}`, next); string(rec.Value) != want {
			t.Fatalf("%s comes where %s should", rec.Value, want)
		}
		next++
	}
	var dropped, again int
	Until(t, time.Minute, "the broker has counted", func() (err error) { // every five seconds
		if dropped, err = r.left("out"); err == nil {
			again, err = r.redelivered("q")
		}
		return err
	})
	if dropped > 0 || again > 0 || next != n {
		t.Errorf("%d records, %d dropped by the broker, %d messages were handed out again", next, dropped, again)
	}
	conntest.Figures(t, "%d messages, 1 poison: %d records in order, %d dead letters, %d handed out again in %v", n, n-1, len(letters), again, took.Round(time.Millisecond))
}

// redelivered is how many messages a queue has handed out again.
func (r *rabbit) redelivered(queue string) (int, error) {
	var q struct {
		Stats struct {
			Redelivered int `json:"redeliver"`
		} `json:"message_stats"`
	}
	err := r.ask(queue, &q)
	return q.Stats.Redelivered, err
}
