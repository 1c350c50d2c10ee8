package replica

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

func TestRetain(t *testing.T) {
	// written is when the last record of the segment came; its timestamps, far
	// in the past, do not matter.
	seg := func(base, next, bytes, written int64, sealed bool) storage.SegmentInfo {
		return storage.SegmentInfo{BaseOffset: base, NextOffset: next, Bytes: bytes, MaxTime: written, Sealed: sealed}
	}
	three := []storage.SegmentInfo{seg(0, 10, 100, 1000, true), seg(10, 20, 100, 2000, true), seg(20, 30, 100, 3000, false)}
	for _, c := range []struct {
		what     string
		segments []storage.SegmentInfo
		policy   policy
		now      int64
		start    int64
		hw       int64
		want     int64
		roll     bool
	}{
		{"no policy", three, policy{}, 1 << 40, 0, 30, 0, false},
		{"nothing is old", three, policy{age: time.Second}, 1900, 0, 30, 0, false},
		{"exactly as old as allowed stays", three, policy{age: time.Second}, 2000, 0, 30, 0, false},
		{"one is old", three, policy{age: time.Second}, 2001, 0, 30, 10, false},
		{"all are old: the last is rolled", three, policy{age: time.Second}, 9000, 0, 30, 30, true},
		{"never above the high watermark", three, policy{age: time.Second}, 9000, 0, 25, 20, false},
		{"never back", three, policy{age: time.Second}, 2001, 15, 30, 15, false},
		{"size: what is left has what is allowed", three, policy{bytes: 200}, 0, 0, 30, 10, false},
		{"size: a byte less would be too little", three, policy{bytes: 201}, 0, 0, 30, 0, false},
		{"size: never the one that is written", three, policy{bytes: 1}, 0, 0, 30, 20, false},
		{"a young one protects what comes after it", []storage.SegmentInfo{seg(0, 10, 1, 9000, true), seg(10, 20, 1, 1, true), seg(20, 20, 1, -1, false)}, policy{age: time.Second}, 9500, 0, 20, 0, false},
		{"without records nothing is rolled", []storage.SegmentInfo{seg(0, 10, 1, 1, true), seg(10, 10, 1, -1, false)}, policy{age: time.Second}, 9500, 0, 10, 10, false},
		{"once is enough", []storage.SegmentInfo{seg(0, 10, 1, 1, false)}, policy{age: time.Second}, 9500, 10, 10, 10, false},
	} {
		segments, written := slices.Clone(c.segments), int64(0)
		for i := range segments {
			segments[i].Created, written = written, max(written, segments[i].MaxTime)
			segments[i].MaxTime = -1_000_000
		}
		start, roll := retain(segments, c.policy, c.now, written, c.start, c.hw)
		if start != c.want || roll != c.roll {
			t.Errorf("%s: start %d, roll %v, want %d, %v", c.what, start, roll, c.want, c.roll)
		}
	}
}

func TestTrimIndex(t *testing.T) {
	segs := []storage.SegmentInfo{
		{FirstIndex: 2, LastIndex: 9, NextOffset: 10, Sealed: true},
		{FirstIndex: 10, LastIndex: 19, NextOffset: 20, Sealed: true},
		{FirstIndex: 20, LastIndex: 25, NextOffset: 25},
	}
	for _, c := range []struct {
		start   int64
		applied uint64
		want    uint64
	}{{0, 25, 0}, {9, 25, 0}, {10, 25, 9}, {20, 25, 19}, {25, 25, 19}, {25, 15, 9}, {25, 8, 0}} {
		if got := trimIndex(segs, c.start, c.applied); got != c.want {
			t.Errorf("start %d, applied %d: index %d, want %d", c.start, c.applied, got, c.want)
		}
	}
}

func TestEpochEnd(t *testing.T) {
	l := []epochStart{{2, 0}, {5, 70}, {9, 100}}
	for _, c := range []struct {
		asked int32
		want  record.EpochEnd
	}{
		{1, record.EpochEnd{Epoch: 1, End: 0}},
		{2, record.EpochEnd{Epoch: 2, End: 70}},
		{4, record.EpochEnd{Epoch: 2, End: 70}},
		{5, record.EpochEnd{Epoch: 5, End: 100}},
		{9, record.EpochEnd{Epoch: 9, End: 150}},
		{12, record.EpochEnd{Epoch: 9, End: 150}}, // the leader's own, without records yet
		{13, record.EpochEnd{Epoch: -1, End: -1}},
		{-1, record.EpochEnd{Epoch: -1, End: -1}},
	} {
		if got := epochEnd(l, c.asked, 12, 150); got != c.want {
			t.Errorf("epoch %d: %+v, want %+v", c.asked, got, c.want)
		}
	}
	if got := epochEnd(nil, 3, 3, 0); got != (record.EpochEnd{Epoch: 3, End: 0}) {
		t.Errorf("without records: %+v", got)
	}
	if got := trimLineage(l, 80); !reflect.DeepEqual(got, []epochStart{{5, 80}, {9, 100}}) || l[1].start != 70 {
		t.Errorf("trimmed to %v, from %v", got, l)
	}
}

func TestProducersAreBounded(t *testing.T) {
	ps := producers{most: 64}
	for i := range int64(1000) {
		ps.observe(idempotent(t, i, 0, 0, "a"), i)
		if len(ps.byID) > 64 || ps.byID[i] == nil {
			t.Fatalf("%d producers are kept, the newest %v", len(ps.byID), ps.byID[i])
		}
	}
	ps.expire(999)
	if len(ps.byID) != 1 {
		t.Errorf("%d producers are left", len(ps.byID))
	}
}

// A waiter gets its bytes in order, gives up when its context ends, and hears
// when nothing will come any more.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		ctx := context.Background()
		if err := errors.Join(b.acquire(ctx, 60), b.acquire(ctx, 40)); err != nil {
			t.Fatal(err)
		}
		var order []int
		var wg sync.WaitGroup
		wait := func(name int, n int64) {
			wg.Go(func() {
				if err := b.acquire(ctx, n); err != nil {
					t.Error(err)
				}
				order = append(order, name)
				b.release(n)
			})
			synctest.Wait()
		}
		wait(1, 90)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		wg.Go(func() {
			if err := b.acquire(short, 1); !errors.Is(err, record.ErrTimeout) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		wait(2, 20) // would fit once 40 are free, but it is not its turn
		b.release(40)
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("%v went ahead", order)
		}
		<-short.Done()
		synctest.Wait()
		b.release(60)
		wg.Wait()
		if !reflect.DeepEqual(order, []int{1, 2}) || b.used() != 0 {
			t.Errorf("order %v, used %d", order, b.used())
		}
		// More than there is at all: when everything is free.
		if err := b.acquire(ctx, 1000); err != nil || b.used() != 100 {
			t.Errorf("%v, used %d", err, b.used())
		}
		wg.Go(func() {
			if err := b.acquire(ctx, 1); !errors.Is(err, record.ErrStopped) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		b.close()
		wg.Wait()
	})
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []Config{{}, {Member: 1, GroupBytes: 2, TotalBytes: 1}, {Member: 1, InflightBytes: 5}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if err := (Config{Member: 1}).Validate(); err != nil {
		t.Error(err)
	}
}
