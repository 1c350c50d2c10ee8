package share

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
)

// fixed is a site's topics: their partitions by name.
type fixed struct {
	version    int64
	partitions map[string]int32
}

func (f *fixed) Version() int64 { return f.version }

func (f *fixed) Topic(name string) (id record.TopicID, partitions int32, ok bool) {
	copy(id[:], name)
	partitions, ok = f.partitions[name]
	return id, partitions, ok
}

func beat(t *testing.T, g *Group, now int, h Heartbeat, topics Topics) Answer {
	t.Helper()
	a, err := g.Heartbeat(at(now), DefaultSettings(), h, topics)
	if err != nil {
		t.Fatalf("%+v: %v", h, err)
	}
	return a
}

func TestGroupLife(t *testing.T) {
	site := &fixed{1, map[string]int32{"t": 2}}
	id, _, _ := site.Topic("t")
	g := NewGroup(Limits{MaxMembers: 3})
	first := beat(t, g, 0, Heartbeat{MemberID: "a", Topics: []string{"t", "t", "none"}}, site)
	if !slices.Equal(first.Assignment[id], []int32{0, 1}) || first.Epoch < 1 {
		t.Errorf("%+v", first)
	}
	beat(t, g, 0, Heartbeat{MemberID: "b", Topics: []string{"t"}}, site)
	next := beat(t, g, 1, Heartbeat{MemberID: "a", Epoch: first.Epoch}, site)
	if !slices.Equal(next.Assignment[id], []int32{0}) || next.Epoch <= first.Epoch {
		t.Errorf("%+v", next)
	}
	if again := beat(t, g, 2, Heartbeat{MemberID: "a", Epoch: first.Epoch}, site); again.Epoch != next.Epoch {
		t.Errorf("an answer that was lost: %+v", again)
	}
	if quiet := beat(t, g, 3, Heartbeat{MemberID: "a", Epoch: next.Epoch}, site); quiet.Assignment != nil {
		t.Errorf("told again what it knows: %+v", quiet)
	}
	site.version, site.partitions["t"] = 2, 4
	if grown := beat(t, g, 4, Heartbeat{MemberID: "a", Epoch: next.Epoch}, site); !slices.Equal(grown.Assignment[id], []int32{0, 2}) {
		t.Errorf("after the topic grew: %+v", grown)
	}
	for _, one := range []struct {
		h    Heartbeat
		want error
	}{
		{Heartbeat{MemberID: "x", Epoch: 1}, ErrMember}, {Heartbeat{MemberID: "x", Epoch: -1}, ErrMember}, {Heartbeat{MemberID: "a", Epoch: 99}, ErrEpoch},
	} {
		if _, err := g.Heartbeat(at(4), DefaultSettings(), one.h, site); !errors.Is(err, one.want) {
			t.Errorf("%+v: %v, want %v", one.h, err, one.want)
		}
	}
	beat(t, g, 4, Heartbeat{MemberID: "c", Topics: []string{"t"}}, site)
	if _, err := g.Heartbeat(at(4), DefaultSettings(), Heartbeat{MemberID: "d", Topics: []string{"t"}}, site); !errors.Is(err, ErrFull) {
		t.Errorf("a fourth member: %v", err)
	}
	g.Tick(at(45), site) // b was last heard at 0
	if ms := g.Members(); len(ms) != 2 || ms[0].ID != "a" || ms[1].ID != "c" {
		t.Errorf("%d members after b was silent", len(ms))
	}
	beat(t, g, 46, Heartbeat{MemberID: "a", Epoch: -1}, site)
	beat(t, g, 46, Heartbeat{MemberID: "c", Epoch: -1}, site)
	if !g.Empty() || !g.Deadline().IsZero() {
		t.Error("members are left")
	}
}

// Whoever subscribes to a topic has partitions of it, every partition has
// somebody, and nobody has one that is not there.
func TestAssignmentRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 32))
	for range 500 {
		site := &fixed{1, map[string]int32{"t": 1 + rng.Int32N(7), "u": 1 + rng.Int32N(7)}}
		g := NewGroup(Default())
		for i := range 1 + rng.IntN(12) {
			topics := [][]string{{"t"}, {"u"}, {"t", "u"}}[rng.IntN(3)]
			beat(t, g, 0, Heartbeat{MemberID: fmt.Sprint("m", i), Topics: topics}, site)
		}
		for name, n := range site.partitions {
			id, _, _ := site.Topic(name)
			by, least, most, subscribers := make([]int, n), 99, 0, 0
			for _, m := range g.Members() {
				if !slices.Contains(m.Topics, name) {
					if len(m.Assignment[id]) > 0 {
						t.Fatalf("%s has %s and did not ask for it", m.ID, name)
					}
					continue
				}
				subscribers++
				least, most = min(least, len(m.Assignment[id])), max(most, len(m.Assignment[id]))
				for _, p := range m.Assignment[id] {
					by[p]++
				}
			}
			if subscribers > 0 && (least == 0 || most > least+1 || slices.Min(by) == 0 || slices.Max(by) > slices.Min(by)+1) {
				t.Fatalf("%d partitions, %d subscribers: %v members each, %d to %d partitions each", n, subscribers, by, least, most)
			}
		}
	}
}
