package host

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// open starts a program, for the length of the test.
func open(t *testing.T, cfg Config, log *slog.Logger) *Host {
	t.Helper()
	h, err := Open(t.Context(), []Config{cfg}, Options{Logger: log, Getenv: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func registry(t *testing.T, h *Host) connectors.Registry {
	t.Helper()
	r, err := h.Registry(connectors.Registry{Sources: map[string]connectors.Source{}, Sinks: map[string]connectors.Sink{}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCounter(t *testing.T) {
	path := conntest.GoPlugin(t, "plugins/samples/counter")
	s := registry(t, open(t, Config{Name: "counter", Path: path, SHA256: conntest.SHA256(t, path)}, nil)).Sources["counter"]
	want := map[string][]string{}
	for _, split := range []string{"part-0", "part-1"} {
		for n := range 60 {
			want[split] = append(want[split], fmt.Sprintf(`{"split":%q,"n":%d}`, split, n))
		}
	}
	conntest.Source(t, s, func(t *testing.T) conntest.SourceCase {
		waiting := conntest.Config(t, s.Spec(), map[string]any{"count": 60, "splits": 2, "follow": true})
		return conntest.SourceCase{Config: conntest.Config(t, s.Spec(), map[string]any{"count": 60, "splits": 2}), Want: want, Waiting: &waiting}
	})
}

func TestNDJSON(t *testing.T) {
	path := conntest.PythonPlugin(t, "plugins/samples/ndjson/ndjson.py")
	s := registry(t, open(t, Config{Name: "ndjson", Path: path, SHA256: conntest.SHA256(t, path)}, nil)).Sinks["ndjson"]
	conntest.Sink(t, s, func(t *testing.T) conntest.SinkCase {
		dir := t.TempDir()
		return conntest.SinkCase{
			Config: conntest.Config(t, s.Spec(), map[string]any{"path": dir}),
			Rows:   func(t *testing.T) []int64 { return ids(t, written(t, dir)) },
			State:  func(t *testing.T) string { return written(t, dir) },
		}
	})
}

// written is all files of a folder, with their names.
func written(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all += filepath.Base(name) + "\n" + string(text)
	}
	return all
}

func ids(t *testing.T, text string) (all []int64) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^\{"id":(\d+),`).FindAllStringSubmatch(text, -1) {
		id, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, id)
	}
	return all
}
