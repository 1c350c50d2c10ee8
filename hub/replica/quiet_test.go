package replica

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// rest waits until the group is quiet on all nodes.
func (s *site) rest(p int32) {
	s.t.Helper()
	eventually(s.t, func() bool {
		for _, id := range s.ids() {
			if !s.replica(id, p).view.Load().quiet {
				return false
			}
		}
		return true
	})
}

// until is for how long a condition does not hold.
func until(t testing.TB, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, ok)
	return time.Since(began)
}

// quietSite is three nodes with a group that rests, and its leader.
func quietSite(t *testing.T, cfg Config) (*site, Spec, *Replica) {
	cfg.Workers = 2
	s := newSite(t, cfg, 1, 2, 3)
	spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}}
	s.add(spec)
	s.write(0, "a", "b")
	if cfg.QuietTicks >= 0 {
		s.rest(0)
	}
	s.same(0)
	return s, spec, s.leader(0)
}

// A group that rests sends nothing of its own and takes no ticks; the nodes
// tell each other that they live. A write wakes it, and it rests again.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, lead := quietSite(t, Config{})
		defer s.stopAll()
		term := lead.Status().Term
		for range 3 {
			<-time.After(200 * time.Millisecond) // the last answer is on its way
			var frames, beats, others int
			s.net.set(func(n *memNet) {
				n.mu.lose = func(_, _ uint64, _ Class, frame []byte) bool {
					n.mu.Lock()
					defer n.mu.Unlock()
					f, err := decodeBeats(frame)
					if err != nil {
						others++
					}
					frames, beats = frames+1, beats+len(f.beats)
					return false
				}
			})
			<-time.After(10 * time.Second)
			s.net.set(func(n *memNet) { n.mu.lose = nil })
			if beats != 0 || others != 0 || frames < 6*95 || frames > 6*105 {
				t.Errorf("%d frames of heartbeats in 10 s, with %d items, and %d others; want a hundred from each node to each other, and nothing else", frames, beats, others)
			}
			if took := until(t, func() bool { _, err := appendWait(t, lead, batch(t, "c")); return err == nil }); took > 20*time.Millisecond {
				t.Errorf("a write to a group at rest took %v", took)
			}
			s.same(0)
			s.rest(0)
		}
		if now := s.leader(0); now != lead || now.Status().Term != term {
			t.Errorf("the leader changed: term %d, then %d", term, now.Status().Term)
		}
	})
}

// A leader at rest that is cut off stops serving, and another serves, about as
// soon as if the group had not been at rest.
func TestQuietLeaderCutOff(t *testing.T) {
	const rounds = 40
	var took [2]time.Duration // of all rounds, until the others could write
	for i, quiet := range []int{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			s, _, lead := quietSite(t, Config{QuietTicks: quiet})
			defer s.stopAll()
			for range rounds {
				lead = s.leader(0)
				node, _ := lead.Leader()
				s.net.cut(uint64(node), true)
				began := time.Now()
				served := make(chan time.Duration, 1)
				go func() {
					for {
						changed := lead.Changed()
						if lead.Serving() != nil {
							served <- time.Since(began)
							return
						}
						<-changed
					}
				}()
				s.write(0, "c")
				took[i] += time.Since(began)
				select {
				case took := <-served:
					if took > 3500*time.Millisecond {
						t.Errorf("quiet %v: a leader that is cut off served for %v", quiet == 0, took)
					}
				case <-time.After(time.Minute):
					t.Fatal("a leader that is cut off serves on")
				}
				s.net.cut(uint64(node), false)
				s.write(0, "d")
				if quiet == 0 {
					s.rest(0)
				}
				s.same(0)
			}
		})
	}
	if took[0] > took[1]+rounds*500*time.Millisecond {
		t.Errorf("%d elections took %v where the group was at rest, else %v", rounds, took[0], took[1])
	}
}

// What is lost on its way to a group at rest is sent again, and a group does not
// rest while a member is behind.
func TestQuietAppendsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, lead := quietSite(t, Config{})
		defer s.stopAll()
		node, _ := lead.Leader()
		behind := uint64(node%3 + 1)
		lose := func(who func(to uint64) bool) {
			s.net.set(func(n *memNet) {
				n.mu.lose = func(_, to uint64, class Class, _ []byte) bool { return class == ClassAppend && who(to) }
			})
		}
		lose(func(uint64) bool { return true })
		done := make(chan error, 1)
		lead.Append([]record.Batch{batch(t, "c")}, func(_ []record.Appended, err error) { done <- err })
		<-time.After(3 * time.Second)
		lose(func(to uint64) bool { return to == behind })
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(3 * time.Second):
			t.Fatal("what was lost is not sent again")
		}
		<-time.After(5 * time.Second)
		if lead.view.Load().quiet {
			t.Error("the leader rests while a member is behind")
		}
		s.net.set(func(n *memNet) { n.mu.lose = nil })
		s.same(0)
		s.rest(0)
	})
}

// A node that is said to have failed, and has, is replaced early; one that is
// heard goes on leading, in the same term.
func TestNodeFailed(t *testing.T) {
	const rounds = 40 // elections without a winner are a matter of chance: 2 of 300 times 10 took longer
	var all time.Duration
	for range rounds / 2 {
		testNodeFailed(t, &all)
	}
	if all > rounds*900*time.Millisecond { // 3 ticks of silence, and up to 5, but for elections without a winner
		t.Errorf("the others led %v after the hint, %d times together", all, rounds)
	}
}

