package replica

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// joining is a site of three with a log that goes as files, and a fourth node
// that is to get it.
func joining(t *testing.T) (*site, *linksConfig, Spec) {
	s, lc := fetchSite(t, Config{Workers: 2, FilesAbove: 1000}, 1, 2, 3, 4)
	spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: manySegments}
	s.add(spec)
	s.fill(60)
	return s, lc, spec
}

func (s *site) change(want Members) {
	s.t.Helper()
	eventually(s.t, func() bool {
		at, err := s.leader(0).Reconcile(s.t.Context(), want)
		return err == nil && (at.Done || strings.Contains(at.Doing, "catch"))
	})
}

func (s *site) staged(id uint64) bool {
	s.t.Helper()
	names, err := s.disks[id].List("data")
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.Contains(names, clicks(0).String()+".incoming")
}

// A copy that does not fit on the disk is not begun, the leader is not asked for
// it all the time, and it is made once there is room.
func TestFetchThatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lc, _ := joining(t)
		defer s.stopAll()
		disk := s.disks[4].(*vfs.Mem)
		sp, err := disk.Space("data")
		if err != nil {
			t.Fatal(err)
		}
		disk.SetCapacity(sp.Total - sp.Free + 3000)
		s.change(Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}})
		<-time.After(5*fullRest + fullRest/2)
		if n := lc.segments.Load(); n > 0 || s.staged(4) {
			t.Errorf("%d segments were asked for, something of them is there: %v", n, s.staged(4))
		}
		if n := lc.offers.Load(); n < 2 || n > 6 {
			t.Errorf("in five minutes and a half the log was asked for %d times, want about once a minute", n)
		}
		disk.SetCapacity(0)
		eventually(t, func() bool { return s.replica(4, 0).log.Size() > 5000 })
		s.write(0, "last")
		s.same(0)
	})
}

// What was fetched of a log that nobody wants any more does not stay: neither when
// that is known at once, nor when it is because nobody asks for it.
func TestWhatNobodyWantsIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lc, spec := joining(t)
		defer s.stopAll()
		// A follower that lacks nothing.
		lead, _ := s.leader(0).Leader()
		id := s.follower(0)
		s.nodes[id].set.want(s.replica(id, 0), lead)
		eventually(t, func() bool { return lc.segments.Load() > 0 && s.replica(id, 0).Status().Fetching == nil })
		if s.staged(id) {
			t.Error("what was not needed is there still")
		}
		// One that gets half of it and is not to be a member after all.
		first := true
		lc.cut = func(_ int32, b []byte) []byte {
			if !first {
				return nil
			}
			first = false
			return b[:len(b)/2]
		}
		s.change(Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}})
		eventually(t, func() bool { return s.staged(4) })
		s.change(Members{Voters: []uint64{1, 2, 3}})
		eventually(t, func() bool { return s.replica(4, 0).Status().Fetching == nil })
		<-time.After(stagedFor / 2)
		s.stop(4) // after a start it is not forgotten
		s.start(4)
		s.addTo(4, spec)
		<-time.After(stagedFor)
		if !s.staged(4) {
			t.Error("deleted too early")
		}
		<-time.After(2 * time.Minute)
		if s.staged(4) {
			t.Error("what nobody wants is there still")
		}
	})
}
