package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/storytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what one call of the program did.
type result struct {
	status         int
	stdout, stderr string
}

// run calls the program as main does.
func run(t *testing.T, deps Deps, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if deps.Version == "" {
		deps.Version = "0.0.0-test"
	}
	status := Main(t.Context(), args, strings.NewReader(""), &stdout, &stderr, deps)
	return result{status, stdout.String(), stderr.String()}
}

// mustRun wants success and nothing on stderr.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	r := run(t, Deps{}, args...)
	if r.status != Done || r.stderr != "" {
		t.Fatalf("%s: status %d\n%s%s", strings.Join(args, " "), r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// mustJSON wants --json to decode into v.
func mustJSON(t *testing.T, v any, args ...string) {
	t.Helper()
	out := mustRun(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("%s --json: %v in\n%s", strings.Join(args, " "), err, out)
	}
}

// TestHelp pins the help of every command, so that a change of it is seen.
func TestHelp(t *testing.T) {
	root := (&cli{deps: Deps{Version: "0.0.0-test"}}).root()
	var all strings.Builder
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "completion" {
			return
		}
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		r := run(t, Deps{}, args...)
		if r.status != Done || r.stderr != "" {
			t.Errorf("%s --help: status %d, stderr %q", cmd.CommandPath(), r.status, r.stderr)
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		all.WriteString("$ " + cmd.CommandPath() + " --help\n" + r.stdout + "\n")
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	storytest.Golden(t, "testdata/help.txt", all.String())
}

// TestExamplesParse: what the help shows as an example is a call that exists,
// with flags that exist.
func TestExamplesParse(t *testing.T) {
	root := (&cli{}).root()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			words := strings.Fields(line)
			found, rest, err := root.Find(words[1:])
			if err != nil || found == root {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), strings.TrimSpace(line), err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), strings.TrimSpace(line), err)
			} else if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), strings.TrimSpace(line), err)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

func TestBadUsage(t *testing.T) {
	dir := t.TempDir()
	cases := []struct {
		args string
		want string // on stderr
	}{
		{"", "Usage:"},
		{"topic", "Usage:"},
		{"topc list", `unknown command "topc"; did you mean topic? See entrepot --help`},
		{"topic creat x", `unknown command "creat"; did you mean create? See entrepot topic --help`},
		{"topic zzz", `unknown command "zzz". See entrepot topic --help`},
		{"topic create", "takes one argument (NAME), got 0; for example"},
		{"topic create a b", "takes one argument (NAME), got 2"},
		{"topic create a --partitions 0", "--partitions 0: want 1 or more"},
		{"topic create a --partitions six", `invalid argument "six"`},
		{"topic create a --replicas 0", "--replicas 0: want 1 or more"},
		{"topic create a --config retention", `--config "retention": want KEY=VALUE`},
		{"topic create a --configs x=1", "unknown flag: --configs"},
		{"topic config set a", "nothing to change"},
		{"topic config set a b", `"b": want KEY=VALUE`},
		{"topic list --brokers http://x:1", "want host:port, not a URL"},
		{"topic list --brokers a:b:c:1:", "want host:port"},
		{"topic list --brokers ,", "--brokers is empty"},
		{"topic delete", "takes one or more arguments (NAME)"},
		{"group reset-offsets g", "say where to, by one of --to-earliest"},
		{"group reset-offsets g --to-time noon", "want a time such as 2026-03-01T00:00:00Z"},
		{"group reset-offsets g --to-latest --to-earliest", "say where to, by one of"},
		{"bench produce --acks some", "--acks some: want all, leader or none"},
		{"bench produce --compression rar", "--compression rar: want none, gzip"},
		{"bench produce --record-size 0", "--record-size 0: want 1 to"},
		{"bench consume --clients 0", "--clients 0: want 1 or more"},
		{"link status a b", "at most one argument (LINK), got 2"},
		{"mesh rtt a", "takes 2 arguments (NODE, NODE), got 1"},
		{"mesh members --admin ftp://x", "--admin ftp://x: want a URL such as http://127.0.0.1:8080"},
		{"dlq show x --limit 0", "--limit 0: want 1 or more"},
		{"serve", "give its file with -c FILE, or --dev"},
		{"serve -c " + filepath.Join(dir, "none.yaml"), "no such file"},
		{"serve -c " + dir, "is a directory, want a file"},
		{"serve extra --dev", "takes no arguments"},
		{"demo --input " + filepath.Join(dir, "none.log"), "--input: open "},
	}
	for _, c := range cases {
		r := run(t, Deps{}, strings.Fields(c.args)...)
		if r.status != Usage || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("entrepot %s: status %d, want %d with %q on stderr\nstdout %q\nstderr %q", c.args, r.status, Usage, c.want, r.stdout, r.stderr)
		}
	}
}

