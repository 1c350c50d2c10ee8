package storage

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	"github.com/entrepot-hub/entrepot/storytest"
)

// TestFormatPage compares the tables of docs/format/segment.md with the code.
func TestFormatPage(t *testing.T) {
	text, err := os.ReadFile("../docs/format/segment.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "\n## ")
	tables := map[string]map[string]int{
		"Header": {
			"magic": 0, "version": hdVersion, "flags": hdFlags, "length": hdLength, "checksum": hdCRC, "salt": hdSalt, "number": hdSeq,
			"partition": hdPartition, "generation": hdGeneration, "previous segment": hdPrevSeq, "topic id": hdTopicID, "created": hdCreated,
			"previous index": hdIndex, "previous term": hdTerm, "next offset": hdNextOffset, "term": hdHardTerm, "vote": hdVote, "commit": hdCommit,
			"synced segment": hdSyncedSeq, "synced position": hdSyncedPos, "previous end": hdPrevEnd, "salt again": hdSaltAgain,
			"previous max time": hdPrevMaxTime, "lengths": hdLengths, "topic, configuration, control state, producer state": headerFixed,
		},
		"Frame": {
			"magic": 0, "kind": 3, "head checksum": frHeadCRC, "body checksum": frBodyCRC, "length": frLength, "index": frIndex, "term": frTerm,
			"base offset": frBase, "leader epoch": frEpoch, "synced segment": frSyncedSeq, "synced position": frSyncedPos, "previous": frPrevious, "payload": frameHeader,
		},
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| ([\d…]+) \| ([^|]+) \|`)
	for _, s := range sections {
		title, body, _ := strings.Cut(s, "\n")
		want := tables[title]
		if want == nil {
			continue
		}
		next := 0
		for _, m := range row.FindAllStringSubmatch(body, -1) {
			at, _ := strconv.Atoi(m[1])
			if w, ok := want[m[3]]; !ok || w != at || at != next {
				t.Errorf("%s: %q stands at byte %d, the code says %d, the row before ends at %d", title, m[3], at, w, next)
			}
			size, _ := strconv.Atoi(m[2])
			next = at + size
			delete(want, m[3])
		}
		if len(want) > 0 {
			t.Errorf("%s: not on the page: %v", title, want)
		}
	}
}

// TestReadsVersion1 opens a log that was written when version 1 was made:
// testdata/v1. What is written once must stay readable.
func TestReadsVersion1(t *testing.T) {
	const dir = "testdata/v1"
	if storytest.Rewriting() {
		writeVersion1(t, dir)
	}
	mem := vfs.NewMem()
	log := simDir + "/clicks-0"
	if err := errors.Join(mem.Mkdir(simDir), mem.Mkdir(log)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*.hex")
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		f, err := mem.Create(log + "/" + strings.TrimSuffix(filepath.Base(name), ".hex"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteGather([][]byte{b}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFormat(noLogs{mem}, simDir); err != nil {
		t.Fatal(err)
	}
	s := openMem(t, mem, Config{})
	l, err := s.OpenLog(LogID{Topic: "clicks", ID: record.TopicID{7}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = l.Replay(1, func(e Entry) error {
		got = append(got, fmt.Sprintf("%d/%d %s %d-%d", e.Index, e.Term, e.Kind, e.BaseOffset, e.NextOffset()))
		return nil
	})
	want := "[1/1 data 0-2 2/1 control 2-2 3/1 data 10-12 4/2 data 12-14 5/2 data 14-16]"
	if err != nil || fmt.Sprint(got) != want || l.Damage() != nil {
		t.Errorf("entries %v, want %s; %v, %v", got, want, err, l.Damage())
	}
	if h := l.Hard(); h != (HardState{Term: 2, Vote: 3, Commit: 4}) {
		t.Errorf("hard state %v", h)
	}
	if tip := l.Tip(); string(tip.Conf) != "conf" || string(tip.Control) != "control" || string(tip.Producers) != "producers" || tip.Index != 3 {
		t.Errorf("tip %+v", tip)
	}
	rep, err := Verify(mem.KillClone(), log)
	if err != nil || rep.Logs[0].State != "ok" {
		t.Errorf("verify: %+v, %v", rep, err)
	}
}

// writeVersion1 makes the files anew. It is not to be run once version 1 is
// released: a new version gets a new directory.
func writeVersion1(t *testing.T, dir string) {
	mem := vfs.NewMem()
	s := openMem(t, mem, Config{Clock: func() time.Time { return time.UnixMilli(1_700_000_000_000) }, Rand: randReader{randOf(1)}})
	l, err := s.Create(LogID{Topic: "clicks", ID: record.TopicID{7}}, State{})
	if err != nil {
		t.Fatal(err)
	}
	entry := func(index, term uint64, base int64) Entry {
		b := batchOf(t, 2, 40)
		b.SetBaseOffset(base)
		b.SetLeaderEpoch(int32(term))
		return Entry{Index: index, Term: term, Kind: KindData, BaseOffset: base, LeaderEpoch: int32(term), Payload: b}
	}
	aux := &Aux{Conf: []byte("conf"), Control: []byte("control"), Producers: []byte("producers")}
	for _, r := range []Round{
		{Entries: []Entry{entry(1, 1, 0), {Index: 2, Term: 1, Kind: KindControl, BaseOffset: 2, Payload: []byte("decision")}}, Hard: &HardState{Term: 1, Vote: 2, Commit: 1}},
		{Entries: []Entry{entry(3, 1, 10), entry(4, 1, 12)}, Before: &Aux{}},
		{Entries: []Entry{entry(4, 2, 12)}, Before: aux, Hard: &HardState{Term: 2, Vote: 3, Commit: 3}},
		{Entries: []Entry{entry(5, 2, 14)}, Hard: &HardState{Term: 2, Vote: 3, Commit: 4}},
	} {
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
		for s.Step(time.Unix(0, 0)) {
		}
	}
	if err := errors.Join(s.Close(), os.MkdirAll(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, info := range l.Segments() {
		text := hex.EncodeToString(readAll(t, mem, l.path(info.File)))
		var lines strings.Builder
		for ; len(text) > 0; text = text[min(64, len(text)):] {
			lines.WriteString(text[:min(64, len(text))] + "\n")
		}
		if err := os.WriteFile(filepath.Join(dir, info.File+".hex"), []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
