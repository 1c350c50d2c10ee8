package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// Method is how a node is asked for its report.
const Method = "report"

// Report is what a node says of itself when another one shows the site.
type Report struct {
	Version string        `json:"version"`
	Groups  []admin.Group `json:"groups"`
	// Lacks are the members of groups that this node leads which lack something.
	Lacks []lack       `json:"lacks"`
	Moves []admin.Move `json:"moves"`
	// Up are the other nodes that it is connected with, by broker ID.
	Up []int32 `json:"up"`
}

// lack is how far a member of a group is behind its leader.
type lack struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Node      int32  `json:"node"`
	Learner   bool   `json:"learner"`
	Bytes     int64  `json:"bytes"`
	Active    bool   `json:"active"`
}

// Report is this node's own.
func (v *View) Report(ctx context.Context) Report {
	p := v.parts.Load()
	out := Report{Version: v.cfg.Version, Up: p.Reach.Others()}
	for _, r := range p.Set.All() {
		id, st := r.ID(), r.Status()
		g := admin.Group{
			Topic: id.Topic, Partition: id.Partition, Node: p.Node, Role: string(st.Role), Leader: st.Leader,
			Term: st.Term, Commit: st.Commit, Applied: st.Applied, Last: st.Last,
		}
		if st.Err != nil {
			g.Reason = st.Err.Error()
		}
		if st.Role == replica.RoleFollower && slices.Contains(r.Members().Learners, p.Member) {
			g.Role = "learner"
		}
		if f := st.Fetching; f != nil {
			g.Fetching = &admin.Fetching{DoneBytes: f.Done, OfBytes: f.Of}
			if f.Left > 0 {
				g.Fetching.Left = admin.Known(f.Left.Seconds())
			}
		}
		out.Groups = append(out.Groups, g)
		members, _ := r.Progress(ctx) // nil where this node does not lead
		for _, m := range members {
			out.Lacks = append(out.Lacks, lack{id.Topic, id.Partition, m.Node(), m.Learner, m.Behind, m.Active})
		}
	}
	for id, at := range p.Moves.Status() {
		out.Moves = append(out.Moves, moving(id, at))
	}
	return out
}

// reports are what all nodes say that answer, by broker ID.
func (v *View) reports(ctx context.Context, p *Parts) map[int32]Report {
	all := map[int32]Report{p.Node: v.Report(ctx)}
	reach.Ask(ctx, p.Reach, Method, nil, func(node int32, one Report) { all[node] = one })
	return all
}

// Up is, by broker ID, which other nodes each node is connected with, of all nodes
// that answer.
func (v *View) Up(ctx context.Context) map[int32][]int32 {
	all := map[int32][]int32{}
	for node, r := range v.reports(ctx, v.parts.Load()) {
		all[node] = r.Up
	}
	return all
}

type groupAt struct {
	topic     string
	partition int32
	node      int32
}

func lacks(all map[int32]Report) map[groupAt]lack {
	out := map[groupAt]lack{}
	for _, r := range all {
		for _, l := range r.Lacks {
			out[groupAt{l.Topic, l.Partition, l.Node}] = l
		}
	}
	return out
}

