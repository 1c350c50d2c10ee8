package compat

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// Clients that are not ours against a hub: their own test suites, and programs
// that use them. Their code comes from their registries at the versions that
// deploy/compat pins.
//
// By default each runs in its short form, which `make test` does. `make compat`
// runs them in full and writes what came of it to docs/compatibility.md.
const (
	page    = "../../../docs/compatibility.md"
	clients = "../../../deploy/compat"
)

// full says that this is `make compat`.
func full() bool { return os.Getenv("ENTREPOT_COMPAT") == "full" }

// suite is a client and what of it runs: a row of docs/compatibility.md.
type suite struct {
	client, version, what string
	// known are the tests that fail or skip, and why; a test stands for those
	// below it. Any other failure fails the suite.
	known map[string]string
}

// result is how one test of a suite ended.
type result struct {
	name, outcome string
	output        string // why, in its own words
}

const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
)

// why is the reason that is known for a test's failure or skip.
func (s suite) why(name string) string {
	for {
		if reason, ok := s.known[name]; ok {
			return reason
		}
		at := strings.LastIndex(name, "/")
		if at < 0 {
			return ""
		}
		name = name[:at]
	}
}

// judge names what is wrong with the results, and the row that they make.
func (s suite) judge(results []result) (r row, wrong []string) {
	r = row{client: s.client, version: s.version, what: s.what, date: time.Now().UTC().Format(time.DateOnly)}
	for _, one := range results {
		reason := s.why(one.name)
		switch one.outcome {
		case passed:
			r.passed++
		case skipped:
			r.skipped++
			if reason == "" {
				reason = lastLine(one.output)
			}
			r.notes = append(r.notes, fmt.Sprintf("`%s` skipped: %s", one.name, reason))
		default:
			r.failed++
			if reason == "" {
				reason = "not yet explained"
				wrong = append(wrong, fmt.Sprintf("%s failed:\n%s", one.name, one.output))
			}
			r.notes = append(r.notes, fmt.Sprintf("`%s` failed: %s", one.name, reason))
		}
	}
	if r.passed == 0 {
		wrong = append(wrong, "no test passed: did any run?")
	}
	return r, wrong
}

// report fails the test for what is wrong with the results and, in full, puts
// them on the page.
func (s suite) report(t *testing.T, results []result) {
	t.Helper()
	r, wrong := s.judge(results)
	for _, text := range wrong {
		t.Errorf("%s: %s", s.client, text)
	}
	t.Logf("%s %s, %s: %d passed, %d failed, %d skipped", r.client, r.version, r.what, r.passed, r.failed, r.skipped)
	if !full() {
		return
	}
	text, err := os.ReadFile(page)
	if err == nil {
		err = os.WriteFile(page, []byte(put(string(text), r)), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// node is a hub of one node on free ports.
func node(t *testing.T) *hubtest.Node {
	t.Helper()
	n := hubtest.NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	n.Start()
	return n
}

// command runs a program in a folder, for at most 20 minutes, and returns what
// it prints. A status other than 0 fails nothing: the results tell
// what happened.
func command(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s %s: %v", filepath.Base(name), strings.Join(args, " "), err)
	}
	return string(out)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndex(s, "\n")+1:])
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(s)
}
