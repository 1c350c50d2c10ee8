package catalog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
)

// siteOf is a site with nodes in zones; "" is a zone of its own.
func siteOf(t *testing.T, zones ...string) *State {
	t.Helper()
	s := must(t, New(), SiteInit{Site: "east", SiteID: 1})
	for i, z := range zones {
		s = must(t, s, RegisterNode{Name: fmt.Sprint("n", i+1), Site: "east", Rack: z, Nonce: fmt.Sprint("d", i+1)})
	}
	return s
}

func must(t *testing.T, s *State, c Command) *State {
	t.Helper()
	next, out, err := s.Apply(c)
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	if errs, ok := out.([]error); ok {
		for _, err := range errs {
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
		}
	}
	return next
}

// manyTopics creates topics of random sizes.
func manyTopics(t *testing.T, s *State, rng *rand.Rand, count int) *State {
	t.Helper()
	for i := range count {
		var id record.TopicID
		id[0], id[1], id[15] = byte(i), byte(i>>8), 1
		most := len(s.layout().nodes)
		s = must(t, s, CreateTopic{Name: fmt.Sprint("topic-", rng.Uint32()), ID: id, Partitions: 1 + rng.Int32N(9), Replicas: 1 + rng.Int32N(int32(most))})
	}
	return s
}

// span is the least and the most of a count over nodes.
func span(nodes []Node, count func(int32) int) (least, most int) {
	least = 1 << 30
	for _, n := range nodes {
		least, most = min(least, count(n.ID)), max(most, count(n.ID))
	}
	return least, most
}

// TestPlacementSpreads creates topics at random sites: replicas of a partition
// are in as many zones as there can be, the preferred leaders of nodes differ by
// one at most, and replicas hardly where zones do not bind them: leaders come
// first.
func TestPlacementSpreads(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		zoned := seed%2 == 0
		var zones []string
		for range 1 + rng.IntN(7) {
			zone := ""
			if zoned {
				zone = fmt.Sprint("z", rng.IntN(4))
			}
			zones = append(zones, zone)
		}
		s := manyTopics(t, siteOf(t, zones...), rng, 20)
		l := s.layout()
		s.eachPartition(func(topic *Topic, n int32, p Partition) bool {
			if got, want := len(l.countZones(p.Replicas)), min(len(p.Replicas), len(l.countZones(ids(l.nodes)))); got != want {
				t.Fatalf("seed %d: %s-%d on %v is in %d zones, want %d", seed, topic.Name, n, p.Replicas, got, want)
			}
			return true
		})
		if least, most := span(l.nodes, l.led); most-least > 1 {
			t.Fatalf("seed %d: preferred leaders from %d to %d: %v", seed, least, most, l.leads)
		}
		if least, most := span(l.nodes, l.has); !zoned && most-least > 2+most/20 {
			t.Fatalf("seed %d: replicas from %d to %d: %v", seed, least, most, l.replicas)
		}
	}
}

func ids(nodes []Node) (all []int32) {
	for _, n := range nodes {
		all = append(all, n.ID)
	}
	return all
}

// TestPlanLevelAtRandom: after nodes have come, a plan evens out what they have
// with no more copies than the new ones get where zones do not bind them, takes no
// partition out of a zone, and a second plan has nothing to do.
func TestPlanLevelAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 6))
		zoned := seed%2 == 0
		zones := []string{"", "", ""}
		if zoned {
			zones = []string{"a", "b", "c"}
		}
		s := manyTopics(t, siteOf(t, zones...), rng, 15)
		for i := range 1 + rng.IntN(3) {
			zone := ""
			if zoned {
				zone = zones[i]
			}
			s = must(t, s, RegisterNode{Name: fmt.Sprint("new", i), Site: "east", Rack: zone, Nonce: fmt.Sprint("x", i)})
		}
		before := s.layout()
		total := 0
		for _, n := range before.replicas {
			total += n
		}
		plan := s.PlanLevel(nil, 0)
		copies := 0
		for _, r := range plan {
			if len(r.Replicas) != len(r.Was) || len(before.countZones(r.Replicas)) < len(before.countZones(r.Was)) {
				t.Fatalf("seed %d: %+v", seed, r)
			}
			for _, n := range r.Replicas {
				if !slices.Contains(r.Was, n) {
					copies++
				}
			}
		}
		s = must(t, s, AlterPartitionReassignments{plan})
		after := s.layout()
		if least, most := span(after.nodes, after.has); !zoned && most-least > 1 {
			t.Fatalf("seed %d: replicas from %d to %d after the plan", seed, least, most)
		}
		needed := 0 // what the new nodes lack of their share
		for _, n := range after.nodes {
			if n.ID > 3 {
				needed += after.has(n.ID)
			}
		}
		if copies != needed && !zoned {
			t.Fatalf("seed %d: %d copies, the new nodes have %d of %d", seed, copies, needed, total)
		}
		for _, one := range s.PendingMoves(MoveLimits{}, nil) {
			p := one.Topic.Partitions[one.Partition]
			s = must(t, s, CompleteMove{one.Topic.Name, one.Partition, one.Seq, s.Members(p)})
		}
		if again := s.PlanLevel(nil, 0); len(again) > 0 {
			t.Fatalf("seed %d: a second plan: %+v", seed, again)
		}
	}
}

