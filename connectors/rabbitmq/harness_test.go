package rabbitmq_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop")); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// patience ends a test that hangs.
const patience = 30 * time.Second

// broker is a virtual host, seen by an ordinary client.
type broker struct {
	*testing.T
	url, management string
	ch              *amqp.Channel
}

func shared(t *testing.T) *broker {
	t.Helper()
	url, management := conntest.RabbitMQ(t)
	b := &broker{T: t, url: url, management: management}
	b.dial()
	return b
}

// dial connects, or connects again.
func (b *broker) dial() {
	b.Helper()
	conn, err := amqp.Dial(b.url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	if b.ch, err = conn.Channel(); err != nil {
		b.Fatal(err)
	}
	if err := b.ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
}

func (b *broker) queue(name, typ string, more amqp.Table) {
	b.Helper()
	args := amqp.Table{"x-queue-type": typ}
	for k, v := range more {
		args[k] = v
	}
	if _, err := b.ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		b.Fatal(err)
	}
}

// publish sends messages to a queue and waits for the confirms.
func (b *broker) publish(queue string, messages ...amqp.Publishing) {
	b.Helper()
	var all []*amqp.DeferredConfirmation
	for _, m := range messages {
		m.DeliveryMode = amqp.Persistent
		c, err := b.ch.PublishWithDeferredConfirm("", queue, true, false, m)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range all {
		if !c.Wait() {
			b.Fatal("the broker does not take a message")
		}
	}
}

// numbered makes messages "0" to "n-1" with IDs.
func numbered(n int) []amqp.Publishing {
	all := make([]amqp.Publishing, n)
	for i := range all {
		all[i] = amqp.Publishing{Body: fmt.Append(nil, i), MessageId: fmt.Sprintf("m%d", i)}
	}
	return all
}

// rest takes everything that is in a queue.
func (b *broker) rest(queue string) []amqp.Delivery {
	b.Helper()
	var all []amqp.Delivery
	for {
		d, ok, err := b.ch.Get(queue, true)
		if err != nil {
			b.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, d)
	}
}

// drain takes everything from a queue with n different messages, faster than
// rest.
func (b *broker) drain(queue string, n int) (all []amqp.Delivery) {
	b.Helper()
	deliveries, err := b.ch.Consume(queue, "drain", true, false, false, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	seen := map[string]bool{}
	b.until("all are there", func() error {
		for {
			select {
			case d := <-deliveries:
				seen[string(d.Body)] = true
				all = append(all, d)
				continue
			case <-time.After(100 * time.Millisecond):
			}
			if q, err := b.ch.QueueDeclarePassive(queue, true, false, false, false, nil); err != nil || q.Messages > 0 || len(seen) < n {
				return fmt.Errorf("%d of %d, and %d in the queue, %v", len(seen), n, q.Messages, err)
			}
			return nil
		}
	})
	if err := b.ch.Cancel("drain", false); err != nil {
		b.Fatal(err)
	}
	return all
}

// source is a config for one queue.
func (b *broker) source(queue string, more map[string]any) connectors.Config {
	b.Helper()
	values := map[string]any{"url": b.url, "queues": []string{queue}}
	for k, v := range more {
		values[k] = v
	}
	return conntest.Config(b, rabbitmq.Source{}.Spec(), values)
}

func (b *broker) open(cfg connectors.Config, queue string, from connectors.Position) connectors.Reader {
	b.Helper()
	r, err := rabbitmq.Source{}.Open(b.Context(), conntest.Task(cfg), connectors.Split{ID: queue}, from)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// read reads n messages.
func (b *broker) read(r connectors.Reader, n int) []connectors.Message {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	var all []connectors.Message
	for len(all) < n {
		batch, err := r.Read(ctx, connectors.Limits{Records: n - len(all), Wait: patience})
		if err != nil {
			b.Fatalf("after %d of %d messages: %v", len(all), n, err)
		}
		all = append(all, batch.Messages...)
	}
	return all
}

// readInPieces reads the messages "0" to "n-1" with limits that each second one
// does not fit.
func (b *broker) readInPieces(r connectors.Reader, n int) {
	b.Helper()
	var all []connectors.Message
	for len(all) < n {
		batch, err := r.Read(b.Context(), connectors.Limits{Bytes: 1, Wait: patience})
		if err != nil || len(batch.Messages) != 1 {
			b.Fatalf("after %s: %d messages, %v", texts(all), len(batch.Messages), err)
		}
		all = append(all, batch.Messages...)
		b.committed(r, batch.Messages[0])
	}
	if texts(all) != count(0, n) {
		b.Errorf("read %s", texts(all))
	}
}

func (b *broker) committed(r connectors.Reader, m connectors.Message) {
	b.Helper()
	if err := r.Committed(b.Context(), m.Position); err != nil {
		b.Fatal(err)
	}
}

func (b *broker) close(r interface{ Close(context.Context) error }) {
	b.Helper()
	if err := r.Close(context.WithoutCancel(b.Context())); err != nil {
		b.Fatal(err)
	}
}

func (b *broker) vhost() string {
	u, err := url.Parse(b.url)
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// api calls the management API; out may be nil.
func (b *broker) api(method, path string, out any) error {
	req, err := http.NewRequest(method, b.management+"/api/"+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s %v", method, path, res.Status, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// until waits for a condition that says what is missing.
func (b *broker) until(what string, condition func() error) {
	b.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			b.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// cut closes the connector's connections at the broker.
func (b *broker) cut() {
	b.Helper()
	b.until("the connection is there to be closed", func() error {
		var all []struct {
			Name       string
			Vhost      string
			Properties struct {
				Name string `json:"connection_name"`
			} `json:"client_properties"`
		}
		if err := b.api("GET", "connections", &all); err != nil {
			return err
		}
		n := 0
		for _, c := range all {
			if c.Vhost == b.vhost() && strings.HasPrefix(c.Properties.Name, "entrepot") {
				if err := b.api("DELETE", "connections/"+url.PathEscape(c.Name), nil); err == nil {
					n++
				}
			}
		}
		if n == 0 {
			return fmt.Errorf("%d connections, none of a connector", len(all))
		}
		return nil
	})
}

// relay is the broker through a port that cuts its first connections when so
// many bytes have gone to the broker. It counts the cuts.
func (b *broker) relay(limits ...int64) (amqpURL string, cuts *atomic.Int64) {
	b.Helper()
	u, err := url.Parse(b.url)
	if err != nil {
		b.Fatal(err)
	}
	to := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cuts = new(atomic.Int64)
	var all sync.WaitGroup
	all.Go(func() {
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			limit := int64(math.MaxInt64)
			if n < len(limits) {
				limit = limits[n]
			}
			all.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				all.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
				if sent, _ := io.CopyN(server, client, limit); sent == limit {
					cuts.Add(1)
				}
				_ = server.Close()
			})
		}
	})
	b.Cleanup(func() { _ = l.Close(); all.Wait() })
	u.Host = l.Addr().String()
	return u.String(), cuts
}

func texts(all []connectors.Message) string {
	var out []string
	for _, m := range all {
		out = append(out, string(m.Value))
	}
	return strings.Join(out, " ")
}

func bodies(all []amqp.Delivery) string {
	var out []string
	for _, d := range all {
		out = append(out, string(d.Body))
	}
	return strings.Join(out, " ")
}

// count writes the numbers from a to b-1 as texts do.
func count(a, b int) string {
	var out []string
	for i := a; i < b; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return strings.Join(out, " ")
}
