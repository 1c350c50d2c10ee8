package catalog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storytest"
)

// leading is what stories about leaders have beside the catalog.
type leading struct {
	leaders *Leaders
	groups  []LedGroup
	views   []NodeView
}

// lead handles the verbs group, node and transfer.
func (e *env) lead(verb string, a storytest.Args) string {
	switch verb {
	case "group":
		g := LedGroup{TopicPartition: record.TopicPartition{Topic: a.Bare()}, Leader: int32(a.Int("led-by", 0)), Replicas: list(e.t, a.Get("on")), Moving: a.Has("moving")}
		i := slices.IndexFunc(e.groups, func(o LedGroup) bool { return o.TopicPartition == g.TopicPartition })
		if i >= 0 {
			g.Replicas = e.groups[i].Replicas
			e.groups[i] = g
		} else {
			e.groups = append(e.groups, g)
		}
		return ""
	case "node":
		v := NodeView{Node: int32(a.Int("id", 0)), Well: !a.Has("down"), Since: at(a), Draining: a.Has("draining")}
		e.views = append(slices.DeleteFunc(e.views, func(o NodeView) bool { return o.Node == v.Node }), v)
		return ""
	}
	if e.leaders == nil {
		e.leaders = NewLeaders(LeaderLimits{Every: 2 * time.Second, Most: 2, Drain: 3, Settle: time.Minute, Rest: 5 * time.Second, Retry: 30 * time.Second})
	}
	transfers, again := e.leaders.Step(at(a), e.groups, e.views)
	var b strings.Builder
	for _, t := range transfers {
		fmt.Fprintf(&b, "%s from node %d to node %d\n", t.Topic, t.From, t.To)
		for i := range e.groups {
			if e.groups[i].TopicPartition == t.TopicPartition && !a.Has("fails") {
				e.groups[i].Leader = t.To
			}
		}
	}
	if !again.IsZero() {
		fmt.Fprintf(&b, "again at %d\n", again.Unix()-1000)
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return b.String()
}

// TestLeadersAtRandom lets nodes fail, come back and drain. None is handed
// anything that is not well, that drains or that came back a moment ago, but by
// a node that drains when there is nobody better; rounds are bounded; and when
// all is quiet every group is at its preferred leader after a while, each having
// been handed over once at most.
func TestLeadersAtRandom(t *testing.T) {
	limits := DefaultLeaderLimits()
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 3))
		l := NewLeaders(limits)
		now := time.Unix(10_000, 0)
		var nodes []NodeView
		for n := range 4 {
			nodes = append(nodes, NodeView{Node: int32(n + 1), Well: true, Since: now.Add(-time.Hour)})
		}
		var groups []LedGroup
		for n := range 60 {
			replicas := []int32{int32(n%4 + 1), int32((n+1)%4 + 1), int32((n+2)%4 + 1)}
			groups = append(groups, LedGroup{TopicPartition: record.TopicPartition{Topic: "t", Partition: int32(n)}, Leader: replicas[0], Replicas: replicas})
		}
		since := map[int32]time.Time{}
		elect := func() { // who led on a node that is down loses it
			for i := range groups {
				for _, r := range groups[i].Replicas {
					if nodes[groups[i].Leader-1].Well {
						break
					}
					groups[i].Leader = r
					since[groups[i].Partition] = now
				}
			}
		}
		var last time.Time
		handed := map[int32]int{}
		step := func(quiet bool) {
			transfers, _ := l.Step(now, groups, nodes)
			if len(transfers) > limits.Most+limits.Drain || len(transfers) > 0 && now.Sub(last) < limits.Every {
				t.Fatalf("seed %d: %d transfers %v after the last", seed, len(transfers), now.Sub(last))
			}
			if len(transfers) > 0 {
				last = now
			}
			for _, tr := range transfers {
				g := &groups[tr.Partition]
				to, from := nodes[tr.To-1], nodes[tr.From-1]
				better := slices.ContainsFunc(g.Replicas, func(r int32) bool {
					v := nodes[r-1]
					return r != g.Leader && v.Well && !v.Draining && now.Sub(v.Since) >= limits.Settle
				})
				switch fresh := now.Sub(to.Since) < limits.Settle; {
				case !to.Well || to.Draining || !slices.Contains(g.Replicas, tr.To) || tr.From != g.Leader || tr.To == tr.From:
					t.Fatalf("seed %d: %+v to %+v", seed, tr, to)
				case fresh && (better || !from.Draining):
					t.Fatalf("seed %d: %+v to a node that came back %v ago", seed, tr, now.Sub(to.Since))
				case !from.Draining && now.Sub(since[tr.Partition]) < limits.Rest:
					t.Fatalf("seed %d: %+v, who leads since %v ago", seed, tr, now.Sub(since[tr.Partition]))
				case !from.Draining && tr.To != g.Replicas[0]:
					t.Fatalf("seed %d: %+v is not to the preferred leader of %v", seed, tr, g.Replicas)
				}
				if quiet || rng.IntN(4) > 0 {
					g.Leader, since[tr.Partition] = tr.To, now
				}
				handed[tr.Partition]++
			}
		}
		for range 400 {
			now = now.Add(time.Duration(rng.IntN(4000)) * time.Millisecond)
			if n := &nodes[rng.IntN(len(nodes))]; rng.IntN(8) == 0 {
				well := rng.IntN(3) > 0
				if well != n.Well {
					n.Well, n.Since = well, now
				}
				n.Draining = rng.IntN(4) == 0
			}
			elect()
			// Or somebody is elected for no reason that is seen here.
			if g := &groups[rng.IntN(len(groups))]; nodes[g.Replicas[1]-1].Well && g.Leader != g.Replicas[1] {
				g.Leader, since[g.Partition] = g.Replicas[1], now
			}
			step(false)
		}
		for i := range nodes {
			if !nodes[i].Well {
				nodes[i].Well, nodes[i].Since = true, now
			}
			nodes[i].Draining = false
		}
		handed = map[int32]int{}
		for range 600 {
			now = now.Add(3 * time.Second)
			step(true)
		}
		for _, g := range groups {
			if g.Leader != g.Replicas[0] || handed[g.Partition] > 1 {
				t.Fatalf("seed %d: %v is led by %d and was handed over %d times", seed, g, g.Leader, handed[g.Partition])
			}
		}
		nodes[1].Draining = true
		for range 60 {
			now = now.Add(3 * time.Second)
			step(true)
		}
		for _, g := range groups {
			if g.Leader == 2 {
				t.Fatalf("seed %d: %v is still led by the node that drains", seed, g)
			}
		}
	}
}
