package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/stream/expr"
)

// TestRequest: what an endpoint sees, with the signature checked as the
// specification's own example has it.
func TestRequest(t *testing.T) {
	e := newEndpoint(t)
	w := openWriter(t, e.config(t, map[string]any{
		"signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "bearer": "tok", "headers": map[string]string{"X-Source": "hub"},
	}))
	p, b := plan(7, 1)
	b.Messages[0].Key = []byte("a b/ü")
	if refused, err := w.Write(t.Context(), p, b); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	h := e.mu.requests[0].Header
	for name, want := range map[string]string{
		"Idempotency-Key": "conntest-orders-3-7", "Webhook-Id": "conntest-orders-3-7", "Content-Type": "application/json",
		"Authorization": "Bearer tok", "X-Source": "hub", "Entrepot-Key": "a+b%2F%C3%BC",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	if e.mu.bodies[0] != `{"id":7}` || h.Get("Webhook-Timestamp") == "" || !strings.HasPrefix(h.Get("Webhook-Signature"), "v1,") {
		t.Errorf("body %s, headers %v", e.mu.bodies[0], h)
	}
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature %s", got)
	}
}

// TestAnswers: each status has its class, and is or is not tried again.
func TestAnswers(t *testing.T) {
	success, err := expr.Compile(expr.Bool, `value.errors == 0 && headers["x-a"] == "b"`)
	if err != nil {
		t.Fatal(err)
	}
	ok := http.Header{"X-A": {"b"}}
	for _, c := range []struct {
		r     response
		expr  *expr.Program
		class connectors.Class
		after time.Duration
	}{
		{response{200, nil, nil}, nil, connectors.ClassNone, 0},
		{response{204, nil, nil}, nil, connectors.ClassNone, 0},
		{response{200, ok, []byte(`{"errors":0}`)}, success, connectors.ClassNone, 0},
		{response{200, ok, []byte(`{"errors":1}`)}, success, connectors.ClassRetry, 0},
		{response{200, ok, []byte(`oops`)}, success, connectors.ClassRetry, 0},
		{response{301, http.Header{"Location": {"http://evil"}}, nil}, nil, connectors.ClassFatal, 0},
		{response{400, nil, nil}, nil, connectors.ClassPoison, 0},
		{response{401, nil, nil}, nil, connectors.ClassRetry, 0},
		{response{403, nil, nil}, nil, connectors.ClassRetry, 0},
		{response{404, nil, nil}, nil, connectors.ClassPoison, 0},
		{response{408, nil, nil}, nil, connectors.ClassRetry, 0},
		{response{422, nil, nil}, nil, connectors.ClassPoison, 0},
		{response{425, nil, nil}, nil, connectors.ClassRetry, 0},
		{response{429, http.Header{"Retry-After": {"7"}}, nil}, nil, connectors.ClassRetry, 7 * time.Second},
		{response{503, http.Header{"Retry-After": {"Thu, 01 Jan 1970 00:01:30 GMT"}}, nil}, nil, connectors.ClassRetry, 30 * time.Second},
		{response{503, http.Header{"Retry-After": {"99999999"}}, nil}, nil, connectors.ClassRetry, longestRetryAfter},
		{response{500, http.Header{"Retry-After": {"-1"}}, nil}, nil, connectors.ClassRetry, 0},
	} {
		err := judge(c.r, c.expr, time.Unix(60, 0))
		if connectors.ClassOf(err) != c.class || connectors.RetryAfter(err) != c.after {
			t.Errorf("%d %v: %v (class %v, after %v), want class %v after %v", c.r.status, c.r.header, err, connectors.ClassOf(err), connectors.RetryAfter(err), c.class, c.after)
		}
	}
}

