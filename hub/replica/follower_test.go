package replica

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// A follower can be read as far as it has heard of the commit, and no further;
// one that hears no leader cannot.
func TestFollowerRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a", "b")
		s.same(0)
		lead := s.leader(0)
		node, _ := lead.Leader()
		cut := uint64(node)%3 + 1
		read := func(id uint64, offset int64) (string, error) {
			c, err := Follower{s.replica(id, 0)}.ReadLate(offset, 1<<20)
			return fmt.Sprint(values(t, c)), err
		}
		for _, id := range s.ids() {
			if got, err := read(id, 0); got != "[0:a 1:b]" || err != nil {
				t.Errorf("node %d: %s: %v", id, got, err)
			}
		}
		// What is in its log and not committed as far as it has heard is not read.
		r := s.replica(cut, 0)
		now := r.view.Load()
		heard := *now
		heard.offsets.HighWatermark = 1
		r.view.Store(&heard)
		if got, err := read(cut, 0); got != "[0:a]" || err != nil {
			t.Errorf("having heard of 1: %s: %v", got, err)
		}
		r.view.Store(now)
		s.net.cut(cut, true)
		s.write(0, "c")
		if got, err := read(cut, 0); err == nil && got != "[0:a 1:b]" {
			t.Errorf("cut off, it reads %s", got)
		}
		eventually(t, func() bool { return errors.Is(Follower{s.replica(cut, 0)}.Serving(), record.ErrNotLeader) })
		if _, err := read(cut, 0); !errors.Is(err, record.ErrNotLeader) {
			t.Errorf("without a leader: %v", err)
		}
		s.net.cut(cut, false)
		s.same(0)
		if got, err := read(cut, 2); got != "[2:c]" || err != nil {
			t.Errorf("back: %s: %v", got, err)
		}
		if got, err := read(cut, 3); got != "[]" || err != nil {
			t.Errorf("at its end: %s: %v", got, err)
		}
		if _, err := read(cut, 4); !errors.Is(err, record.ErrOffsetNotAvailable) {
			t.Errorf("beyond it: %v", err)
		}
		if err := s.leader(0).SetLogStart(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		s.same(0)
		if _, err := read(cut, 0); !errors.Is(err, record.ErrOffsetOutOfRange) {
			t.Errorf("below the start: %v", err)
		}
	})
}

// What an idempotent producer sends again because its leader did not answer is
// known to the leader that follows: the sequences are in the log.
func TestRetryAtAnotherLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		for seq := range int32(3) {
			if _, err := appendWait(t, s.leader(0), idempotent(t, 7, 0, seq, fmt.Sprint(seq))); err != nil {
				t.Fatal(err)
			}
		}
		node, _ := s.leader(0).Leader()
		s.net.cut(uint64(node), true)
		for seq := range int32(5) {
			got, err := appendWait(t, s.leader(0), idempotent(t, 7, 0, seq, fmt.Sprint(seq)))
			if err != nil || got[0].BaseOffset != int64(seq) || got[0].Duplicate != (seq < 3) {
				t.Errorf("sequence %d at the next leader: %+v: %v", seq, got, err)
			}
		}
		if _, err := appendWait(t, s.leader(0), idempotent(t, 7, 0, 7, "gap")); !errors.Is(err, record.ErrOutOfOrderSequence) {
			t.Errorf("with a gap: %v", err)
		}
	})
}

// TestFollowerHearsOfCommits: with the next tick if nobody waits there, and at
// once if somebody does, or did a moment ago.
func TestFollowerHearsOfCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		s.same(0)
		node, _ := s.leader(0).Leader()
		f := s.replica(uint64(node)%3+1, 0)
		hears := func() time.Duration {
			s.write(0, "b")
			began, want := time.Now(), s.leader(0).Offsets().HighWatermark
			synctest.Wait()
			eventually(t, func() bool { return f.Offsets().HighWatermark == want })
			return time.Since(began)
		}
		if took := hears(); took == 0 || took > 2*s.replica(1, 0).set.cfg.Tick {
			t.Errorf("nobody waits, and it hears of a commit after %s", took)
		}
		changed := f.Changed()
		hears() // whom its leader hears of with this acknowledgement
		select {
		case <-changed:
		default:
			t.Error("a change is not told")
		}
		for range 3 { // its leader goes by the last acknowledgement, or the one before
			<-time.After(waitedTime / 10)
			if took := hears(); took > 0 {
				t.Errorf("somebody waited a moment ago, and it hears of a commit after %s", took)
			}
		}
		f.Changed()
		<-time.After(2 * waitedTime)
		if took := hears(); took > 0 {
			t.Errorf("somebody waits, and it hears of a commit after %s", took)
		}
		<-time.After(2 * waitedTime)
		hears()
		if took := hears(); took == 0 {
			t.Errorf("nobody waits any more, and it hears of a commit after %s", took)
		}
	})
}
