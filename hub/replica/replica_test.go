package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a store and a set on it, both running.
type node struct {
	t     testing.TB
	store *storage.Store
	set   *Set
	stop  func()
}

func startNode(t testing.TB, fs vfs.FS, dir string, sc storage.Config, rc Config) *node {
	t.Helper()
	store, err := storage.Open(fs, dir, sc)
	if err != nil {
		t.Fatal(err)
	}
	if rc.Member == 0 {
		rc.Member = 1
	}
	set, err := Open(rc, store)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, store: store, set: set}
	setCtx, stopSet := context.WithCancel(context.Background())
	storeCtx, stopStore := context.WithCancel(context.Background())
	var setDone, storeDone sync.WaitGroup
	setDone.Go(func() {
		if err := set.Run(setCtx); err != nil {
			t.Errorf("set: %v", err)
		}
	})
	storeDone.Go(func() {
		if err := store.Run(storeCtx); err != nil {
			t.Errorf("store: %v", err)
		}
	})
	n.stop = sync.OnceFunc(func() {
		stopSet()
		setDone.Wait()
		stopStore()
		storeDone.Wait()
		if err := store.Close(); err != nil && !errors.Is(err, record.ErrOffline) {
			t.Errorf("close the store: %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

func clicks(p int32) storage.LogID {
	return storage.LogID{Topic: "clicks", ID: record.TopicID{1}, Partition: p}
}

// add adds a replica and waits until it serves.
func (n *node) add(spec Spec) *Replica {
	n.t.Helper()
	spec.Born = []uint64{1}
	r, err := n.set.Add(spec)
	if err != nil {
		n.t.Fatal(err)
	}
	waitServing(n.t, r)
	return r
}

func waitServing(t testing.TB, r *Replica) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		changed := r.Changed()
		err := r.Serving()
		if err == nil {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s does not serve: %v", r.ID(), err)
		}
	}
}

// batch builds a batch of records with these values.
func batch(t testing.TB, values ...string) record.Batch {
	t.Helper()
	return build(t, record.NewBuilder(record.None), 1000, values...)
}

func build(t testing.TB, b *record.Builder, ms int64, values ...string) record.Batch {
	t.Helper()
	for i, v := range values {
		if err := b.Append(record.Record{Timestamp: ms + int64(i), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out)
}

func idempotent(t testing.TB, id int64, epoch int16, seq int32, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = id, epoch, seq
	return build(t, b, 1000, values...)
}

func transactional(t testing.TB, id int64, epoch int16, seq int32, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = id, epoch, seq, true
	return build(t, b, 1000, values...)
}

type result struct {
	appended []record.Appended
	err      error
}

func appendWait(t testing.TB, r *Replica, batches ...record.Batch) ([]record.Appended, error) {
	t.Helper()
	done := make(chan result, 1)
	r.Append(batches, func(a []record.Appended, err error) { done <- result{a, err} })
	select {
	case res := <-done:
		return res.appended, res.err
	case <-time.After(20 * time.Second):
		t.Fatal("an append was not answered")
		return nil, nil
	}
}

func values(t testing.TB, c record.Chunk) (out []string) {
	t.Helper()
	for _, b := range c.Batches {
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		for r, err := range b.All(1 << 20) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%d:%s", r.Offset, r.Value))
		}
	}
	return out
}

func TestAppendAndRead(t *testing.T) {
	n := startNode(t, vfs.NewMem(), "data", storage.Config{}, Config{})
	r := n.add(Spec{ID: clicks(0)})
	for i := range 10 {
		a, err := appendWait(t, r, batch(t, fmt.Sprint("a", i), fmt.Sprint("b", i)))
		if err != nil || a[0].BaseOffset != int64(2*i) {
			t.Fatalf("%+v %v", a, err)
		}
	}
	c, err := r.Read(3, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, c); len(got) != 18 || got[0] != "2:a1" || c.Offsets.HighWatermark != 20 {
		t.Fatalf("%v %+v", got, c.Offsets)
	}
	if _, err := r.Read(21, 1); !errors.Is(err, record.ErrOffsetOutOfRange) {
		t.Fatal(err)
	}
}
