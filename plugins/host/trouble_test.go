package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

const patience = 30 * time.Second

// badConfig is the test binary as a plugin that makes a mistake.
func badConfig(t *testing.T) Config {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{Name: "bad", Path: path, SHA256: conntest.SHA256(t, path), Env: []string{badVariable}}
}

func badOptions(mistake string, log io.Writer) Options {
	return Options{
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		Getenv: func(name string) (string, bool) {
			if name == badVariable {
				return mistake, true
			}
			return os.LookupEnv(name)
		},
	}
}

// bad starts a plugin that makes a mistake.
func bad(t *testing.T, mistake string) (connectors.Registry, *plugin, *buffer) {
	t.Helper()
	log, cfg := &buffer{}, badConfig(t)
	switch mistake {
	case "read-hang", "write-hang", "write-long", "stingy", "unread": // the others may be slow
		cfg.Timeout = minTimeout
	}
	h, err := Open(t.Context(), []Config{cfg}, badOptions(mistake, log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return registry(t, h), h.plugins[0], log
}

type buffer struct {
	mu struct {
		sync.Mutex
		bytes.Buffer
	}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.Buffer.String()
}

// TestRefusedAtStart: what is not the program, or does not speak to the hub as
// a plugin does, is refused with the reason, and leaves no process and no folder.
func TestRefusedAtStart(t *testing.T) {
	script := func(text string) func(*Config) {
		return func(c *Config) {
			c.Path = filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(c.Path, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			c.SHA256 = conntest.SHA256(t, c.Path)
		}
	}
	for _, test := range []struct {
		name, mistake string
		change        func(*Config)
		want          string
	}{
		{"another checksum", "", func(c *Config) { c.SHA256 = strings.Repeat("0", 64) }, "is not the program that was approved"},
		{"no such file", "", func(c *Config) { c.Path += ".missing" }, "no such file"},
		{"a folder", "", func(c *Config) { c.Path = filepath.Dir(c.Path) }, "is not a file"},
		{"not executable", "", func(c *Config) { script("#!/bin/sh\n")(c); _ = os.Chmod(c.Path, 0o600) }, "chmod +x"},
		{"no interpreter", "", script("#!/nowhere/python\n"), "cannot be started"},
		{"ends at once", "", script("#!/bin/sh\necho 'no module named grpc' >&2\nexit 1\n"), "no module named grpc"},
		{"prints something else", "", script("#!/bin/sh\necho hello\nexec sleep 600\n"), "did not begin as a plugin does"},
		{"another protocol", "other-protocol", nil, "speaks another protocol than this hub, which speaks [1]"},
		{"says another version", "other-version", nil, "agreed on protocol version 1 and says that it speaks version 2"},
		{"no service", "no-service", nil, "agreed on protocol version 1 and does not answer it"},
		{"a name that is none", "", func(c *Config) { c.Name = "A b" }, "want lower case"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tmp, err := os.MkdirTemp("", "refused") // short: it is in the paths of sockets
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(tmp) })
			t.Setenv("TMPDIR", tmp)
			cfg := badConfig(t)
			if test.change != nil {
				test.change(&cfg)
			}
			h, err := Open(t.Context(), []Config{cfg}, badOptions(test.mistake, io.Discard))
			if err == nil {
				h.Close()
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v\nwant: %s", err, test.want)
			}
			if pids := children(t); len(pids) > 0 {
				t.Errorf("processes %v are left", pids)
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "plugin-dir*")); len(left) > 0 {
				t.Errorf("folders %v are left", left)
			}
		})
	}
}

