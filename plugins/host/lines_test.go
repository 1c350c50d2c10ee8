package host

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestLinesHide: a secret is not shown, whatever way a program prints it.
func TestLinesHide(t *testing.T) {
	const key = "-----BEGIN KEY-----\nhunter2-first\nhunter2-second\n-----END KEY-----\n"
	var log buffer
	l := newLines(slog.New(slog.NewTextHandler(&log, nil)))
	for _, s := range []string{"hunter2", "hunter2-longer", key, "abc"} {
		l.hide(s)
	}
	fmt.Fprint(l, key)
	fmt.Fprintln(l, "login hunter2-longer, abc is too short")
	fmt.Fprintln(l, strings.Repeat("x", maxLine-6)+"hunter2")
	text := log.String() + l.last() + l.redact("hunter2: "+key)
	for _, shown := range []string{"hunt", "first", "second", "longer"} {
		if strings.Contains(text, shown) {
			t.Errorf("%q is shown: %s", shown, text)
		}
	}
	if !strings.Contains(text, "login ***, abc") {
		t.Errorf("more is hidden than the secrets: %s", text)
	}
}
