package storage

import (
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestWalkerReadsNothingTwice: frames that are larger than what is read at once, and
// those at whose middle it ends, are the same and cost no second read.
func TestWalkerReadsNothingTwice(t *testing.T) {
	now := func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	s := openMem(t, vfs.NewMem(), Config{Clock: now, TailCacheBytes: -1})
	l, err := s.Create(LogID{Topic: "t", ID: record.TopicID{9}}, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, s, l, 1, now)
	v, err := l.openView(l.mu.segs[len(l.mu.segs)-1])
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	from, end := v.seg.header.length, v.p.end
	want, err := verify(v.file.f, begin(&v.seg.header), end, nil)
	if err != nil || want.end != end {
		t.Fatalf("up to byte %d of %d: %v", want.end, end, err)
	}
	for chunk := 1; chunk < int(end); chunk = chunk*3/2 + 1 {
		for _, reuse := range []bool{false, true} {
			f := &countedReads{source: v.file.f}
			w := walker{f: f, sealing: v.p.sealing, pos: from, end: end, chunk: chunk, reuse: reuse}
			p, err := w.verify(begin(&v.seg.header), func(fr *frame, payload []byte) error {
				if fr.kind == KindData {
					return record.Batch(payload).Check()
				}
				return nil
			})
			if err != nil || p.end != end || p.lastIndex != want.lastIndex {
				t.Fatalf("in pieces of %d bytes, reuse %v: up to byte %d: %v", chunk, reuse, p.end, err)
			}
			if f.bytes != int(end-from) {
				t.Errorf("in pieces of %d bytes, reuse %v: %d bytes were read, there are %d", chunk, reuse, f.bytes, end-from)
			}
		}
	}
}

// countedReads counts the bytes that are read.
type countedReads struct {
	source
	bytes int
}

func (c *countedReads) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.source.ReadAt(p, off)
	c.bytes += n
	return n, err
}

// TestLargeBatchesAreReadExactly: a read that has room for one and a half of them
// reads one, and of the next one no more than its head; a read that goes on at the
// head that it stopped at does the same.
func TestLargeBatchesAreReadExactly(t *testing.T) {
	const size, n = 200 << 10, 4
	l := lentLog(t, vfs.NewMem(), "data", n, size)
	v, err := l.openView(l.mu.segs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	pos := v.seg.header.length
	for range n - 1 {
		f := &countedReads{source: v.file.f}
		w := v.walk(pos, readChunk(size*3/2))
		w.f, w.exact = f, true
		for got := 0; got == 0; {
			fr, _, err := w.head()
			if err != nil {
				t.Fatal(err)
			}
			if fr.kind != KindData {
				w.skip()
				continue
			}
			b, err := w.body()
			if err != nil {
				t.Fatal(err)
			}
			if got = len(b); record.Batch(b).Size() != got {
				t.Fatalf("a batch of %d bytes, want %d", got, record.Batch(b).Size())
			}
		}
		if _, _, err := w.head(); err != nil {
			t.Fatal(err)
		}
		if most := size + 2*asideChunk; f.bytes > most {
			t.Errorf("from byte %d on %d bytes were read for a batch of %d and the next one's head, want %d at most", pos, f.bytes, size, most)
		}
		pos = w.pos
	}
}
