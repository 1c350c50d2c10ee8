package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// countingFS counts the bytes that are read.
type countingFS struct {
	vfs.FS
	read *atomic.Int64
}

type countingFile struct {
	vfs.File
	read *atomic.Int64
}

func (c countingFS) Open(name string) (vfs.File, error) {
	f, err := c.FS.Open(name)
	return countingFile{f, c.read}, err
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.read.Add(int64(n))
	return n, err
}

// big is a log with batches of some 100 KiB, so that segments have many blocks
// and checkpoints, and all that was appended to it.
type big struct {
	t     *testing.T
	rng   *rand.Rand
	mem   *vfs.Mem
	store *Store
	log   *Log
	now   time.Time
	all   []Entry
	read  atomic.Int64
}

func newBig(t *testing.T, seed uint64) *big {
	b := &big{t: t, rng: rand.New(rand.NewPCG(seed, 5)), mem: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000)}
	b.open()
	var err error
	if b.log, err = b.store.Create(trioID, State{Hard: HardState{Term: 1}}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *big) open() {
	cfg := Config{ReserveBytes: -1, SegmentBytes: 24 << 20, TailCacheBytes: 1 << 20, Clock: func() time.Time { return b.now }, Rand: randReader{b.rng}}
	var err error
	if b.store, err = Open(countingFS{b.mem, &b.read}, simDir, cfg); err != nil {
		b.t.Fatal(err)
	}
}

// append appends rounds of one batch until the log holds so many bytes.
func (b *big) append(bytes int64) {
	b.t.Helper()
	template := batchOf(b.t, 10, 15000)
	small := batchOf(b.t, 3, 100)
	for b.log.Size() < bytes {
		last, _ := b.log.Last()
		_, next := b.log.Offsets()
		batch := template
		if b.rng.IntN(3) == 0 {
			batch = small
		}
		batch = append(batch[:0:0], batch...)
		batch.SetBaseOffset(next + int64(b.rng.IntN(2)*b.rng.IntN(9)))
		batch.SetLeaderEpoch(int32(last/40) + 1)
		batch.SetLogAppendTime(1_700_000_000_000 + int64(last)*1000 - int64(b.rng.IntN(5000)))
		e := Entry{Index: last + 1, Term: last/40 + 1, Kind: KindData, BaseOffset: batch.BaseOffset(), LeaderEpoch: int32(last/40) + 1, Payload: batch}
		r := Round{Entries: []Entry{e}}
		if b.log.ShouldRoll(b.now) {
			r.Before = &Aux{}
		}
		if err := b.log.Append(r); err != nil {
			b.t.Fatal(err)
		}
		b.all = append(b.all, e)
		if b.rng.IntN(10) == 0 {
			b.now = b.now.Add(5 * time.Second)
			b.store.Step(b.now)
		}
	}
	b.store.Step(b.now)
}

// restart kills the node and starts it again; it returns how many bytes were
// read to open the log.
func (b *big) restart() int64 {
	b.t.Helper()
	b.mem = b.mem.KillClone()
	b.open()
	b.read.Store(0)
	var err error
	if b.log, err = b.store.OpenLog(trioID); err != nil {
		b.t.Fatal(err)
	}
	if err := b.log.Damage(); err != nil {
		b.t.Fatal(err)
	}
	return b.read.Load()
}

// check reads the log in every way, at random places.
func (b *big) check() {
	b.t.Helper()
	first, last := b.log.FirstIndex(), b.all[len(b.all)-1].Index
	if got, _ := b.log.Last(); got != last {
		b.t.Fatalf("last index %d, want %d", got, last)
	}
	for range 60 {
		i := first + uint64(b.rng.IntN(int(last-first+1)))
		want := b.all[i-1]
		if term, err := b.log.Term(i); err != nil || term != want.Term {
			b.t.Fatalf("term of %d: %d, %v; want %d", i, term, err, want.Term)
		}
		got, err := b.log.Entries(i, min(i+4, last+1), 1<<20)
		if err != nil || len(got) == 0 || got[0].Index != i || !bytes.Equal(got[0].Payload, want.Payload) {
			b.t.Fatalf("entry %d: %d entries, %v", i, len(got), err)
		}
		offset := want.BaseOffset + int64(b.rng.IntN(2))*int64(want.Batch().LastDelta())
		batches, err := b.log.Read(offset, 1<<60, 400<<10)
		if err != nil || len(batches) == 0 || !bytes.Equal(batches[0], want.Payload) {
			b.t.Fatalf("offset %d: %d batches, %v", offset, len(batches), err)
		}
		b.checkTime(want.Batch().MaxTime())
	}
}

