package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

var small = storage.Config{ReserveBytes: -1, LowWater: 1, HighWater: 1}

// Many callers at once: every batch gets offsets of its own, and each caller's
// come in the order of its calls.
func TestConcurrentAppends(t *testing.T) {
	n := startNode(t, vfs.NewMem(), "data", small, Config{Workers: 4})
	r := n.add(Spec{ID: clicks(0), Topic: TopicConfig{SegmentBytes: 20_000}})
	const callers, each = 8, 60
	var mu sync.Mutex
	at := map[int64]string{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			last := int64(-1)
			var done sync.WaitGroup
			for i := range each {
				v := fmt.Sprintf("%d-%d", c, i)
				done.Add(1)
				r.Append([]record.Batch{batch(t, v)}, func(a []record.Appended, err error) {
					defer done.Done()
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if a[0].BaseOffset <= last {
						t.Errorf("caller %d: offset %d after %d", c, a[0].BaseOffset, last)
					}
					last = a[0].BaseOffset
					at[last] = v
				})
			}
			done.Wait()
		})
	}
	wg.Wait()
	var got []string
	for next := int64(0); next < callers*each; {
		c, err := r.Read(next, 5000)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, values(t, c)...)
		next = c.Batches[len(c.Batches)-1].NextOffset()
	}
	if len(got) != callers*each || len(at) != len(got) {
		t.Fatalf("%d records, %d acknowledged", len(got), len(at))
	}
	for i, v := range got {
		if v != fmt.Sprintf("%d:%s", i, at[int64(i)]) {
			t.Fatalf("record %d is %s, acknowledged was %s", i, v, at[int64(i)])
		}
	}
	if b := n.set.Buffered(); b != 0 {
		t.Errorf("%d bytes are still held", b)
	}
}

// holdSyncs is a file system whose syncs wait while they are held.
func holdSyncs(fs vfs.FS) (held vfs.FS, hold func() (release func())) {
	var gate atomic.Pointer[chan struct{}]
	return vfs.WithFaults(fs, func(op *vfs.Op) error {
			if g := gate.Load(); g != nil && op.Kind == vfs.OpSync {
				<-*g
			}
			return nil
		}), func() func() {
			g := make(chan struct{})
			gate.Store(&g)
			return sync.OnceFunc(func() { gate.Store(nil); close(g) })
		}
}

// A disk that is slower than its clients slows them down: what the group holds
// is bounded, and nothing is answered before its sync.
func TestBackpressure(t *testing.T) {
	fs, hold := holdSyncs(vfs.NewMem())
	n := startNode(t, fs, "data", small, Config{GroupBytes: 1000, TotalBytes: 1500})
	r, other := n.add(Spec{ID: clicks(0)}), n.add(Spec{ID: clicks(1)})
	release := hold()
	defer release()
	value := strings.Repeat("x", 400)
	var answers atomic.Int32
	count := func(_ []record.Appended, err error) {
		if err != nil {
			t.Error(err)
		}
		answers.Add(1)
	}
	r.Append([]record.Batch{batch(t, value)}, count)
	r.Append([]record.Batch{batch(t, value)}, count)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r.AppendContext(ctx, []record.Batch{batch(t, value)}, func(_ []record.Appended, err error) {
		if !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a third batch in a full group: %v", err)
		}
	})
	other.Append([]record.Batch{batch(t, value)}, count) // the node has room for one more
	ctx2, cancel2 := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel2()
	other.AppendContext(ctx2, []record.Batch{batch(t, value)}, func(_ []record.Appended, err error) {
		if !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a second batch of a node that is full: %v", err)
		}
	})
	if answers.Load() != 0 || r.Offsets().HighWatermark != 0 {
		t.Errorf("%d answers, high watermark %d before the sync", answers.Load(), r.Offsets().HighWatermark)
	}
	// With room again, a batch that is larger than the group may hold passes.
	release()
	if _, err := appendWait(t, r, batch(t, strings.Repeat("x", 5000))); err != nil {
		t.Error(err)
	}
	if _, err := appendWait(t, other, batch(t, "y")); err != nil {
		t.Error(err)
	}
	if answers.Load() != 3 {
		t.Errorf("%d answers of 3", answers.Load())
	}
}