// children are the processes that this one has started and that run.
func children(t *testing.T) (pids []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

// read reads a split to its end, opening it again after errors that can be
// tried again, commits what it has, and returns the numbers that are the positions.
func read(t *testing.T, s connectors.Source, cfg connectors.Config) (got []uint64, errs []error, fatal error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var from connectors.Position
	for {
		r, err := s.Open(ctx, conntest.Task(cfg), connectors.Split{ID: "0"}, from)
		for err == nil {
			var b connectors.Batch
			b, err = r.Read(ctx, connectors.Limits{Records: 7, Wait: 100 * time.Millisecond})
			for _, m := range b.Messages {
				got, from = append(got, binary.BigEndian.Uint64(m.Position)), m.Position
			}
			if err == nil {
				_ = r.Committed(ctx, from) // what is wrong with the stream is what Read says, after what is good
			}
		}
		if r != nil {
			if err := r.Close(ctx); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return got, errs, nil
		case ctx.Err() != nil:
			t.Fatalf("not read to the end in %s: %v", patience, errs)
		case connectors.ClassOf(err) != connectors.ClassRetry:
			return got, errs, err
		}
		errs = append(errs, err)
		if err := connectors.Pause(ctx, connectors.RetryAfter(err)); err != nil {
			t.Fatal(err)
		}
	}
}

func upTo(n uint64) (all []uint64) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// TestReaderOfABrokenProcess: a process that dies or hangs while it reads is
// started anew, and every message comes once.
func TestReaderOfABrokenProcess(t *testing.T) {
	for mistake, want := range map[string]string{
		"read-crash": "exit status 3", "read-panic": "exit status 2", "read-hang": "it did not answer for 1s (split 0) and was killed",
	} {
		t.Run(mistake, func(t *testing.T) {
			reg, _, log := bad(t, mistake)
			s := reg.Sources["bad"]
			got, errs, err := read(t, s, conntest.Config(t, s.Spec(), map[string]any{"once": filepath.Join(t.TempDir(), "once")}))
			if err != nil || !slices.Equal(got, upTo(300)) {
				t.Errorf("%d messages, %v: %v", len(got), err, got)
			}
			if len(errs) == 0 || !strings.Contains(errs[0].Error(), want) || !strings.Contains(errs[0].Error(), "plugin bad") {
				t.Errorf("errors %v, want first: %s", errs, want)
			}
			if text := log.String(); !strings.Contains(text, "a plugin is started again") || mistake == "read-panic" && !strings.Contains(text, "panic: a mistake") {
				t.Errorf("the log does not say so: %s", text)
			}
		})
	}
}

// TestSourceBreaksTheRules: nothing after a breach is taken, and the job stops
// with the reason.
func TestSourceBreaksTheRules(t *testing.T) {
	for mistake, want := range map[string]string{
		"position-once":  "position 0000000000000064, after one with 0000000000000064",
		"position-stays": "position 0000000000000064, after one with 0000000000000064",
		"large-message":  "a plugin can hand on at most",
		"too-large":      "it sent a message that is too large",
	} {
		t.Run(mistake, func(t *testing.T) {
			reg, _, _ := bad(t, mistake)
			s := reg.Sources["bad"]
			got, _, err := read(t, s, conntest.Config(t, s.Spec(), nil))
			n := uint64(101)
			if mistake == "large-message" {
				n = 100
			} else if mistake == "too-large" {
				n = 0
			}
			if !slices.Equal(got, upTo(n)) {
				t.Errorf("%d messages were taken, want %d", len(got), n)
			}
			if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), want) {
				t.Errorf("class %v: %v, want fatal: %s", connectors.ClassOf(err), err, want)
			}
		})
	}
}

func plan(values ...string) (connectors.Plan, connectors.Batch) {
	p := connectors.Plan{Partition: record.TopicPartition{Topic: "t"}, To: int64(len(values)), Epoch: 1, ID: "p"}
	var b connectors.Batch
	for i, v := range values {
		b.Messages = append(b.Messages, connectors.Message{Value: []byte(v), Offset: int64(i)})
	}
	return p, b
}

