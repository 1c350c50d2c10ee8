package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// links are a node's calls to the others.
type links struct {
	net  *memNet
	from uint64
	cfg  *linksConfig
}

// linksConfig is what a test does to all calls.
type linksConfig struct {
	offers   atomic.Int64 // logs that were asked for
	segments atomic.Int64 // streams that were opened
	cut      func(node int32, b []byte) []byte
	sending  func() // called by a node with every piece that it sends
}

// sent is what a node has sent of a stream.
type sent struct {
	bytes.Buffer
	cfg *linksConfig
}

func (s *sent) Write(b []byte) (int, error) {
	if s.cfg.sending != nil {
		s.cfg.sending()
	}
	return s.Buffer.Write(b)
}

func (l links) to(node int32) (*Set, error) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	for id, set := range l.net.mu.sets {
		if NodeOf(id) == node && !l.net.mu.cut[id] && !l.net.mu.cut[l.from] {
			return set, nil
		}
	}
	return nil, fmt.Errorf("node %d cannot be reached", node)
}

func (l links) Call(ctx context.Context, node int32, method string, body []byte) ([]byte, error) {
	set, err := l.to(node)
	if err != nil {
		return nil, err
	}
	if method == methodOffer {
		l.cfg.offers.Add(1)
	}
	return set.Answer(ctx, method, body)
}

func (l links) Open(ctx context.Context, node int32, method string, body []byte) (io.ReadCloser, error) {
	set, err := l.to(node)
	if err != nil {
		return nil, err
	}
	w := sent{cfg: l.cfg}
	if err := set.Stream(ctx, method, body, &w); err != nil {
		return nil, err
	}
	l.cfg.segments.Add(1)
	b := w.Bytes()
	if l.cfg.cut != nil {
		b = l.cfg.cut(node, b)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (l links) Holders(storage.LogID) (nodes []int32) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	for id := range l.net.mu.sets {
		nodes = append(nodes, NodeOf(id))
	}
	slices.Sort(nodes)
	return nodes
}

// fetchSite is a site whose nodes fetch from each other.
func fetchSite(t *testing.T, cfg Config, ids ...uint64) (*site, *linksConfig) {
	lc := &linksConfig{}
	s := newSite(t, cfg)
	s.links = lc
	for _, id := range ids {
		s.disks[id] = vfs.NewMem()
		s.start(id)
	}
	return s, lc
}

// follower is a node that does not lead.
func (s *site) follower(p int32) uint64 {
	lead, _ := s.leader(p).Leader()
	for _, id := range s.ids() {
		if NodeOf(id) != lead {
			return id
		}
	}
	return 0
}

var manySegments = TopicConfig{SegmentBytes: 1500}

// A member that joins a group with a large log gets it as files, in pieces if
// the connection breaks, and goes on with messages.
func TestJoinByFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lc, _ := joining(t)
		defer s.stopAll()
		var breaks int
		lc.cut = func(_ int32, b []byte) []byte {
			if breaks++; breaks%3 == 1 {
				return b[:len(b)/2]
			}
			return b
		}
		s.reconcile(0, Members{Voters: []uint64{1, 2, 4}})
		s.stop(3)
		s.write(0, "last")
		s.same(0)
		r := s.replica(4, 0)
		if n := lc.segments.Load(); n == 0 {
			t.Error("nothing was fetched as a file")
		}
		if first := r.log.FirstIndex(); first != 2 {
			t.Errorf("the log begins with entry %d, want all of it", first)
		}
		if st := r.Status(); st.Fetching != nil || st.Quarantined || st.Role == RoleFailed {
			t.Errorf("%+v", st)
		}
		// The copy is as good as the others: it carries the group alone with one.
		s.stop(1)
		s.write(0, "after")
		s.same(0)
	})
}