func testNodeFailed(t *testing.T, all *time.Duration) {
	for _, quiet := range []int{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			s, _, lead := quietSite(t, Config{QuietTicks: quiet})
			defer s.stopAll()
			node, _ := lead.Leader()
			hint := func() {
				for id, n := range s.nodes {
					if id != uint64(node) {
						n.set.NodeFailed(node)
					}
				}
			}
			term := lead.Status().Term
			for range 20 {
				hint()
				<-time.After(470 * time.Millisecond)
			}
			if now := s.leader(0); now != lead || now.Status().Term != term {
				t.Errorf("a false hint changed the leader: term %d, then %d", term, now.Status().Term)
			}
			s.net.cut(uint64(node), true)
			hint()
			took := until(t, func() bool {
				for id := range s.nodes {
					if id != uint64(node) && s.replica(id, 0).Serving() == nil {
						return true
					}
				}
				return false
			})
			*all += took
		})
	}
}

// A leader's replica that fails or is quarantined while its node lives on, its last
// word lost, and one whose process is started again at once: the others notice
// though the group is at rest.
func TestQuietLeaderGone(t *testing.T) {
	for _, how := range []string{"failed", "quarantined", "restarted"} {
		synctest.Test(t, func(t *testing.T) {
			s, spec, lead := quietSite(t, Config{})
			defer s.stopAll()
			node, _ := lead.Leader()
			switch how {
			case "failed":
				lead.completed(errors.New("the disk is gone"))
				eventually(t, func() bool { return lead.Status().Role == RoleFailed })
			case "quarantined":
				s.net.cut(uint64(node), true)
				lead.log.Quarantine(errors.New("a bit has flipped"))
				lead.noteDamage()
				eventually(t, func() bool { return lead.Status().Role == RoleQuarantined })
				s.net.cut(uint64(node), false)
			default:
				s.stop(uint64(node))
				s.start(uint64(node))
				s.addTo(uint64(node), spec)
			}
			took := until(t, func() bool {
				for _, id := range s.ids() {
					if s.replica(id, 0).Serving() == nil {
						return true
					}
				}
				return false
			})
			if took > 2500*time.Millisecond {
				t.Errorf("%s: another leads after %v", how, took)
			}
			s.write(0, "c")
			if how == "restarted" {
				s.rest(0)
				s.same(0)
			}
		})
	}
}

// Nodes come and go, are cut off, lose frames; groups rest in between. Whatever
// happened, when all is well again every group can be written to, is the same
// everywhere, and comes to rest.
func TestQuietRandom(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			s, _, _ := quietSite(t, Config{})
			defer s.stopAll()
			specs := []Spec{{ID: clicks(0), Born: []uint64{1, 2, 3}}, {ID: clicks(1), Born: []uint64{1, 2, 3}}}
			s.add(specs[1])
			for range 25 {
				id := uint64(rng.IntN(3) + 1)
				switch rng.IntN(6) {
				case 0:
					s.net.cut(id, true)
				case 1:
					s.net.cut(id, false)
				case 2:
					s.stop(id)
					<-time.After(time.Duration(rng.IntN(3)) * time.Second / 2)
					s.start(id)
					for _, spec := range specs {
						s.addTo(id, spec)
					}
				case 3:
					n := rng.IntN(10)
					drop := rand.New(rand.NewPCG(seed, 4))
					s.net.set(func(net *memNet) {
						net.mu.lose = func(uint64, uint64, Class, []byte) bool {
							net.mu.Lock()
							defer net.mu.Unlock()
							return drop.IntN(10) < n
						}
					})
				case 4:
					s.nodes[id].set.NodeFailed(int32(rng.IntN(3) + 1))
				default:
					r := s.replica(id, int32(rng.IntN(2)))
					r.Append([]record.Batch{batch(t, fmt.Sprint(rng.Uint64()))}, func([]record.Appended, error) {})
				}
				<-time.After(time.Duration(rng.IntN(4000)) * time.Millisecond)
			}
			s.net.set(func(net *memNet) { net.mu.lose = nil; clear(net.mu.cut) })
			for p := range int32(2) {
				took := until(t, func() bool {
					for _, id := range s.ids() {
						if r := s.replica(id, p); r.Serving() == nil {
							_, err := appendWait(t, r, batch(t, "end"))
							return err == nil
						}
					}
					return false
				})
				if took > 5*time.Second {
					t.Errorf("seed %d: partition %d could be written %v after all was well", seed, p, took)
				}
				s.rest(p)
				s.same(p)
			}
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}

// Led says on each node that it begins or ceases to lead, and is the same while
// records are written and read.
func TestLed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, spec, lead := quietSite(t, Config{})
		defer s.stopAll()
		led := func() map[uint64]uint64 {
			all := map[uint64]uint64{}
			for _, id := range s.ids() {
				all[id] = s.nodes[id].set.Led()
			}
			return all
		}
		was := led()
		if old := lead.set.cfg.Member; was[old] == 0 {
			t.Errorf("node %d leads, and it has not been told", old)
		}
		s.write(0, "c", "d")
		s.rest(0)
		if now := led(); !maps.Equal(now, was) {
			t.Errorf("a write changed who leads: %v, before it %v", now, was)
		}
		old := lead.set.cfg.Member
		next := old%3 + 1
		if err := lead.TransferTo(t.Context(), NodeOf(next)); err != nil {
			t.Fatal(err)
		}
		waitServing(t, s.replica(next, 0))
		now := led()
		if now[old] == was[old] || now[next] == was[next] {
			t.Errorf("node %d handed over to %d: %v, before it %v", old, next, now, was)
		}
		was = now
		if err := s.nodes[next].set.Remove(spec.ID, true); err != nil {
			t.Fatal(err)
		}
		if now := led(); now[next] == was[next] {
			t.Errorf("node %d has removed what it led, and tells nothing", next)
		}
	})
}