func openSink(t *testing.T, reg connectors.Registry, cfg map[string]any) connectors.Writer {
	t.Helper()
	s := reg.Sinks["bad"]
	var w connectors.Writer
	for {
		var err error
		if w, err = s.Open(t.Context(), conntest.Task(conntest.Config(t, s.Spec(), cfg)), nil); err == nil {
			break
		}
		if connectors.ClassOf(err) != connectors.ClassRetry || connectors.RetryAfter(err) == 0 {
			t.Fatal(err)
		}
		if err := connectors.Pause(t.Context(), connectors.RetryAfter(err)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = w.Close(context.Background()) })
	return w
}

// TestWriterOfABrokenProcess: when a process dies or hangs while it writes,
// the outcome is unknown, and the same plan is written by the next one.
func TestWriterOfABrokenProcess(t *testing.T) {
	for mistake, want := range map[string]string{
		"write-crash": "exit status 3", "write-hang": "it did not answer for 1s (sink bad) and was killed",
	} {
		t.Run(mistake, func(t *testing.T) {
			reg, _, _ := bad(t, mistake)
			cfg := map[string]any{"once": filepath.Join(t.TempDir(), "once")}
			w := openSink(t, reg, cfg)
			p, b := plan("a", "b")
			_, err := w.Write(t.Context(), p, b)
			if connectors.ClassOf(err) != connectors.ClassUnknown || !strings.Contains(err.Error(), want) {
				t.Errorf("class %v: %v, want unknown: %s", connectors.ClassOf(err), err, want)
			}
			if _, err := w.Write(t.Context(), p, b); err == nil {
				t.Error("a writer of a process that is gone writes")
			}
			if refused, err := openSink(t, reg, cfg).Write(t.Context(), p, b); err != nil || refused != nil {
				t.Errorf("the next process: %v, %v", refused, err)
			}
		})
	}
}