// A log that is compacted goes to a follower that was away as files, holes and
// all.
func TestCompactedGoesByFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lc := fetchSite(t, Config{Workers: 2, CompactEvery: time.Second, CompactRate: -1}, 1, 2, 3)
		s.store.IdleAfter = time.Millisecond
		defer s.stopAll()
		topic := TopicConfig{SegmentBytes: 1500, Keep: true, Compact: Compaction{On: true, DirtyRatio: 0.1}}
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: topic})
		put := func(i int) {
			eventually(t, func() bool {
				_, err := appendWait(t, s.leader(0), keyed(t, fmt.Sprintf("k%d", i%5), fmt.Sprintf("v%d", i)))
				return err == nil
			})
		}
		put(0)
		away := s.follower(0)
		s.stop(away)
		for i := 1; i < 200; i++ {
			put(i)
		}
		lead := s.leader(0)
		eventually(t, func() bool { return lead.log.Whole() > 100 })
		s.start(away)
		s.addTo(away, Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: topic})
		put(200)
		s.same(0)
		if lc.segments.Load() == 0 {
			t.Error("nothing was fetched as a file")
		}
		// Now it leads.
		eventually(t, func() bool {
			return s.leader(0).TransferTo(t.Context(), NodeOf(away)) == nil && s.leader(0) == s.replica(away, 0)
		})
		last, _ := lastOfKeys(t, s.replica(away, 0))
		for k := range 5 {
			if want := fmt.Sprintf("v%d", 195+(k+5)%5); k != 0 && last[fmt.Sprintf("k%d", k)] != want {
				t.Errorf("k%d ends as %q, want %q", k, last[fmt.Sprintf("k%d", k)], want)
			}
		}
	})
}

// damage flips a bit of a value in a node's disk while it is down.
func (s *site) damage(id uint64, value string) {
	s.t.Helper()
	dir := path.Join("data", clicks(0).String())
	names, err := s.disks[id].List(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	mem := s.disks[id].(*vfs.Mem)
	for _, name := range names {
		f, err := mem.Open(path.Join(dir, name))
		if err != nil {
			s.t.Fatal(err)
		}
		size, _ := f.Size()
		b := make([]byte, size)
		_, _ = f.ReadAt(b, 0)
		_ = f.Close()
		if at := bytes.Index(b, []byte(value)); at >= 0 {
			if err := mem.Flip(path.Join(dir, name), int64(at), 1); err != nil {
				s.t.Fatal(err)
			}
			return
		}
	}
	s.t.Fatalf("%q is in none of %q", value, names)
}

// A bit that flipped in a follower's and then in the leader's log is found,
// served to nobody, and the replica is whole again by itself.
func TestDamageIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fetchSite(t, Config{Workers: 2}, 1, 2, 3)
		s.store.TailCacheBytes = -1
		for _, id := range s.ids() {
			s.stop(id)
			s.start(id)
		}
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: manySegments})
		s.fill(60)
		s.same(0)
		for _, leads := range []bool{false, true} {
			id := s.follower(0)
			if leads {
				node, _ := s.leader(0).Leader()
				id = uint64(node)
			}
			r := s.replica(id, 0)
			s.damage(id, "value-30")
			if _, err := r.log.Read(30, 31, 100); !errors.Is(err, record.ErrQuarantined) {
				t.Fatalf("read what is damaged: %v", err)
			}
			if leads {
				if _, err := r.Read(30, 100); err == nil {
					t.Fatal("the leader served what is damaged")
				}
			} else {
				r.noteDamage()
			}
			eventually(t, func() bool { return r.Status().Quarantined })
			if c, err := r.Read(3, 100); err != nil || len(c.Batches) == 0 {
				t.Errorf("below the damage: %v", err)
			}
			s.write(0, "while it is quarantined")
			eventually(t, func() bool { return !r.Status().Quarantined })
			s.write(0, "when it is back")
			s.same(0)
			if r.log.Damage() != nil {
				t.Errorf("damage %v", r.log.Damage())
			}
		}
		// What was repaired is as good as the rest, over a restart, too.
		for _, id := range s.ids() {
			s.stop(id)
			s.start(id)
			s.addTo(id, Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: manySegments})
			s.write(0, "after a restart")
		}
		s.same(0)
	})
}

