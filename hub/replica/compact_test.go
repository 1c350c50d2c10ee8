package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

func keyed(t testing.TB, key, value string) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	r := record.Record{Timestamp: 1000, Key: []byte(key)}
	if value != "" {
		r.Value = []byte(value)
	}
	if err := b.Append(r); err != nil {
		t.Fatal(err)
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lastOfKeys reads a whole partition as a client that wants the last of each
// key does.
func lastOfKeys(t testing.TB, r *Replica) (last map[string]string, records int) {
	t.Helper()
	last = map[string]string{}
	for at := r.Offsets().Start; at < r.Offsets().HighWatermark; {
		c, err := r.Read(at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Batches) == 0 {
			break
		}
		for _, b := range c.Batches {
			for rec, err := range b.All(1 << 20) {
				if err != nil {
					t.Fatal(err)
				}
				records++
				last[string(rec.Key)] = string(rec.Value)
			}
			at = b.NextOffset()
		}
	}
	return last, records
}

// A compacted partition stops growing while it is written, and a restart finds
// the same in it.
func TestCompactedPartitionStopsGrowing(t *testing.T) {
	fs := vfs.NewMem()
	sc := small
	sc.IdleAfter = time.Millisecond
	spec := Spec{ID: clicks(0), Topic: TopicConfig{SegmentBytes: 20_000, Keep: true, Compact: Compaction{On: true, DirtyRatio: 0.5}}}
	n := startNode(t, fs, "data", sc, Config{CompactEvery: time.Millisecond, CompactRate: -1})
	r := n.add(spec)
	const records, keys = 5000, 20
	most := int64(0)
	for i := range records {
		if _, err := appendWait(t, r, keyed(t, fmt.Sprintf("k%d", i%keys), fmt.Sprintf("v%d", i))); err != nil {
			t.Fatal(err)
		}
		if i%500 == 499 {
			waitFor(t, func() bool { return r.Status().Bytes < 100_000 })
		}
		most = max(most, r.Status().Bytes)
	}
	waitFor(t, func() bool { return !r.compactionPlan(time.Now()).due })
	stats := r.Compacted()
	t.Logf("%d records written, most bytes on disk %d, in the end %d; %d passes made %d of %d bytes", records, most, r.Status().Bytes, stats.Passes, stats.After, stats.Before)
	if stats.Passes == 0 || stats.Errors != 0 || n.set.Compactions().Passes != stats.Passes {
		t.Errorf("stats %+v", stats)
	}
	check := func(r *Replica) {
		t.Helper()
		last, _ := lastOfKeys(t, r)
		for k := range keys {
			if want := fmt.Sprintf("v%d", records-keys+k); last[fmt.Sprintf("k%d", k)] != want {
				t.Errorf("k%d ends as %q, want %q", k, last[fmt.Sprintf("k%d", k)], want)
			}
		}
		if o := r.Offsets(); o.HighWatermark != records {
			t.Errorf("offsets %+v", o)
		}
	}
	check(r)
	n.stop()
	n = startNode(t, fs, "data", sc, Config{CompactEvery: time.Hour})
	r = n.add(spec)
	check(r)
	if _, err := appendWait(t, r, keyed(t, "k0", "new")); err != nil {
		t.Fatal(err)
	}
	if last, _ := lastOfKeys(t, r); last["k0"] != "new" {
		t.Errorf("after a restart and an append k0 is %q", last["k0"])
	}
}

// Damage that compaction finds ends the replica at once: it may lead, and write
// nothing for long.
func TestCompactionFindsDamage(t *testing.T) {
	fs := vfs.NewMem()
	sc := small
	sc.TailCacheBytes, sc.IdleAfter = -1, time.Millisecond
	n := startNode(t, fs, "data", sc, Config{CompactEvery: time.Hour})
	r := n.add(Spec{ID: clicks(0), Topic: TopicConfig{SegmentBytes: 2000, Keep: true, Compact: Compaction{On: true, DirtyRatio: 0.01}}})
	for i := range 60 {
		if _, err := appendWait(t, r, keyed(t, "k", fmt.Sprintf("value-%02d", i))); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return r.compactionPlan(time.Now()).due })
	name := path.Join("data", clicks(0).String(), "0000000001-00000000000000000002.log")
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	b := make([]byte, size)
	_, _ = f.ReadAt(b, 0)
	at := bytes.Index(b, []byte("value-"))
	if err := errors.Join(f.Close(), fs.Flip(name, int64(at), 1)); err != nil || at < 0 {
		t.Fatal(at, err)
	}
	n.set.compactOne(t.Context())
	waitFor(t, func() bool { return r.Status().Quarantined })
}

