package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storytest"
)

// nodeCommand reads the commands of stories that move partitions and nodes.
func nodeCommand(t *testing.T, verb string, a storytest.Args) Command {
	t.Helper()
	node := int32(a.Int("node", 0))
	switch verb {
	case "reassign", "cancel":
		var c AlterPartitionReassignments
		for i, to := range append(assignment(t, a), nil) {
			if to == nil && verb == "reassign" {
				break
			}
			c.Partitions = append(c.Partitions, Reassignment{
				Topic: a.Bare(), Partition: int32(a.Int("partition", 0)) + int32(i), Replicas: to,
				Was: list(t, a.Get("was")), KeepFactor: a.Has("keep-factor"),
			})
		}
		return c
	case "done":
		c := CompleteMove{Topic: a.Bare(), Partition: int32(a.Int("partition", 0)), Seq: a.Int("move", 0)}
		for w := range strings.SplitSeq(a.Get("on"), ",") {
			n, inc, _ := strings.Cut(w, ".")
			id, _ := strconv.Atoi(n)
			i, _ := strconv.Atoi(inc)
			c.Members = append(c.Members, memberID(int32(id), uint32(i)))
		}
		return c
	case "drain", "undrain":
		return DrainNode{Node: node, Off: verb == "undrain"}
	case "decommission", "recommission":
		return DecommissionNode{Node: node, Cancel: verb == "recommission"}
	case "replace":
		return ReplaceNode{Node: node, With: int32(a.Int("with", 0))}
	case "remove":
		return RemoveNode{Node: node}
	}
	t.Fatalf("unknown verb %q", verb)
	return nil
}

func list(t *testing.T, text string) (nodes []int32) {
	t.Helper()
	if text == "" {
		return nil
	}
	for n := range strings.SplitSeq(text, ",") {
		id, err := strconv.Atoi(n)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, int32(id))
	}
	return nodes
}

// look handles the verbs that change nothing, and plan, which carries out what
// it plans.
func (e *env) look(verb string, a storytest.Args) string {
	var b strings.Builder
	down := list(e.t, a.Get("down"))
	up := func(n int32) bool { return !slices.Contains(down, n) }
	switch verb {
	case "pending":
		limits := MoveLimits{PerNode: int(a.Int("per-node", 1)), Site: int(a.Int("site", 10))}
		for _, m := range e.state.PendingMoves(limits, up) {
			p := m.Topic.Partitions[m.Partition]
			fmt.Fprintf(&b, "%s-%d move %d replicas %v adding %v removing %v", m.Topic.Name, m.Partition, m.Seq, p.AllReplicas(), p.Adding(), p.Removing())
			for _, f := range []struct {
				is   bool
				name string
			}{{m.Active, "active"}, {m.Repair, "repair"}, {m.Blocked, "blocked"}, {m.Stalled, "stalled"}} {
				if f.is {
					b.WriteString(" " + f.name)
				}
			}
			b.WriteString("\n")
		}
	case "plan":
		return e.plan(a)
	case "loss":
		losses := e.state.MayLose(down...)
		for _, n := range e.state.Nodes() {
			l := losses[n.ID]
			fmt.Fprintf(&b, "without node %d: %d unavailable, %d gone", n.ID, l.Unavailable, l.Gone)
			if l.Unavailable > 0 {
				fmt.Fprintf(&b, ", %s the first", l.First)
			}
			b.WriteString("\n")
		}
	case "meta":
		var current []uint64
		for _, n := range list(e.t, a.Get("now")) {
			current = append(current, memberID(n, 0))
		}
		voters, learners := e.state.MetaMembers(current, up)
		fmt.Fprintf(&b, "voters %s\n", members(voters))
		if learners != nil {
			fmt.Fprintf(&b, "learners %s\n", members(learners))
		}
	case "holds":
		t, _ := e.state.Topic(a.Bare())
		for _, n := range e.state.Nodes() {
			for inc := range n.Incarnation + 1 {
				if m := memberID(n.ID, inc); e.state.Holds(t.Partitions[a.Int("partition", 0)], m) {
					fmt.Fprintf(&b, "%s ", members([]uint64{m}))
				}
			}
		}
	}
	return strings.TrimRight(b.String(), " ")
}

func (e *env) plan(a storytest.Args) string {
	var plan []Reassignment
	var b strings.Builder
	switch {
	case a.Has("leaving"):
		var stuck []Stuck
		plan, stuck = e.state.PlanLeaving()
		for _, s := range stuck {
			fmt.Fprintf(&b, "%s-%d has nowhere to go from node %d\n", s.Topic, s.Partition, s.Node)
		}
	case a.Has("factor"):
		var err error
		if plan, err = e.state.PlanFactor(a.Get("topic"), int(a.Int("factor", 0))); err != nil {
			return "error: " + err.Error()
		}
	case a.Has("internal"):
		plan = e.state.PlanInternal(int(a.Int("internal", 3)))
	case a.Has("level"):
		plan = e.state.PlanLevel(e.sizes(a), int(a.Int("most", 0)))
	}
	for _, r := range plan {
		fmt.Fprintf(&b, "%s-%d %v -> %v\n", r.Topic, r.Partition, r.Was, r.Replicas)
	}
	if len(plan) > 0 {
		if errs := e.apply(AlterPartitionReassignments{plan}); errs != "ok" {
			b.WriteString(errs)
		}
	}
	if b.Len() == 0 {
		return "nothing to do"
	}
	return b.String()
}

// sizes are the bytes of partitions given as topic-n:bytes,…
func (e *env) sizes(a storytest.Args) func(string, int32) int64 {
	if a.Get("bytes") == "" {
		return nil
	}
	sizes := map[string]int64{}
	for w := range strings.SplitSeq(a.Get("bytes"), ",") {
		name, n, _ := strings.Cut(w, ":")
		sizes[name], _ = strconv.ParseInt(n, 10, 64)
	}
	return func(topic string, p int32) int64 {
		return sizes[record.TopicPartition{Topic: topic, Partition: p}.String()]
	}
}

func showErrors(errs []error) string {
	var b strings.Builder
	for _, err := range errs {
		if err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
		}
	}
	if b.Len() == 0 {
		return "ok"
	}
	return b.String()
}

func lifecycle(n Node) (s string) {
	if n.Draining {
		s += " draining"
	}
	if n.Leaving {
		s += " leaving"
	}
	if n.Lost {
		s += " lost"
	}
	return s
}
