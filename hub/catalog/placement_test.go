package catalog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/storytest"
)

// placing is what stories about placement have beside the catalog.
type placing struct {
	placement Placement
	tasks     []Task
	members   []Member
}

func at(a storytest.Args) time.Time { return time.Unix(1000+a.Int("at", 0), 0) }

// placement handles the verbs task, member and place.
func (e *env) placement(verb string, a storytest.Args) string {
	switch verb {
	case "task":
		task := Task{Name: a.Bare()}
		for n := range strings.SplitSeq(a.Get("only"), ",") {
			var id int32
			if _, err := fmt.Sscan(n, &id); err == nil {
				task.Nodes = append(task.Nodes, id)
			}
		}
		e.tasks = append(e.tasks, task)
		return ""
	case "member":
		m := Member{Node: int32(a.Int("node", 0)), Weight: int(a.Int("weight", 1)), Since: at(a)}
		m.Health = map[string]Health{"alive": Alive, "failed": Failed, "left": Left}[a.Get("is")]
		for i, old := range e.members {
			if old.Node == m.Node {
				e.members[i] = m
				return ""
			}
		}
		e.members = append(e.members, m)
		return ""
	}
	grants, again := e.placing.placement.Step(at(a), e.tasks, e.members, e.state.Leases())
	var b strings.Builder
	for _, g := range grants {
		before := e.state.Lease(g.Task)
		next, result, err := e.state.Apply(g)
		if err != nil {
			e.t.Fatal(err)
		}
		e.state = next
		fmt.Fprintf(&b, "%s: node %d -> node %d, epoch %d\n", g.Task, before.Node, g.Node, result.(Lease).Epoch)
	}
	if !again.IsZero() {
		fmt.Fprintf(&b, "again at %d\n", again.Unix()-1000)
	}
	if b.Len() == 0 {
		return "nothing moves"
	}
	return b.String()
}

// TestPlacementAtRandom lets nodes come, fail and leave for a long time.
// Whatever happens: no task moves away from a node that is well more often
// than once a second, none moves within the grace of its node, none is
// without a node that is well for longer, and what is granted is best.
func TestPlacementAtRandom(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 9))
		s, _, _ := New().Apply(SiteInit{Site: "east", SiteID: 1})
		var members []Member
		for n := range 5 {
			s, _, _ = s.Apply(RegisterNode{Name: fmt.Sprint("n", n), Site: "east"})
			members = append(members, Member{Node: int32(n + 1), Weight: 1 + rng.IntN(3), Health: Alive, Since: time.Unix(0, 0)})
		}
		var tasks []Task
		for n := range 40 {
			tasks = append(tasks, Task{Name: fmt.Sprint("job", n)})
		}
		var p Placement
		now, lastMove := time.Unix(1000, 0), time.Time{}
		for range 400 {
			now = now.Add(time.Duration(rng.IntN(1500)) * time.Millisecond)
			if rng.IntN(12) == 0 {
				m := &members[rng.IntN(len(members))]
				m.Health, m.Since = Health(rng.IntN(3)), now
			}
			health := map[int32]Member{}
			alive := 0
			for _, m := range members {
				health[m.Node] = m
				if m.Health == Alive {
					alive++
				}
			}
			grants, _ := p.Step(now, tasks, members, s.Leases())
			for _, g := range grants {
				from := s.Lease(g.Task)
				switch m := health[from.Node]; {
				case from.Node != 0 && m.Health == Alive && now.Sub(lastMove) < moveEvery:
					t.Fatalf("seed %d: two moves within %v", seed, now.Sub(lastMove))
				case from.Node != 0 && m.Health == Alive:
					lastMove = now
				case from.Node != 0 && m.Health == Failed && now.Sub(m.Since) < failedGrace:
					t.Fatalf("seed %d: %s moved %v after its node failed", seed, g.Task, now.Sub(m.Since))
				}
				if health[g.Node].Health != Alive {
					t.Fatalf("seed %d: %s went to a node that is not well", seed, g.Task)
				}
				next, result, err := s.Apply(g)
				if err != nil || result.(Lease).Epoch != from.Epoch+1 {
					t.Fatalf("seed %d: %v, %v", seed, result, err)
				}
				s = next
			}
			for _, task := range tasks {
				m := health[s.Lease(task.Name).Node]
				if alive > 0 && (m.Health == Left || m.Health == Failed && now.Sub(m.Since) >= failedGrace) {
					t.Fatalf("seed %d: %s stays at node %d, which is gone", seed, task.Name, m.Node)
				}
			}
		}
	}
}

// TestPlacementByWeight: a node gets tasks in proportion to its weight.
func TestPlacementByWeight(t *testing.T) {
	counts := map[int32]int{}
	var tasks []Task
	for n := range 4000 {
		tasks = append(tasks, Task{Name: fmt.Sprint("job", n)})
	}
	members := []Member{{Node: 1, Weight: 1, Health: Alive}, {Node: 2, Weight: 3, Health: Alive}}
	var p Placement
	grants, _ := p.Step(time.Unix(5, 0), tasks, members, nil)
	for _, g := range grants {
		counts[g.Node]++
	}
	if counts[1] < 850 || counts[1] > 1150 || counts[1]+counts[2] != 4000 {
		t.Errorf("%v, want about 1000 and 3000", counts)
	}
}

// TestPlacementOfAnotherLeader: the catalog's leader changes at any time, and the
// next one knows only the leases and what gossip shows. It moves nothing that
// the one before would have left where it is, but one task at most.
func TestPlacementOfAnotherLeader(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 11))
		s, _, _ := New().Apply(SiteInit{Site: "east", SiteID: 1, Founders: []Founder{{Name: "a"}, {Name: "b"}, {Name: "c"}}})
		now := time.Unix(1000, 0)
		members := []Member{{Node: 1, Health: Alive}, {Node: 2, Health: Alive}, {Node: 3, Health: Alive}}
		var tasks []Task
		for n := range 20 {
			tasks = append(tasks, Task{Name: fmt.Sprint("job", n)})
		}
		old := &Placement{}
		for range 200 {
			now = now.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
			if m := &members[rng.IntN(3)]; rng.IntN(6) == 0 {
				m.Health, m.Since = Health(rng.IntN(3)), now
			}
			leases := s.Leases()
			byNew, _ := (&Placement{}).Step(now, tasks, members, leases)
			byOld, _ := old.Step(now, tasks, members, leases)
			if len(byNew) > len(byOld)+1 {
				t.Fatalf("seed %d: a new leader makes %d grants, the old one %d", seed, len(byNew), len(byOld))
			}
			if rng.IntN(5) == 0 {
				old, byOld = &Placement{}, byNew
			}
			for _, g := range byOld {
				next, _, err := s.Apply(g)
				if err != nil {
					t.Fatal(err)
				}
				s = next
			}
			// What both propose is taken once: the second grant has not seen the first.
			for _, g := range byNew {
				if _, _, err := s.Apply(g); err == nil && s.Lease(g.Task).Node != g.Node && s.Lease(g.Task).Epoch != g.After {
					t.Fatalf("seed %d: %+v is granted twice", seed, g)
				}
			}
		}
	}
}
