package hubtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestThreeNodesRepair: a node is down, and bits flip in its logs: in a batch, in
// the header of a frame, in the header of a segment, and in the catalog; the folder
// of another log is taken away. When it starts, all come back from the others,
// without help, and it is as good as them.
func TestThreeNodesRepair(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "repair", 3)
	s.begin(t, 4, 3)
	acked := writeMany(t, s, "t", 4000)
	n := s.Nodes[2]
	n.Terminate()
	damaged := map[string]string{} // folder to what was done to it
	for log, what := range map[string]string{"t-0": "batch", "t-1": "frame header", "t-2": "segment header", "__meta-0": "frame header"} {
		dir := logFolder(t, n, log)
		damaged[dir] = fmt.Sprintf("%s: a bit flipped in %s", log, flipIn(t, dir, what))
	}
	lost := logFolder(t, n, "t-3")
	damaged[lost] = "t-3: its folder was taken away"
	if err := os.RemoveAll(lost); err != nil {
		t.Fatal(err)
	}
	acked = append(acked, writeMany(t, s, "t", 500)...)
	w := writeTo(t, s, "t", 3)
	began := time.Now()
	n.Start()
	whole := map[string]bool{}
	Until(t, time.Minute, "the node is whole", func() (missing error) {
		for dir, what := range damaged {
			if whole[dir] {
				continue
			}
			if err := repaired(dir); err != nil {
				missing = fmt.Errorf("%s: %w", what, err)
				continue
			}
			whole[dir] = true
			t.Logf("%s; whole again %s after the start", what, time.Since(began).Round(time.Millisecond))
		}
		return missing
	})
	for dir, what := range damaged {
		// A log none of whose segments has a header is as good as gone.
		reported := regexp.MustCompile(`level=ERROR msg="[^"]*quarantined" part=storage log=` + regexp.QuoteMeta(filepath.Base(dir)) + ` `)
		if !reported.MatchString(n.proc.Output()) {
			t.Errorf("%s: not reported", what)
		}
	}
	w.until(t, w.count()+200)
	acked = append(acked, w.stop(t)...)
	// With another one gone, nothing is acknowledged without it.
	s.Nodes[0].Kill()
	acked = append(acked, writeMany(t, s, "t", 300)...)
	allThere(t, s.without(s.Nodes[0]), acked)
	n.Terminate()
	for dir, what := range damaged {
		rep, err := storage.Verify(vfs.OS(), dir)
		if err != nil || rep.Damaged() {
			t.Errorf("%s: verify: %+v, %v", what, rep, err)
		}
	}
}

// repaired says what a log still lacks after its node has started.
func repaired(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "quarantine")); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it is quarantined: %w", err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*.log")); err != nil || len(names) < 2 {
		return fmt.Errorf("it has %q: %w", names, err)
	}
	return nil
}

// writeMany writes so many records, many at a time, and returns their values once
// all are acknowledged.
func writeMany(t *testing.T, s *Site, topic string, n int) (values []string) {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(s.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.ProducerBatchMaxBytes(4096), kgo.MetadataMinAge(50*time.Millisecond))
	defer cl.Close()
	id := time.Now().UnixNano()
	var failed kgo.FirstErrPromise
	for i := range n {
		values = append(values, fmt.Sprintf("many-%d-%d", id, i))
		cl.Produce(t.Context(), kgo.StringRecord(values[i]), failed.Promise())
	}
	if err := failed.Err(); err != nil {
		t.Fatal(err)
	}
	return values
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

// flipIn inverts a bit in the middle of a log's oldest segment: in what it is told,
// a batch, a frame header or a segment header. It says where.
func flipIn(t *testing.T, dir, what string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segment in %s: %v", dir, err)
	}
	var text bytes.Buffer
	if err := storage.Dump(vfs.OS(), names[0], &text, true); err != nil {
		t.Fatal(err)
	}
	var at []int64
	const frameHeader = 56
	for dec := json.NewDecoder(&text); dec.More(); {
		var f struct {
			At, Length int64
			What       string
		}
		if err := dec.Decode(&f); err != nil {
			t.Fatal(err)
		}
		switch {
		case what == "segment header" && f.What == "header":
			at = append(at, f.At+f.Length/2)
		case what == "frame header" && (f.What == "data" || f.What == "control"):
			at = append(at, f.At+frameHeader/2)
		case what == "batch" && f.What == "data":
			at = append(at, f.At+frameHeader+(f.Length-frameHeader)/2)
		}
	}
	if len(at) == 0 {
		t.Fatalf("%s has no %s", names[0], what)
	}
	place := at[len(at)/2]
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	b[place] ^= 4
	if err := os.WriteFile(names[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("a %s, byte %d of %s", what, place, filepath.Base(names[0]))
}
