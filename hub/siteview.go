package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// siteView shows all nodes of the site to the admin server, each asked for what
// it has, and does what an operator wants of them.
type siteView struct{ h *Hub }

// report is what a node says of itself when another one shows the site.
type report struct {
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

// reportTime is how long a node may take to report.
const reportTime = 3 * time.Second

// report is this node's own.
func (h *Hub) report(ctx context.Context) report {
	out := report{Version: h.deps.Version, Up: h.nodes.all()}
	for _, r := range h.set.All() {
		id, st := r.ID(), r.Status()
		g := admin.Group{
			Topic: id.Topic, Partition: id.Partition, Node: h.id.ID, Role: string(st.Role), Leader: st.Leader,
			Term: st.Term, Commit: st.Commit, Applied: st.Applied, Last: st.Last,
		}
		if st.Err != nil {
			g.Reason = st.Err.Error()
		}
		if st.Role == replica.RoleFollower && slices.Contains(r.Members().Learners, h.member()) {
			g.Role = "learner"
		}
		out.Groups = append(out.Groups, g)
		members, _ := r.Progress(ctx) // nil where this node does not lead
		for _, m := range members {
			out.Lacks = append(out.Lacks, lack{id.Topic, id.Partition, m.Node(), m.Learner, m.Behind, m.Active})
		}
	}
	out.Moves = h.mover.status()
	return out
}

// reports are what all nodes say that answer, by broker ID.
func (v siteView) reports(ctx context.Context) map[int32]report {
	h := v.h
	all := map[int32]report{h.id.ID: h.report(ctx)}
	fromOthers(ctx, h, callReport, nil, func(node int32, one report) { all[node] = one })
	return all
}

type groupAt struct {
	topic     string
	partition int32
	node      int32
}

func lacks(all map[int32]report) map[groupAt]lack {
	out := map[groupAt]lack{}
	for _, r := range all {
		for _, l := range r.Lacks {
			out[groupAt{l.Topic, l.Partition, l.Node}] = l
		}
	}
	return out
}

// Nodes implements admin.Site.
func (v siteView) Nodes(ctx context.Context) ([]admin.SiteNode, error) {
	if !v.h.begun.Load() {
		return nil, nil
	}
	s, all := v.h.meta.State(), v.reports(ctx)
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
func (v siteView) Groups(ctx context.Context) ([]admin.Group, error) {
	if !v.h.begun.Load() {
		return nil, nil
	}
	all := v.reports(ctx)
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
func (v siteView) Moves(ctx context.Context) ([]admin.Move, error) {
	if !v.h.begun.Load() {
		return nil, nil
	}
	doing := map[record.TopicPartition]admin.Move{}
	for _, r := range v.reports(ctx) {
		for _, m := range r.Moves {
			doing[record.TopicPartition{Topic: m.Topic, Partition: m.Partition}] = m
		}
	}
	var out []admin.Move
	for _, p := range v.h.meta.State().PendingMoves(moveLimits, v.h.nodes.up) {
		part := p.Topic.Partitions[p.Partition]
		m := doing[record.TopicPartition{Topic: p.Topic.Name, Partition: p.Partition}]
		m.Topic, m.Partition = p.Topic.Name, p.Partition
		m.Replicas, m.Adding, m.Removing = part.Replicas, part.Adding(), part.Removing()
		switch {
		case p.Stalled:
			m.State = "stalled"
		case p.Blocked:
			m.State = "blocked"
		case p.Active:
			m.State = "moving"
		default:
			m.State = "waiting"
		}
		out = append(out, m)
	}
	return out, nil
}

// status tells where the moves of this node's groups are.
func (m *mover) status() (all []admin.Move) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, at := range m.mu.moves {
		var sum int64
		for _, p := range at.Progress {
			if p.Learner {
				sum += p.Behind
			}
		}
		all = append(all, admin.Move{Topic: id.Topic, Partition: id.Partition, Doing: at.Doing, Behind: admin.Known(float64(sum))})
	}
	return all
}

// Act implements admin.Site.
func (v siteView) Act(ctx context.Context, node string, action admin.NodeAction, with string) (out admin.NodeActed, err error) {
	if !v.h.begun.Load() {
		return out, errEarly
	}
	n, err := v.node(node)
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
		out.Moves, _ = v.h.meta.State().Replicas(n.ID)
	case admin.RecommissionNode:
		cmd, out.Done = catalog.DecommissionNode{Node: n.ID, Cancel: true}, "it stays"
	case admin.RemoveNode:
		cmd, out.Done = catalog.RemoveNode{Node: n.ID}, "it is not of this site any more"
	case admin.ReplaceNode:
		other, err := v.node(with)
		if err != nil {
			return out, err
		}
		cmd, out.Done = catalog.ReplaceNode{Node: n.ID, With: other.ID}, "what it had moves to "+other.Name
	}
	result, err := v.h.meta.Propose(ctx, cmd)
	if errors.Is(err, record.ErrInvalidRequest) || errors.Is(err, record.ErrInvalidReplicas) {
		return out, fmt.Errorf("%w: %w", admin.ErrConflict, err)
	}
	if moves, ok := result.(int); ok {
		out.Moves = moves
	}
	return out, err
}

func (v siteView) node(name string) (catalog.Node, error) {
	s := v.h.meta.State()
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
func (v siteView) Rebalance(ctx context.Context, dry bool) ([]admin.Wish, error) {
	if !v.h.begun.Load() {
		return nil, errEarly
	}
	plan := v.h.meta.State().PlanLevel(nil, rebalanceMost)
	if dry {
		return wishes(plan), nil
	}
	return wishes(plan), v.reassign(ctx, plan)
}

// SetReplicas implements admin.Site.
func (v siteView) SetReplicas(ctx context.Context, topic string, count int) ([]admin.Wish, error) {
	if !v.h.begun.Load() {
		return nil, errEarly
	}
	plan, err := v.h.meta.State().PlanFactor(topic, count)
	switch {
	case errors.Is(err, record.ErrUnknownTopic):
		return nil, fmt.Errorf("topic %q: %w at this site", topic, admin.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", admin.ErrConflict, err)
	}
	return wishes(plan), v.reassign(ctx, plan)
}

// reassign proposes a plan. What has been overtaken meanwhile is an error.
func (v siteView) reassign(ctx context.Context, plan []catalog.Reassignment) error {
	if len(plan) == 0 {
		return nil
	}
	out, err := v.h.meta.Propose(ctx, catalog.AlterPartitionReassignments{Partitions: plan})
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

// siteSamples are metrics of what this node leads and what is missing.
type siteSamples struct{ h *Hub }

// Samples implements admin.Samples.
func (v siteSamples) Samples() []admin.Sample {
	if !v.h.begun.Load() {
		return nil
	}
	h := v.h
	leads, under, offline := 0, 0, 0
	for _, t := range h.meta.State().Topics() {
		for p, part := range t.Partitions {
			leader, _ := partitions{h}.Leader(t.Name, int32(p))
			switch {
			case leader < 0:
				offline++
			case leader == h.id.ID:
				leads++
				if c, known := h.leaders.Leader(t.ID, int32(p)); known && c.InSync != nil && len(c.InSync) < len(part.Replicas) {
					under++
				}
			}
		}
	}
	return []admin.Sample{
		{Name: "partitions_led", Help: "Partitions that this node leads.", Value: float64(leads)},
		{Name: "partitions_under_replicated", Help: "Partitions led here some of whose replicas have not caught up.", Value: float64(under)},
		{Name: "partitions_offline", Help: "Partitions of the site that nobody leads, as far as this node knows.", Value: float64(offline)},
	}
}
