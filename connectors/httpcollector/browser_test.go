package httpcollector

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// browser is a Chromium without a window that speaks its debugging protocol
// over a pipe: messages that end with a zero byte.
type browser struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	next    int
	session string
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		conntest.Missing(t, "chromium")
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--user-data-dir="+home, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.Env = append(os.Environ(), "HOME="+home)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirIn.Close(), theirOut.Close()
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_, _ = io.WriteString(in, `{"id":1000000,"method":"Browser.close"}`+"\x00")
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			stop()
			<-ended
		}
		stop()
		_, _ = in.Close(), out.Close()
	})
	var target struct {
		ID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		ID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &attached)
	b.session = attached.ID
	b.call("Page.enable", nil, nil)
	b.call("Runtime.enable", nil, nil)
	return b
}

// call makes a request of the protocol and waits for its answer.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.next++
	req := map[string]any{"id": b.next, "method": method}
	if params != nil {
		req["params"] = params
	}
	if b.session != "" {
		req["sessionId"] = b.session
	}
	text, err := json.Marshal(req)
	if err == nil {
		_, err = b.in.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		text, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var answer struct {
			ID     int `json:"id"`
			Result any `json:"result"`
			Error  any `json:"error"`
		}
		answer.Result = result
		if err := json.Unmarshal(text[:len(text)-1], &answer); err != nil {
			if strings.Contains(string(text), fmt.Sprintf(`"id":%d,`, b.next)) {
				b.t.Fatalf("%s: %v: %s", method, err, text)
			}
			continue // an event of another form
		}
		if answer.ID != b.next {
			continue
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %v", method, answer.Error)
		}
		return
	}
}

// run evaluates an expression in the page, and waits for what it promises.
func (b *browser) run(expression string) any {
	b.t.Helper()
	var out struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		Exception any `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &out)
	if out.Exception != nil {
		b.t.Fatalf("%s: %v", expression, out.Exception)
	}
	return out.Result.Value
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	until(b.t, "the page is loaded", func() bool {
		return b.run(`document.readyState=="complete"&&location.href`) == url
	})
}

// TestBrowser: the snippet, in a page of another origin, sends views, clicks
// and what the page itself tracks; goes on after the collector was busy; loses
// nothing when the page is left; and each event comes under one id.
func TestBrowser(t *testing.T) {
	b := startBrowser(t)
	h := serve(t, map[string]any{
		"sites":  []map[string]any{{"name": "shop", "key": "web"}},
		"cookie": map[string]any{"name": "_eid"},
	})
	// What stands between them can say 503, as the collector does under load.
	var busy, preflights atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			preflights.Add(1)
		}
		if r.URL.Path == "/collect" && busy.Load() > 0 {
			busy.Add(-1)
			w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin")) // else the page does not see the status
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.reader.server.http.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><title>Café %s</title><button id=buy data-track="buy" data-sku="42"><b id=inner>Buy</b></button><p id=other>x</p>
<script src="%s/t.js" data-site="web"></script>`, r.URL.Path, front.URL)
	}))
	defer page.Close()

	ids := func(kind string) (out []string) {
		for _, m := range h.events() {
			v := envelope(t, m)
			if p := v["payload"].(map[string]any); p["type"] == kind && !slices.Contains(out, string(m.ID)) {
				out = append(out, string(m.ID))
			}
		}
		return out
	}
	await := func(kind string, n int) {
		t.Helper()
		until(t, fmt.Sprintf("%d events of type %s are there", n, kind), func() bool { return len(ids(kind)) >= n })
		if got := len(ids(kind)); got != n {
			t.Errorf("%d events of type %s, want %d", got, kind, n)
		}
	}
	b.open(page.URL + "/a")
	await("view", 1)
	v := envelope(t, h.events()[0])
	payload := v["payload"].(map[string]any)
	if v["site"] != "shop" || v["page"] != page.URL+"/a" || payload["title"] != "Café /a" || v["bot"] != true || v["client_time"] == nil ||
		v["anonymous_id"] == nil || len(fmt.Sprint(v["event_id"])) != 36 {
		t.Errorf("a view: %v", v)
	}
	visitor := v["anonymous_id"]

	b.run(`document.getElementById("inner").click();document.getElementById("other").click()`)
	await("click", 1)
	for _, m := range h.events() {
		if v := envelope(t, m); v["payload"].(map[string]any)["type"] == "click" {
			if fmt.Sprint(v["payload"].(map[string]any)["props"]) != "map[sku:42 track:buy]" {
				t.Errorf("a click: %v", v)
			}
			if v["anonymous_id"] != visitor { // ports do not make another site, so the cookie comes along
				t.Errorf("the visitor changed from %v to %v", visitor, v["anonymous_id"])
			}
		}
	}
	b.run(`history.pushState({},"","/b")`)
	await("view", 2)

	busy.Store(2) // it comes again later
	b.run(`entrepot.track("retried",{n:1})`)
	await("retried", 1)
	if busy.Load() != 0 {
		t.Error("nobody was turned away")
	}

	b.run(`for(let i=0;i<25;i++)entrepot.track("left",{i:i,text:"x".repeat(1500)})`) // 46 kB, and at once away; a browser lets 64 KiB go
	b.open(page.URL + "/c")
	await("left", 25)
	await("view", 3)
	if n := preflights.Load(); n != 0 {
		t.Errorf("%d preflights: the requests are not simple ones", n)
	}
}
