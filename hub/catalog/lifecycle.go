package catalog

import (
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// DrainNode takes the leaders away from a node that is about to be restarted,
// or with Off lets it lead again. Its replicas stay.
type DrainNode struct {
	Node int32
	Off  bool `json:",omitempty"`
}

// DecommissionNode says that a node shall leave the site: it gets no replicas
// any more, and what it has moves to others (PlanLeaving). Cancel takes that back;
// moves that are under way go on unless they are cancelled one by one.
type DecommissionNode struct {
	Node   int32
	Cancel bool `json:",omitempty"`
}

// ReplaceNode gives all replicas of a node that is lost to another one, which
// takes its place in each partition, and decommissions the lost one. A partition
// that has both keeps its place at the new one, and PlanLeaving finds it a node
// for the other copy. Result: int, the partitions that move.
type ReplaceNode struct{ Node, With int32 }

// RemoveNode forgets a node that has no replica any more. Its broker ID is not
// used again; one of its name that comes later has another.
type RemoveNode struct{ Node int32 }

func (DrainNode) kind() byte        { return kindDrainNode }
func (DecommissionNode) kind() byte { return kindDecommissionNode }
func (ReplaceNode) kind() byte      { return kindReplaceNode }
func (RemoveNode) kind() byte       { return kindRemoveNode }

func (s *State) mustNode(id int32) (Node, error) {
	n, ok := s.Node(id)
	if !ok {
		return Node{}, fmt.Errorf("%w: node %d is not in the site, which has %s", record.ErrInvalidRequest, id, s.describeNodes())
	}
	return n, nil
}

func (s *State) drainNode(c DrainNode) (*State, any, error) {
	n, err := s.mustNode(c.Node)
	if err != nil {
		return nil, nil, err
	}
	n.Draining = !c.Off
	return s.withNode(n), nil, nil
}

func (s *State) decommissionNode(c DecommissionNode) (*State, any, error) {
	n, err := s.mustNode(c.Node)
	if err != nil {
		return nil, nil, err
	}
	if !c.Cancel {
		if err := s.checkLeaves(n); err != nil {
			return nil, nil, err
		}
	}
	n.Leaving, n.Lost = !c.Cancel, n.Lost && !c.Cancel
	return s.withNode(n), nil, nil
}

// checkLeaves refuses that a node leaves when the others are too few for what
// it has.
func (s *State) checkLeaves(n Node) (err error) {
	others := 0
	for _, o := range s.nodes {
		if o.ID != n.ID && !o.Leaving {
			others++
		}
	}
	if others == 0 {
		return fmt.Errorf("%w: node %d (%s) is the last one that stays: the site would have none", record.ErrInvalidReplicas, n.ID, n.Name)
	}
	s.eachPartition(func(t *Topic, i int32, p Partition) bool {
		if slices.Contains(p.Replicas, n.ID) && len(p.Replicas) > others {
			err = fmt.Errorf("%w: %s-%d has %d replicas, and without node %d (%s) the site has %d nodes for them: add a node first, or lower the topic's replicas",
				record.ErrInvalidReplicas, t.Name, i, len(p.Replicas), n.ID, n.Name, others)
		}
		return err == nil
	})
	return err
}

func (s *State) replaceNode(c ReplaceNode) (*State, any, error) {
	old, err := s.mustNode(c.Node)
	if err != nil {
		return nil, nil, err
	}
	with, err := s.mustNode(c.With)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case old.ID == with.ID:
		return nil, nil, fmt.Errorf("%w: node %d cannot take its own place: one that lost its data directory is started again under its name", record.ErrInvalidRequest, old.ID)
	case with.Leaving:
		return nil, nil, fmt.Errorf("%w: node %d (%s) is being decommissioned and takes nobody's place", record.ErrInvalidRequest, with.ID, with.Name)
	}
	old.Leaving, old.Lost = true, true
	next := s.withNode(old)
	e := next.edit()
	moves := 0
	s.eachPartition(func(t *Topic, n int32, p Partition) bool {
		i := slices.Index(p.Replicas, old.ID)
		if i < 0 || slices.Contains(p.Replicas, with.ID) {
			return true
		}
		to := slices.Clone(p.Replicas)
		to[i] = with.ID
		err = e.move(t.Name, n, to)
		moves++
		return err == nil
	})
	if err != nil {
		return nil, nil, err
	}
	return e.done(), moves, nil
}

// move is a wish that the command itself makes.
func (e *edit) move(topic string, n int32, to []int32) error {
	p, err := e.partition(topic, n)
	if err != nil {
		return err
	}
	return e.reassign(p, Reassignment{Topic: topic, Partition: n, Replicas: to})
}

func (s *State) removeNode(c RemoveNode) (*State, any, error) {
	n, err := s.mustNode(c.Node)
	if err != nil {
		return nil, nil, err
	}
	if !n.Leaving {
		return nil, nil, fmt.Errorf("%w: node %d (%s) is not being decommissioned", record.ErrInvalidRequest, n.ID, n.Name)
	}
	if have, first := s.Replicas(n.ID); have > 0 {
		return nil, nil, fmt.Errorf("%w: node %d (%s) still has %d partitions, %s among them", record.ErrInvalidRequest, n.ID, n.Name, have, first)
	}
	next := *s
	next.nodes = slices.DeleteFunc(slices.Clone(s.nodes), func(o Node) bool { return o.ID == n.ID })
	return &next, nil, nil
}

// Replicas counts the partitions of which a node has, or may still have, a copy.
func (s *State) Replicas(node int32) (count int, first record.TopicPartition) {
	s.eachPartition(func(t *Topic, n int32, p Partition) bool {
		if slices.Contains(p.Replicas, node) || p.Move != nil &&
			(slices.Contains(nodesOf(p.Move.From), node) || slices.Contains(nodesOf(p.Move.Through), node)) {
			if count++; count == 1 {
				first = record.TopicPartition{Topic: t.Name, Partition: n}
			}
		}
		return true
	})
	return count, first
}
