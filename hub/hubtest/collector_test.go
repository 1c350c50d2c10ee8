package hubtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
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
// in a second. ENTREPOT_MEASURE has to be set: it says for how long, as 10s.
func TestCollectorThroughput(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("ENTREPOT_MEASURE"))
	if err != nil {
		t.Skip("ENTREPOT_MEASURE is not set")
	}
	n, url := collectorNode(t, 6)
	n.Start()
	for _, c := range []struct{ workers, batch int }{{256, 1}, {64, 10}, {32, 50}, {16, 500}} {
		s := &sender{client: http.Client{Timeout: 10 * time.Second}, url: url}
		s.client.Transport = &http.Transport{MaxIdleConnsPerHost: c.workers}
		ctx, stop := context.WithTimeout(t.Context(), length)
		var (
			load sync.WaitGroup
			mu   sync.Mutex
			took []time.Duration
		)
		began := time.Now()
		for w := range c.workers {
			load.Go(func() {
				for i := 0; ctx.Err() == nil; i += c.batch {
					at := time.Now()
					s.send(ctx, c.batch*1000+w, i, c.batch)
					mu.Lock()
					took = append(took, time.Since(at))
					mu.Unlock()
				}
			})
		}
		load.Wait()
		seconds := time.Since(began).Seconds()
		stop()
		slices.Sort(took)
		t.Logf("%d clients, %d events in a request: %.0f events/s, %.0f requests/s, %d of %d tries answered; p50 %s, p99 %s",
			c.workers, c.batch, float64(s.acked.Load())/seconds, float64(s.acked.Load())/float64(c.batch)/seconds, s.acked.Load()/int64(c.batch), s.tries.Load(),
			took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond))
		s.client.CloseIdleConnections()
	}
}
