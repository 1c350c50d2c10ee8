package hubtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// collectorNode is a node with one collector, whose topic is events.
func collectorNode(t *testing.T, partitions int) (n *Node, url string) {
	t.Helper()
	dir := t.TempDir()
	addr := fmt.Sprintf("127.0.0.1:%d", Ports(t, 1)[0])
	text := fmt.Sprintf(`
topics:
  - {name: events, partitions: %d}
connectors:
  - name: site
    source: {type: http-collector, listen: %q}
    topic: events
`, partitions, addr)
	return NewNode(t, "solo", dir, nil, []string{writeJobs(t, dir, text)}, nil), "http://" + addr + "/collect"
}

// sender posts events until each is answered with 2xx, as a client has to.
type sender struct {
	client http.Client
	url    string
	tries  atomic.Int64
	acked  atomic.Int64 // events
}

// send posts the events first..first+n of a worker until they are in.
func (s *sender) send(ctx context.Context, worker, first, n int) {
	var body bytes.Buffer
	for i := first; i < first+n; i++ {
		fmt.Fprintf(&body, "{\"event_id\":\"%d-%d\",\"type\":\"view\",\"page\":\"https://shop.example/product/%d\"}\n", worker, i, i%1000)
	}
	for ctx.Err() == nil {
		s.tries.Add(1)
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body.Bytes()))
		req.Header.Set("Content-Type", "application/x-ndjson")
		resp, err := s.client.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode/100 == 2 {
				s.acked.Add(int64(n))
				return
			}
		}
		pause(ctx, 5*time.Millisecond, 50*time.Millisecond)
	}
}

// TestKilledCollector kills the hub again and again under clients that send
// each event until they are told that it is in: every event is in the topic
// once, also where its answer was lost and it was sent again.
func TestKilledCollector(t *testing.T) {
	events := fullRows(40_000)
	const workers, batch, partitions = 8, 20, 6
	n, url := collectorNode(t, partitions)
	n.Start()
	s := &sender{client: http.Client{Timeout: 10 * time.Second}, url: url}
	s.client.Transport = &http.Transport{MaxIdleConnsPerHost: workers}
	var load sync.WaitGroup
	for w := range workers {
		load.Go(func() {
			for i := 0; i < events/workers; i += batch {
				s.send(t.Context(), w, i, batch)
			}
		})
	}
	times := kills(t, 4)
	for i := range times {
		share := int64(events) * int64(i) / int64(times)
		Until(t, 3*time.Minute, "the load goes on", func() error {
			if got := s.acked.Load(); got < share+100 {
				return fmt.Errorf("%d events acknowledged, waiting for %d", got, share+100)
			}
			return nil
		})
		pause(t.Context(), 10*time.Millisecond, 200*time.Millisecond)
		n.Kill()
		n.Start()
	}
	load.Wait()
	found := map[string]int{}
	readEach(t, 20*time.Second, n.Kafka, "events", func(r *kgo.Record) { // uncommitted ones too
		if !r.Attrs.IsControl() {
			found[eventID(t, r)]++
		}
	})
	lost, doubled := 0, 0
	for w := range workers {
		for i := range events / workers {
			switch found[fmt.Sprintf("%d-%d", w, i)] {
			case 0:
				lost++
			case 1:
			default:
				doubled++
			}
		}
	}
	if lost+doubled > 0 || len(found) != events {
		t.Errorf("%d lost, %d doubled, %d distinct of %d", lost, doubled, len(found), events)
	}
	conntest.Figures(t, "%d kills, %d events in %d requests of %d: %d lost, %d doubled", times, events, s.tries.Load(), batch, lost, doubled)
}

func eventID(t testing.TB, r *kgo.Record) string {
	t.Helper()
	var v struct {
		ID string `json:"event_id"`
	}
	if err := json.Unmarshal(r.Value, &v); err != nil {
		t.Fatalf("%v: %s", err, r.Value)
	}
	return v.ID
}

// TestCollectorThroughput measures events that are answered after the commit,
// in a second. ENTREPOT_MEASURE has to be set: it says for how long, as 10s. The
// clients share the machine with the hub, so they do as little as they can.
func TestCollectorThroughput(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("ENTREPOT_MEASURE"))
	if err != nil {
		t.Skip("ENTREPOT_MEASURE is not set")
	}
	n, url := collectorNode(t, 6)
	n.Start()
	addr := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/collect")
	Until(t, time.Minute, "the collector listens", func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	for _, c := range []struct{ clients, batch int }{{16, 1}, {256, 1}, {1024, 1}, {64, 10}, {32, 50}, {16, 500}} {
		used := n.Process().CPU(t)
		began := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), length)
		var (
			load sync.WaitGroup
			mu   sync.Mutex
			took []time.Duration
		)
		for w := range c.clients {
			load.Go(func() {
				own, err := post(ctx, addr, fmt.Sprintf("%d-%d", c.clients, w), c.batch)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				took = append(took, own...)
				mu.Unlock()
			})
		}
		load.Wait()
		stop()
		seconds := time.Since(began).Seconds()
		used = n.Process().CPU(t) - used
		slices.Sort(took)
		if len(took) == 0 {
			t.Fatal("no request was answered")
		}
		t.Logf("%d clients, %d events in a request: %.0f events/s, %.0f requests/s; p50 %s, p99 %s; CPU of the hub %.2f s, %.0f µs a request",
			c.clients, c.batch, float64(len(took)*c.batch)/seconds, float64(len(took))/seconds,
			took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), used.Seconds(), float64(used.Microseconds())/float64(len(took)))
	}
}

// post sends requests over one connection, each when the one before is
// answered, until ctx ends, and returns how long each took. Whatever is not
// 204 is an error.
func post(ctx context.Context, addr, client string, batch int) (took []time.Duration, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return nil, err
	}
	in := bufio.NewReader(c)
	var body, request []byte
	for first := 0; ctx.Err() == nil; first += batch {
		body = body[:0]
		for i := first; i < first+batch; i++ {
			body = fmt.Appendf(body, "{\"event_id\":\"%s-%d\",\"type\":\"view\",\"page\":\"https://shop.example/product/%d\"}\n", client, i, i%1000)
		}
		request = fmt.Appendf(request[:0], "POST /collect HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", addr, len(body))
		began := time.Now()
		if _, err := c.Write(append(request, body...)); err != nil {
			return took, err
		}
		status, err := in.ReadString('\n')
		for line := status; err == nil && line != "\r\n"; { // a 204 has no body
			line, err = in.ReadString('\n')
		}
		if err != nil {
			return took, err
		}
		if !strings.Contains(status, " 204 ") {
			return took, fmt.Errorf("the collector answers %s", status)
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}