func TestServeAndDemo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var served ServeOptions
	var shown DemoOptions
	deps := Deps{
		Serve: func(_ context.Context, o ServeOptions) error { served = o; return errors.New("port 9092 is taken") },
		Demo: func(_ context.Context, o DemoOptions, out io.Writer) error {
			shown = o
			_, err := io.WriteString(out, "report\n")
			return err
		},
	}
	r := run(t, deps, "serve", "-c", file, "--dev", "--data-dir", "d")
	if r.status != Failed || r.stderr != "entrepot: port 9092 is taken\n" || served != (ServeOptions{Config: file, Dev: true, DataDir: "d"}) {
		t.Errorf("serve: %+v with %+v", r, served)
	}
	r = run(t, deps, "demo", "--input", file, "--exit")
	if r.status != Done || r.stdout != "report\n" || shown != (DemoOptions{Input: file, Exit: true, Dir: "./entrepot-demo"}) {
		t.Errorf("demo: %+v with %+v", r, shown)
	}
	deps.Serve = func(context.Context, ServeOptions) error { return UsageError{errors.New("node.yaml:1:1: wrong")} }
	if r = run(t, deps, "serve", "--dev"); r.status != Usage {
		t.Errorf("serve with a bad config: status %d, want %d", r.status, Usage)
	}
}

func TestVersion(t *testing.T) {
	if out := mustRun(t, "--version"); out != "entrepot 0.0.0-test\n" {
		t.Errorf("--version: %q", out)
	}
}

// Nobody is there: what it says is what to do about it.
func TestNobodyAnswers(t *testing.T) {
	for _, args := range []string{"topic list", "group list", "dlq list", "bench consume"} {
		r := run(t, Deps{}, append(strings.Fields(args), "--brokers", "127.0.0.1:1")...)
		want := "entrepot: no hub answers at 127.0.0.1:1 (connect: connection refused); start one with `entrepot serve --dev`, or give --brokers host:port\n"
		if r.status != Failed || r.stderr != want {
			t.Errorf("%s: status %d, stderr %q, want %q", args, r.status, r.stderr, want)
		}
	}
	r := run(t, Deps{}, "link", "list", "--admin", "127.0.0.1:1")
	want := "entrepot: no node answers at http://127.0.0.1:1 (connect: connection refused); start one with `entrepot serve --dev`, or give --admin URL\n"
	if r.status != Failed || r.stderr != want {
		t.Errorf("link list: status %d, stderr %q, want %q", r.status, r.stderr, want)
	}
}

// The environment says where the site is; a flag says it louder.
func TestEnvironment(t *testing.T) {
	deps := Deps{Getenv: func(name string) (string, bool) {
		v, ok := map[string]string{"ENTREPOT_BROKERS": "127.0.0.1:1,127.0.0.1:2", "ENTREPOT_ADMIN": "http://127.0.0.1:3"}[name]
		return v, ok
	}}
	if r := run(t, deps, "topic", "list"); !strings.Contains(r.stderr, "127.0.0.1:1, 127.0.0.1:2") {
		t.Errorf("ENTREPOT_BROKERS: %s", r.stderr)
	}
	if r := run(t, deps, "topic", "list", "--brokers", "127.0.0.1:4"); !strings.Contains(r.stderr, "127.0.0.1:4 ") {
		t.Errorf("--brokers over ENTREPOT_BROKERS: %s", r.stderr)
	}
	if r := run(t, deps, "mesh", "members"); !strings.Contains(r.stderr, "127.0.0.1:3") {
		t.Errorf("ENTREPOT_ADMIN: %s", r.stderr)
	}
}