// TestRefused: records that the endpoint refuses are named, the others are
// there, and are not sent again when the plan comes without the refused ones.
func TestRefused(t *testing.T) {
	e := newEndpoint(t)
	e.answers(func(_ int, body string) (int, string) {
		if body == `{"id":13}` || body == `{"id":17}` {
			return 422, "no such customer"
		}
		return 200, ""
	})
	w := openWriter(t, e.config(t, nil))
	p, b := plan(10, 10)
	refused, err := w.Write(t.Context(), p, b)
	if err != nil || len(refused) != 2 || refused[0].Offset != 13 || refused[1].Index != 7 || connectors.ClassOf(refused[0].Err) != connectors.ClassPoison {
		t.Fatalf("%v %v", refused, err)
	}
	if e.count() != 10 {
		t.Errorf("%d requests", e.count())
	}
	b.Messages = append(append(b.Messages[:3:3], b.Messages[4:7]...), b.Messages[8:]...)
	if refused, err := w.Write(t.Context(), p, b); err != nil || len(refused) > 0 || e.count() != 10 {
		t.Errorf("again: %v %v, %d requests", refused, err, e.count())
	}
	// A whole plan that is refused is for the runtime to take apart.
	w = openWriter(t, e.config(t, map[string]any{"body": "array"}))
	e.answers(func(int, string) (int, string) { return 400, "" })
	if _, err := w.Write(t.Context(), p, b); connectors.ClassOf(err) != connectors.ClassPoison {
		t.Errorf("an array: %v", err)
	}
}

// TestOrder: records of a key arrive in order, also over failures, and those
// of other keys do not wait for them.
func TestOrder(t *testing.T) {
	e := newEndpoint(t)
	failing := map[string]int{`{"id":0}`: 3, `{"id":6}`: 2}
	e.answers(func(_ int, body string) (int, string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if failing[body] > 0 {
			failing[body]--
			return 503, ""
		}
		return 200, ""
	})
	w := openWriter(t, e.config(t, map[string]any{"concurrency": 4}))
	p, b := plan(0, 100)
	if refused, err := w.Write(t.Context(), p, b); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	last := map[int]int{}
	for _, body := range e.mu.bodies {
		var id int
		if _, err := fmt.Sscanf(body, `{"id":%d}`, &id); err != nil {
			t.Fatal(err)
		}
		if before, ok := last[id%5]; ok && id < before {
			t.Errorf("%d came after %d", id, before)
		}
		last[id%5] = id
	}
	if len(e.values(t)) != 100 || e.count() != 105 {
		t.Errorf("%d records in %d requests", len(e.values(t)), e.count())
	}
}

// TestGivenUp: what follows a record that cannot be sent, in the order of its
// key, is not sent either.
func TestGivenUp(t *testing.T) {
	e := newEndpoint(t)
	e.answers(func(_ int, body string) (int, string) {
		if body == `{"id":5}` {
			return 503, ""
		}
		return 200, ""
	})
	w := openWriter(t, e.config(t, map[string]any{"retry_for": 300 * time.Millisecond, "timeout": 100 * time.Millisecond}))
	p, b := plan(0, 20)
	if _, err := w.Write(t.Context(), p, b); connectors.ClassOf(err) != connectors.ClassRetry {
		t.Fatalf("%v (class %v)", err, connectors.ClassOf(err))
	}
	for _, v := range e.values(t) {
		if id := int(v["id"].(float64)); id > 5 && id%5 == 0 {
			t.Errorf("%d was sent before 5", id)
		}
	}
	e.answers(nil)
	if refused, err := w.Write(t.Context(), p, b); err != nil || len(refused) > 0 || len(e.values(t)) != 20 || e.mu.again != 0 {
		t.Errorf("later: %v %v, %d records, %d came again", refused, err, len(e.values(t)), e.mu.again)
	}
}

// TestLostAnswer: the request goes out again under the same key.
func TestLostAnswer(t *testing.T) {
	e := newEndpoint(t)
	e.answers(func(n int, _ string) (int, string) {
		if n < 3 {
			return statusLost, ""
		}
		return 200, ""
	})
	w := openWriter(t, e.config(t, map[string]any{"concurrency": 1}))
	p, b := plan(0, 5)
	if refused, err := w.Write(t.Context(), p, b); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	if len(e.values(t)) != 5 || e.mu.again == 0 {
		t.Errorf("%d records, %d came again", len(e.values(t)), e.mu.again)
	}
	e.answers(func(int, string) (int, string) { return statusLost, "" })
	p, b = plan(5, 1)
	_, err := w.Write(t.Context(), p, b)
	if connectors.ClassOf(err) != connectors.ClassUnknown {
		t.Errorf("never an answer: %v (class %v)", err, connectors.ClassOf(err))
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, err), "hunter2") {
		t.Errorf("the error shows the address: %v", err)
	}
}