func (b *big) checkTime(ms int64) {
	b.t.Helper()
	got, ok, err := b.log.OffsetForTime(ms, 1<<60)
	for _, e := range b.all[b.log.FirstIndex()-1:] {
		if e.Batch().MaxTime() >= ms {
			if err != nil || !ok || got.BaseOffset() != e.BaseOffset {
				b.t.Fatalf("time %d: %v, %v, offset %d; want offset %d", ms, ok, err, got.BaseOffset(), e.BaseOffset)
			}
			return
		}
	}
}

// TestRestartReadsLittle: of sealed segments nothing but header and the head of
// the footer is read, of the newest one what follows its last checkpoint.
func TestRestartReadsLittle(t *testing.T) {
	b := newBig(t, 1)
	b.append(64 << 20)
	b.check()
	if n := len(b.log.Segments()); n < 3 {
		t.Fatalf("%d segments", n)
	}
	b.now = b.now.Add(time.Minute)
	for b.store.Step(b.now) { // the recovery point is written, the position stated
		b.now = b.now.Add(time.Minute)
	}
	if n := b.restart(); n > checkpointBytes+1<<20 {
		t.Errorf("with a recovery point %d bytes were read", n)
	}
	b.check()
	if err := b.mem.Remove(simDir + "/" + pointName); err != nil {
		t.Fatal(err)
	}
	newest := b.log.Segments()[len(b.log.Segments())-1]
	if n := b.restart(); n < newest.Bytes || n > newest.Bytes*5/4+1<<20 {
		t.Errorf("without it %d bytes were read, the newest segment has %d", n, newest.Bytes)
	}
	b.check()
}

// TestHintIsNotTrusted: a recovery point that names a place that is none, or
// one that nothing proves, costs time and nothing else.
func TestHintIsNotTrusted(t *testing.T) {
	for seed := range uint64(2) {
		b := newBig(t, seed)
		b.append(20 << 20)
		b.now = b.now.Add(time.Minute)
		b.store.Step(b.now)
		dir := dirName(trioID)
		at := b.store.point.hints[dir]
		if at == (position{}) {
			t.Fatal("no recovery point was written")
		}
		for _, bad := range []position{{at.seq, at.pos + 8}, {at.seq + 1, at.pos}, {at.seq, 1 << 30}, {at.seq, 0}} {
			if err := replaceFile(b.mem, simDir, pointName, encodePoint([]string{dir}, map[string]position{dir: bad})); err != nil {
				t.Fatal(err)
			}
			b.restart()
			b.check()
		}
		// The last checkpoint, with everything behind it gone: nothing proves it.
		last := b.log.Segments()[len(b.log.Segments())-1]
		if err := replaceFile(b.mem, simDir, pointName, encodePoint([]string{dir}, map[string]position{dir: at})); err != nil {
			t.Fatal(err)
		}
		f, err := b.mem.OpenWrite(b.log.path(last.File))
		if err != nil {
			t.Fatal(err)
		}
		fr, _, err := readFrame(f, b.log.last().header.sealing(), at.pos)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(int64(at.pos) + int64(fr.size())); err != nil {
			t.Fatal(err)
		}
		n := b.restart()
		if n < int64(at.pos) {
			t.Errorf("an unproven checkpoint at %d was trusted: %d bytes were read", at.pos, n)
		}
		got, _ := b.log.Last()
		b.all = b.all[:got]
		b.check()
	}
}

// TestTrimLarge trims through segments with footers and reads what is left.
func TestTrimLarge(t *testing.T) {
	b := newBig(t, 3)
	b.append(80 << 20)
	segs := b.log.Segments()
	if err := b.log.Trim(segs[1].LastIndex + 1); err != nil {
		t.Fatal(err)
	}
	if got := b.log.FirstIndex(); got != segs[2].FirstIndex {
		t.Errorf("first index %d, want %d", got, segs[2].FirstIndex)
	}
	b.check()
	b.restart()
	if got := b.log.FirstIndex(); got != segs[2].FirstIndex {
		t.Errorf("first index %d after a restart, want %d", got, segs[2].FirstIndex)
	}
	b.check()
}