// TestCancelledWrite: a call that its caller gives up ends in the plugin, too,
// and the writer can be used again.
func TestCancelledWrite(t *testing.T) {
	reg, _, _ := bad(t, "write-slow")
	w := openSink(t, reg, map[string]any{"once": filepath.Join(t.TempDir(), "once")})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p, b := plan("a")
	if _, err := w.Write(ctx, p, b); connectors.ClassOf(err) != connectors.ClassStopped {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
	if _, err := w.Write(t.Context(), p, b); err != nil {
		t.Error(err)
	}
}

// TestLongWrite: a call that says why it takes long has more time.
func TestLongWrite(t *testing.T) {
	reg, _, _ := bad(t, "write-long")
	s := reg.Sinks["bad"]
	task := conntest.Task(conntest.Config(t, s.Spec(), nil))
	var noted []string
	task.Noted = func(trouble error) { noted = append(noted, trouble.Error()) }
	w, err := s.Open(t.Context(), task, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, b := plan("a")
	if refused, err := w.Write(t.Context(), p, b); err != nil || refused != nil {
		t.Errorf("%v, %v", refused, err)
	}
	if len(noted) == 0 || !strings.Contains(noted[0], io.ErrNoProgress.Error()) {
		t.Errorf("noted: %q", noted)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestMade: a plugin learns when a plan was decided, as a destination that
// forgets tokens after a while has to.
func TestMade(t *testing.T) {
	reg, _, _ := bad(t, "tells-made")
	p, b := plan("a")
	p.Made = 1431857103000
	if _, err := openSink(t, reg, nil).Write(t.Context(), p, b); err == nil || !strings.Contains(err.Error(), "made 1431857103000") {
		t.Error(err)
	}
}

func TestRefusesOthers(t *testing.T) {
	reg, _, _ := bad(t, "refuses-others")
	p, b := plan("a")
	_, err := openSink(t, reg, nil).Write(t.Context(), p, b)
	if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "want records of the plan") {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
}

// TestHeaderNoUTF8: a record that cannot be handed to a plugin as it is is
// refused, and the plan without it is written.
func TestHeaderNoUTF8(t *testing.T) {
	reg, _, _ := bad(t, "none")
	w := openSink(t, reg, nil)
	p, b := plan("a", "b")
	b.Messages[1].Headers = []record.Header{{Key: "caf\xe9"}}
	refused, err := w.Write(t.Context(), p, b)
	if err != nil || len(refused) != 1 || refused[0].Index != 1 || refused[0].Offset != 1 || connectors.ClassOf(refused[0].Err) != connectors.ClassPoison {
		t.Fatalf("%v, %v", refused, err)
	}
	b.Messages = b.Messages[:1]
	if refused, err := w.Write(t.Context(), p, b); err != nil || refused != nil {
		t.Errorf("%v, %v", refused, err)
	}
}

// TestClasses: the class of an error is the same on both sides, and so is what
// it asks for.
func TestClasses(t *testing.T) {
	reg, _, _ := bad(t, "classes")
	w := openSink(t, reg, nil)
	for value, want := range map[string]connectors.Class{
		"retry": connectors.ClassRetry, "plain": connectors.ClassRetry, "fatal": connectors.ClassFatal, "fenced": connectors.ClassFatal,
		"unknown": connectors.ClassUnknown, "poison": connectors.ClassPoison,
	} {
		p, b := plan(value)
		_, err := w.Write(t.Context(), p, b)
		if connectors.ClassOf(err) != want || errors.Is(err, connectors.ErrFenced) != (value == "fenced") {
			t.Errorf("%s: class %v, fenced %t: %v", value, connectors.ClassOf(err), errors.Is(err, connectors.ErrFenced), err)
		}
		if after := connectors.RetryAfter(err); value == "retry" && after != 7*time.Second {
			t.Errorf("retry after %s", after)
		}
	}
}

// TestPrints: what a plugin prints is in the log, but not without end.
func TestPrints(t *testing.T) {
	reg, _, log := bad(t, "prints")
	p, b := plan("a")
	if _, err := openSink(t, reg, nil).Write(t.Context(), p, b); err != nil {
		t.Fatal(err)
	}
	until(t, "the lines are in the log", func() bool { return strings.Contains(log.String(), "line 150 ") })
	if n := strings.Count(log.String(), "a plugin prints"); n > linesAtOnce {
		t.Errorf("%d lines", n)
	}
	for line := range strings.Lines(log.String()) {
		if len(line) > 2*maxLine {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// TestTellsSecrets: a secret that a plugin was given is neither in its errors
// nor in what it prints, as the hub shows them.
func TestTellsSecrets(t *testing.T) {
	const secret = "hunter2-plugin"
	reg, _, log := bad(t, "tells-secret")
	s := reg.Sources["bad"]
	cfg := conntest.Config(t, s.Spec(), map[string]any{"secret": secret})
	_, err := s.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "0"}, nil)
	if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "log in with ***") {
		t.Errorf("%v", err)
	}
	until(t, "it is in the log", func() bool { return strings.Contains(log.String(), "the secret is ***") })
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("a secret is in the log: %s", log)
	}
}

// TestSplitsBreakOff: a list of splits goes on with the next process.
func TestSplitsBreakOff(t *testing.T) {
	reg, _, _ := bad(t, "splits-crash")
	s := reg.Sources["bad"]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg := conntest.Config(t, s.Spec(), map[string]any{"once": filepath.Join(t.TempDir(), "once")})
	lists, err := s.Splits(ctx, cfg)
	for connectors.ClassOf(err) == connectors.ClassRetry { // it may crash before the first list is there
		_ = connectors.Pause(ctx, connectors.RetryAfter(err))
		lists, err = s.Splits(ctx, cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	for list := range lists {
		if len(list) == 3 {
			cancel()
			for range lists { // until it is closed
			}
			return
		}
	}
	t.Error("the list ended with its process")
}

// TestStopped: a process that does not run any more is killed and started anew,
// also while nobody waits for it.
func TestStopped(t *testing.T) {
	opts := badOptions("none", io.Discard)
	opts.health = pulse{every: 50 * time.Millisecond, limit: 2 * time.Second}
	h, err := Open(t.Context(), []Config{badConfig(t)}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	p := h.plugins[0]
	first, err := p.session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.proc.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "it is killed", first.over)
	if why := first.why(); why != "it did not answer for 2s and was killed" {
		t.Error(why)
	}
}

// TestEndsWhileItStarts: a program that says nothing is not waited for when its
// hub ends, neither at the first start nor at a later one.
func TestEndsWhileItStarts(t *testing.T) {
	cfg := badConfig(t)
	cfg.Path = filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(cfg.Path, []byte("#!/bin/sh\nexec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.SHA256 = conntest.SHA256(t, cfg.Path)
	runs := func() bool { return len(children(t)) > 0 }
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := Open(ctx, []Config{cfg}, badOptions("", io.Discard))
		failed <- err
	}()
	until(t, "it is started", runs)
	cancel()
	if err := <-failed; !errors.Is(err, errClosed) {
		t.Errorf("open: %v", err)
	}
	p := newPlugin(cfg, badOptions("", io.Discard))
	go func() {
		_, err := p.session(context.Background())
		failed <- err
	}()
	until(t, "it is started", runs)
	p.close()
	if err := <-failed; !errors.Is(err, errClosed) {
		t.Errorf("a later start: %v", err)
	}
	if runs() {
		t.Error("it is left")
	}
}

// TestDeaf: a program that does not end when it is asked to is killed.
func TestDeaf(t *testing.T) {
	h, err := Open(t.Context(), []Config{badConfig(t)}, badOptions("deaf", io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if pids := children(t); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
}

// TestKeepsCrashing: a program that dies again and again is started less and
// less often.
func TestKeepsCrashing(t *testing.T) {
	reg, p, _ := bad(t, "write-crash")
	w := openSink(t, reg, nil)
	pl, b := plan("a")
	for _, want := range []time.Duration{firstPause, 2 * firstPause} {
		if _, err := w.Write(t.Context(), pl, b); err == nil {
			t.Fatal("it did not crash")
		}
		p.mu.Lock()
		pause := p.mu.pause
		p.mu.Unlock()
		if pause != want {
			t.Errorf("started again after %s, want %s", pause, want)
		}
		w = openSink(t, reg, nil)
	}
}

// TestPauseAfterFailedStarts: the process that ran for a while counts once, for
// the start after it, and not for all those of which no process came.
func TestPauseAfterFailedStarts(t *testing.T) {
	cfg := badConfig(t)
	cfg.Path += ".missing"
	p := newPlugin(cfg, Options{Logger: slog.New(slog.DiscardHandler)})
	now := time.Now()
	old := &session{plugin: p, began: now.Add(-time.Hour), proc: &process{endedAt: now, ended: make(chan struct{})}}
	close(old.proc.ended)
	p.mu.live, p.mu.began, p.mu.pause = old, old.began, longPause
	if wait := p.due(); wait > 0 || p.mu.pause != 0 {
		t.Errorf("after an hour: started in %s, pause %s", wait, p.mu.pause)
	}
	p.mu.began, p.mu.pause = now, longPause // a start that failed
	if wait := p.due(); wait <= 0 || p.mu.pause != longPause {
		t.Errorf("after a failed start: started in %s, pause %s", wait, p.mu.pause)
	}
}

// TestLasting: what a machine lacks at present is tried again.
func TestLasting(t *testing.T) {
	for no, want := range map[error]connectors.Class{
		syscall.EMFILE: connectors.ClassRetry, syscall.EAGAIN: connectors.ClassRetry, syscall.ENOMEM: connectors.ClassRetry,
		syscall.ETXTBSY: connectors.ClassRetry, syscall.ENOENT: connectors.ClassFatal, syscall.EACCES: connectors.ClassFatal,
	} {
		if got := connectors.ClassOf(lasting(&os.PathError{Op: "fork/exec", Path: "x", Err: no})); got != want {
			t.Errorf("%v: class %v, want %v", no, got, want)
		}
	}
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(patience)
	for !holds() {
		select {
		case <-late:
			t.Fatalf("not within %s: %s", patience, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