// TestDenied: an endpoint that denies us is not asked for the other records, and
// the job hears of it at once, not when retry_for is over.
func TestDenied(t *testing.T) {
	for _, status := range []int{401, 403, 407} {
		e := newEndpoint(t)
		e.answers(func(int, string) (int, string) { return status, "" })
		w := openWriter(t, e.config(t, map[string]any{"concurrency": 1, "retry_for": time.Minute}))
		p, b := plan(0, 5)
		refused, err := w.Write(t.Context(), p, b)
		if connectors.ClassOf(err) != connectors.ClassRetry || len(refused) > 0 || e.count() != 1 {
			t.Errorf("%d: %v (class %v), %d refused, %d requests; want a Retry after one", status, err, connectors.ClassOf(err), len(refused), e.count())
		}
		e.answers(nil)
		if refused, err := w.Write(t.Context(), p, b); err != nil || len(refused) > 0 || len(e.values(t)) != 5 {
			t.Errorf("%d, and then 204: %v, %d refused, %d records", status, err, len(refused), len(e.values(t)))
		}
	}
}

// TestNotReached: errors of connecting, redirects and addresses that are not
// allowed have their class, and show no secret.
func TestNotReached(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	away := newEndpoint(t)
	away.mu.header = http.Header{"Location": {gone.URL}}
	away.answers(func(int, string) (int, string) { return 307, "" })
	inside := newEndpoint(t)
	p, b := plan(0, 1)
	for what, c := range map[string]struct {
		values map[string]any
		class  connectors.Class
		is     error
	}{
		"closed":          {map[string]any{"url": gone.URL + "/hunter2"}, connectors.ClassRetry, nil},
		"redirect":        {map[string]any{"url": away.URL + "/hunter2"}, connectors.ClassFatal, nil},
		"private":         {map[string]any{"url": inside.URL + "/hunter2", "allow_networks": []string{"10.0.0.0/8"}}, connectors.ClassFatal, errAddress},
		"private by name": {map[string]any{"url": strings.Replace(inside.URL, "127.0.0.1", "localhost", 1) + "/hunter2", "allow_networks": []string{}}, connectors.ClassFatal, errAddress},
	} {
		c.values["retry_for"] = 300 * time.Millisecond
		c.values["timeout"] = 200 * time.Millisecond
		w := openWriter(t, away.config(t, c.values))
		_, err := w.Write(t.Context(), p, b)
		if connectors.ClassOf(err) != c.class || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v (class %v), want %v", what, err, connectors.ClassOf(err), c.class)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: the error shows the address: %v", what, err)
		}
	}
	if inside.count() != 0 {
		t.Error("a private address was reached")
	}
}

// TestAdmits: public addresses only, in whatever form they are written.
func TestAdmits(t *testing.T) {
	for text, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "127.0.0.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "255.255.255.255": false, "224.0.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "::ffff:10.0.0.1": false, "::ffff:93.184.216.34": true,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::7f00:1": false, "198.18.0.1": false, "240.0.0.1": false,
	} {
		if got := admits(netip.MustParseAddr(text), nil); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if !admits(netip.MustParseAddr("::ffff:10.1.2.3"), []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}) {
		t.Error("an allowed network")
	}
}

// TestPacer: the rate saves nothing up; the breaker opens, lets one through,
// and closes.
func TestPacer(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	p := pacer{every: 100 * time.Millisecond, failures: 2, pause: time.Second}
	ask := func(ms, want int) {
		t.Helper()
		if got := p.ask(at(ms)); got != time.Duration(want)*time.Millisecond {
			t.Errorf("at %d ms: wait %v, want %d ms", ms, got, want)
		}
	}
	ask(1000, 0)
	ask(1000, 100)
	ask(1100, 0)
	ask(9000, 0)
	ask(9000, 100)
	p.tell(at(9000), false)
	ask(9100, 0)
	p.tell(at(9100), false)
	ask(9200, 900)
	ask(10100, 0)
	ask(10200, 100) // another one asks while the first tries
	p.tell(at(10200), false)
	ask(10300, 900)
	ask(11200, 0)
	p.tell(at(11200), true)
	ask(11300, 0)
	ask(11300, 100)
}

