package ctl

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// replicaDir makes a data directory with a log of n batches of one record, as a
// replica of a group with these members writes it. It returns the log's only
// segment.
func replicaDir(t *testing.T, n int) (dir, segment string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	store, err := storage.Open(vfs.OS(), dir, storage.Config{Owner: "test", ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	set, err := replica.Open(replica.Config{Member: 1}, store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = set.Run(ctx) })
	all.Go(func() { _ = store.Run(ctx) })
	r, err := set.Add(replica.Spec{ID: storage.LogID{Topic: "clicks", ID: record.TopicID{1}, Partition: 3}, Born: []uint64{1}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		changed := r.Changed() // before the look, or it is waited for what has been
		if r.Serving() == nil {
			break
		}
		<-changed
	}
	for i := range n {
		b := record.NewBuilder(record.None)
		if err := b.Append(record.Record{Timestamp: 1_700_000_000_000 + int64(i), Value: fmt.Appendf(nil, "record %d", i)}); err != nil {
			t.Fatal(err)
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		r.Append([]record.Batch{batch}, func(_ []record.Appended, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	stop()
	all.Wait()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "clicks-3", "*.log"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %q: %v", segments, err)
	}
	return dir, segments[0]
}

// spoil changes a letter in a file.
func spoil(t *testing.T, file, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), text)
	if at < 0 {
		t.Fatalf("%s does not hold %q", file, text)
	}
	b[at] ^= 0x21
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLogRepair(t *testing.T) {
	dir, segment := replicaDir(t, 20)
	if out := mustRun(t, "log", "repair", dir); out != "no damaged log\n" {
		t.Errorf("nothing is damaged:\n%s", out)
	}
	spoil(t, segment, "record 7")
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	shown := mustRun(t, "log", "repair", dir)
	for _, want := range []string{
		"clicks-3  0000000001-00000000000000000002.log", "  7 to 7            1  2023-11-14T22:13:20.006Z and 2023-11-14T22:13:20.007Z  checksum of the payload does not match",
		"clicks-3: at most 1 record is lost; 12 offsets behind the first loss stay, the next is given offset 20\n",
		"nothing was changed; --execute repairs",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("shown, without %q:\n%s", want, shown)
		}
	}
	if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
		t.Errorf("it changed %v to %v, %v", before, after, err)
	}
	done := mustRun(t, "log", "repair", filepath.Join(dir, "clicks-3"), "--execute")
	kept := filepath.Join(dir, "clicks-3.damaged")
	if !strings.Contains(done, "clicks-3: repaired; the damaged files are in "+kept+", which may be deleted") {
		t.Errorf("repaired:\n%s", done)
	}
	if _, err := os.Stat(filepath.Join(kept, filepath.Base(segment))); err != nil {
		t.Error(err)
	}
	if out := mustRun(t, "log", "verify", dir); !strings.Contains(out, "clicks-3  ok            2       19       19          0           20 ") {
		t.Errorf("verify:\n%s", out)
	}
	// Another time, in the same log: the first damaged files stay.
	spoil(t, segment, "record 12")
	var report repairing
	mustJSON(t, &report, "log", "repair", dir, "--execute")
	if len(report.Logs) != 1 || report.Logs[0].Lost != 1 || !report.Logs[0].Repaired || report.Logs[0].Kept != kept+".2" {
		t.Errorf("repaired again: %+v", report)
	}
}

func TestLogRepairRefuses(t *testing.T) {
	dir, segment := replicaDir(t, 20)
	spoil(t, segment, "record 7")
	store, err := storage.Open(vfs.OS(), dir, storage.Config{Owner: "a-node", ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{dir}, {dir, "--execute"}} {
		if r := run(t, Deps{}, append([]string{"log", "repair"}, args...)...); r.status != Failed || !strings.Contains(r.stderr, "a-node") {
			t.Errorf("repair under a running node: %+v", r)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if r := run(t, Deps{}, "log", "repair", t.TempDir()); r.status != Failed || !strings.Contains(r.stderr, "neither a node's data directory nor the directory of a log in one") {
		t.Errorf("repair of nothing: %+v", r)
	}
	// The log of another member: one of several, as far as this node can tell.
	identity := `{"version":1,"cluster":"AAAAAAAAAAAAAAAAAAAAAA","site":"fra","name":"fra-2","id":2,"incarnation":0,"founders":[{"id":1,"name":"fra-1"},{"id":2,"name":"fra-2"}]}`
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte(identity), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{dir}, {dir, "--execute"}, {dir, "--execute", "--only-replica"}} {
		r := run(t, Deps{}, append([]string{"log", "repair"}, args...)...)
		if r.status != Failed || !strings.Contains(r.stderr, "log clicks-3 is not repaired") || !strings.Contains(r.stdout, "7 to 7") {
			t.Errorf("repair %v: %+v", args, r)
		}
	}
}
