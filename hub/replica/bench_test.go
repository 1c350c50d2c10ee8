package replica

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// BenchmarkAppend is the produce path without the network: Append, commit,
// done. The bytes of a batch are made ready by the caller, as a request's are.
func BenchmarkAppend(b *testing.B) {
	for _, fs := range []string{"mem", "os"} {
		for _, size := range []int{1 << 10, 100 << 10} {
			for _, load := range []struct{ partitions, callers, depth int }{{1, 1, 1}, {1, 16, 5}, {10, 20, 5}, {200, 200, 1}} {
				name := fmt.Sprintf("%s/%dKiB/partitions=%d/callers=%d/depth=%d", fs, size>>10, load.partitions, load.callers, load.depth)
				b.Run(name, func(b *testing.B) { benchAppend(b, fs, size, load.partitions, load.callers, load.depth) })
			}
		}
	}
}

func benchAppend(b *testing.B, kind string, size, partitions, callers, depth int) {
	var fs vfs.FS = vfs.NewMem()
	dir := "data"
	if kind == "os" {
		fs, dir = vfs.OS(), b.TempDir()
	}
	n := startNode(b, fs, dir, storage.Config{ReserveBytes: -1, LowWater: 1, HighWater: 1}, Config{})
	replicas := make([]*Replica, partitions)
	for i := range replicas {
		// Small segments that go soon: the disk must not fill up.
		replicas[i] = n.add(Spec{ID: clicks(int32(i)), Topic: TopicConfig{SegmentBytes: 32 << 20}})
	}
	proto := batch(b, string(bytes.Repeat([]byte("x"), size-100)))
	b.SetBytes(int64(len(proto)))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			r := replicas[c%partitions]
			room := make(chan struct{}, depth)
			for i := c; i < b.N; i += callers {
				room <- struct{}{}
				r.Append([]record.Batch{bytes.Clone(proto)}, func(_ []record.Appended, err error) {
					if err != nil {
						b.Error(err)
					}
					<-room
				})
			}
			for range depth {
				room <- struct{}{}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	n.stop()
}

// A group that nobody uses takes little memory (Invariant 14: 50 KB) and, once
// it leads, no steps.
func TestIdleGroups(t *testing.T) {
	const groups = 300
	n := startNode(t, vfs.OS(), t.TempDir(), storage.Config{ReserveBytes: -1, LowWater: 1, HighWater: 1}, Config{})
	n.add(Spec{ID: clicks(groups)})
	before := heap()
	for i := range groups {
		n.add(Spec{ID: clicks(int32(i))})
	}
	if each := (heap() - before) / groups; each > 50_000 {
		t.Errorf("an idle group takes %d bytes, want at most 50,000", each)
	} else {
		t.Logf("an idle group takes %d bytes", each)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkStep is the core alone: one proposal, its round, its commit.
func BenchmarkStep(b *testing.B) {
	log := newMemLog(firstState([]uint64{1}))
	c, err := openCore(coreConfig{id: 1, electionTicks: 10, maxInflight: 8 << 20}, log, 1)
	if err != nil {
		b.Fatal(err)
	}
	step := func(in *input) {
		for {
			in.now = 1
			rounds := len(c.step(in).rounds)
			if rounds == 0 {
				return
			}
			in = &input{durable: rounds}
		}
	}
	step(&input{})
	p := &proposal{kind: propAppend, batches: []record.Batch{batch(b, "x")}}
	in := &input{props: []*proposal{p}}
	b.ReportAllocs()
	for b.Loop() {
		step(in)
	}
}
