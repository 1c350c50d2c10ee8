// Package acceptance runs the suite that every built-in connector passes
// against a program: conntest with the plugin's connectors, and what only
// programs can do wrong. The tests are those of `go test`, so this needs a
// process of its own, which Main is.
//
// Goroutines: those of package host and of the tests.
package acceptance

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/plugins/host"
)

// Options is what is tested, and how.
type Options struct {
	Program host.Config
	File    string // the test file; empty: only what needs none
	Run     string // only tests with this text in their names; empty: all
	Timeout time.Duration
}

// Main runs the tests and ends the process, with status 0 if all have passed.
// It prints what `go test -v` prints, with the marks of test2json.
func Main(o Options) {
	testing.Init()
	flags := []string{"-test.v=test2json", "-test.timeout=" + o.Timeout.String()}
	if o.Run != "" { // of the tests below process, source and sink
		flags = append(flags, "-test.run=/"+o.Run)
	}
	if err := flag.CommandLine.Parse(flags); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	s := &suite{Options: o}
	all := []testing.InternalTest{{Name: "process", F: s.process}}
	if o.File != "" {
		f, err := parse(o.File, "")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if f.Source != nil {
			all = append(all, testing.InternalTest{Name: "source", F: s.source})
		}
		if f.Sink != nil {
			all = append(all, testing.InternalTest{Name: "sink", F: s.sink})
		}
	}
	testing.Main(match, all, nil, nil)
}

// match has the meaning of -run for one level of a name.
func match(pattern, name string) (bool, error) {
	if pattern == "" {
		return true, nil
	}
	return strings.Contains(strings.ToLower(name), strings.ToLower(strings.ReplaceAll(pattern, " ", "_"))), nil
}

type suite struct{ Options }

// start starts the program for a test, and ends it with it.
func (s *suite) start(t *testing.T) (*host.Host, connectors.Registry) {
	t.Helper()
	h, err := host.Open(t.Context(), []host.Config{s.Program}, host.Options{Version: "test", Getenv: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	reg, err := h.Registry(connectors.Registry{Sources: map[string]connectors.Source{}, Sinks: map[string]connectors.Sink{}})
	if err != nil {
		t.Fatal(err)
	}
	return h, reg
}

// endWithin is how long a program may take to end with its hub.
const endWithin = 10 * time.Second

// process looks at the program as such.
func (s *suite) process(t *testing.T) {
	t.Run("starts and describes itself", func(t *testing.T) {
		h, _ := s.start(t)
		for _, c := range h.Programs()[0].Connectors {
			t.Run(c.Kind+" "+c.Spec.Type, func(t *testing.T) { conntest.Spec(t, c.Spec) })
		}
	})
	t.Run("ends when it is asked to", func(t *testing.T) {
		h, _ := s.start(t)
		if err := h.End(); err != nil {
			t.Error(err)
		}
	})
	t.Run("ends with its hub", func(t *testing.T) {
		h, _ := s.start(t)
		ctx, cancel := context.WithTimeout(t.Context(), endWithin)
		defer cancel()
		if err := h.Orphan(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("starts again", func(t *testing.T) {
		h, reg := s.start(t)
		h.Kill()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := again(ctx, func() (struct{}, error) { return struct{}{}, h.Start(ctx) }); err != nil {
			t.Fatal(err)
		}
		for typ, source := range reg.Sources {
			s.answers(t, typ, source.Validate)
		}
		for typ, sink := range reg.Sinks {
			s.answers(t, typ, sink.Validate)
		}
	})
}

// answers: a config without any field has findings or none, but the program
// says which.
func (s *suite) answers(t *testing.T, typ string, validate func(context.Context, connectors.Config, connectors.Probe) []connectors.Finding) {
	t.Helper()
	for _, f := range validate(t.Context(), connectors.Config{}, connectors.ProbeNone) {
		if f.Hint == host.NotAnswered {
			t.Errorf("%s: %s", typ, f.Message)
		}
	}
}

// source runs the suite for the source of the test file.
func (s *suite) source(t *testing.T) {
	f := s.parse(t, "")
	h, reg := s.start(t)
	source, err := reg.Source(f.Source.Type)
	if err != nil {
		t.Fatal(err)
	}
	first := func(t *testing.T) conntest.SourceCase { return s.sourceCase(t, source) }
	conntest.Source(t, source, first)
	t.Run("killed in the midst", func(t *testing.T) { killedSource(t, h, source, first(t)) })
}

// sourceCase makes a system for one test.
func (s *suite) sourceCase(t *testing.T, source connectors.Source) conntest.SourceCase {
	t.Helper()
	dir := t.TempDir()
	f := s.parse(t, dir)
	s.setup(t, f.Source.Setup)
	c := conntest.SourceCase{Config: f.config(t, source.Spec(), f.Source.Config), Want: map[string][]string{}}
	if f.Source.waits() {
		waiting := f.config(t, source.Spec(), f.Source.Waiting)
		c.Waiting = &waiting
	}
	if len(f.Source.Want) == 0 {
		c.Want = readAll(t, source, c.Config)
		return c
	}
	for line := range strings.Lines(s.output(t, f.Source.Want)) {
		var one struct{ Split, Original string }
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf(`want printed %q, want lines of {"split":"…","original":"…"}: %v`, line, err)
		}
		c.Want[one.Split] = append(c.Want[one.Split], one.Original)
	}
	return c
}

// sink runs the suite for the sink of the test file.
func (s *suite) sink(t *testing.T) {
	f := s.parse(t, "")
	h, reg := s.start(t)
	sink, err := reg.Sink(f.Sink.Type)
	if err != nil {
		t.Fatal(err)
	}
	fresh := func(t *testing.T) conntest.SinkCase { return s.sinkCase(t, sink) }
	conntest.Sink(t, sink, fresh)
	t.Run("killed between two writes of a plan", func(t *testing.T) { killedSink(t, h, sink, fresh(t)) })
}

// sinkCase makes a destination for one test.
func (s *suite) sinkCase(t *testing.T, sink connectors.Sink) conntest.SinkCase {
	t.Helper()
	dir := t.TempDir()
	f := s.parse(t, dir)
	s.setup(t, f.Sink.Setup)
	c := conntest.SinkCase{
		Config: f.config(t, sink.Spec(), f.Sink.Config), Remembers: f.Sink.Remembers,
		Rows:  func(t *testing.T) []int64 { return numbers(t, s.output(t, f.Sink.Rows)) },
		State: func(t *testing.T) string { return s.output(t, f.Sink.State) },
	}
	if f.Sink.Files != "" {
		c.Rows = func(t *testing.T) []int64 { return filesRows(t, filepath.Join(dir, f.Sink.Files)) }
		c.State = func(t *testing.T) string { return filesText(t, filepath.Join(dir, f.Sink.Files)) }
	}
	if f.Sink.Poison != nil {
		c.Poison = func(m *connectors.Message) { m.Value = []byte(*f.Sink.Poison) }
	}
	return c
}

// setup runs the command that makes what a test needs, if there is one.
func (s *suite) setup(t *testing.T, args []string) {
	t.Helper()
	if len(args) > 0 {
		s.output(t, args)
	}
}

// output runs a command of the test file in the file's folder.
func (s *suite) output(t *testing.T, args []string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = filepath.Dir(s.File)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// numbers reads a number in each line.
func numbers(t *testing.T, text string) (all []int64) {
	t.Helper()
	for _, word := range strings.Fields(text) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			t.Fatalf("rows printed %q, want the id of a row in each line", word)
		}
		all = append(all, n)
	}
	return all
}
