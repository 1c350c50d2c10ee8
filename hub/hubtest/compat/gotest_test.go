package compat

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// goTest runs the tests of a package in a module's folder, deploy/compat for
// what that requires, and returns how each ended.
func goTest(t *testing.T, dir string, env []string, args ...string) []result {
	t.Helper()
	return parseGoTest(command(t, dir, env, "go", append([]string{"test", "-json", "-count=1"}, args...)...))
}

// event is a line of `go test -json`.
type event struct{ Action, Test, Output string }

// parseGoTest turns the events into the results of the tests that have no
// tests below them. A test that did not end, as after a panic or a timeout,
// has failed; so has a package that fails without a test to blame. With -count
// each run of a test has a result of its own.
func parseGoTest(out string) (results []result) {
	var rest strings.Builder // what belongs to no test
	packageFailed := false
	now := round{at: map[string]int{}}
	for line := range strings.Lines(out) {
		var e event
		switch {
		case json.Unmarshal([]byte(line), &e) != nil:
			rest.WriteString(line)
		case e.Test == "":
			packageFailed = packageFailed || e.Action == "fail"
			rest.WriteString(e.Output)
		default:
			if _, again := now.at[e.Test]; again && e.Action == "run" {
				results = append(results, leaves(now.results)...)
				now = round{at: map[string]int{}}
			}
			now.take(e)
		}
	}
	results = append(results, leaves(now.results)...)
	if packageFailed && !slices.ContainsFunc(results, func(r result) bool { return r.outcome == failed }) {
		results = append(results, result{name: "(package)", outcome: failed, output: tail(rest.String(), 4000)})
	}
	return results
}

// round is one run of all tests: with -count, the next one begins when this one
// has ended.
type round struct {
	results []result
	at      map[string]int // by name
}

// take takes in an event of a test.
func (r *round) take(e event) {
	i, ok := r.at[e.Test]
	if !ok {
		i = len(r.results)
		r.at[e.Test] = i
		r.results = append(r.results, result{name: e.Test, outcome: failed})
	}
	one := &r.results[i]
	switch e.Action {
	case "pass":
		one.outcome = passed
	case "skip":
		one.outcome = skipped
	case "output":
		if !strings.HasPrefix(strings.TrimSpace(e.Output), "--- ") && !strings.HasPrefix(e.Output, "=== ") {
			one.output = tail(one.output+e.Output, 4000)
		}
	}
}

// leaves drops the tests whose outcome is that of the tests below them. A test
// whose name happens to begin another's, as range and range/848, is taken for
// its parent: counts are rather too low, and no failure is lost.
func leaves(all []result) []result {
	return slices.DeleteFunc(all, func(r result) bool {
		return slices.ContainsFunc(all, func(below result) bool {
			return strings.HasPrefix(below.name, r.name+"/") && (below.outcome == failed || r.outcome != failed)
		})
	})
}

func tail(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}

// version is the one of a module that deploy/compat pins.
func version(t *testing.T, module string) string {
	t.Helper()
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module)
	cmd.Dir, cmd.Stderr = clients, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the version of %s: %v", module, err)
	}
	return string(bytes.TrimSpace(out))
}

func TestParseGoTest(t *testing.T) {
	lines := func(all ...string) string { return strings.Join(all, "\n") + "\n" }
	for _, c := range []struct {
		name, out string
		want      []result
	}{
		{"outcomes of leaves", lines(
			`{"Action":"run","Test":"A"}`, `{"Action":"run","Test":"A/x"}`, `{"Action":"pass","Test":"A/x"}`, `{"Action":"pass","Test":"A"}`,
			`{"Action":"run","Test":"B"}`, `{"Action":"output","Test":"B","Output":"    b_test.go:1: not here\n"}`, `{"Action":"skip","Test":"B"}`, `{"Action":"pass"}`),
			[]result{{"A/x", passed, ""}, {"B", skipped, "    b_test.go:1: not here\n"}}},
		{"a test that fails by itself, its subtests passing", lines(
			`{"Action":"run","Test":"A"}`, `{"Action":"pass","Test":"A/x"}`, `{"Action":"fail","Test":"A"}`, `{"Action":"fail"}`),
			[]result{{"A", failed, ""}, {"A/x", passed, ""}}},
		{"three runs, of which the second fails", lines(
			`{"Action":"run","Test":"A"}`, `{"Action":"run","Test":"A/x"}`, `{"Action":"pass","Test":"A/x"}`, `{"Action":"pass","Test":"A"}`,
			`{"Action":"run","Test":"A"}`, `{"Action":"run","Test":"A/x"}`, `{"Action":"fail","Test":"A/x"}`, `{"Action":"fail","Test":"A"}`,
			`{"Action":"run","Test":"A"}`, `{"Action":"run","Test":"A/x"}`, `{"Action":"pass","Test":"A/x"}`, `{"Action":"pass","Test":"A"}`, `{"Action":"fail"}`),
			[]result{{"A/x", passed, ""}, {"A/x", failed, ""}, {"A/x", passed, ""}}},
		{"a run that never ended after one that passed", lines(
			`{"Action":"run","Test":"A"}`, `{"Action":"pass","Test":"A"}`, `{"Action":"run","Test":"A"}`, `{"Action":"fail"}`),
			[]result{{"A", passed, ""}, {"A", failed, ""}}},
		{"a test that never ended", lines(`{"Action":"run","Test":"A"}`, `{"Action":"fail"}`), []result{{"A", failed, ""}}},
		{"a package that does not build", lines(`x.go:1: no`, `{"Action":"fail"}`), []result{{"(package)", failed, "x.go:1: no\n"}}},
	} {
		if got := parseGoTest(c.out); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestJudge: a failure that nobody has explained, and a suite that did not
// run, are noticed.
func TestJudge(t *testing.T) {
	s := suite{client: "c", known: map[string]string{"Known": "because"}}
	for _, c := range []struct {
		name    string
		results []result
		wrong   int
	}{
		{"all well", []result{{"A", passed, ""}, {"B", skipped, "why"}}, 0},
		{"known failure", []result{{"A", passed, ""}, {"Known", failed, ""}, {"Known/below", failed, ""}}, 0},
		{"new failure", []result{{"A", passed, ""}, {"B", failed, "boom"}}, 1},
		{"new failure beside a known one", []result{{"A", passed, ""}, {"KnownNot", failed, ""}}, 1},
		{"nothing ran", nil, 1},
		{"everything skipped", []result{{"B", skipped, ""}}, 1},
	} {
		r, wrong := s.judge(c.results)
		if len(wrong) != c.wrong {
			t.Errorf("%s: %d wrong, want %d: %q", c.name, len(wrong), c.wrong, wrong)
		}
		if len(r.notes) != r.failed+r.skipped {
			t.Errorf("%s: %d notes for %d failures and %d skips", c.name, len(r.notes), r.failed, r.skipped)
		}
	}
}
