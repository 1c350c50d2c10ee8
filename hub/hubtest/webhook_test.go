package hubtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// hook is an endpoint that counts what comes to it.
type hook struct {
	mu struct {
		sync.Mutex
		keys     map[string]string // value by idempotency key
		last     map[string]int    // number by record key
		requests int
		changed  []string // keys under which another body came
		behind   []string // records that came for the first time after a later one of their key
	}
}

// ServeHTTP implements http.Handler.
func (h *hook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var v struct {
		Key string `json:"key"`
		N   int    `json:"n"`
	}
	if err != nil || json.Unmarshal(body, &v) != nil {
		panic(http.ErrAbortHandler) // the hub was killed while it sent
	}
	key := r.Header.Get("Idempotency-Key")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.requests++
	before, again := h.mu.keys[key]
	if again && before != string(body) {
		h.mu.changed = append(h.mu.changed, key)
	}
	if !again && v.N <= h.mu.last[v.Key] {
		h.mu.behind = append(h.mu.behind, key)
	}
	h.mu.keys[key] = string(body)
	h.mu.last[v.Key] = max(h.mu.last[v.Key], v.N)
}

// distinct is how many records have come; it has no error.
func (h *hook) distinct() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mu.keys), nil
}

// TestKilledWebhook kills the hub again and again while it sends: every record
// comes, in the order of its key; what comes again, at most a plan for each
// partition and kill, has the idempotency key and the body that it had.
func TestKilledWebhook(t *testing.T) {
	records := fullRows(10_000)
	const partitions, batch = 4, 200
	h := &hook{}
	h.mu.keys, h.mu.last = map[string]string{}, map[string]int{}
	server := httptest.NewServer(h)
	defer server.Close()
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: orders, partitions: %d}
connectors:
  - name: hook
    topic: orders
    sink: {type: webhook, url: %q, allow_networks: [127.0.0.0/8], batch: {rows: %d}}
`, partitions, server.URL, batch))
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic("orders"), kgo.UnknownTopicRetries(-1), kgo.MaxBufferedRecords(20_000))
	for i := range records {
		key := fmt.Sprint("k", i%100)
		cl.Produce(t.Context(), &kgo.Record{Key: []byte(key), Value: fmt.Appendf(nil, `{"key":%q,"n":%d}`, key, i/100+1)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	times := kills(t, 4)
	l := load{n: n, what: "records arrive", total: records, count: h.distinct, limit: 4 * time.Minute, late: 300 * time.Millisecond}
	l.kill(t, times)
	l.done(t, 4*time.Minute)
	h.mu.Lock()
	defer h.mu.Unlock()
	again := h.mu.requests - len(h.mu.keys)
	if len(h.mu.keys) != records || len(h.mu.changed) > 0 || len(h.mu.behind) > 0 {
		t.Errorf("%d of %d records; %d keys with another body; %d out of order", len(h.mu.keys), records, len(h.mu.changed), len(h.mu.behind))
	}
	if most := times * partitions * batch; again > most {
		t.Errorf("%d records came again, want at most %d", again, most)
	}
	conntest.Figures(t, "%d kills, %d records: 0 lost, %d came again under the same key (bound %d)", times, records, again, times*partitions*batch)
}