// durability=replicated does not wait for the sync, synced does.
func TestReplicatedDoesNotWaitForTheSync(t *testing.T) {
	fs, hold := holdSyncs(vfs.NewMem())
	n := startNode(t, fs, "data", small, Config{})
	r := n.add(Spec{ID: clicks(0), Topic: TopicConfig{Replicated: true}})
	defer hold()()
	if _, err := appendWait(t, r, batch(t, "a")); err != nil {
		t.Error(err)
	}
}

// What waits when the node stops, or the replica goes, gets ErrStopped; so does
// what comes later.
func TestStop(t *testing.T) {
	for _, how := range []string{"stop", "remove"} {
		fs, hold := holdSyncs(vfs.NewMem())
		n := startNode(t, fs, "data", small, Config{GroupBytes: 1000})
		r := n.add(Spec{ID: clicks(0)})
		release := hold()
		errs := make(chan error, 3)
		for range 3 { // the third waits for room
			go r.Append([]record.Batch{batch(t, strings.Repeat("x", 400))}, func(_ []record.Appended, err error) { errs <- err })
		}
		waitFor(t, func() bool { return r.Status().Next == 2 })
		changed := r.Changed()
		if how == "remove" {
			if err := n.set.Remove(r.ID(), true); err != nil {
				t.Fatal(err)
			}
			if _, ok := n.set.Get(record.TopicPartition{Topic: "clicks"}); ok {
				t.Error("a removed replica is still found")
			}
			if err := n.set.Remove(r.ID(), true); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("removed twice: %v", err)
			}
			release()
		} else {
			go n.stop()
		}
		for range 3 {
			if err := <-errs; !errors.Is(err, record.ErrStopped) {
				t.Errorf("%s: %v", how, err)
			}
		}
		<-changed
		release()
		n.stop()
		if _, err := appendWait(t, r, batch(t, "late")); !errors.Is(err, record.ErrStopped) {
			t.Errorf("%s: after it: %v", how, err)
		}
		if err := r.Control(context.Background(), ReadOnly{true}); !errors.Is(err, record.ErrStopped) {
			t.Errorf("%s: after it: %v", how, err)
		}
		if p := r.Producers(); p != nil {
			t.Errorf("%s: after it: %v", how, p)
		}
		if err := r.Serving(); !errors.Is(err, record.ErrStopped) {
			t.Errorf("%s: after it: %v", how, err)
		}
		if _, err := n.set.Add(Spec{ID: clicks(5), Born: []uint64{1}}); !errors.Is(err, record.ErrStopped) {
			t.Errorf("%s: add after it: %v", how, err)
		}
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come")
		}
	}
}

