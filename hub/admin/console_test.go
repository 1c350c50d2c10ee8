package admin

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestConsole(t *testing.T) {
	f := sample()
	f.jobs[0].Reason = `<script>alert(1)</script>`
	w := do(newServer(t, f), "GET", "/")
	page := w.Body.String()
	for _, want := range []string{
		"west-1", "site west", "2026-03-01 12:00:00", "1m33s", "5.0 GiB free",
		"from east", "9,000", "3.5 MiB", "partition 1 quarantined", "segment 3: &lt;checksum&gt;",
		"clicks → files", "read <b>10,000</b>", "Internal topics (1) are not shown",
		"&lt;script&gt;alert(1)&lt;/script&gt;",
		`action="/v1/jobs/lake/pause"`, `action="/v1/jobs/lake/restart"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "__consumer_offsets") {
		t.Error("the page shows an internal topic")
	}
	if loads := regexp.MustCompile(`(src=|<link|<script|url\(|@import|http)`).FindAllString(page, -1); len(loads) > 0 {
		t.Errorf("the page loads something: %q", loads)
	}
	if strings.Index(page, "this site") > strings.Index(page, "east-1") {
		t.Error("this site is not shown first")
	}
	if strings.Count(page, "<td>west-1</td>") != 1 {
		t.Error("a node in both pools is not shown once")
	}
	if w.Header().Get("Refresh") == "" || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("headers: %v", w.Header())
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -4321: "−4,321"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 200 << 20: "200 MiB", 3 << 40: "3.0 TiB"} {
		if got := humanBytes(n); got != want {
			t.Errorf("humanBytes(%d) = %s, want %s", n, got, want)
		}
	}
	if got := humanSeconds(93400 * time.Millisecond); got != "1m33s" {
		t.Errorf("humanSeconds = %s", got)
	}
}
