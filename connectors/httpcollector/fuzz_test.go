package httpcollector

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// FuzzSplit: whatever a body holds, nothing panics, each event is a part of
// it, and what becomes of an event is one valid JSON object on its own.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `[{"event_id":"x"},2]`, "{}\n{}", "a=1&b=2&a=3", "[", `{"a":"\ud800"}`, "\uFEFF[]", `{"client_time":1e999,"page":"é"}`} {
		for kind := encodingJSON; kind <= encodingForm; kind++ {
			f.Add([]byte(s), uint8(kind))
		}
	}
	v := &visit{site: "s", received: time.Unix(1, 0), agent: "a\"b", ip: "1.2.3.0", from: "x", referer: "\\"}
	f.Fuzz(func(t *testing.T, body []byte, kind uint8) {
		items, _, err := split(body, encoding(kind))
		if err != nil && len(items) > 0 {
			t.Fatal("both events and a refusal")
		}
		for _, raw := range items {
			m, wrong := v.message(raw, newID)
			if wrong != nil {
				if wrong.status < 400 || wrong.status > 499 || wrong.reason == "" {
					t.Fatalf("refused with %d %q", wrong.status, wrong.reason)
				}
				continue
			}
			if !jsontext.Value(m.Value).IsValid() {
				t.Fatalf("not valid: %s", m.Value)
			}
			if !strings.Contains(string(m.Value), string(raw)) {
				t.Fatalf("the payload changed: %s", m.Value)
			}
		}
	})
}

// FuzzClientOf: nothing panics, and an answer that is not the other end of the
// connection is only given for a trusted one.
func FuzzClientOf(f *testing.F) {
	f.Add("10.0.0.1:1", "1.1.1.1, 2.2.2.2", "3.3.3.3")
	f.Add("[::1%eth0]:1", "[fe80::1%25]:3", ",,")
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, remote, first, second string) {
		got, other := clientOf(remote, []string{first, second}, proxies), parseAddr(remote)
		if got != other && !within(other, proxies) {
			t.Fatalf("%s was believed by %s", got, remote)
		}
		_ = privacy{ip: "truncate"}.shownIP(got)
	})
}

func FuzzEncodingOf(f *testing.F) {
	f.Add("text/plain;charset=UTF-8")
	f.Fuzz(func(t *testing.T, s string) { _ = encodingOf(s) })
}