// Nodes implements admin.Site.
func (v *View) Nodes(ctx context.Context) ([]admin.SiteNode, error) {
	p := v.parts.Load()
	if p == nil {
		return nil, nil
	}
	s, all := p.Catalog.State(), v.reports(ctx, p)
	behind := lacks(all)
	var down []int32
	for _, n := range s.Nodes() {
		if _, answers := all[n.ID]; !answers {
			down = append(down, n.ID)
		}
	}
	losses := s.MayLose(down...)
	var out []admin.SiteNode
	for _, n := range s.Nodes() {
		one := admin.SiteNode{ID: n.ID, Name: n.Name, Zone: n.Rack, Incarnation: n.Incarnation, State: "up"}
		one.Replicas, _ = s.Replicas(n.ID)
		one.Unwritable, one.Lost = losses[n.ID].Unavailable, losses[n.ID].Gone
		r, answers := all[n.ID]
		one.Version = r.Version
		for _, g := range r.Groups {
			switch g.Role {
			case string(replica.RoleLeader):
				if g.Topic != catalog.MetaGroup {
					one.Leads++
				}
			case string(replica.RoleQuarantined):
				one.Quarantined++
			}
		}
		var sum int64
		for at, l := range behind {
			if at.node == n.ID {
				sum += l.Bytes
			}
		}
		one.Behind = admin.Known(float64(sum))
		switch {
		case !answers:
			one.State, one.Behind = "down", admin.Measure{}
		case n.Leaving:
			one.State = "leaving"
		case n.Draining:
			one.State = "draining"
		}
		out = append(out, one)
	}
	return out, nil
}

// Groups implements admin.Site.
func (v *View) Groups(ctx context.Context) ([]admin.Group, error) {
	p := v.parts.Load()
	if p == nil {
		return nil, nil
	}
	all := v.reports(ctx, p)
	behind := lacks(all)
	var out []admin.Group
	for _, r := range all {
		for _, g := range r.Groups {
			if l, known := behind[groupAt{g.Topic, g.Partition, g.Node}]; known {
				g.Behind = admin.Known(float64(l.Bytes))
			}
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b admin.Group) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Node, b.Node))
	})
	return out, nil
}

// Moves implements admin.Site.
func (v *View) Moves(ctx context.Context) ([]admin.Move, error) {
	p := v.parts.Load()
	if p == nil {
		return nil, nil
	}
	doing := map[record.TopicPartition]admin.Move{}
	all := v.reports(ctx, p)
	for _, r := range all {
		for _, m := range r.Moves {
			doing[record.TopicPartition{Topic: m.Topic, Partition: m.Partition}] = m
		}
	}
	var out []admin.Move
	for _, one := range p.Moves.Pending() {
		part := one.Topic.Partitions[one.Partition]
		m := doing[record.TopicPartition{Topic: one.Topic.Name, Partition: one.Partition}]
		m.Topic, m.Partition = one.Topic.Name, one.Partition
		m.Replicas, m.Adding, m.Removing = part.Replicas, part.Adding(), part.Removing()
		switch {
		case one.Stalled:
			m.State = "stalled"
		case one.Blocked:
			m.State = "blocked"
		case one.Active:
			m.State = "moving"
		default:
			m.State = "waiting"
		}
		fetchingOf(all, &m)
		out = append(out, m)
	}
	return out, nil
}

// fetchingOf says of a move what those that come as files say: their leader sees
// nothing of that until all is there.
func fetchingOf(all map[int32]Report, m *admin.Move) {
	var lacks, left float64
	known, comes := true, false
	for _, node := range m.Replicas { // one that was wiped is not among those that are added
		for _, g := range all[node].Groups {
			if g.Topic != m.Topic || g.Partition != m.Partition || g.Fetching == nil || g.Fetching.OfBytes == 0 {
				continue
			}
			seconds, ok := g.Fetching.Left.Value()
			comes, known = true, known && ok
			lacks, left = lacks+float64(g.Fetching.OfBytes-g.Fetching.DoneBytes), max(left, seconds)
		}
	}
	if comes {
		m.Behind = admin.Known(lacks)
	}
	if comes && known {
		m.Left = admin.Known(left)
	}
}

// moving is where a move of this node's groups is.
func moving(id storage.LogID, at replica.Move) admin.Move {
	var sum int64
	for _, p := range at.Progress {
		if p.Learner {
			sum += p.Behind
		}
	}
	return admin.Move{Topic: id.Topic, Partition: id.Partition, Doing: at.Doing, Behind: admin.Known(float64(sum))}
}