// BenchmarkRestart opens a store of 10 logs after a kill, with
// ENTREPOT_BENCH_GB of data (default 1), and reports the seconds to serving.
func BenchmarkRestart(b *testing.B) {
	gb := int64(1)
	if s := os.Getenv("ENTREPOT_BENCH_GB"); s != "" {
		var err error
		if gb, err = strconv.ParseInt(s, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	dir := filepath.Join(b.TempDir(), "data")
	const logs = 10
	s, err := Open(vfs.OS(), dir, Config{ReserveBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	batch := batchOf(b, 1000, 1000)
	n := int(gb << 30 / logs / int64(len(batch)))
	for p := range logs {
		l, err := s.Create(LogID{Topic: "bench", Partition: int32(p)}, State{})
		if err != nil {
			b.Fatal(err)
		}
		fillLog(b, s, l, batch, n)
	}
	s.Step(time.Now().Add(time.Minute))
	if err := s.lock.Close(); err != nil { // as a kill does
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		s, err := Open(vfs.OS(), dir, Config{ReserveBytes: -1})
		if err != nil {
			b.Fatal(err)
		}
		for _, id := range s.Logs() {
			l, err := s.OpenLog(id)
			if err != nil || l.Damage() != nil {
				b.Fatal(err, l.Damage())
			}
			if last, _ := l.Last(); last != uint64(n) {
				b.Fatal(fmt.Errorf("last index %d, want %d", last, n))
			}
			if err := l.Replay(l.Tip().Index+1, func(Entry) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		if err := s.lock.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func fillLog(b *testing.B, s *Store, l *Log, batch []byte, n int) {
	next := int64(0)
	for i := range n {
		one := append([]byte(nil), batch...)
		e := Entry{Index: uint64(i) + 1, Term: 1, Kind: KindData, BaseOffset: next, Payload: one}
		e.Batch().SetBaseOffset(next)
		e.Batch().SetLeaderEpoch(0)
		next = e.NextOffset()
		r := Round{Entries: []Entry{e}}
		if l.ShouldRoll(time.Now()) {
			r.Before = &Aux{}
		}
		if err := l.Append(r); err != nil {
			b.Fatal(err)
		}
		if i%16 == 0 {
			s.Step(time.Now())
		}
	}
	s.Step(time.Now())
}

// TestFlipBelowCheckpoint: what a start does not read is judged when it is
// read: the damage is found, the log quarantined, and the rest of it readable.
func TestFlipBelowCheckpoint(t *testing.T) {
	b := newBig(t, 2)
	b.append(20 << 20)
	b.now = b.now.Add(time.Minute)
	b.store.Step(b.now)
	victim := b.all[len(b.all)/4]
	at, err := b.log.placeAfter(victim.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.mem.Flip(b.log.path(at.seg.name), int64(at.end)-20, 4); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(b.mem.KillClone(), simDir+"/"+dirName(trioID))
	if err != nil || !rep.Damaged() {
		t.Errorf("verify: %+v, %v", rep, err)
	}
	b.restart() // with the recovery point, so it does not come to the place
	next, err := b.log.Entries(victim.Index+1, victim.Index+2, 1<<20)
	if err != nil || !bytes.Equal(next[0].Payload, b.all[victim.Index].Payload) {
		t.Errorf("the entry behind it: %v", err)
	}
	if _, err := b.log.Entries(victim.Index, victim.Index+1, 1<<20); !errors.Is(err, record.ErrQuarantined) {
		t.Errorf("the damaged entry: %v", err)
	}
	var c *record.CorruptionError
	if err := b.log.Damage(); !errors.As(err, &c) || c.Offset <= 0 || c.Offset >= int64(at.end) {
		t.Errorf("damage: %v", err)
	}
	if err := b.log.Append(Round{}); !errors.Is(err, record.ErrQuarantined) {
		t.Errorf("append afterwards: %v", err)
	}
	b.mem = b.mem.PowerCut()
	b.open()
	if b.log, err = b.store.OpenLog(trioID); err != nil || b.log.Damage() == nil {
		t.Errorf("after a power cut: %v, damage %v", err, b.log.Damage())
	}
}

// BenchmarkIdleLogs reports the memory that an idle log holds after 40 MiB in
// one segment (the tail cache, which all logs share, not counted).
func BenchmarkIdleLogs(b *testing.B) {
	const logs = 50
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	batch := batchOf(b, 40, 1000)
	for range b.N {
		s, err := Open(vfs.OS(), filepath.Join(b.TempDir(), "data"), Config{ReserveBytes: -1, TailCacheBytes: -1})
		if err != nil {
			b.Fatal(err)
		}
		before := heap()
		for p := range logs {
			l, err := s.Create(LogID{Topic: "bench", Partition: int32(p)}, State{})
			if err != nil {
				b.Fatal(err)
			}
			fillLog(b, s, l, batch, 1000)
		}
		b.ReportMetric(float64(heap()-before)/logs, "B/log")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
