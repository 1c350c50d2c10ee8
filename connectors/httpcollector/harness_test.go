package httpcollector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub plays the runtime: it reads, and commits what it has read unless held.
type hub struct {
	t      testing.TB
	reader *reader
	base   string // URL
	end    context.CancelFunc
	over   chan struct{}

	mu struct {
		sync.Mutex
		events []connectors.Message
		held   bool // nothing is committed
	}
}

func serve(t testing.TB, values map[string]any) *hub {
	t.Helper()
	h := open(t, values)
	h.run()
	return h
}

// open starts a collector that nobody reads yet.
func open(t testing.TB, values map[string]any) *hub {
	t.Helper()
	all := map[string]any{"listen": "127.0.0.1:0"}
	for k, v := range values {
		all[k] = v
	}
	cfg := conntest.Config(t, Source{}.Spec(), all)
	for _, f := range (Source{}).Validate(t.Context(), cfg, connectors.ProbeNone) {
		if !f.Warning {
			t.Fatalf("%s: %s", f.Field, f.Message)
		}
	}
	r, err := Source{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: splitID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{t: t, reader: r.(*reader), over: make(chan struct{})}
	h.base = "http://" + h.reader.server.addr
	close(h.over)
	t.Cleanup(h.close)
	return h
}

func (h *hub) run() {
	ctx, end := context.WithCancel(context.Background())
	h.end, h.over = end, make(chan struct{})
	go func() {
		defer close(h.over)
		for {
			b, err := h.reader.Read(ctx, connectors.Limits{Records: 1000, Bytes: 1 << 20, Wait: 5 * time.Millisecond})
			if err != nil {
				return
			}
			h.mu.Lock()
			h.mu.events = append(h.mu.events, b.Messages...)
			held := h.mu.held
			h.mu.Unlock()
			if n := len(b.Messages); n > 0 && !held {
				if err := h.reader.Committed(ctx, b.Messages[n-1].Position); err != nil {
					h.t.Error(err)
				}
			}
		}
	}()
}

func (h *hub) close() {
	if h.end != nil {
		h.end()
	}
	<-h.over
	if h.reader == nil {
		return
	}
	if err := h.reader.Close(context.Background()); err != nil {
		h.t.Error(err)
	}
	h.reader = nil
}

func (h *hub) hold(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.held = yes
}

// events are the values of what was read.
func (h *hub) events() []connectors.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]connectors.Message(nil), h.mu.events...)
}

// envelope is a record's value, decoded.
func envelope(t testing.TB, m connectors.Message) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(m.Value, &v); err != nil {
		t.Fatalf("%v: %s", err, m.Value)
	}
	return v
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// client has no connections of its own after each request.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}

// send makes a request; headers are "Name: value".
func (h *hub) send(method, path, body string, headers ...string) reply {
	h.t.Helper()
	out, err := h.try(method, path, body, headers...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *hub) try(method, path, body string, headers ...string) (reply, error) {
	req, err := http.NewRequest(method, h.base+path, bytes.NewBufferString(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(text)}, err
}

func (h *hub) post(body string, headers ...string) reply {
	h.t.Helper()
	return h.send(http.MethodPost, "/collect", body, headers...)
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(errors.New("not after 30 s: " + what))
		}
	}
}

func texts(all []connectors.Message) string {
	var out []string
	for _, m := range all {
		out = append(out, string(m.Original))
	}
	return fmt.Sprint(out)
}
