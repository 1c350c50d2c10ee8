package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// offlineStore is a closed store with two logs: clicks-0 with three segments,
// a superseded suffix and a gap in its offsets, and an empty clicks-1.
func offlineStore(t *testing.T) (*vfs.Mem, []record.Batch) {
	t.Helper()
	mem := vfs.NewMem()
	s := openMem(t, mem, Config{})
	l, err := s.Create(LogID{Topic: "clicks", ID: record.TopicID{7}}, State{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(LogID{Topic: "clicks", ID: record.TopicID{7}, Partition: 1}, State{}); err != nil {
		t.Fatal(err)
	}
	var want []record.Batch
	add := func(index, term uint64, base int64, before bool) {
		b := batchOf(t, 3, 20)
		b.SetBaseOffset(base)
		b.SetLeaderEpoch(int32(term))
		want = append(want, b)
		r := Round{Entries: []Entry{{Index: index, Term: term, Kind: KindData, BaseOffset: base, LeaderEpoch: int32(term), Payload: b}}}
		if before {
			r.Before = &Aux{}
		}
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
		for s.Step(time.Unix(0, 0)) {
		}
	}
	add(1, 1, 0, false)
	add(2, 1, 3, false)
	add(3, 1, 100, true)
	add(4, 1, 103, false)
	add(4, 2, 104, true) // supersedes
	want = append(want[:3], want[4])
	add(5, 2, 107, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return mem, want
}

func TestExport(t *testing.T) {
	mem, want := offlineStore(t)
	if err := mem.Mkdir("/out"); err != nil {
		t.Fatal(err)
	}
	got, err := Export(mem, simDir, "/out")
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", got); text != "[{Log:clicks-0 Dir:/out/clicks-0 Files:3 Batches:5 Records:15 Bytes:710 BaseOffset:0 NextOffset:110 Damage:} {Log:clicks-1 Dir:/out/clicks-1 Files:0 Batches:0 Records:0 Bytes:0 BaseOffset:0 NextOffset:0 Damage:}]" {
		t.Errorf("exported %s", text)
	}
	names, err := mem.List("/out/clicks-0")
	if err != nil || fmt.Sprint(names) != "[00000000000000000000.log 00000000000000000100.log 00000000000000000104.log]" {
		t.Errorf("files %v, %v", names, err)
	}
	var all []record.Batch
	for _, n := range names {
		batches, err := record.SplitBatches(readAll(t, mem, "/out/clicks-0/"+n))
		if err != nil || fmt.Sprintf("%020d.log", batches[0].BaseOffset()) != n {
			t.Errorf("%s: %v", n, err)
		}
		all = append(all, batches...)
	}
	for i := range want {
		if i >= len(all) || !bytes.Equal(all[i], want[i]) {
			t.Fatalf("batch %d of %d is not the one that was appended", i, len(all))
		}
	}
	if _, err := Export(mem, simDir, "/out"); !errors.Is(err, ErrExists) {
		t.Errorf("export over an export: %v", err)
	}
}

func TestExportUpToDamage(t *testing.T) {
	mem, _ := offlineStore(t)
	names, err := mem.List(simDir + "/clicks-0")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(mem.Mkdir("/out"), mem.Flip(simDir+"/clicks-0/"+names[1], 300, 1)); err != nil {
		t.Fatal(err)
	}
	got, err := Export(mem, simDir+"/clicks-0", "/out")
	if err != nil || len(got) != 1 || got[0].Batches != 2 || !strings.Contains(got[0].Damage, names[1]) {
		t.Errorf("exported %+v, %v", got, err)
	}
	rep, err := Verify(mem, simDir)
	if err != nil || !rep.Damaged() || rep.Logs[0].State != "damaged" || rep.Logs[1].State != "ok" {
		t.Errorf("verify: %+v, %v", rep, err)
	}
	if rep.Logs[0].Segments[0].State != "sealed" || rep.Logs[0].Segments[1].State != "damaged" {
		t.Errorf("segments: %+v", rep.Logs[0].Segments)
	}
}

func TestVerifyChangesNothing(t *testing.T) {
	mem, _ := offlineStore(t)
	ops := mem.Ops()
	rep, err := Verify(mem, simDir+"/clicks-0")
	if err != nil || rep.Damaged() || mem.Ops() != ops {
		t.Errorf("%+v, %v, %d operations", rep, err, mem.Ops()-ops)
	}
	for _, dir := range []string{"/nothing", "/"} {
		if _, err := Verify(mem, dir); err == nil {
			t.Errorf("verify %s found something", dir)
		}
	}
}

func TestDump(t *testing.T) {
	mem, _ := offlineStore(t)
	var text, lines bytes.Buffer
	if err := errors.Join(Dump(mem, simDir+"/clicks-0", &text, false), Dump(mem, simDir+"/clicks-0", &lines, true)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"data           200 bytes index 5 term 2 offset 107 to 109 epoch 2 records 3", "footer", "conf 0 control 0 producers 0", "state", "whole"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	kinds := map[string]int{}
	for line := range bytes.Lines(lines.Bytes()) {
		var d dumpLine
		if err := json.Unmarshal(line, &d); err != nil {
			t.Fatal(err)
		}
		kinds[d.What]++
	}
	if fmt.Sprint(kinds) != "map[data:6 end:3 footer:1 header:3 state:2]" {
		t.Errorf("dumped %v", kinds)
	}
	names, err := mem.List(simDir + "/clicks-0")
	if err != nil {
		t.Fatal(err)
	}
	one := simDir + "/clicks-0/" + names[0]
	if err := mem.Flip(one, 400, 1); err != nil {
		t.Fatal(err)
	}
	text.Reset()
	if err := Dump(mem, one, &text, false); err != nil || !strings.Contains(text.String(), "checksum of the payload does not match") {
		t.Errorf("damaged: %v\n%s", err, text.String())
	}
	if err := Dump(mem, simDir+"/none.log", &text, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A dump tells transactional batches from others, and markers from both.
func TestDumpShowsTransactions(t *testing.T) {
	b := record.NewBuilder(record.None)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = 7, 2, 0, true
	if err := b.Append(record.Record{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	data, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		batch record.Batch
		want  string
	}{
		{data, "producer 7 producer epoch 2 transactional true"},
		{record.NewMarker(7, 2, true, 5, 1000), "producer 7 producer epoch 2 transactional true marker commit coordinator epoch 5"},
		{record.NewMarker(8, 0, false, 6, 1000), "producer 8 producer epoch 0 transactional true marker abort coordinator epoch 6"},
	} {
		l := frameLine("f", 0, &frame{kind: KindData}, c.batch)
		if !strings.Contains(l.text(), c.want) {
			t.Errorf("no %q in\n%s", c.want, l.text())
		}
		if (l.What == "marker") != c.batch.IsControl() {
			t.Errorf("a batch is shown as %s", l.What)
		}
	}
}