// Damage that is found while a log is fetched: the leader that offered it may have
// been deposed by then, with this replica's vote, and lack what it has acknowledged.
func TestDamageFoundWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fetchSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: manySegments})
		s.fill(40)
		s.same(0)
		id := s.follower(0)
		r, lead := s.replica(id, 0), s.leader(0)
		o, err := lead.offer(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		g, err := r.set.store.Stage(o.manifest)
		if err == nil {
			err = g.Fetch(t.Context(), func(_ context.Context, f storage.ManifestFile, at int64) (io.ReadCloser, error) {
				return lead.log.OpenSegment(f, at)
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		s.net.cut(id, true)
		r.log.Quarantine(errors.New("a bit has flipped"))
		r.noteDamage()
		eventually(t, func() bool { return r.Status().Quarantined })
		if err := r.become(t.Context(), g, o); !errors.Is(err, record.ErrQuarantined) {
			t.Errorf("a log that was offered before the damage was found: %v", err)
		}
		if !r.Status().Quarantined {
			t.Error("it took the place of the damaged one")
		}
		s.net.cut(id, false)
		eventually(t, func() bool { return !r.Status().Quarantined })
		s.write(0, "when it is back")
		s.same(0)
	})
}

// A log whose folder was taken away does not begin anew: it comes back from the
// leader, and its node is in a term in which it cannot have voted.
func TestLostFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fetchSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: manySegments}
		s.add(spec)
		s.fill(40)
		s.same(0)
		id := s.follower(0)
		was := s.replica(id, 0).Status()
		s.stop(id)
		removeAll(t, s.disks[id], path.Join("data", clicks(0).String()))
		s.start(id)
		r := s.addTo(id, spec)
		if st := r.Status(); !st.Quarantined {
			t.Fatalf("a lost log is %+v", st)
		}
		eventually(t, func() bool { return !r.Status().Quarantined })
		s.write(0, "more")
		s.same(0)
		if h := r.log.Hard(); h.Term <= was.Term {
			t.Errorf("hard state %+v, its votes up to term %d are lost", h, was.Term)
		}
	})
}

// Alone, a group has nobody to be repaired from: it stays quarantined, and says
// so. A folder that is gone begins anew there, since nothing can bring it back.
func TestNobodyToRepairFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fetchSite(t, Config{Workers: 2}, 1)
		defer s.stopAll()
		spec := Spec{ID: clicks(0), Born: []uint64{1}, Alone: true, Topic: manySegments}
		s.add(spec)
		s.fill(40)
		s.stop(1)
		s.damage(1, "value-10")
		s.start(1)
		r := s.addTo(1, spec)
		_, _ = s.leader(0).Read(10, 100)
		eventually(t, func() bool { return r.Status().Quarantined })
		<-time.After(time.Minute)
		if !r.Status().Quarantined {
			t.Error("repaired from nobody")
		}
		s.stop(1)
		removeAll(t, s.disks[1], path.Join("data", clicks(0).String()))
		s.start(1)
		if st := s.addTo(1, spec).Status(); st.Quarantined {
			t.Errorf("%+v", st)
		}
		s.write(0, "anew")
	})
}

func removeAll(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	names, err := fs.List(dir)
	for _, n := range names {
		err = errors.Join(err, fs.Remove(path.Join(dir, n)))
	}
	if err := errors.Join(err, fs.Remove(dir), fs.SyncFS(dir[:4])); err != nil {
		t.Fatal(err)
	}
}

// A node whose disk fails hands all that it leads over at once, also the groups
// that write nothing, and the others go on.
func TestOfflineVolumeHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bad atomic.Pointer[string] // name of what cannot be synced
		s, _ := fetchSite(t, Config{Workers: 2})
		for _, id := range []uint64{1, 2, 3} {
			s.disks[id] = vfs.NewMem()
		}
		s.disks[1] = vfs.WithFaults(s.disks[1], func(op *vfs.Op) error {
			if p := bad.Load(); p != nil && op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		for _, id := range []uint64{1, 2, 3} {
			s.start(id)
		}
		defer s.stopAll()
		for p := range int32(4) {
			s.add(Spec{ID: clicks(p), Born: []uint64{1, 2, 3}})
			s.write(p, "a")
			eventually(t, func() bool {
				if s.leader(p) == s.replica(1, p) {
					return true
				}
				_ = s.leader(p).TransferTo(t.Context(), 1)
				return false
			})
		}
		began := time.Now()
		bad.Store(new(string))
		r := s.replica(1, 0)
		r.Append([]record.Batch{batch(t, "b")}, func([]record.Appended, error) {})
		for p := range int32(4) {
			eventually(t, func() bool {
				for _, id := range []uint64{2, 3} {
					if s.replica(id, p).Serving() == nil {
						return true
					}
				}
				return false
			})
			if st := s.replica(1, p).Status(); st.Role != RoleFailed || !errors.Is(st.Err, record.ErrOffline) {
				t.Errorf("partition %d: %+v", p, st)
			}
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("others lead after %v, want less than an election timeout", took)
		}
		s.net.cut(1, true)
	})
}

