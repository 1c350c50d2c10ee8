package replica

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// What is appended while the leader is moved is appended, or refused by a
// replica that names the next leader with its epoch: a client that is told less
// waits before it asks again.
func TestRefusedBetweenLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		refused := 0
		for range 10 {
			lead := s.leader(0)
			from, epoch := lead.Leader()
			to := from%3 + 1
			s.same3()
			moved := make(chan error, 1)
			go func() { moved <- lead.TransferTo(t.Context(), to) }()
			answered := make(chan error, 100)
			for range cap(answered) {
				answered <- nil
			}
			for len(moved) == 0 {
				if err := <-answered; err != nil {
					refused++
				}
				lead.Append([]record.Batch{batch(t, "b")}, func(_ []record.Appended, err error) {
					if n, e := lead.Leader(); err != nil && (!errors.Is(err, record.ErrNotLeader) || n != to || e <= epoch) {
						t.Errorf("%v, when node %d leads in epoch %d, after node %d in %d", err, n, e, from, epoch)
					}
					answered <- err
				})
			}
			if err := <-moved; err != nil {
				t.Fatal(err)
			}
			for range cap(answered) {
				if err := <-answered; err != nil {
					refused++
				}
			}
			waitServing(t, s.replica(uint64(to), 0))
		}
		if refused == 0 {
			t.Error("nothing came between two leaders")
		}
	})
}

// What waits for the next leader is answered when the replica ends before.
func TestStopBetweenLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		lead := s.leader(0)
		from, _ := lead.Leader()
		s.same3()
		s.net.cut(uint64(from), true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := lead.TransferTo(ctx, from%3+1); !errors.Is(err, record.ErrTimeout) {
			t.Fatalf("a transfer without a network: %v", err)
		}
		done := make(chan error, 1)
		lead.Append([]record.Batch{batch(t, "b")}, func(_ []record.Appended, err error) { done <- err })
		synctest.Wait()
		if len(done) > 0 || lead.Status().Buffered == 0 {
			t.Fatalf("it does not wait: %v", <-done)
		}
		if err := s.nodes[uint64(from)].set.Remove(lead.ID(), true); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, record.ErrStopped) {
			t.Errorf("a replica that is removed: %v", err)
		}
		if n := lead.Status().Buffered; n != 0 {
			t.Errorf("%d bytes are held still", n)
		}
	})
}