// Act implements admin.Site.
func (v *View) Act(ctx context.Context, node string, action admin.NodeAction, with string) (out admin.NodeActed, err error) {
	p := v.parts.Load()
	if p == nil {
		return out, admin.ErrEarly
	}
	n, err := p.node(node)
	if err != nil {
		return out, err
	}
	out.Node = n.Name
	var cmd catalog.Command
	switch action {
	case admin.DrainNode:
		cmd, out.Done = catalog.DrainNode{Node: n.ID}, "it is given nothing to lead, and others take over what it leads"
	case admin.UndrainNode:
		cmd, out.Done = catalog.DrainNode{Node: n.ID, Off: true}, "it leads again what it is preferred for"
	case admin.DecommissionNode:
		cmd, out.Done = catalog.DecommissionNode{Node: n.ID}, "what it has moves to other nodes"
		out.Moves, _ = p.Catalog.State().Replicas(n.ID)
	case admin.RecommissionNode:
		cmd, out.Done = catalog.DecommissionNode{Node: n.ID, Cancel: true}, "it stays"
	case admin.RemoveNode:
		cmd, out.Done = catalog.RemoveNode{Node: n.ID}, "it is not of this site any more"
	case admin.ReplaceNode:
		other, err := p.node(with)
		if err != nil {
			return out, err
		}
		cmd, out.Done = catalog.ReplaceNode{Node: n.ID, With: other.ID}, "what it had moves to "+other.Name
	}
	result, err := p.Catalog.Propose(ctx, cmd)
	if errors.Is(err, record.ErrInvalidRequest) || errors.Is(err, record.ErrInvalidReplicas) {
		return out, fmt.Errorf("%w: %w", admin.ErrConflict, err)
	}
	if moves, ok := result.(int); ok {
		out.Moves = moves
	}
	return out, err
}

func (p *Parts) node(name string) (catalog.Node, error) {
	s := p.Catalog.State()
	n, ok := s.NodeByName(name)
	if !ok {
		var there []string
		for _, one := range s.Nodes() {
			there = append(there, one.Name)
		}
		return n, fmt.Errorf("node %q: %w in the site, which has %s", name, admin.ErrNotFound, strings.Join(there, ", "))
	}
	return n, nil
}

// rebalanceMost bounds the copies that one rebalancing makes.
const rebalanceMost = 10_000

// Rebalance implements admin.Site.
func (v *View) Rebalance(ctx context.Context, dry bool) ([]admin.Wish, error) {
	p := v.parts.Load()
	if p == nil {
		return nil, admin.ErrEarly
	}
	plan := p.Catalog.State().PlanLevel(nil, rebalanceMost)
	if dry {
		return wishes(plan), nil
	}
	return wishes(plan), p.reassign(ctx, plan)
}

// SetReplicas implements admin.Site.
func (v *View) SetReplicas(ctx context.Context, topic string, count int) ([]admin.Wish, error) {
	p := v.parts.Load()
	if p == nil {
		return nil, admin.ErrEarly
	}
	plan, err := p.Catalog.State().PlanFactor(topic, count)
	switch {
	case errors.Is(err, record.ErrUnknownTopic):
		return nil, fmt.Errorf("topic %q: %w at this site", topic, admin.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", admin.ErrConflict, err)
	}
	return wishes(plan), p.reassign(ctx, plan)
}

// reassign proposes a plan. What has been overtaken meanwhile is an error.
func (p *Parts) reassign(ctx context.Context, plan []catalog.Reassignment) error {
	if len(plan) == 0 {
		return nil
	}
	out, err := p.Catalog.Propose(ctx, catalog.AlterPartitionReassignments{Partitions: plan})
	if refused, ok := out.([]error); ok {
		err = errors.Join(refused...)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", admin.ErrConflict, err)
	}
	return nil
}

func wishes(plan []catalog.Reassignment) (all []admin.Wish) {
	for _, r := range plan {
		all = append(all, admin.Wish{Topic: r.Topic, Partition: r.Partition, From: r.Was, To: r.Replicas})
	}
	return all
}
