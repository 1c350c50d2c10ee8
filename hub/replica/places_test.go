package replica

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// A bit flips on one of three nodes, in what was committed long ago: it is found
// by scrubbing, reported, the log quarantined and repaired from the others, and
// nothing is lost. An index says nothing that the frames do not: it is written anew
// from them, and the log serves on.
func TestEveryPlaceIsRepaired(t *testing.T) {
	for _, place := range []string{"batch", "frame header", "segment header", "index"} {
		t.Run(place, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { flipAndRepair(t, place) })
		})
	}
}

func flipAndRepair(t *testing.T, place string) {
	s, _ := fetchSite(t, Config{Workers: 2, ScrubEvery: 24 * time.Hour})
	var told lockedBuffer
	s.store.TailCacheBytes = -1
	s.store.Logger = slog.New(slog.NewTextHandler(&told, nil))
	s.cfg.Logger = s.store.Logger
	for _, id := range []uint64{1, 2, 3} {
		s.disks[id] = vfs.NewMem()
		s.start(id)
	}
	defer s.stopAll()
	s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: manySegments})
	s.fill(60)
	s.same(0)
	id := s.follower(0)
	r, set := s.replica(id, 0), s.nodes[id].set
	// A follower may have got all of it at once, into one segment.
	file, at := s.place(id, place)
	for i := 0; file == "" && i < 60; i++ {
		s.write(0, fmt.Sprintf("more-%02d", i))
		s.same(0)
		file, at = s.place(id, place)
	}
	if file == "" {
		t.Fatalf("no %s in a sealed segment", place)
	}
	if err := s.disks[id].(*vfs.Mem).Flip(file, at, 4); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, func() bool { st := set.Scrubbed(); return st.Damaged+st.Indexes > 0 })
	found := time.Since(began)
	want := ScrubStats{Damaged: 1}
	if place == "index" {
		want = ScrubStats{Indexes: 1, Mended: 1}
	}
	if got := set.Scrubbed(); got.Damaged != want.Damaged || got.Indexes != want.Indexes || got.Mended != want.Mended {
		t.Errorf("found %+v, want %+v", got, want)
	}
	if place == "index" {
		if r.Status().Quarantined {
			t.Error("quarantined for an index")
		}
	} else {
		s.write(0, "while it is quarantined")
		eventually(t, func() bool { return !r.Status().Quarantined && r.Status().Role == RoleFollower })
	}
	whole := time.Since(began) - found
	s.write(0, "when it is back")
	s.same(0)
	if sound := s.verify(id); sound != "ok" {
		t.Errorf("what was repaired is %s", sound)
	}
	name, seq := path.Base(file), 0
	if _, err := fmt.Sscanf(name, "%d-", &seq); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told.String(), name) && !strings.Contains(told.String(), fmt.Sprintf("segment=%d", seq)) {
		t.Errorf("nothing was told of %s:\n%s", name, told.String())
	}
	how := fmt.Sprintf("reported, quarantined, whole again from the leader %s later", whole)
	if place == "index" {
		how = "reported, written anew from the frames"
	}
	t.Logf("%s: bit 2 of byte %d of %s, found by scrubbing, %s, nothing lost", place, at, name, how)
}

// The leader of a log has an index that has decayed, in a file that a follower whose
// own copy was lost is to be filled with. No follower takes such a file: the leader
// is told, looks, and writes the index anew.
func TestFilledByAnIndexThatDecayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fetchSite(t, Config{Workers: 2, ScrubRate: -1}, 1, 2, 3)
		defer s.stopAll()
		spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: manySegments}
		s.add(spec)
		for i := range 40 {
			s.write(0, fmt.Sprintf("value-%02d", i))
			s.same(0)
		}
		node, _ := s.leader(0).Leader()
		file, at := s.place(uint64(node), "index")
		if err := s.disks[uint64(node)].(*vfs.Mem).Flip(file, at, 4); err != nil {
			t.Fatal(err)
		}
		id := s.follower(0)
		s.stop(id)
		removeAll(t, s.disks[id], path.Join("data", clicks(0).String()))
		s.start(id)
		r := s.addTo(id, spec)
		eventually(t, func() bool { return !r.Status().Quarantined && r.Status().Role == RoleFollower })
		s.same(0)
		if got := s.nodes[uint64(node)].set.Scrubbed(); got.Indexes != 1 || got.Mended != 1 {
			t.Errorf("the leader found %+v", got)
		}
	})
}

// place is a byte of one of a node's sealed segments; no file if none has such a
// place.
func (s *site) place(id uint64, what string) (file string, at int64) {
	s.t.Helper()
	dir := path.Join("data", clicks(0).String())
	var text bytes.Buffer
	if err := storage.Dump(s.disks[id].(*vfs.Mem).KillClone(), dir, &text, true); err != nil {
		s.t.Fatal(err)
	}
	const frameHeader = 56
	var in string // the segment in which such a place was found
	for dec := json.NewDecoder(&text); dec.More(); {
		var f dumpedFrame
		if err := dec.Decode(&f); err != nil {
			s.t.Fatal(err)
		}
		switch {
		case f.What == "data" && what == "batch":
			in, at = f.File, f.At+frameHeader+70
		case f.What == "data" && what == "frame header":
			in, at = f.File, f.At+frameHeader/2
		case f.What == "header" && what == "segment header", f.What == "footer" && what == "index":
			in, at = f.File, f.At+f.Length/2
		}
		if f.What == "footer" && f.File == in {
			return path.Join(dir, f.File), at
		}
	}
	return "", 0
}

// verify is what a check of a node's disk as it is says of the log.
func (s *site) verify(id uint64) string {
	s.t.Helper()
	rep, err := storage.Verify(s.disks[id].(*vfs.Mem).KillClone(), path.Join("data", clicks(0).String()))
	if err != nil || len(rep.Logs) != 1 {
		s.t.Fatalf("%+v, %v", rep, err)
	}
	one := rep.Logs[0]
	if i := slices.IndexFunc(one.Segments, func(g storage.SegmentReport) bool { return g.State == "damaged" || g.Detail != "" }); i >= 0 {
		return one.Segments[i].Detail
	}
	return one.State
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu struct {
		sync.Mutex
		bytes.Buffer
	}
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.Buffer.String()
}
