package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// batchOf builds a batch of n records of size bytes each.
func batchOf(tb testing.TB, n, size int) record.Batch {
	tb.Helper()
	b := record.NewBuilder(record.None)
	for i := range n {
		if err := b.Append(record.Record{Offset: int64(i), Timestamp: 1700000000000 + int64(i), Value: make([]byte, size)}); err != nil {
			tb.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return batch
}

// BenchmarkDisk is the raw figure to compare the others with: one file grows by
// writes of this size, each followed by fdatasync.
func BenchmarkDisk(b *testing.B) {
	for _, size := range []int{100 << 10, 1 << 20, 8 << 20} {
		b.Run(fmt.Sprintf("write=%dKiB", size>>10), func(b *testing.B) {
			f, err := vfs.OS().Create(filepath.Join(b.TempDir(), "raw"))
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			b.ResetTimer()
			for i := range b.N {
				if _, err := f.WriteGather([][]byte{buf}, int64(i)*int64(size)); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			_ = f.Close()
		})
	}
}

// BenchmarkAppend appends batches of 1 KiB records to some logs at once, each
// with up to 8 MiB over all of them that are not synced yet, as replicas do.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ logs, records int }{{1, 16}, {1, 100}, {1, 1000}, {6, 16}, {6, 100}, {6, 1000}, {64, 16}, {64, 100}, {1000, 1}, {1000, 16}} {
		b.Run(fmt.Sprintf("logs=%d/batch=%dKiB", c.logs, c.records), func(b *testing.B) {
			benchAppend(b, c.logs, batchOf(b, c.records, 1000), 8<<20)
		})
	}
}

func benchAppend(b *testing.B, logs int, batch record.Batch, inflight int) {
	s, err := Open(vfs.OS(), filepath.Join(b.TempDir(), "data"), Config{ReserveBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = s.Run(ctx) })
	all := make([]*Log, logs)
	for p := range all {
		if all[p], err = s.Create(LogID{Topic: "bench", Partition: int32(p)}, State{}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	b.ResetTimer()
	var writers sync.WaitGroup
	for p, l := range all {
		n := b.N/logs + min(1, max(0, b.N%logs-p))
		writers.Go(func() { appendAll(b, l, batch, n, max(1, inflight/len(batch)/logs)) })
	}
	writers.Wait()
	b.StopTimer()
	cancel()
	run.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// appendAll appends n copies of a batch and waits until all are durable.
func appendAll(b *testing.B, l *Log, batch record.Batch, n, depth int) {
	slots := make(chan struct{}, depth)
	done := func(err error) {
		if err != nil {
			b.Error(err)
		}
		<-slots
	}
	next := int64(0)
	for i := range n {
		slots <- struct{}{}
		one := append(record.Batch(nil), batch...)
		one.SetBaseOffset(next)
		one.SetLeaderEpoch(0)
		one.SetLeaderEpoch(0)
		next = one.NextOffset()
		r := Round{Done: done, Entries: []Entry{{Index: uint64(i) + 1, Term: 1, Kind: KindData, BaseOffset: one.BaseOffset(), Payload: one}}}
		if l.ShouldRoll(l.store.cfg.Clock()) {
			r.Before = &Aux{}
		}
		if err := l.Append(r); err != nil {
			b.Error(err)
			return
		}
	}
	for range depth {
		slots <- struct{}{}
	}
}

// BenchmarkInstall copies a log of 512 MiB to another store on the same disk,
// checks it and puts it in place: what a replica does that begins anew, without
// the network.
func BenchmarkInstall(b *testing.B) {
	src, err := Open(vfs.OS(), filepath.Join(b.TempDir(), "from"), Config{ReserveBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	from, err := src.Create(LogID{Topic: "t"}, State{Hard: HardState{Term: 1}})
	if err != nil {
		b.Fatal(err)
	}
	fillBig(b, src, from, 512<<20)
	m, err := from.Manifest(endState(from))
	if err != nil {
		b.Fatal(err)
	}
	open := func(_ context.Context, f ManifestFile, at int64) (io.ReadCloser, error) {
		return from.OpenSegment(f, at)
	}
	b.SetBytes(m.Bytes())
	b.ResetTimer()
	for range b.N {
		dst, err := Open(vfs.OS(), filepath.Join(b.TempDir(), "to"), Config{ReserveBytes: -1})
		if err != nil {
			b.Fatal(err)
		}
		l, err := dst.Create(m.Log, State{})
		if err != nil {
			b.Fatal(err)
		}
		g, err := dst.Stage(m)
		if err == nil {
			err = g.Fetch(context.Background(), open)
		}
		if err == nil {
			err = l.Install(g, HardState{Term: 1})
		}
		if err = errors.Join(err, dst.Close()); err != nil {
			b.Fatal(err)
		}
	}
}

// fillBig appends batches of about 1 MiB.
func fillBig(tb testing.TB, s *Store, l *Log, size int64) {
	tb.Helper()
	batch := batchOf(tb, 64, 16<<10)
	for l.Size() < size {
		last, _ := l.Last()
		_, next := l.Offsets()
		one := append(batch[:0:0], batch...)
		one.SetBaseOffset(next)
		one.SetLeaderEpoch(0)
		r := Round{Entries: []Entry{{Index: last + 1, Term: 1, Kind: KindData, BaseOffset: next, Payload: one}}}
		if l.ShouldRoll(s.cfg.Clock()) {
			r.Before = &Aux{}
		}
		if err := l.Append(r); err != nil {
			tb.Fatal(err)
		}
		if last%16 == 0 {
			s.Step(s.cfg.Clock())
		}
	}
	s.Step(s.cfg.Clock())
}