// What decays where nobody reads is found by scrubbing, repaired from the leader,
// and how far the scrub came survives a restart.
func TestScrub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fetchSite(t, Config{Workers: 2, ScrubRate: 1000, ScrubEvery: 24 * time.Hour}, 1, 2, 3)
		defer s.stopAll()
		spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}, Topic: manySegments}
		s.add(spec)
		for i := range 60 {
			for _, id := range s.ids() {
				s.replica(id, 0).Changed() // followers hear of commits at once
			}
			s.write(0, fmt.Sprintf("value-%02d", i))
			s.same(0) // else a follower that is behind has it all in one segment
		}
		id := s.follower(0)
		s.damage(id, "value-30")
		<-time.After(scrubRest + 2*time.Second)
		s.stop(id)
		mark := s.mark(id)
		if mark.Began == 0 || mark.Seq == 0 || mark.Bytes == 0 {
			t.Errorf("stopped in the middle of a pass, the mark is %+v", mark)
		}
		s.start(id)
		r := s.addTo(id, spec)
		set := s.nodes[id].set
		eventually(t, func() bool { return set.Scrubbed().Damaged == 1 })
		eventually(t, func() bool { return !r.Status().Quarantined && r.Status().Role == RoleFollower })
		s.write(0, "more")
		s.same(0)
		eventually(t, func() bool { st := set.Scrubbed(); return !st.LastPass.IsZero() && !st.Running })
		if mark := s.nodes[id].store.ScrubMark(); mark.Done == 0 || mark.Began != 0 {
			t.Errorf("after a whole pass: %+v", mark)
		}
	})
}

// While a log is copied, the nodes that it is copied from and to check nothing of
// their disks; afterwards they go on.
func TestScrubGivesWayToCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lc, _ := joining(t)
		defer s.stopAll()
		goOn := make(chan struct{})
		lc.sending = func() { <-goOn }
		from, _ := s.leader(0).Leader()
		if _, err := s.leader(0).Reconcile(t.Context(), Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * scrubRest)
		for _, id := range s.ids() {
			busy := NodeOf(id) == from || id == 4
			if st := s.nodes[id].set.Scrubbed(); st.LastPass.IsZero() != busy {
				t.Errorf("node %d copies: %v, and its scrub: %+v", id, busy, st)
			}
		}
		close(goOn)
		eventually(t, func() bool {
			for _, id := range s.ids() {
				if s.nodes[id].set.Scrubbed().LastPass.IsZero() {
					return false
				}
			}
			return true
		})
	})
}

// mark is how far the scrub of a node came that is down.
func (s *site) mark(id uint64) storage.ScrubMark {
	s.t.Helper()
	st, err := storage.Open(s.disks[id], "data", s.store)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	return st.ScrubMark()
}

// A replica is removed while its log comes as files: that ends first, and nothing
// of it is left.
func TestRemoveWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lc, spec := joining(t)
		defer s.stopAll()
		comes, goOn := make(chan struct{}, 100), make(chan struct{})
		lc.cut = func(_ int32, b []byte) []byte {
			comes <- struct{}{}
			<-goOn
			return b
		}
		if _, err := s.leader(0).Reconcile(t.Context(), Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}); err != nil {
			t.Fatal(err)
		}
		<-comes
		removed := make(chan error, 1)
		go func() { removed <- s.nodes[4].set.Remove(spec.ID, true) }()
		synctest.Wait()
		select {
		case err := <-removed:
			close(goOn)
			t.Fatalf("removed while its log is written: %v", err)
		default:
		}
		close(goOn)
		if err := <-removed; err != nil {
			t.Error(err)
		}
		names, err := s.disks[4].List("data")
		if err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, spec.ID.String()) }) {
			t.Errorf("left: %q, %v", names, err)
		}
	})
}
