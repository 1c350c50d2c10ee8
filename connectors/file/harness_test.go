package file

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(t testing.TB, values map[string]any) connectors.Config {
	t.Helper()
	cfg, err := connectors.NewConfig(Source{}.Spec().Fields, values)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func task(t testing.TB, cfg connectors.Config) connectors.TaskContext {
	return connectors.TaskContext{Job: "test", Task: "0", Site: "here", Config: cfg, Logger: slog.New(slog.DiscardHandler), Clock: time.Now}
}

// opened is a reader under test, and what it gave so far.
type opened struct {
	connectors.Reader
	t    testing.TB
	got  []connectors.Message
	done bool
	// openedAt is where it began when nothing was read since.
	openedAt connectors.Position
}

func openAt(t testing.TB, cfg connectors.Config, split string, from connectors.Position) *opened {
	t.Helper()
	r, err := Source{}.Open(t.Context(), task(t, cfg), connectors.Split{ID: split}, from)
	if err != nil {
		t.Fatal(err)
	}
	return &opened{Reader: r, t: t}
}

// read waits up to a minute, which in a bubble is no time at all, for each
// batch, and stops when none comes.
func (o *opened) read(records int) []connectors.Message {
	o.t.Helper()
	var got []connectors.Message
	for !o.done && (records == 0 || len(got) < records) {
		limits := connectors.Limits{Wait: time.Minute}
		if records > 0 {
			limits.Records = records - len(got)
		}
		b, err := o.Read(o.t.Context(), limits)
		if errors.Is(err, io.EOF) {
			o.done = true
		} else if err != nil {
			o.t.Fatal(err)
		}
		if len(b.Messages) == 0 {
			break
		}
		got = append(got, b.Messages...)
	}
	o.check(got)
	return got
}

// check: positions only grow, and everything has an origin.
func (o *opened) check(got []connectors.Message) {
	o.t.Helper()
	for _, m := range got {
		if n := len(o.got); n > 0 && o.got[n-1].Position.Compare(m.Position) >= 0 {
			o.t.Fatalf("position %x of %q is not after %x", m.Position, m.Value, o.got[n-1].Position)
		}
		if m.Origin.Name == "" || m.Origin.Line == 0 {
			o.t.Fatalf("%q comes from %q", m.Value, m.Origin)
		}
		o.got = append(o.got, m)
	}
}

func (o *opened) close() {
	o.t.Helper()
	if err := o.Close(context.Background()); err != nil {
		o.t.Fatal(err)
	}
}

func values(all []connectors.Message) string {
	words := make([]string, len(all))
	for i, m := range all {
		words[i] = string(m.Value)
		if m.Err != nil {
			words[i] = "!" + string(m.Original)
		}
	}
	return strings.Join(words, "|")
}

func (o *opened) want(want string) {
	o.t.Helper()
	if got := values(o.read(0)); got != want {
		o.t.Fatalf("got %q, want %q", got, want)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(b))
}

// inBubble runs a test with a clock of its own, and a folder with a path for
// a log in it.
func inBubble(t *testing.T, test func(t *testing.T, log string)) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "a.log")
	synctest.Test(t, func(t *testing.T) { test(t, log) })
}
