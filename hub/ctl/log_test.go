package ctl

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// dataDir makes a node's data directory with one log of two batches of five
// records, and closes it.
func dataDir(t *testing.T) (dir, segment string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(vfs.OS(), dir, storage.Config{Owner: "test", ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	log, err := store.Create(storage.LogID{Topic: "clicks", ID: record.TopicID{1}, Partition: 3}, storage.State{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		base := int64(5 * i)
		b := record.NewBuilder(record.None)
		for j := range 5 {
			if err := b.Append(record.Record{Offset: base + int64(j), Timestamp: 1_700_000_000_000, Value: []byte("a value to be damaged")}); err != nil {
				t.Fatal(err)
			}
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		batch.SetBaseOffset(base)
		batch.SetLeaderEpoch(0)
		round := storage.Round{Entries: []storage.Entry{{Index: uint64(i + 1), Term: 1, Kind: storage.KindData, BaseOffset: base, Payload: batch}}}
		if err := log.Append(round); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "clicks*", "*"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segment: %v", err)
	}
	return dir, segments[0]
}

func TestLog(t *testing.T) {
	dir, segment := dataDir(t)
	if out := mustRun(t, "log", "verify", dir); !strings.Contains(out, "clicks-3  ok            1        2       10          0           10 ") {
		t.Errorf("verify:\n%s", out)
	}
	var report storage.Report
	mustJSON(t, &report, "log", "verify", dir)
	if len(report.Logs) != 1 || report.Logs[0].NextOffset != 10 {
		t.Errorf("verify --json: %+v", report)
	}
	for _, path := range []string{segment, filepath.Dir(segment)} {
		if out := mustRun(t, "log", "dump", path); strings.Count(out, " data ") != 2 || !strings.Contains(out, "records 5") {
			t.Errorf("dump %s:\n%s", path, out)
		}
	}
	for line := range strings.Lines(mustRun(t, "log", "dump", segment, "--json")) {
		if !json.Valid([]byte(line)) {
			t.Errorf("dump --json: %s", line)
		}
	}
	out := filepath.Join(t.TempDir(), "a", "b")
	if text := mustRun(t, "log", "export", dir, out); !strings.Contains(text, "clicks-3      1        2       10          0           10") {
		t.Errorf("export:\n%s", text)
	}
	exported, err := os.ReadFile(filepath.Join(out, "clicks-3", "00000000000000000000.log"))
	if err != nil {
		t.Fatal(err)
	}
	batches, err := record.SplitBatches(exported)
	if err != nil || len(batches) != 2 {
		t.Errorf("%d batches exported, want 2: %v", len(batches), err)
	}
	for _, b := range batches {
		if err := b.Check(); err != nil {
			t.Error(err)
		}
	}
	if r := run(t, Deps{}, "log", "export", dir, out); r.status != Failed || !strings.Contains(r.stderr, "choose an empty directory") {
		t.Errorf("export over an export: %+v", r)
	}
}

func TestLogDamage(t *testing.T) {
	dir, segment := dataDir(t)
	text, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	text[strings.Index(string(text), "damaged")] ^= 1
	if err := os.WriteFile(segment, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, Deps{}, "log", "verify", dir); r.status != Failed || !strings.Contains(r.stdout, "damaged") || r.stderr != "" {
		t.Errorf("verify of a damaged log: %+v", r)
	}
	if r := run(t, Deps{}, "log", "export", dir, t.TempDir()); r.status != Failed || !strings.Contains(r.stderr, "is damaged") {
		t.Errorf("export of a damaged log: %+v", r)
	}
}

// An index that has changed is told of as what it is: nothing is missing.
func TestLogDecay(t *testing.T) {
	dir, segment := dataDir(t)
	store, err := storage.Open(vfs.OS(), dir, storage.Config{Owner: "test", ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	log, err := store.OpenLog(storage.LogID{Topic: "clicks", ID: record.TopicID{1}, Partition: 3})
	if err != nil {
		t.Fatal(err)
	}
	// A new segment: the first one is sealed.
	round := storage.Round{Before: &storage.Aux{}, Entries: []storage.Entry{{Index: 3, Term: 1, Kind: storage.KindControl, BaseOffset: 10}}}
	if err := errors.Join(log.Append(round), store.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-30] ^= 1
	if err := os.WriteFile(segment, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, Deps{}, "log", "verify", dir)
	for _, want := range []string{"clicks-3  decayed         2        2       10 ", "nothing is missing, and the node writes it anew when it next checks its disk"} {
		if r.status != Failed || !strings.Contains(r.stdout, want) || r.stderr != "" {
			t.Errorf("verify of a log with a decayed index: %+v, want %q", r, want)
		}
	}
	if r := run(t, Deps{}, "log", "export", dir, t.TempDir()); r.status != Done {
		t.Errorf("export of it: %+v", r)
	}
}

func TestLogRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, verb := range []string{"verify", "dump"} {
		if r := run(t, Deps{}, "log", verb, filepath.Join(dir, "none")); r.status != Usage || !strings.Contains(r.stderr, "no such file or directory") {
			t.Errorf("%s of nothing: %+v", verb, r)
		}
		if r := run(t, Deps{}, "log", verb, dir); r.status != Failed || !strings.Contains(r.stderr, "segments") {
			t.Errorf("%s of an empty folder: %+v", verb, r)
		}
	}
	data, _ := dataDir(t)
	store, err := storage.Open(vfs.OS(), data, storage.Config{Owner: "a-node", ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if r := run(t, Deps{}, "log", "verify", data); r.status != Failed || !strings.Contains(r.stderr, "a-node") {
		t.Errorf("verify under a running node: %+v", r)
	}
}
