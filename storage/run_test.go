package storage

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestRun runs the flusher as a node does: rounds are answered once they are
// durable, in order; what does not wait is synced after 100 ms; a log that
// rests states its position; and Run ends with its context.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		mem := vfs.NewMem()
		fsys := vfs.WithFaults(mem, func(op *vfs.Op) error {
			if op.Kind == vfs.OpSync {
				syncs.Add(1)
			}
			return nil
		})
		s := openMem(t, fsys, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		l, err := s.Create(trioID, State{})
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		for i := range 20 {
			r := control(l)
			r.Done = func(err error) {
				if err != nil {
					t.Error(err)
				}
				order = append(order, i)
			}
			if err := l.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for i := range order {
			if order[i] != i {
				t.Fatalf("answered in the order %v", order)
			}
		}
		if len(order) != 20 {
			t.Fatalf("%d of 20 rounds answered", len(order))
		}
		before := syncs.Load()
		r, answered := control(l), false
		r.NoSync, r.Done = true, func(error) { answered = true }
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !answered || syncs.Load() != before {
			t.Errorf("a round that does not wait: answered %v, %d syncs", answered, syncs.Load()-before)
		}
		<-time.After(noSyncDelay)
		synctest.Wait()
		if syncs.Load() != before+1 {
			t.Errorf("%d syncs after 100 ms", syncs.Load()-before)
		}
		size := l.Size()
		<-time.After(time.Hour)
		synctest.Wait()
		if got := l.Size() - size; got != frameHeader+statePayload {
			t.Errorf("an idle log wrote %d bytes, want one state frame", got)
		}
		cancel()
		run.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestFailedSync: the volume goes offline, nothing is acknowledged any more,
// and the sync is not tried again.
func TestFailedSync(t *testing.T) {
	var failing, after atomic.Int64
	fsys := vfs.WithFaults(vfs.NewMem(), func(op *vfs.Op) error {
		if failing.Load() == 0 || op.Kind != vfs.OpSync && op.Kind != vfs.OpSyncFS {
			return nil
		}
		if failing.Add(1) > 2 {
			after.Add(1)
			return nil // as the system does: the second time it says that all is well
		}
		return syscall.EIO
	})
	s := openMem(t, fsys, Config{})
	a, err1 := s.Create(LogID{Topic: "a"}, State{})
	b, err2 := s.Create(LogID{Topic: "b"}, State{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for s.Step(time.Unix(0, 0)) {
	}
	failing.Store(1)
	var errs []error
	for _, l := range []*Log{a, b} {
		r := control(l)
		r.Done = func(err error) { errs = append(errs, err) }
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	for s.Step(time.Unix(0, 0)) {
	}
	if len(errs) != 2 || !errors.Is(errs[0], record.ErrOffline) || !errors.Is(errs[1], record.ErrOffline) {
		t.Errorf("rounds of the failed flush: %v", errs)
	}
	if err := a.Append(control(a)); !errors.Is(err, record.ErrOffline) {
		t.Errorf("append afterwards: %v", err)
	}
	if _, err := s.Create(LogID{Topic: "c"}, State{}); !errors.Is(err, record.ErrOffline) {
		t.Errorf("create afterwards: %v", err)
	}
	done := after.Load()
	if err := s.Close(); !errors.Is(err, record.ErrOffline) {
		t.Errorf("close: %v", err)
	}
	if after.Load() != done {
		t.Errorf("%d syncs were tried after the failure", after.Load()-done)
	}
	if s.Disk().Offline == nil {
		t.Error("the status does not say it")
	}
}