// TestPlanLeavingAtRandom empties a node: nothing is left on it, each partition
// has as many replicas as before, in as many zones as there can be.
func TestPlanLeavingAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 8))
		zones := []string{"a", "a", "b", "b", "c", ""}[:4+rng.IntN(3)]
		s := siteOf(t, zones...)
		s = must(t, s, DecommissionNode{Node: int32(len(zones))}) // so that no topic has a replica on each
		s = manyTopics(t, s, rng, 15)
		s = must(t, s, DecommissionNode{Node: int32(len(zones)), Cancel: true})
		gone := 1 + rng.Int32N(int32(len(zones))-1)
		s = must(t, s, DecommissionNode{Node: gone})
		plan, stuck := s.PlanLeaving()
		if len(stuck) > 0 {
			t.Fatalf("seed %d: %+v", seed, stuck)
		}
		s = must(t, s, AlterPartitionReassignments{plan})
		l := s.layout()
		s.eachPartition(func(topic *Topic, n int32, p Partition) bool {
			if slices.Contains(p.Replicas, gone) {
				t.Fatalf("seed %d: %s-%d is still on node %d", seed, topic.Name, n, gone)
			}
			return true
		})
		for _, r := range plan {
			kept := slices.DeleteFunc(slices.Clone(r.Replicas), func(n int32) bool { return !slices.Contains(r.Was, n) })
			if len(r.Replicas) != len(r.Was) || len(kept) != len(r.Was)-1 || len(l.countZones(r.Replicas)) < min(len(l.countZones(kept))+1, len(l.countZones(ids(l.nodes)))) {
				t.Fatalf("seed %d: %+v", seed, r)
			}
		}
	}
}

// TestMetaMembersAtRandom: as many voters as there can be up to five, an odd
// number, in as many zones as there are, up ones first; a voter that is up and
// in no crowded zone goes on.
func TestMetaMembersAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var zones []string
		for range 1 + rng.IntN(8) {
			zones = append(zones, []string{"", "a", "b", "c"}[rng.IntN(4)])
		}
		s := siteOf(t, zones...)
		down := int32(rng.IntN(len(zones) + 1))
		up := func(n int32) bool { return n != down }
		voters, learners := s.MetaMembers(nil, up)
		if len(voters)%2 == 0 || len(voters) > MaxMetaVoters || len(voters) < min(len(zones), MaxMetaVoters)-1 || len(voters)+len(learners) != len(zones) {
			t.Fatalf("seed %d: %d nodes, voters %v, learners %v", seed, len(zones), voters, learners)
		}
		l := s.layout()
		if down != 0 && slices.Contains(voters, memberID(down, 0)) && len(voters) < len(zones) {
			t.Fatalf("seed %d: node %d is down and votes, of %d nodes %v do", seed, down, len(zones), voters)
		}
		if got := len(l.countZones(nodesOf(voters))); down == 0 && got != min(len(voters), len(l.countZones(ids(l.nodes)))) {
			t.Fatalf("seed %d: voters %v are in %d zones of %v", seed, voters, got, zones)
		}
		again, _ := s.MetaMembers(voters, up)
		if !slices.Equal(again, voters) {
			t.Fatalf("seed %d: voters go from %v to %v though nothing has changed", seed, voters, again)
		}
	}
}