// A log that waited longer than max.compaction.lag.ms is compacted though
// little of it is dirty, its newest segment too; one younger than
// min.compaction.lag.ms is not.
func TestCompactionLag(t *testing.T) {
	sc := small
	sc.IdleAfter = time.Millisecond
	n := startNode(t, vfs.NewMem(), "data", sc, Config{CompactEvery: time.Millisecond, CompactRate: -1})
	cfg := TopicConfig{Keep: true, Compact: Compaction{On: true, DirtyRatio: 1, MinLag: time.Hour}}
	r := n.add(Spec{ID: clicks(0), Topic: cfg})
	for i := range 50 {
		if _, err := appendWait(t, r, keyed(t, "k", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if p := r.compactionPlan(time.Now()); len(p.segments) != 0 || p.due {
		t.Errorf("planned %+v", p)
	}
	cfg.Compact.MinLag, cfg.Compact.MaxLag = 0, time.Millisecond
	r.Configure(cfg)
	waitFor(t, func() bool { _, records := lastOfKeys(t, r); return records == 1 })
	if last, _ := lastOfKeys(t, r); last["k"] != "49" {
		t.Errorf("k is %q", last["k"])
	}
}

// BenchmarkCompact compacts a log on disk of 128 MiB, in batches of 100 records
// of 200 bytes, whose keys come back four times each. MB/s are bytes of the log
// before; each is read twice, once for its keys and once to be kept or not.
func BenchmarkCompact(b *testing.B) {
	for _, codec := range []record.Codec{record.None, record.LZ4} {
		b.Run(codec.String(), func(b *testing.B) {
			const batches, perBatch = 128 << 20 / 20_000, 100
			records := 0
			for b.Loop() {
				b.StopTimer()
				sc := small
				sc.IdleAfter = time.Millisecond
				n := startNode(b, vfs.OS(), b.TempDir(), sc, Config{CompactEvery: time.Hour, CompactRate: -1})
				r := n.add(Spec{ID: clicks(0), Topic: TopicConfig{SegmentBytes: 16 << 20, Keep: true, Compact: Compaction{On: true}}})
				for i := range batches {
					if _, err := appendWait(b, r, benchKeyed(b, codec, i*perBatch, perBatch, batches*perBatch/4)); err != nil {
						b.Fatal(err)
					}
				}
				plan := r.compactionPlan(time.Now())
				b.StartTimer()
				done, err := r.compact(context.Background(), plan)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.SetBytes(done.Before)
				b.ReportMetric(float64(done.After)/float64(done.Before), "left")
				records += batches * perBatch
				n.stop()
				b.StartTimer()
			}
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func benchKeyed(b *testing.B, codec record.Codec, from, n, keys int) record.Batch {
	builder := record.NewBuilder(codec)
	for i := range n {
		value := bytes.Repeat(fmt.Appendf(nil, "%d,", (from+i)*7919), 100)
		if err := builder.Append(record.Record{Timestamp: 1000, Key: fmt.Appendf(nil, "key-%09d", (from+i)%keys), Value: value[:180]}); err != nil {
			b.Fatal(err)
		}
	}
	out, err := builder.Build()
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// compact,delete: a compacted log is cut at the front besides, in whole
// segments, compacted ones too, and what is left of it is as before.
func TestCompactAndDelete(t *testing.T) {
	sc := small
	sc.IdleAfter = time.Millisecond
	n := startNode(t, vfs.NewMem(), "data", sc, Config{CompactEvery: time.Millisecond, CompactRate: -1, RetentionEvery: time.Millisecond})
	cfg := TopicConfig{SegmentBytes: 5_000, RetentionBytes: 30_000, Compact: Compaction{On: true, DirtyRatio: 0.1}}
	r := n.add(Spec{ID: clicks(0), Topic: cfg})
	written := map[int64]string{}
	for i := range 3000 { // no key comes back soon: compaction keeps most of it
		a, err := appendWait(t, r, keyed(t, fmt.Sprintf("k%d", i%2000), fmt.Sprintf("v%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		written[a[0].BaseOffset] = fmt.Sprintf("v%d", i)
	}
	waitFor(t, func() bool { return r.Offsets().Start > 0 && r.Status().Bytes < 60_000 && r.Compacted().Passes > 0 })
	o := r.Offsets()
	if _, err := r.Read(o.Start-1, 1); !errors.Is(err, record.ErrOffsetOutOfRange) {
		t.Errorf("below the start: %v", err)
	}
	last, records := lastOfKeys(t, r)
	if records == 0 || last["k999"] != "v2999" {
		t.Errorf("%d records, k999 is %q", records, last["k999"])
	}
	for key, v := range last {
		var k int
		if _, err := fmt.Sscanf(key, "k%d", &k); err != nil || v != fmt.Sprintf("v%d", k) && v != fmt.Sprintf("v%d", k+2000) {
			t.Errorf("%s is %q", key, v)
		}
	}
}

// Records of a topic with LogAppendTime are found by the time they came, also
// after compaction has made holes.
func TestAppendTimeIsKept(t *testing.T) {
	sc := small
	sc.IdleAfter = time.Millisecond
	var mu sync.Mutex
	now := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	n := startNode(t, vfs.NewMem(), "data", sc, Config{CompactEvery: time.Millisecond, CompactRate: -1, Clock: clock})
	r := n.add(Spec{ID: clicks(0), Topic: TopicConfig{SegmentBytes: 2_000, LogAppendTime: true, Keep: true, Compact: Compaction{On: true, DirtyRatio: 0.1}}})
	for i := range 400 {
		mu.Lock()
		now = now.Add(time.Second)
		mu.Unlock()
		a, err := appendWait(t, r, keyed(t, fmt.Sprintf("k%d", i%100), fmt.Sprint(i))) // says that it is from 1970
		if err != nil || a[0].LogAppendTime != clock().UnixMilli() {
			t.Fatal(a, err)
		}
	}
	waitFor(t, func() bool { _, records := lastOfKeys(t, r); return records < 200 })
	for _, at := range []int{0, 1, 150, 350, 399} {
		ms := time.UnixMilli(1_700_000_000_000).Add(time.Duration(at+1) * time.Second).UnixMilli()
		found, err := r.OffsetForTime(ms)
		if err != nil || found.Offset < int64(at) || found.Timestamp != 1_700_000_000_000+(found.Offset+1)*1000 {
			t.Errorf("at %d: %+v, %v", at, found, err)
		}
		if at >= 350 && found.Offset != int64(at) {
			t.Errorf("at %d: %+v, the record is there", at, found)
		}
	}
}
