package webhook

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// endpoint is a server that remembers idempotency keys, as one should.
type endpoint struct {
	*httptest.Server
	mu struct {
		sync.Mutex
		taken    map[string][]byte // body by key, of what was answered with 2xx
		requests []*http.Request
		bodies   []string
		again    int                                    // requests whose key was there
		answer   func(n int, body string) (int, string) // of request n, from 0; nil is 204
		header   http.Header
	}
}

func newEndpoint(t testing.TB) *endpoint {
	e := &endpoint{}
	e.mu.taken = map[string][]byte{}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	e.mu.Lock()
	n := len(e.mu.requests)
	e.mu.requests, e.mu.bodies = append(e.mu.requests, r), append(e.mu.bodies, string(body))
	answer := e.mu.answer
	e.mu.Unlock()
	status, text := http.StatusNoContent, ""
	if answer != nil {
		status, text = answer(n, string(body))
	}
	e.mu.Lock()
	key := r.Header.Get("Idempotency-Key")
	if status/100 == 2 || status == statusLost {
		if _, there := e.mu.taken[key]; there {
			e.mu.again++
		}
		e.mu.taken[key] = body
	}
	maps.Copy(w.Header(), e.mu.header)
	e.mu.Unlock()
	if status == statusLost {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// statusLost takes the request and cuts the connection before the answer.
const statusLost = 0

func (e *endpoint) answers(f func(n int, body string) (int, string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.answer = f
}

func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.mu.requests)
}

// values are all records that are there, once for each key.
func (e *endpoint) values(t testing.TB) (out []map[string]any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, body := range e.mu.taken {
		if body[0] == '[' {
			var list []map[string]any
			if err := json.Unmarshal(body, &list); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			out = append(out, list...)
			continue
		}
		for line := range bytes.Lines(body) {
			var v map[string]any
			if err := json.Unmarshal(line, &v); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			out = append(out, v)
		}
	}
	return out
}

func (e *endpoint) config(t testing.TB, values map[string]any) connectors.Config {
	all := map[string]any{"url": e.URL + "/hook?token=hunter2", "allow_networks": []string{"127.0.0.0/8"}, "retry_for": 2 * time.Second, "timeout": time.Second}
	maps.Copy(all, values)
	return conntest.Config(t, Sink{}.Spec(), all)
}

func openWriter(t testing.TB, cfg connectors.Config) *writer {
	t.Helper()
	for _, f := range (Sink{}).Validate(t.Context(), cfg, connectors.ProbeLive) {
		if !f.Warning {
			t.Fatalf("%s: %s", f.Field, f.Message)
		}
	}
	w, err := Sink{}.Open(t.Context(), conntest.Task(cfg), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close(t.Context()) })
	return w.(*writer)
}

// plan makes n records from an offset on, with keys k0 to k4 in turn.
func plan(from, n int64) (connectors.Plan, connectors.Batch) {
	tp := record.TopicPartition{Topic: "orders", Partition: 3}
	p := connectors.Plan{Partition: tp, From: from, To: from + n, Epoch: 1, ID: fmt.Sprint(from)}
	var b connectors.Batch
	for o := from; o < from+n; o++ {
		b.Messages = append(b.Messages, connectors.Message{
			Key: fmt.Appendf(nil, "k%d", o%5), Value: fmt.Appendf(nil, `{"id":%d}`, o), Partition: tp, Offset: o, Timestamp: 1,
		})
	}
	return p, b
}

func TestSuite(t *testing.T) {
	for _, body := range []string{"single", "array", "ndjson"} {
		t.Run(body, func(t *testing.T) {
			conntest.Sink(t, Sink{}, func(t *testing.T) conntest.SinkCase {
				e := newEndpoint(t)
				return conntest.SinkCase{
					Config: e.config(t, map[string]any{"body": body}),
					Rows: func(t *testing.T) (ids []int64) {
						for _, v := range e.values(t) {
							ids = append(ids, int64(v["id"].(float64)))
						}
						return ids
					},
					State: func(t *testing.T) string {
						var lines []string
						for _, v := range e.values(t) {
							lines = append(lines, fmt.Sprint(v))
						}
						slices.Sort(lines)
						return strings.Join(lines, "\n")
					},
				}
			})
		})
	}
}
