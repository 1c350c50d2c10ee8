package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("ENTREPOT_TEST_HOLD"); dir != "" {
		holdLock(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// holdLock is the other process of TestLockedByAnotherProcess.
func holdLock(dir string) {
	if _, err := Open(vfs.OS(), dir, Config{ReserveBytes: -1, Owner: "fra-1"}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test closes it
}

func TestLockedByAnotherProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ENTREPOT_TEST_HOLD="+dir)
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	if n, err := stdout.Read(line); err != nil || string(line[:n]) != "held\n" {
		t.Fatalf("%q, %v", line[:n], err)
	}
	_, err := Open(vfs.OS(), dir, Config{ReserveBytes: -1})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf(`"fra-1" (process %d)`, cmd.Process.Pid)) {
		t.Errorf("open a directory in use: %v", err)
	}
	if _, err := Verify(vfs.OS(), dir); !errors.Is(err, ErrLocked) {
		t.Errorf("verify a directory in use: %v", err)
	}
	if err := errors.Join(stdin.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(vfs.OS(), dir, Config{ReserveBytes: -1})
	if err != nil {
		t.Fatalf("after the other has gone: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestFormatVersion(t *testing.T) {
	for text, want := range map[string]string{
		"entrepot-storage 2\n": "written by a newer entrepot",
		"entrepot-storage 0\n": "want \"entrepot-storage \" and a number",
		"":                     "want \"entrepot-storage \" and a number",
		"something\n":          "want \"entrepot-storage \" and a number",
	} {
		mem := vfs.NewMem()
		s := openMem(t, mem, Config{})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := overwrite(mem, simDir+"/"+formatName, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(mem, simDir, Config{}); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("format %q: %v", text, err)
		}
		if got := string(readAll(t, mem, simDir+"/"+formatName)); got != text {
			t.Errorf("format %q became %q", text, got)
		}
	}
	// Logs without the mark are not touched either.
	mem := vfs.NewMem()
	for _, d := range []string{simDir, simDir + "/clicks-0"} {
		if err := mem.Mkdir(d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(mem, simDir, Config{}); !errors.Is(err, ErrFormat) {
		t.Errorf("logs without a format file: %v", err)
	}
}

func openMem(t testing.TB, fsys vfs.FS, cfg Config) *Store {
	t.Helper()
	if cfg.ReserveBytes == 0 {
		cfg.ReserveBytes = -1
	}
	s, err := Open(fsys, simDir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// control is a round of one control entry after the last.
func control(l *Log) Round {
	last, term := l.Last()
	_, next := l.Offsets()
	return Round{Entries: []Entry{{Index: last + 1, Term: max(term, 1), Kind: KindControl, BaseOffset: next, Payload: []byte("x")}}}
}

func TestRoundsThatDoNotFit(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, mem, Config{})
	l, err := s.Create(trioID, State{Index: 10, Term: 2, NextOffset: 100, Hard: HardState{Term: 3, Commit: 10}})
	if err != nil {
		t.Fatal(err)
	}
	batch := func(base int64) []byte {
		b := batchOf(t, 2, 10)
		b.SetBaseOffset(base)
		b.SetLeaderEpoch(0)
		return b
	}
	data := Entry{Index: 11, Term: 3, Kind: KindData, BaseOffset: 100, Payload: batch(100)}
	if err := l.Append(Round{Entries: []Entry{data}, Hard: &HardState{Term: 3, Commit: 11}}); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Entry)) Round {
		e := Entry{Index: 12, Term: 3, Kind: KindData, BaseOffset: 102, Payload: batch(102)}
		change(&e)
		return Round{Entries: []Entry{e}}
	}
	size := l.Size()
	for name, r := range map[string]Round{
		"gap in the indexes":    with(func(e *Entry) { e.Index = 13 }),
		"falling term":          with(func(e *Entry) { e.Term = 2 }),
		"offset taken":          with(func(e *Entry) { e.BaseOffset, e.Payload = 101, batch(101) }),
		"offset not in place":   with(func(e *Entry) { e.BaseOffset = 105 }),
		"epoch not in place":    with(func(e *Entry) { e.LeaderEpoch = 7 }),
		"two batches":           with(func(e *Entry) { e.Payload = append(e.Payload, e.Payload...) }),
		"no batch":              with(func(e *Entry) { e.Payload = []byte("no batch") }),
		"half a batch":          with(func(e *Entry) { e.Payload = e.Payload[:70] }),
		"no kind":               with(func(e *Entry) { e.Kind = 0 }),
		"a frame's kind":        with(func(e *Entry) { e.Kind = kindFooter }),
		"control with a width":  with(func(e *Entry) { e.Kind, e.BaseOffset = KindControl, 103 }),
		"falling hard state":    {Hard: &HardState{Term: 2}},
		"committed superseded":  {Before: &Aux{}, Entries: []Entry{{Index: 11, Term: 4, Kind: KindControl, BaseOffset: 100}}},
		"before the log":        {Before: &Aux{}, Entries: []Entry{{Index: 10, Term: 4, Kind: KindControl, BaseOffset: 100}}},
		"reset forgets a term":  {Reset: &State{Index: 50, Term: 2}},
		"reset does not follow": {Reset: &State{Index: 50, Term: 2, Hard: HardState{Term: 5}}, Entries: []Entry{{Index: 52, Term: 5, Kind: KindControl}}},
	} {
		r.Done = func(error) { t.Errorf("%s: Done was called", name) }
		if err := l.Append(r); !errors.Is(err, ErrRound) {
			t.Errorf("%s: %v", name, err)
		}
		for s.Step(time.Unix(0, 0)) {
		}
	}
	if last, _ := l.Last(); last != 11 || l.Size() != size {
		t.Errorf("something of it was written: last %d, %d bytes, want %d", last, l.Size(), size)
	}
	if err := l.Append(Round{Entries: []Entry{{Index: 11, Term: 4, Kind: KindControl, BaseOffset: 100}}}); !errors.Is(err, ErrRound) {
		t.Errorf("a conflict without Before: %v", err)
	}
}

func TestBounds(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Config{TailCacheBytes: -1})
	l, err := s.Create(trioID, State{Index: 10, Term: 2, NextOffset: 100})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := l.Append(control(l)); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range map[uint64]error{9: ErrCompacted, 10: nil, 11: nil, 13: nil, 14: ErrUnavailable} {
		if _, err := l.Term(i); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("term of %d: %v, want %v", i, err, want)
		}
	}
	for _, c := range []struct {
		lo, hi uint64
		n      int
		err    error
	}{{10, 12, 0, ErrCompacted}, {11, 15, 0, ErrUnavailable}, {11, 14, 3, nil}, {14, 14, 0, nil}, {12, 13, 1, nil}} {
		got, err := l.Entries(c.lo, c.hi, 1<<20)
		if len(got) != c.n || !errors.Is(err, c.err) {
			t.Errorf("entries %d to %d: %d, %v", c.lo, c.hi, len(got), err)
		}
	}
	if got, err := l.Entries(11, 14, 0); len(got) != 1 || err != nil {
		t.Errorf("entries with no room: %d, %v, want one", len(got), err)
	}
	for offset, want := range map[int64]error{99: record.ErrOffsetOutOfRange, 100: nil, 101: record.ErrOffsetOutOfRange} {
		if _, err := l.Read(offset, 1<<60, 100); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("read at %d: %v, want %v", offset, err, want)
		}
	}
	if _, ok, err := l.OffsetForTime(0, 1<<60); ok || err != nil {
		t.Errorf("a time in a log without batches: %v, %v", ok, err)
	}
}

// TestReadersBesideAWriter reads in every way while rounds are appended,
// superseded, rolled and trimmed. It is for the race detector.
func TestReadersBesideAWriter(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Config{TailCacheBytes: 20000, MaxOpenFiles: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = s.Run(ctx) })
	l, err := s.Create(trioID, State{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		all.Go(func() {
			for ctx.Err() == nil {
				readSomething(t, l)
			}
		})
	}
	sim := serial{}
	rng := randOf(9)
	for i := range 600 {
		last, _ := l.Last()
		_, next := l.Offsets()
		term := uint64(i + 1)
		r := Round{Entries: sim.entries(rng, 2, last, term, next)}
		if l.ShouldRoll(time.Now()) || i%9 == 0 {
			r.Before = &Aux{}
		}
		if i%20 == 19 && last > l.FirstIndex()+2 {
			at, err := l.placeAfter(last - 1)
			if err != nil {
				t.Fatal(err)
			}
			r = Round{Before: &Aux{}, Entries: sim.entries(rng, 1, last-1, term, at.state.NextOffset)}
		}
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 {
			if err := l.Trim(last - 20); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	all.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Damage(); err != nil {
		t.Error(err)
	}
}

func readSomething(t *testing.T, l *Log) {
	first := l.FirstIndex()
	last, _ := l.Last()
	start, next := l.Offsets()
	_, err1 := l.Entries(first, max(first, last), 5000)
	_, err2 := l.Read((start+next)/2, next, 3000)
	_, err3 := l.Term((first + last) / 2)
	_, _, err4 := l.OffsetForTime(5, next)
	err5 := l.Replay((first+last)/2, func(Entry) error { return nil })
	l.Segments()
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil && !errors.Is(err, ErrCompacted) && !errors.Is(err, ErrUnavailable) && !errors.Is(err, record.ErrOffsetOutOfRange) {
			t.Error(err)
		}
	}
}

// TestRemoveAndCreateAgain: a topic may be made anew under its name, with
// another identity, once the old log is removed.
// A commit was durable before its entries, and is kept within the log at the next
// start. The footer of the segment says so, its frames do not: that is no damage.
func TestVerifyAfterACommitThatWasKeptWithinTheLog(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, mem, Config{})
	id := LogID{Topic: "clicks", ID: record.TopicID{1}}
	l, err := s.Create(id, State{Hard: HardState{Term: 1}})
	if err != nil {
		t.Fatal(err)
	}
	round := control(l)
	round.Hard = &HardState{Term: 1, Commit: 7}
	if err := l.Append(round); err != nil {
		t.Fatal(err)
	}
	mem = mem.KillClone()
	s = openMem(t, mem, Config{})
	if l, err = s.OpenLog(id); err != nil || l.Hard().Commit != 1 {
		t.Fatalf("%v, %v", l.Hard(), err)
	}
	round = control(l)
	round.Before = &Aux{}
	if err := l.Append(round); err != nil {
		t.Fatal(err)
	}
	for s.Step(time.Unix(0, 0)) {
	}
	if rep, err := Verify(mem.KillClone(), simDir); err != nil || rep.Damaged() {
		t.Errorf("%+v %v", rep, err)
	}
}

// A log is closed and then removed while a round that began a segment waits to
// be synced: there is no directory any more whose names could be.
func TestRemoveBeforeTheFlush(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Config{})
	id := LogID{Topic: "clicks", ID: record.TopicID{1}}
	l, err := s.Create(id, State{})
	if err != nil {
		t.Fatal(err)
	}
	for s.Step(time.Unix(0, 0)) {
	}
	round := control(l)
	round.Before = &Aux{}
	if err := errors.Join(l.Append(round), l.Close(), s.Remove(id)); err != nil {
		t.Fatal(err)
	}
	for s.Step(time.Unix(0, 0)) {
	}
	if err := s.Disk().Offline; err != nil {
		t.Errorf("the volume is offline: %v", err)
	}
}

func TestRemoveAndCreateAgain(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, mem, Config{})
	one, two := LogID{Topic: "clicks", ID: record.TopicID{1}}, LogID{Topic: "clicks", ID: record.TopicID{2}}
	l, err := s.Create(one, State{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(two, State{}); !errors.Is(err, ErrExists) {
		t.Errorf("create beside the old one: %v", err)
	}
	if _, err := s.OpenLog(two); !errors.Is(err, ErrNotFound) {
		t.Errorf("open by another identity: %v", err)
	}
	if err := s.Remove(two); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove by another identity: %v", err)
	}
	if err := l.Append(control(l)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(one); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(control(l)); !errors.Is(err, record.ErrStopped) {
		t.Errorf("append to a removed log: %v", err)
	}
	if _, err := s.Create(two, State{}); err != nil {
		t.Error(err)
	}
	for s.Step(time.Unix(0, 0)) {
	}
	if err := s.Remove(one); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove the old one again: %v", err)
	}
	if got := s.Logs(); len(got) != 1 || got[0] != two {
		t.Errorf("logs: %v", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestLongNames(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Config{})
	var ids []LogID
	for i := range 3 {
		id := LogID{Topic: strings.Repeat("x", record.MaxTopicName), ID: record.TopicID{byte(i)}, Partition: 2147483647, Generation: 2147483647}
		if n := len(dirName(id)); n > 255-len(".tmp") {
			t.Fatalf("a directory name of %d bytes", n)
		}
		if _, err := s.Create(id, State{}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if got := s.Logs(); fmt.Sprint(got) != fmt.Sprint(ids) {
		t.Errorf("logs %v", got)
	}
}

// TestUnreadableSector: an error of the disk while reading is damage, wherever
// it is, never a torn end.
func TestUnreadableSector(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, mem, Config{})
	l, err := s.Create(trioID, State{})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := l.Append(control(l)); err != nil {
			t.Fatal(err)
		}
	}
	for s.Step(time.Unix(0, 0)) {
	}
	for _, bad := range []int64{0, 200, l.Size() - 10} {
		disk := mem.KillClone()
		s := openMem(t, badSectorFS{disk, bad}, Config{})
		l, err := s.OpenLog(trioID)
		if err == nil {
			err = l.Damage()
		}
		var c *record.CorruptionError
		if !errors.As(err, &c) || !errors.Is(err, syscall.EIO) {
			t.Errorf("a sector at %d that cannot be read: %v", bad, err)
		}
	}
}

// badSectorFS cannot read one byte of segments.
type badSectorFS struct {
	vfs.FS
	at int64
}

type badSectorFile struct {
	vfs.File
	at int64
}

func (b badSectorFS) Open(name string) (vfs.File, error) {
	f, err := b.FS.Open(name)
	if !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return badSectorFile{f, b.at}, err
}

func (f badSectorFile) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p, off)
}
