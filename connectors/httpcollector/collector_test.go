package httpcollector

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestFormats: each way to send gives the same events, whatever it is called.
func TestFormats(t *testing.T) {
	for _, c := range []struct{ name, kind, body, want string }{
		{"object", "application/json", ` {"a":1} `, `[{"a":1}]`},
		{"byte order mark", "application/json", "\uFEFF{\"a\":1}", `[{"a":1}]`},
		{"array", "application/json", `[{"a":1} , {"a":2}]`, `[{"a":1} {"a":2}]`},
		{"ndjson", "application/x-ndjson", "{\"a\":1}\r\n\n{\"a\":2}\n", `[{"a":1} {"a":2}]`},
		{"ndjson without a last newline", "application/jsonl", "{\"a\":1}\n{\"a\":2}", `[{"a":1} {"a":2}]`},
		{"beacon", "text/plain;charset=UTF-8", `{"a":1}`, `[{"a":1}]`},
		{"beacon over lines", "text/plain;charset=UTF-8", "{\"a\":\n1}", "[{\"a\":\n1}]"},
		{"beacon of an array", "text/plain", `[{"a":1},{"a":2}]`, `[{"a":1} {"a":2}]`},
		{"beacon of lines", "text/plain", "{\"a\":1}\n{\"a\":2}", `[{"a":1} {"a":2}]`},
		{"no type", "", `{"a":1}`, `[{"a":1}]`},
		{"of some make", "application/cloudevents+json", `{"a":1}`, `[{"a":1}]`},
		{"form", "application/x-www-form-urlencoded", "b=x+y&a=1&a=2&c=%22", `[{"a":["1","2"],"b":"x y","c":"\""}]`},
		{"large integers", "application/json", `{"a":9007199254740993}`, `[{"a":9007199254740993}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := serve(t, nil)
			if got := h.post(c.body, "Content-Type: "+c.kind); got.status != http.StatusNoContent {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if got := texts(h.events()); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestEnvelope: what the server knows stands around the payload, and the
// payload is byte for byte what came.
func TestEnvelope(t *testing.T) {
	h := serve(t, map[string]any{"sites": []map[string]any{{"name": "shop", "key": "k1"}}, "trusted_proxies": []string{"127.0.0.0/8"}})
	body := `{"event_id":"e1","page":"https://shop.example/a","client_time":"2026-01-01T00:00:00Z","anonymous_id":"v1","n":1.10}`
	if got := h.send(http.MethodPost, "/collect?site=k1", body, "X-Forwarded-For: 6.6.6.6, 198.51.100.77"); got.status != http.StatusNoContent {
		t.Fatalf("%d %s", got.status, got.body)
	}
	m := h.events()[0]
	received := fmt.Sprint(envelope(t, m)["received_at"])
	want := `{"event_id":"e1","received_at":"` + received + `","client_time":"2026-01-01T00:00:00Z","site":"shop","ip":"198.51.100.0",` +
		`"user_agent":"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0","bot":false,"anonymous_id":"v1","page":"https://shop.example/a","payload":` + body + `}`
	if string(m.Value) != want {
		t.Errorf("got  %s\nwant %s", m.Value, want)
	}
	if string(m.ID) != "shop\x00e1" || string(m.Key) != "v1" || m.Origin.Name != "shop" {
		t.Errorf("id %q, key %q, origin %q", m.ID, m.Key, m.Origin)
	}
	if got := h.send(http.MethodPost, "/collect?site=other", body); got.status != http.StatusForbidden {
		t.Errorf("a site that is not there: %d", got.status)
	}
}

// TestBatchResults: what is wrong in a batch is told by its index, the rest is
// in; a body that cannot be cut is refused whole.
func TestBatchResults(t *testing.T) {
	h := serve(t, map[string]any{"max_event": 100})
	got := h.post(`[{"a":1}, 7, {"event_id":5}, {"a":1,"a":2}, {"b":"` + strings.Repeat("x", 100) + `"}, {"a":6}]`)
	if got.status != http.StatusMultiStatus {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, part := range []string{
		`"accepted":2,"refused":4`, `{"index":1,"status":400,"reason":"an event has to be a JSON object"}`,
		`{"index":2,"status":400,"reason":"event_id has to be`, `{"index":3,"status":400,"reason":"not JSON at byte`,
		`{"index":4,"status":413,`,
	} {
		if !strings.Contains(got.body, part) {
			t.Errorf("no %s in %s", part, got.body)
		}
	}
	if got := texts(h.events()); got != `[{"a":1} {"a":6}]` {
		t.Errorf("in are %s", got)
	}
	for _, c := range []struct {
		body   string
		status int
	}{
		{`[{"a":1},{"b":`, 400}, {`[{"a":1}] x`, 400}, {`[]`, 400}, {``, 400}, {`{"a":1} {"a":2}`, 400}, {`7`, 400}, {`nonsense`, 400},
		{`[1,2]`, 400}, {"{\"a\":\"\xff\"}", 400}, {`{"event_id":"` + strings.Repeat("i", 129) + `"}`, 413}, {`{"event_id":""}`, 400},
		{strings.Repeat("[", 20000), 400},
	} {
		if got := h.post(c.body, "Content-Type: application/json"); got.status != c.status {
			t.Errorf("%.40s: %d %s, want %d", c.body, got.status, got.body, c.status)
		}
	}
	if n := len(h.events()); n != 2 {
		t.Errorf("%d events", n)
	}
}

// TestAnswerAfterCommit: no 2xx before the commit; 503 with Retry-After when
// it does not come in time or the collector ends.
func TestAnswerAfterCommit(t *testing.T) {
	h := open(t, nil)
	answered := make(chan reply, 1)
	go func() { answered <- h.post(`[{"a":1},{"a":2},{"a":3}]`) }()
	read := func(n int) connectors.Position {
		t.Helper()
		b, err := h.reader.Read(t.Context(), connectors.Limits{Records: n, Wait: patience})
		if err != nil || len(b.Messages) != n {
			t.Fatalf("%d messages, %v", len(b.Messages), err)
		}
		return b.Messages[n-1].Position
	}
	first := read(2) // the parcel is cut by the limit
	if err := h.reader.Committed(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	last := read(1)
	select {
	case got := <-answered:
		t.Fatalf("answered %d before the third event was committed", got.status)
	default:
	}
	if err := h.reader.Committed(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; got.status != http.StatusNoContent {
		t.Errorf("%d %s", got.status, got.body)
	}
	go func() { answered <- h.post(`{"a":4}`) }()
	read(1)
	h.close()
	if got := <-answered; got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("when the collector ends: %d %s %v", got.status, got.body, got.header)
	}
}

func TestCommitTooLate(t *testing.T) {
	h := serve(t, map[string]any{"ack_timeout": 100 * time.Millisecond})
	h.hold(true)
	if got := h.post(`{"a":1}`); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %v", got.status, got.header)
	}
	h = serve(t, map[string]any{"ack": "none"})
	h.hold(true)
	if got := h.post(`{"a":1}`); got.status != http.StatusAccepted {
		t.Errorf("ack none: %d", got.status)
	}
}

// TestNumbers: a later reader counts on, and a foreign position is refused.
func TestNumbers(t *testing.T) {
	q := newIntake(41, 1<<20)
	if err := q.put(&parcel{messages: make([]connectors.Message, 2)}); err != nil {
		t.Fatal(err)
	}
	b, err := q.read(t.Context(), connectors.Limits{})
	if err != nil || len(b.Messages) != 2 {
		t.Fatal(len(b.Messages), err)
	}
	if n, err := decodePosition(b.Messages[1].Position); n != 43 || err != nil {
		t.Errorf("number %d, %v", n, err)
	}
	if b.Messages[0].Position.Compare(b.Messages[1].Position) >= 0 {
		t.Error("positions are not in order")
	}
	if q.committed(42); len(q.mu.reading) != 1 {
		t.Error("a parcel went before its last message was committed")
	}
	if q.committed(43); len(q.mu.reading) != 0 {
		t.Error("a parcel stays that is committed")
	}
	cfg := conntest.Config(t, Source{}.Spec(), map[string]any{"listen": "127.0.0.1:0"})
	_, err = Source{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: splitID}, connectors.Position("not of this source"))
	if connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("a foreign position: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.read(ctx, connectors.Limits{Wait: patience}); connectors.ClassOf(err) != connectors.ClassStopped {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSpec(t *testing.T) {
	conntest.Spec(t, Source{}.Spec())
	var s connectors.Source = Source{}
	if q, ok := s.(connectors.Queue); !ok || q.Dedup(conntest.Config(t, s.Spec(), map[string]any{"listen": ":1"})).IDs != defaultDedup {
		t.Error("it is not a queue with a window")
	}
	if _, ok := s.(connectors.Paced); !ok {
		t.Error("it has no pace")
	}
}

func zipped(t testing.TB, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBodies: sizes and compression are bounded before memory is spent.
func TestBodies(t *testing.T) {
	h := serve(t, map[string]any{"max_body": 10_000, "max_event": 5_000, "max_in_flight": 65536})
	if got := h.post(zipped(t, []byte(`{"a":1}`)), "Content-Encoding: gzip"); got.status != http.StatusNoContent {
		t.Errorf("gzip: %d %s", got.status, got.body)
	}
	for what, c := range map[string]struct {
		body, encoding string
		status         int
	}{
		"bomb":       {zipped(t, bytes.Repeat([]byte{' '}, 8<<20)), "gzip", 413},
		"not gzip":   {"nonsense", "gzip", 400},
		"cut gzip":   {zipped(t, []byte(`{"a":1}`))[:20], "gzip", 400},
		"unknown":    {"x", "br", 415},
		"large":      {strings.Repeat(" ", 10_001), "", 413},
		"long event": {`{"a":"` + strings.Repeat("x", 5_000) + `"}`, "", 413},
	} {
		if got := h.post(c.body, "Content-Encoding: "+c.encoding); got.status != c.status {
			t.Errorf("%s: %d %s, want %d", what, got.status, got.body, c.status)
		}
	}
	if got := h.post("x", "Content-Type: application/xml"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("xml: %d", got.status)
	}
	if n := len(h.events()); n != 1 {
		t.Errorf("%d events are in", n)
	}
	// The connection may be cut before the answer is read.
	if got, err := h.try(http.MethodGet, "/p.gif", "", "X-Long: "+strings.Repeat("x", 20<<10)); err == nil && got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("long headers: %d", got.status)
	}
	h.reader.mu.Lock()
	defer h.reader.mu.Unlock()
	if h.reader.mu.held != 0 {
		t.Errorf("%d bytes of the budget are not given back", h.reader.mu.held)
	}
}

// TestInFlight: what is not committed counts, and beyond the bound the answer
// is 503 at once.
func TestInFlight(t *testing.T) {
	h := serve(t, map[string]any{"max_in_flight": 65536, "max_body": 40_000, "max_event": 40_000, "ack": "none"})
	h.hold(true)
	body := `{"a":"` + strings.Repeat("x", 30_000) + `"}`
	for i, want := range []int{202, 202, 503} {
		if got := h.post(body); got.status != want {
			t.Errorf("body %d: %d %s, want %d", i, got.status, got.body, want)
		}
	}
	until(t, "both are read", func() bool { return len(h.events()) == 2 })
	if err := h.reader.Committed(t.Context(), positionOf(2)); err != nil {
		t.Fatal(err)
	}
	if got := h.post(body); got.status != http.StatusAccepted {
		t.Errorf("after the commit: %d", got.status)
	}
}
