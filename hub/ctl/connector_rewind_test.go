package ctl

import (
	"strings"
	"testing"
	"time"
)

func TestConnectorRewind(t *testing.T) {
	url := node(t)
	r := run(t, Deps{}, "connector", "rewind", "lake", "--to-time", "2026-05-17T10:00:00Z", "--dry-run", "--admin", url)
	want := `PART       FROM   TO  RECORDS
clicks-1  1,200  200    1,000
clicks-0      0    0        0
1,000 records at most are read again
then: rows are written again
nothing was moved
`
	if r.status != Done || r.stdout != want {
		t.Errorf("%+v, want %s", r, want)
	}
	if r = run(t, Deps{}, "connector", "rewind", "lake", "--to-time", "36h", "--admin", url); r.status != Done || !strings.Contains(r.stdout, "moved; `entrepot connector resume lake`") {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{"", "yesterday", "-3h"} {
		if r = run(t, Deps{}, "connector", "rewind", "lake", "--to-time="+bad, "--admin", url); r.status != Usage || !strings.Contains(r.stderr, "want a time such as") {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}

func TestTimeOf(t *testing.T) {
	now := time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-05-17T10:00:00+02:00": "2026-05-17T08:00:00Z", "2026-05-17": "2026-05-17T00:00:00Z", "36h": "2026-05-16T00:00:00Z", "90m": "2026-05-17T10:30:00Z",
	} {
		if got, err := timeOf(text, now); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v %v, want %s", text, got, err, want)
		}
	}
}