// TestConfig: what is wrong is found before anything is sent, and no secret is
// in an error.
func TestConfig(t *testing.T) {
	s := Sink{}.Spec()
	for _, c := range []map[string]any{
		{"url": "https://x", "success_when": "value."},
		{"url": "https://x", "headers": map[string]string{"Idempotency-Key": "x"}},
		{"url": "https://x", "headers": map[string]string{"X y": "a"}},
		{"url": "https://x", "allow_networks": []string{"10.0.0.0/99"}},
		{"url": "https://x", "rate": -1.0},
	} {
		if _, err := connectors.NewConfig(s.Fields, c); err == nil {
			t.Errorf("%v is taken", c)
		}
	}
	for _, c := range []map[string]any{
		{"url": "ftp://hunter2"}, {"url": "hunter2"}, {"url": "https://hunter2 x\x7f"}, {"url": "https://x", "bearer": "hunter2\n"},
		{"url": "https://x", "headers": map[string]string{"X": "hunter2\r\nb: c"}},
		{"url": "https://x", "signing_secret": "whsec_hunter2!"}, {"url": "https://x", "signing_secret": ""},
		{"url": "https://x", "body": "array", "concurrency": 3}, {"url": "https://x", "rate": 2.0}, {"url": "https://x", "rate": 50.0, "retry_for": time.Duration(0)},
	} {
		cfg, err := connectors.NewConfig(s.Fields, c)
		if err != nil {
			t.Fatal(err)
		}
		all := Sink{}.Validate(t.Context(), cfg, connectors.ProbeLive)
		if len(all) == 0 || strings.Contains(fmt.Sprint(all), "hunter2") {
			t.Errorf("%v: %v", c, all)
		}
	}
}

// roundTrip is a transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestStop: when one lane finds what is broken for all, the others send no
// more, also when one of them fails for another reason after that.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := openWriter(t, conntest.Config(t, Sink{}.Spec(), map[string]any{"url": "https://x.example", "concurrency": 3, "retry_for": time.Duration(0)}))
		var sent atomic.Int64
		w.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			n := sent.Add(1)
			var offset int
			if _, err := fmt.Sscanf(r.Header.Get("Idempotency-Key"), "conntest-orders-3-%d", &offset); err != nil {
				return nil, err
			}
			if offset > 2 {
				t.Errorf("request %d is offset %d, which comes after the stop", n, offset)
			}
			if err := connectors.Pause(r.Context(), time.Duration(offset+1)*time.Second); err != nil {
				return nil, err
			}
			status := []int{http.StatusTemporaryRedirect, http.StatusServiceUnavailable, http.StatusOK}[offset%3]
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		})
		p, b := plan(0, 9)
		for i := range b.Messages {
			b.Messages[i].Key = nil // then the lane is that of the offset
		}
		if _, err := w.Write(t.Context(), p, b); connectors.ClassOf(err) != connectors.ClassFatal {
			t.Errorf("class %v: %v, want fatal", connectors.ClassOf(err), err)
		}
		if n := sent.Load(); n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
	})
}

// FuzzAnswer: whatever an endpoint answers, there is a class and a wait in
// bounds.
func FuzzAnswer(f *testing.F) {
	success, err := expr.Compile(expr.Bool, `value.ok`)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(503, "7", []byte(`{"ok":true}`))
	f.Add(200, "Thu, 01 Jan 1970 00:01:30 GMT", []byte(`{"ok":1}`))
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) {
		err := judge(response{status, http.Header{"Retry-After": {after}}, body}, success, time.Unix(0, 0))
		if err == nil && (status < 200 || status > 299) {
			t.Fatalf("status %d is taken for done", status)
		}
		if wait := connectors.RetryAfter(err); wait < 0 || wait > longestRetryAfter {
			t.Fatalf("wait %v", wait)
		}
	})
}
