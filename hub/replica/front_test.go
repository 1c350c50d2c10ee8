package replica

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A segment of which no record was ever written goes once it is sealed, and its
// entries with it: what they amount to is in the next one's header. Each replica
// seals its segments in its own time (they age, another leader supersedes what one
// has, a restart finds a torn end), so the log of one may begin with a later entry
// than those of others. No record is missing: such a replica leads as the others do.
func TestLogsBeginWhereTheirRecordsDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fetchSite(t, Config{RetentionEvery: time.Minute}, 1, 2, 3)
		defer s.stopAll()
		spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}}
		s.add(spec)
		s.leader(0) // whose first entry is number 2, and has no records
		one := s.follower(0)
		s.replica(one, 0).Configure(TopicConfig{SegmentAge: time.Second})
		for _, v := range []string{"a", "b"} { // the next segment's end is proof of its begin
			<-time.After(2 * time.Second)
			s.write(0, v)
		}
		first := func(id uint64) uint64 { return s.replica(id, 0).log.FirstIndex() }
		eventually(t, func() bool { return first(one) == 3 })
		for _, id := range s.ids() {
			if id != one && first(id) != 2 {
				t.Errorf("the log of node %d begins with entry %d, want 2", id, first(id))
			}
		}
		s.same(0)

		s.stop(one)
		s.start(one)
		s.addTo(one, spec)
		s.write(0, "c")
		s.same(0)
		if err := s.leader(0).transfer(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return s.replica(one, 0).Serving() == nil })
		chunk, err := s.replica(one, 0).Read(0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got := values(t, chunk); !slices.Equal(got, []string{"0:a", "1:b", "2:c"}) || s.replica(one, 0).Offsets().Start != 0 {
			t.Errorf("%q from offset %d", got, s.replica(one, 0).Offsets().Start)
		}
	})
}
