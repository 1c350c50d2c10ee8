package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// lentLog is a log with n batches of size bytes on disk and none in memory.
func lentLog(tb testing.TB, fsys vfs.FS, dir string, n, size int) *Log {
	tb.Helper()
	s, err := Open(fsys, dir, Config{ReserveBytes: -1, TailCacheBytes: -1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	l, err := s.Create(LogID{Topic: "lent"}, State{})
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		b := batchOf(tb, 1, size)
		for j := record.BatchHeaderSize; j < len(b); j++ {
			b[j] = byte(i)
		}
		binary.BigEndian.PutUint32(b[17:], record.CRC(b[21:])) // its own checksum
		b.SetBaseOffset(int64(i))
		b.SetLeaderEpoch(0)
		r := Round{NoSync: true, Entries: []Entry{{Index: uint64(i) + 1, Term: 1, Kind: KindData, BaseOffset: int64(i), Payload: b}}}
		if err := l.Append(r); err != nil {
			tb.Fatal(err)
		}
	}
	return l
}

// Lent memory is nobody else's until it is given back, whatever its size; what
// is read into memory that was used before is what the log has.
func TestReadLent(t *testing.T) {
	for _, size := range []int{10, 100 << 10, 5 << 20} { // several in a buffer, one, more than is kept
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			const n = 6
			l := lentLog(t, vfs.NewMem(), "data", n, size)
			var kept []record.Batch
			var offsets []int64 // of kept, as they were read
			var giveBacks []func()
			read := func(offset int64) {
				chunk, err := l.ReadLent(offset, n, 2*size, false)
				batches, giveBack := chunk.Batches, chunk.Release
				if err != nil || len(batches) == 0 || giveBack == nil && size < 4<<20 {
					t.Fatalf("%d batches, lent %v, %v", len(batches), giveBack != nil, err)
				}
				kept = append(kept, batches...)
				for _, b := range batches {
					offsets = append(offsets, b.BaseOffset())
				}
				if giveBack != nil {
					giveBacks = append(giveBacks, giveBack)
				}
			}
			for range 3 {
				for offset := range int64(n) {
					read(offset)
				}
				for i, b := range kept {
					want, err := l.Read(offsets[i], n, 1)
					if err != nil || !bytes.Equal(b, want[0]) {
						t.Fatalf("the batch at %d is another one now: %v", offsets[i], err)
					}
				}
				for _, giveBack := range giveBacks {
					giveBack()
				}
				kept, offsets, giveBacks = nil, nil, nil
			}
		})
	}
	l := lentLog(t, vfs.NewMem(), "data", 1, 10)
	if c, err := l.ReadLent(1, 1, 100, false); len(c.Batches) != 0 || c.Release != nil || err != nil {
		t.Errorf("at the end: %d batches, lent %v, %v", len(c.Batches), c.Release != nil, err)
	}
}

// BenchmarkRead reads a log that the system caches and the store does not, a
// megabyte at a time as consumers do, into lent memory and into new.
func BenchmarkRead(b *testing.B) {
	const n, size = 1000, 100 << 10
	for _, lent := range []bool{false, true} {
		b.Run(fmt.Sprintf("lent=%v", lent), func(b *testing.B) {
			l := lentLog(b, vfs.OS(), filepath.Join(b.TempDir(), "data"), n, size)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			next := int64(0)
			for b.Loop() {
				chunk, err := l.ReadLent(next, n, 1<<20, false)
				batches, giveBack := chunk.Batches, chunk.Release
				if err != nil {
					b.Fatal(err)
				}
				if next = batches[len(batches)-1].NextOffset(); next == n {
					next = 0
				}
				if lent && giveBack != nil {
					giveBack()
				}
			}
		})
	}
}
