package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// fillSegments writes n segments of eight batches each, committed and proven.
func fillSegments(t testing.TB, s *Store, l *Log, n int, clock func() time.Time) {
	t.Helper()
	for range n {
		for i := range 8 {
			last, _ := l.Last()
			_, next := l.Offsets()
			b := bytes.Clone(simBatches()[1])
			record.Batch(b).SetBaseOffset(next)
			record.Batch(b).SetLeaderEpoch(1)
			r := Round{
				Hard:    &HardState{Term: 1, Commit: last + 1},
				Entries: []Entry{{Index: last + 1, Term: 1, Kind: KindData, BaseOffset: next, LeaderEpoch: 1, Payload: b}},
			}
			if i == 0 && last > 0 {
				r.Before = &Aux{Conf: fmt.Appendf(nil, "after %d", last)}
			}
			if err := l.Append(r); err != nil {
				t.Fatal(err)
			}
			s.Step(clock())
		}
	}
}

// keepEvery leaves out all entries but each n-th.
func keepEvery(n uint64) func(Entry) ([]byte, error) {
	return func(e Entry) ([]byte, error) {
		if e.Index%n != 0 {
			return nil, nil
		}
		return e.Payload, nil
	}
}

// Verify, dump and export read compacted segments, and a reopened log is the
// same.
func TestOfflineCompacted(t *testing.T) {
	mem := vfs.NewMem()
	now := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { return now }
	s := openMem(t, mem, Config{Clock: clock, TailCacheBytes: -1})
	l, err := s.Create(LogID{Topic: "t"}, State{Hard: HardState{Term: 1}})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, s, l, 4, clock)
	done, err := l.Rewrite(context.Background(), Rewrite{First: 1, Last: 2, Clean: 16, Keep: keepEvery(4)})
	if err != nil || done.Kept != 4 || done.Dropped != 12 || done.After >= done.Before {
		t.Fatalf("rewritten %+v, %v", done, err)
	}
	infos := l.Segments()
	if len(infos) != 3 || !infos[0].Compacted || infos[0].Clean != 16 || infos[0].LastIndex != 16 || infos[0].NextOffset != 16 || l.Whole() != 17 {
		t.Errorf("segments %+v, whole from %d", infos, l.Whole())
	}
	if _, err := l.Entries(4, 5, 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("an entry of a compacted segment: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := ReadContents(mem, "/data")
	if err != nil || len(all) != 1 || len(all[0].Entries) != 16 || all[0].Entries[0].Index != 17 || len(all[0].Records) != 4+16 {
		t.Errorf("contents: %+v, %v", all, err)
	} else if r := all[0].Records[3]; r.Index != 16 || r.Offset != 15 || r.Key != all[0].Records[2].Key || r.Transactional {
		t.Errorf("the last record that stayed: %+v", r)
	}
	rep, err := Verify(mem, "/data")
	if err != nil || rep.Damaged() || !rep.Logs[0].Segments[0].Compacted || rep.Logs[0].Segments[0].Records != 4 || rep.Logs[0].NextOffset != 32 {
		t.Errorf("verify: %+v, %v", rep, err)
	}
	var text bytes.Buffer
	if err := Dump(mem, "/data/t-0", &text, false); err != nil || !strings.Contains(text.String(), "header (compacted)") ||
		!strings.Contains(text.String(), "stands for segments to 2, index 16, term 1, offset 16, clean below offset 16") {
		t.Errorf("dump: %v\n%s", err, &text)
	}
	if err := mem.Mkdir("/out"); err != nil {
		t.Fatal(err)
	}
	ex, err := Export(mem, "/data", "/out")
	if err != nil || ex[0].Batches != 4+16 || ex[0].NextOffset != 32 || ex[0].Damage != "" {
		t.Errorf("export: %+v, %v", ex, err)
	}
	s = openMem(t, mem, Config{Clock: clock})
	if l, err = s.OpenLog(LogID{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	if again := l.Segments(); len(again) != 3 || again[0] != infos[0] || again[1] != infos[1] {
		t.Errorf("reopened: %+v, before %+v", again, infos)
	}
	if st, err := l.StateBefore(20); err != nil || st.Index != 16 || string(st.Conf) != "after 16" {
		t.Errorf("state before 20: %+v, %v", st, err)
	}
}

// Bits that flip in a compacted segment are found, wherever they are but in
// the footer, which only repeats the frames.
func TestFlipInCompacted(t *testing.T) {
	mem := vfs.NewMem()
	now := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { return now }
	s := openMem(t, mem, Config{Clock: clock, TailCacheBytes: -1})
	l, err := s.Create(LogID{Topic: "t"}, State{Hard: HardState{Term: 1}})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, s, l, 4, clock)
	if _, err := l.Rewrite(context.Background(), Rewrite{First: 1, Last: 2, Keep: keepEvery(3)}); err != nil {
		t.Fatal(err)
	}
	name := path.Join("/data/t-0", l.Segments()[0].File)
	end := int64(l.mu.segs[0].p.end)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < end; at++ {
		flipped := mem.KillClone()
		if err := flipped.Flip(name, at, 1<<(at%8)); err != nil {
			t.Fatal(err)
		}
		if rep, err := Verify(flipped, "/data/t-0"); err != nil || !rep.Damaged() {
			t.Fatalf("a bit flipped at byte %d of %d: %+v, %v", at, end, rep.Logs, err)
		}
	}
}

// What cannot be compacted yet is refused, and nothing changes.
func TestRewriteRefuses(t *testing.T) {
	mem := vfs.NewMem()
	now := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { return now }
	s := openMem(t, mem, Config{Clock: clock})
	l, err := s.Create(LogID{Topic: "t"}, State{Hard: HardState{Term: 1}})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, s, l, 3, clock)
	all := func(e Entry) ([]byte, error) { return e.Payload, nil }
	stopped, stop := context.WithCancel(context.Background())
	stop()
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		ctx  context.Context
		r    Rewrite
		want error
	}{
		{"the newest segment", context.Background(), Rewrite{First: 3, Last: 3, Keep: all}, ErrNotSealed},
		{"one that is not there", context.Background(), Rewrite{First: 9, Last: 9, Keep: all}, ErrNotSealed},
		{"in the wrong order", context.Background(), Rewrite{First: 2, Last: 1, Keep: all}, ErrNotSealed},
		{"a caller that gives up", stopped, Rewrite{First: 1, Last: 1, Keep: all}, record.ErrStopped},
		{"a caller that fails", context.Background(), Rewrite{First: 1, Last: 1, Keep: func(Entry) ([]byte, error) { return nil, broken }}, broken},
		{"an entry that is no batch any more", context.Background(), Rewrite{First: 1, Last: 1, Keep: func(Entry) ([]byte, error) { return []byte("x"), nil }}, ErrRound},
	} {
		before, names := l.Segments(), fmt.Sprint(mem.List("/data/t-0"))
		if _, err := l.Rewrite(c.ctx, c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if now := fmt.Sprint(mem.List("/data/t-0")); now != names || fmt.Sprint(l.Segments()) != fmt.Sprint(before) {
			t.Errorf("%s: %s, before %s", c.name, now, names)
		}
	}
}

// Readers that look while a segment is replaced see either of the two, whole.
func TestReadersBesideCompaction(t *testing.T) {
	mem := vfs.NewMem()
	now := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { return now }
	s := openMem(t, mem, Config{Clock: clock, TailCacheBytes: -1, MaxOpenFiles: 1})
	l, err := s.Create(LogID{Topic: "t"}, State{Hard: HardState{Term: 1}})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, s, l, 12, clock)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := readThrough(l, 1+i*300); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for last := uint32(1); last < 12; last++ {
		if _, err := l.Rewrite(context.Background(), Rewrite{First: 1, Last: last, Keep: keepEvery(uint64(last%5 + 1))}); err != nil {
			if errors.Is(err, ErrNotSealed) {
				continue // the number went into another
			}
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
	if d := l.Damage(); d != nil {
		t.Error(d)
	}
}

func readThrough(l *Log, bytes int) error {
	_, next := l.Offsets()
	for at := int64(0); at < next; {
		got, err := l.Read(at, next, bytes)
		if err != nil {
			return err
		}
		if len(got) == 0 {
			return nil
		}
		for _, b := range got {
			if b.BaseOffset() < at {
				return fmt.Errorf("a batch at %d, read from %d", b.BaseOffset(), at)
			}
			at = b.NextOffset()
		}
	}
	last := uint64(0)
	return l.Replay(l.FirstIndex(), func(e Entry) error {
		if e.Index <= last {
			return fmt.Errorf("index %d after %d", e.Index, last)
		}
		last = e.Index
		return nil
	})
}

// What is compacted was committed, even if the power takes the round that said
// so: a replica that began below would ask for entries that are not there.
func TestCompactedIsCommitted(t *testing.T) {
	mem := vfs.NewMem()
	now := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { return now }
	s := openMem(t, mem, Config{Clock: clock})
	l, err := s.Create(LogID{Topic: "t"}, State{Hard: HardState{Term: 1}})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, s, l, 1, clock)
	for i := range 16 {
		last, _ := l.Last()
		_, next := l.Offsets()
		b := bytes.Clone(simBatches()[1])
		record.Batch(b).SetBaseOffset(next)
		record.Batch(b).SetLeaderEpoch(1)
		r := Round{Entries: []Entry{{Index: last + 1, Term: 1, Kind: KindData, BaseOffset: next, LeaderEpoch: 1, Payload: b}}}
		if i%8 == 0 {
			r.Before = &Aux{}
		}
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
		s.Step(now)
	}
	if _, err := l.Rewrite(context.Background(), Rewrite{First: 1, Last: 2, Keep: keepEvery(3)}); !errors.Is(err, ErrNotSealed) {
		t.Errorf("compacted above the commit: %v", err)
	}
	if err := l.Append(Round{Hard: &HardState{Term: 1, Commit: 20}}); err != nil { // and no sync
		t.Fatal(err)
	}
	if _, err := l.Rewrite(context.Background(), Rewrite{First: 1, Last: 2, Keep: keepEvery(3)}); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, mem.PowerCut(), Config{Clock: clock})
	if l, err = s.OpenLog(LogID{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	if h := l.Hard(); h.Commit != 16 || l.Whole() != 17 {
		t.Errorf("commit %d, whole from %d; want 16 and 17", h.Commit, l.Whole())
	}
}
