package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

var builds sync.Map // package → func() (string, error)

// program builds a program of this module once for all tests.
func program(t *testing.T, pkg string) string {
	t.Helper()
	build, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "entrepot-plugin-")
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, filepath.Base(pkg))
		out, err := exec.Command("go", "build", "-o", path, "github.com/entrepot-hub/entrepot/plugins/"+pkg).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return path, nil
	}))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// sum is the checksum of a file.
func sum(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := sha256.Sum256(text)
	return hex.EncodeToString(s[:])
}

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
	path := program(t, "samples/counter")
	s := registry(t, open(t, Config{Name: "counter", Path: path, SHA256: sum(t, path)}, nil)).Sources["counter"]
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
