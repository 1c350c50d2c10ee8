package httpcollector

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const patience = 30 * time.Second

// TestClientOf: what a client writes into X-Forwarded-For itself is never
// believed.
func TestClientOf(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, c := range []struct {
		remote  string
		forward []string
		want    string
	}{
		{"203.0.113.9:1", nil, "203.0.113.9"},
		{"203.0.113.9:1", []string{"1.1.1.1"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"6.6.6.6, 198.51.100.7"}, "198.51.100.7"},
		{"10.0.0.1:1", []string{"6.6.6.6, 198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		{"10.0.0.1:1", []string{"6.6.6.6", "198.51.100.7"}, "198.51.100.7"},
		{"10.0.0.1:1", []string{"198.51.100.7:4711"}, "198.51.100.7"},
		{"10.0.0.1:1", []string{"[2a00::7]:4711"}, "2a00::7"},
		{"[2001:db8::1]:1", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"10.0.0.1:1", []string{"1.1.1.1, nonsense"}, "10.0.0.1"},
		{"10.0.0.1:1", []string{"10.0.0.2"}, "10.0.0.2"},
		{"10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"nonsense", []string{"1.1.1.1"}, "invalid IP"},
	} {
		if got := clientOf(c.remote, c.forward, proxies).String(); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.remote, c.forward, got, c.want)
		}
	}
	for in, want := range map[string]string{"203.0.113.9": "203.0.113.0", "2a00:1:2:3::4": "2a00:1:2::"} {
		if got := (privacy{ip: "truncate"}).shownIP(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

// TestPrivacy: signals and consent decide what is kept, and the answer is 2xx.
func TestPrivacy(t *testing.T) {
	site := map[string]any{"gpc": "anonymise", "dnt": "drop", "bots": "flag", "cookie": map[string]any{"name": "_eid"}}
	h := serve(t, site)
	for i, header := range []string{"DNT: 0", "Sec-GPC: 1", "DNT: 1", "User-Agent: curl/8.1", "Cookie: _eid=known"} {
		if got := h.post(`{"anonymous_id":""}`, header); got.status != http.StatusNoContent || (got.header.Get("Set-Cookie") != "") != (i == 0 || i == 3) {
			t.Errorf("%s: %d, cookie %q", header, got.status, got.header.Get("Set-Cookie"))
		}
	}
	all := h.events()
	if len(all) != 4 {
		t.Fatalf("%d events, want 4", len(all))
	}
	if v := envelope(t, all[0]); v["ip"] != "127.0.0.0" || v["anonymous_id"] == nil || v["bot"] != false {
		t.Errorf("without signals: %v", v)
	}
	if v := envelope(t, all[1]); v["ip"] != nil || v["user_agent"] != nil || v["anonymous_id"] != nil || all[1].Key != nil {
		t.Errorf("Sec-GPC: %v", v)
	}
	if v := envelope(t, all[2]); v["bot"] != true {
		t.Errorf("curl: %v", v)
	}
	if v := envelope(t, all[3]); v["anonymous_id"] != "known" {
		t.Errorf("cookie: %v", v)
	}

	h = serve(t, map[string]any{"require_consent": true, "bots": "drop", "cookie": map[string]any{"name": "_eid"}})
	for _, c := range [][2]string{{`{"consent":true}`, "X: y"}, {`{}`, "X: y"}, {`{"consent":false}`, "X: y"}, {`{"consent":true}`, "User-Agent: Googlebot/2.1"}} {
		if got := h.post(c[0], c[1]); got.status != http.StatusNoContent || got.header.Get("Set-Cookie") != "" {
			t.Errorf("%v: %d %v", c, got.status, got.header)
		}
	}
	if n := len(h.events()); n != 1 {
		t.Errorf("%d events with consent, want 1", n)
	}
}

// TestCORS: the answers that a browser needs, and no others.
func TestCORS(t *testing.T) {
	h := serve(t, map[string]any{"sites": []map[string]any{
		{"name": "a", "key": "a", "origins": []string{"https://a.example"}},
		{"name": "b", "key": "b", "token": "let-me-in"},
	}})
	got := h.send(http.MethodOptions, "/collect?site=a", "", "Origin: https://a.example", "Access-Control-Request-Method: POST")
	if got.status != http.StatusNoContent || got.header.Get("Access-Control-Allow-Origin") != "https://a.example" ||
		got.header.Get("Access-Control-Allow-Credentials") != "true" || !strings.Contains(got.header.Get("Access-Control-Allow-Headers"), "Content-Type") ||
		got.header.Get("Access-Control-Max-Age") == "" || got.header.Get("Vary") != "Origin" {
		t.Errorf("preflight: %d %v", got.status, got.header)
	}
	if got := h.send(http.MethodPost, "/collect?site=a", "{}", "Origin: https://a.example"); got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("request: %d %v", got.status, got.header)
	}
	if got := h.send(http.MethodPost, "/collect?site=a", "{}", "Origin: https://evil.example"); got.status != 403 || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin: %d %v", got.status, got.header)
	}
	for token, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer let-me-in": 204} {
		if got := h.send(http.MethodPost, "/collect?site=b", "{}", "Authorization: "+token); got.status != want {
			t.Errorf("token %q: %d, want %d", token, got.status, want)
		}
	}
	if got := h.send(http.MethodGet, "/collect?site=a", ""); got.status != 405 || got.header.Get("Allow") == "" {
		t.Errorf("GET: %d", got.status)
	}
}

func TestPixelAndSnippet(t *testing.T) {
	h := serve(t, nil)
	got := h.send(http.MethodGet, "/p.gif?event_id=e1&page=https%3A%2F%2Fshop.example%2F&site=x", "")
	if got.status != 200 || got.header.Get("Content-Type") != "image/gif" || got.body != pixel || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", got.status, got.header)
	}
	if v := envelope(t, h.events()[0]); v["event_id"] != "e1" || v["page"] != "https://shop.example/" || string(h.events()[0].Original) != `{"event_id":"e1","page":"https://shop.example/"}` {
		t.Errorf("%v", v)
	}
	if got := h.send(http.MethodGet, "/p.gif?a=%zz", ""); got.status != 400 {
		t.Errorf("a bad query: %d", got.status)
	}
	js := h.send(http.MethodGet, "/t.js", "")
	if js.status != 200 || len(js.body) > 2048 || len(js.body) < 500 {
		t.Errorf("the snippet has %d bytes, status %d", len(js.body), js.status)
	}
	if again := h.send(http.MethodGet, "/t.js", "", "If-None-Match: "+js.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("unchanged: %d", again.status)
	}
	if got := h.send(http.MethodGet, "/healthz", ""); got.status != 200 {
		t.Errorf("healthz: %d", got.status)
	}
}