// A disk without room: what was proposed is refused, reads go on, and once
// there is room the group goes on where it was.
func TestDiskFull(t *testing.T) {
	var full atomic.Bool
	fs := vfs.WithFaults(vfs.NewMem(), func(op *vfs.Op) error {
		if full.Load() && (op.Kind == vfs.OpWrite || op.Kind == vfs.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	})
	n := startNode(t, fs, "data", small, Config{})
	r := n.add(Spec{ID: clicks(0)})
	if _, err := appendWait(t, r, idempotent(t, 7, 0, 0, "a")); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	for range 2 {
		if _, err := appendWait(t, r, idempotent(t, 7, 0, 1, "b")); !errors.Is(err, record.ErrDiskFull) {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	if c, err := r.Read(0, 1000); err != nil || len(c.Batches) != 1 {
		t.Fatalf("reading on a full disk: %v %v", c, err)
	}
	full.Store(false)
	// The batch that found no room is in the log after all, once.
	waitFor(t, func() bool { return r.Offsets().HighWatermark == 2 })
	var a []record.Appended
	waitFor(t, func() (ok bool) {
		var err error
		if a, err = appendWait(t, r, idempotent(t, 7, 0, 1, "b")); err != nil && !errors.Is(err, record.ErrDiskFull) {
			t.Fatal(err)
		}
		return err == nil
	})
	if !a[0].Duplicate || a[0].BaseOffset != 1 {
		t.Fatalf("%+v", a)
	}
	a, err := appendWait(t, r, idempotent(t, 7, 0, 2, "c"))
	if err != nil || a[0].BaseOffset != 2 {
		t.Fatalf("%+v %v", a, err)
	}
}

// A sync that fails takes the replica down for good: nothing is acknowledged.
func TestSyncFails(t *testing.T) {
	var broken atomic.Bool
	fs := vfs.WithFaults(vfs.NewMem(), func(op *vfs.Op) error {
		if broken.Load() && strings.Contains(string(op.Kind), "sync") {
			return syscall.EIO
		}
		return nil
	})
	n := startNode(t, fs, "data", small, Config{})
	r := n.add(Spec{ID: clicks(0)})
	broken.Store(true)
	for range 2 {
		if _, err := appendWait(t, r, batch(t, "a")); !errors.Is(err, record.ErrOffline) {
			t.Fatalf("%v", err)
		}
	}
	if s := r.Status(); s.Role != RoleFailed || !errors.Is(s.Err, record.ErrOffline) || s.Serving {
		t.Errorf("%+v", s)
	}
	if _, err := r.Read(0, 10); !errors.Is(err, record.ErrOffline) {
		t.Errorf("%v", err)
	}
}

// A damaged log is up, shows what is committed below the damage, and refuses
// everything else by name.
func TestQuarantine(t *testing.T) {
	fs := vfs.NewMem()
	n := startNode(t, fs, "data", small, Config{})
	r := n.add(Spec{ID: clicks(0)})
	for i := range 20 {
		if _, err := appendWait(t, r, batch(t, fmt.Sprintf("value-%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	name := r.log.Segments()[0].File
	n.stop()
	flip(t, fs, "data", name, "value-12")
	n = startNode(t, fs, "data", small, Config{})
	r, err := n.set.Add(Spec{ID: clicks(0), Born: []uint64{1}})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Status()
	if !s.Quarantined || s.Role != RoleQuarantined || !errors.Is(s.Err, record.ErrQuarantined) {
		t.Fatalf("%+v", s)
	}
	if c, err := r.Read(0, 1<<20); err != nil || len(c.Batches) == 0 || c.Batches[len(c.Batches)-1].NextOffset() > 12 {
		t.Errorf("below the damage: %v, %d batches", err, len(c.Batches))
	}
	if _, err := r.Read(s.Offsets.HighWatermark, 10); !errors.Is(err, record.ErrQuarantined) {
		t.Errorf("above the damage: %v", err)
	}
	if _, err := appendWait(t, r, batch(t, "no")); !errors.Is(err, record.ErrQuarantined) {
		t.Errorf("append: %v", err)
	}
	if err := r.Control(context.Background(), LogStart{1}); !errors.Is(err, record.ErrQuarantined) {
		t.Errorf("control: %v", err)
	}
	if _, err := r.OffsetForTime(0); !errors.Is(err, record.ErrQuarantined) {
		t.Errorf("by time: %v", err)
	}
	if p := r.Producers(); p != nil {
		t.Errorf("producers: %v", p)
	}
	// The healthy neighbour is not concerned.
	if _, err := appendWait(t, n.add(Spec{ID: clicks(1)}), batch(t, "yes")); err != nil {
		t.Error(err)
	}
}

// flip changes one bit of the first occurrence of text in a file of that name
// anywhere below dir.
func flip(t *testing.T, fs vfs.FS, dir, name, text string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range names {
		path := dir + "/" + sub
		if info, err := fs.Stat(path); err != nil || info.Dir {
			flip(t, fs, path, name, text)
			continue
		}
		if sub != name {
			continue
		}
		f, err := fs.OpenWrite(path)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		i := strings.Index(string(b), text)
		if i < 0 {
			t.Fatalf("%s is not in %s", text, path)
		}
		if _, err := f.WriteGather([][]byte{{b[i] ^ 1}}, int64(i)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOffsetForTime(t *testing.T) {
	n := startNode(t, vfs.NewMem(), "data", small, Config{})
	r := n.add(Spec{ID: clicks(0)})
	// Times 1000, 1001, 1002 | 2000, 2001 | 1500 (late) | 3000.
	for _, b := range []record.Batch{
		build(t, record.NewBuilder(record.Gzip), 1000, "a", "b", "c"),
		build(t, record.NewBuilder(record.None), 2000, "d", "e"),
		build(t, record.NewBuilder(record.None), 1500, "f"),
		build(t, record.NewBuilder(record.None), 3000, "g"),
	} {
		if _, err := appendWait(t, r, b); err != nil {
			t.Fatal(err)
		}
	}
	check := func(ms, offset, at int64) {
		t.Helper()
		got, err := r.OffsetForTime(ms)
		if err != nil || got.Offset != offset || got.Timestamp != at {
			t.Errorf("time %d: %+v %v, want offset %d", ms, got, err, offset)
		}
	}
	check(0, 0, 1000)
	check(1001, 1, 1001)
	check(1003, 3, 2000)
	check(2001, 4, 2001)
	check(2002, 6, 3000)
	check(3001, -1, -1)
	// Records below the log start are not found, wherever it lies.
	if err := r.SetLogStart(context.Background(), 2); err != nil {
		t.Fatal(err)
	}
	check(0, 2, 1002)
	if err := r.SetLogStart(context.Background(), 5); err != nil {
		t.Fatal(err)
	}
	check(0, 5, 1500)
	check(2000, 6, 3000)
}

// Retention by time and by bytes, as the set runs it; a mirror's and a
// compacted topic's records stay.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small
		cfg.Clock = time.Now
		n := startNode(t, vfs.NewMem(), "data", cfg, Config{RetentionEvery: time.Minute})
		old := int64(1431857103000) // records of 2015 stay as long as others
		topic := TopicConfig{SegmentBytes: 3000, Retention: time.Hour}
		byTime := n.add(Spec{ID: clicks(0), Topic: topic})
		kept := n.add(Spec{ID: clicks(1), Topic: TopicConfig{SegmentBytes: 3000, Retention: time.Hour, Keep: true}})
		byBytes := n.add(Spec{ID: clicks(2), Topic: TopicConfig{SegmentBytes: 3000, RetentionBytes: 4000}})
		mirror := n.add(Spec{ID: clicks(3), Topic: topic})
		if err := mirror.Control(t.Context(), MirrorStart{Link: "m", Source: "fra", Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		for i := range int64(20) {
			for _, r := range []*Replica{byTime, kept, byBytes} {
				if _, err := appendWait(t, r, build(t, record.NewBuilder(record.None), old, strings.Repeat("x", 500))); err != nil {
					t.Fatal(err)
				}
			}
			b := build(t, record.NewBuilder(record.None), old, strings.Repeat("x", 500))
			b.SetBaseOffset(i)
			b.SetLeaderEpoch(1)
			done := make(chan error, 1)
			mirror.AppendMirrored(MirrorGuard{"m", 1, i}, []record.Batch{b}, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if s := byTime.Offsets().Start; s != 0 {
			t.Errorf("by time: log start %d before the time", s)
		}
		if s := byBytes.Offsets().Start; s == 0 || s > 16 || byBytes.Status().Bytes > 10_000 {
			t.Errorf("by bytes: log start %d, %d bytes", s, byBytes.Status().Bytes)
		}
		<-time.After(2 * time.Hour)
		synctest.Wait()
		if s := byTime.Offsets().Start; s != 20 || byTime.Status().Bytes > 2000 {
			t.Errorf("by time: log start %d, %d bytes", s, byTime.Status().Bytes)
		}
		if _, err := byTime.Read(19, 10); !errors.Is(err, record.ErrOffsetOutOfRange) {
			t.Errorf("read below the log start: %v", err)
		}
		for _, r := range []*Replica{kept, mirror} {
			if s := r.Offsets().Start; s != 0 {
				t.Errorf("%s: log start %d", r.ID(), s)
			}
		}
		if a, err := appendWait(t, byTime, batch(t, "new")); err != nil || a[0].BaseOffset != 20 || a[0].LogStart != 20 {
			t.Errorf("%+v %v", a, err)
		}
		n.stop()
	})
}

// A machine group over restarts, with more commands than one segment holds.
func TestMachineGroup(t *testing.T) {
	fs := vfs.NewMem()
	meta := storage.LogID{Topic: "__meta"}
	want := ""
	for life := range 3 {
		n := startNode(t, fs, "data", small, Config{})
		m := &simMachine{}
		r := n.add(Spec{ID: meta, Topic: TopicConfig{SegmentBytes: 2000}, Machine: m})
		if string(m.list) != want {
			t.Fatalf("life %d begins with %q, want %q", life, m.list, want)
		}
		for i := range 50 {
			cmd := fmt.Sprintf("%d.%d", life, i)
			got, err := r.Propose(t.Context(), []byte(cmd))
			want += cmd + " "
			if err != nil || got != len(want) {
				t.Fatalf("%s: %v %v", cmd, got, err)
			}
		}
		if s := r.Status(); s.Bytes > 8000 || r.log.FirstIndex() < 20 {
			t.Errorf("old commands stay: %d bytes, first index %d", s.Bytes, r.log.FirstIndex())
		}
		if _, err := appendWait(t, r, batch(t, "a")); !errors.Is(err, record.ErrInvalidRequest) {
			t.Errorf("records for a machine: %v", err)
		}
		n.stop()
	}
}

func TestAddRefuses(t *testing.T) {
	n := startNode(t, vfs.NewMem(), "data", small, Config{})
	n.add(Spec{ID: clicks(0)})
	if _, err := n.set.Add(Spec{ID: clicks(0), Born: []uint64{1}}); !errors.Is(err, storage.ErrExists) {
		t.Errorf("twice: %v", err)
	}
	for _, voters := range [][]uint64{nil, {2}, {1, 2, 3}} {
		if _, err := n.set.Add(Spec{ID: clicks(1), Born: voters}); !errors.Is(err, record.ErrInvalidReplicas) {
			t.Errorf("voters %v: %v", voters, err)
		}
	}
	if _, ok := n.set.Get(record.TopicPartition{Topic: "clicks", Partition: 1}); ok {
		t.Error("a refused replica is there")
	}
	r := n.set.All()[0]
	if _, err := r.Propose(t.Context(), []byte("x")); !errors.Is(err, record.ErrInvalidRequest) {
		t.Errorf("a command for a partition: %v", err)
	}
	bad := slices.Clone(batch(t, "a"))
	record.Batch(bad)[60] = 9 // count
	if _, err := appendWait(t, r, record.Batch(bad)); !errors.Is(err, record.ErrInvalidBatch) {
		t.Errorf("a batch whose count is wrong: %v", err)
	}
	if a, err := appendWait(t, r); a != nil || err != nil {
		t.Errorf("nothing: %v %v", a, err)
	}
}

// Settings change while records come.
func TestConfigure(t *testing.T) {
	n := startNode(t, vfs.NewMem(), "data", small, Config{Clock: func() time.Time { return time.UnixMilli(77_000) }})
	r := n.add(Spec{ID: clicks(0)})
	a, err := appendWait(t, r, batch(t, "a"))
	if err != nil || a[0].LogAppendTime != -1 {
		t.Fatalf("%+v %v", a, err)
	}
	r.Configure(TopicConfig{LogAppendTime: true, MaxMessageBytes: 100})
	if a, err = appendWait(t, r, batch(t, "b")); err != nil || a[0].LogAppendTime != 77_000 {
		t.Fatalf("%+v %v", a, err)
	}
	if _, err := appendWait(t, r, batch(t, strings.Repeat("b", 50))); !errors.Is(err, record.ErrBatchTooLarge) {
		t.Errorf("%v", err)
	}
	c, err := r.Read(1, 1000)
	if err != nil || len(c.Batches) != 1 || c.Batches[0].Check() != nil || !c.Batches[0].LogAppendTime() || c.Batches[0].MaxTime() != 77_000 {
		t.Fatalf("%v %v", c, err)
	}
	if e := r.EpochEnd(2); e != (record.EpochEnd{Epoch: 2, End: 2}) {
		t.Errorf("%+v", e)
	}
	if node, epoch := r.Leader(); node != 1 || epoch != 2 {
		t.Errorf("leader %d epoch %d", node, epoch)
	}
	if p := r.Producers(); len(p) != 0 {
		t.Errorf("%+v", p)
	}
}
