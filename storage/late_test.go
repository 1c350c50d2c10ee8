package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// openLate reads a chunk and what was left in the file of it.
func openLate(t *testing.T, c record.Chunk) (whole []record.Batch, late int) {
	t.Helper()
	for i, b := range c.Batches {
		if c.Open == nil || c.Open(i) == nil {
			whole = append(whole, b)
			continue
		}
		late++
		got, err := io.ReadAll(c.Open(i))
		if err != nil || len(got) != b.Size() || !bytes.HasPrefix(got, b) {
			t.Fatalf("batch at %d: %d of %d bytes, %v", b.BaseOffset(), len(got), b.Size(), err)
		}
		whole = append(whole, got)
	}
	return whole, late
}

// What is left in the file is what a read has, in whatever pieces it is taken;
// small batches, and those of small records, are not left.
func TestReadLate(t *testing.T) {
	for _, size := range []int{10, lateBytes - 100, lateBytes, lateBytes + 1, lateBytes + 2, 300 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			const n = 5
			l := lentLog(t, vfs.NewMem(), "data", n, size)
			for offset := range int64(n) {
				want, err := l.Read(offset, n-1, 3*size)
				if err != nil {
					t.Fatal(err)
				}
				c, err := l.ReadLent(offset, n-1, 3*size, true)
				if err != nil || len(c.Batches) != len(want) {
					t.Fatalf("%d batches, want %d, %v", len(c.Batches), len(want), err)
				}
				got, late := openLate(t, c)
				for i := range want {
					if !bytes.Equal(got[i], want[i]) {
						t.Errorf("the batch at %d is another one", want[i].BaseOffset())
					}
				}
				if wantLate := size >= lateBytes; late > 0 != (wantLate && len(want) > 0) {
					t.Errorf("%d batches of %d bytes are left in the file", late, size)
				}
				if c.Release != nil {
					c.Release()
				}
			}
		})
	}
	l := lentLog(t, vfs.NewMem(), "data", 1, 2*lateBytes)
	c, err := l.ReadLent(0, 1, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(c.Open(0), readOne(t, l)); err != nil {
		t.Error(err)
	}
}

func readOne(t *testing.T, l *Log) []byte {
	t.Helper()
	b, err := l.Read(0, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	return b[0]
}

// Batches of small records are read at once.
func TestReadLateSmallRecords(t *testing.T) {
	f := frame{length: lateBytes}
	head := make(record.Batch, record.BatchHeaderSize)
	head[10] = (lateBytes - 12) >> 8 // its length field
	head[11] = (lateBytes - 12) & 0xff
	for count, want := range map[byte]bool{128: true, 129: false} {
		head[60] = count
		if got := (&late{}).wants(&f, head); got != want || head.Size() != lateBytes {
			t.Errorf("%d records in %d bytes: left in the file %v, want %v", count, head.Size(), got, want)
		}
	}
}

// Bytes that decay after the read are found by whoever reads them, before the last
// one is out, wherever they are behind the header; the log is quarantined.
func TestReadLateDamage(t *testing.T) {
	const size = 2 * lateBytes
	for _, at := range []int{headBytes, size / 2, size - 1, size + record.BatchHeaderSize} {
		mem := vfs.NewMem()
		l := lentLog(t, mem, "data", 1, size)
		c, err := l.ReadLent(0, 1, 1, true)
		if err != nil {
			t.Fatal(err)
		}
		seg := l.Segments()[0]
		file := path.Join("data", dirName(l.id), segmentName(seg.Seq, 1))
		if err := mem.Flip(file, int64(c.Open(0).(*lateBatch).pos)+frameHeader+int64(at), 4); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c.Open(0))
		if !errors.Is(err, record.ErrQuarantined) || !strings.Contains(fmt.Sprint(err), file) || len(got) >= c.Batches[0].Size() {
			t.Errorf("byte %d: %d of %d bytes, %v", at, len(got), c.Batches[0].Size(), err)
		}
		if l.Damage() == nil {
			t.Errorf("byte %d: the log is not quarantined", at)
		}
		c.Release()
	}
}

// A file is there as long as somebody reads it, though its log is closed, and no
// longer.
func TestReadLateOutlivesTheLog(t *testing.T) {
	const size, n = 2 * lateBytes, 3
	mem := vfs.NewMem()
	l := lentLog(t, mem, "data", n, size)
	want := bytes.Clone(readOne(t, l))
	c, err := l.ReadLent(0, n, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	file := l.mu.segs[0].file
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c.Open(0)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	c.Release()
	if refs := file.refs.Load(); refs != 0 {
		t.Errorf("the file is held %d times after all", refs)
	}
}
