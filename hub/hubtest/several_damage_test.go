package hubtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestThreeNodesRepair: a node is down, a bit of one of its logs and one of its
// catalog flip, and the folder of another log is taken away; when it starts, all
// come back from the others, without help, and it is as good as them.
func TestThreeNodesRepair(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "repair", 3)
	s.begin(t, 3, 3)
	w := writeTo(t, s, "t", 3)
	w.until(t, 3000)
	acked := w.stop(t)
	n := s.Nodes[2]
	n.Terminate()
	flipped, lost := logFolder(t, n, "t-0"), logFolder(t, n, "t-1")
	meta := logFolder(t, n, "__meta-0")
	flipMiddle(t, flipped)
	flipMiddle(t, meta)
	if err := os.RemoveAll(lost); err != nil {
		t.Fatal(err)
	}
	w = writeTo(t, s, "t", 3)
	w.until(t, 500)
	began := time.Now()
	n.Start()
	Until(t, time.Minute, "the node is whole", func() error {
		for _, dir := range []string{flipped, lost, meta} {
			if _, err := os.Stat(filepath.Join(dir, "quarantine")); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is quarantined: %w", dir, err)
			}
			if names, err := filepath.Glob(filepath.Join(dir, "*.log")); err != nil || len(names) < 2 {
				return fmt.Errorf("%s has %q: %w", dir, names, err)
			}
		}
		return nil
	})
	t.Logf("started and whole after %s", time.Since(began).Round(time.Millisecond))
	w.until(t, w.count()+500)
	acked = append(acked, w.stop(t)...)
	// With another one gone, nothing is acknowledged without it.
	s.Nodes[0].Kill()
	w = writeTo(t, s, "t", 3)
	w.until(t, 300)
	acked = append(acked, w.stop(t)...)
	allThere(t, s.without(s.Nodes[0]), acked)
	n.Terminate()
	rep, err := storage.Verify(vfs.OS(), filepath.Dir(flipped))
	if err != nil || rep.Damaged() {
		t.Errorf("verify: %+v, %v", rep, err)
	}
}

// logFolder finds a log's folder in a node's data directory.
func logFolder(t *testing.T, n *Node, name string) string {
	t.Helper()
	var found string
	err := filepath.WalkDir(n.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == name {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no folder %s in %s: %v", name, n.Dir, err)
	}
	return found
}

// flipMiddle inverts a bit in the middle of a log's oldest segment.
func flipMiddle(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segment in %s: %v", dir, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(names[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}
