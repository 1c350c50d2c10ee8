package catalog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// The faults of reassignments (KIP-455).
var (
	// ErrNotMoving: there is nothing to cancel.
	ErrNotMoving = errors.New("no reassignment is in progress")
	// ErrInvalidAssignment: a partition cannot be where it was asked for.
	ErrInvalidAssignment = errors.New("invalid assignment of replicas")
	// ErrMoveSuperseded: what was completed is not what is wanted any more.
	ErrMoveSuperseded = errors.New("another reassignment has come since")
)

// Move says that a partition's group is not yet on the members that are wanted:
// those of Partition.Replicas. The group's leader takes it there step by step
// and then says so with CompleteMove. Without a Move the group is on them.
type Move struct {
	// Seq is the number of the wish, the highest of the site when it was made.
	// A wish that takes the place of another has a new one.
	Seq int64
	// From are the members that the group had before, in the order of the
	// replicas then: what a cancelled move goes back to.
	From []uint64
	// Through are members of wishes that came in between: they may have become
	// members of the group, and keep their copies until the move is done.
	Through []uint64 `json:",omitempty"`
}

// Adding are the nodes that get a replica (KIP-455), in the order of Replicas.
func (p Partition) Adding() []int32 {
	if p.Move == nil {
		return nil
	}
	from := nodesOf(p.Move.From)
	return slices.DeleteFunc(slices.Clone(p.Replicas), func(n int32) bool { return slices.Contains(from, n) })
}

// Removing are the nodes that lose their replica.
func (p Partition) Removing() []int32 {
	if p.Move == nil {
		return nil
	}
	return slices.DeleteFunc(nodesOf(p.Move.From), func(n int32) bool { return slices.Contains(p.Replicas, n) })
}

// AllReplicas are the nodes that Kafka's clients are told: those that are wanted
// and after them those that are not yet removed.
func (p Partition) AllReplicas() []int32 { return slices.Concat(p.Replicas, p.Removing()) }

func nodesOf(members []uint64) []int32 {
	nodes := make([]int32, len(members))
	for i, m := range members {
		nodes[i] = memberNode(m)
	}
	return nodes
}

// Members are the members that the partition's group shall have: its replicas
// in their present incarnations.
func (s *State) Members(p Partition) []uint64 { return s.membersOf(p.Replicas) }

// Holds reports whether a member may have a copy of the partition: it is wanted,
// or the move that may take it out is not done. One that does not hold a
// partition deletes what it has of it.
func (s *State) Holds(p Partition, member uint64) bool {
	if n := memberNode(member); slices.Contains(p.Replicas, n) {
		if now, ok := s.Node(n); ok && now.Member() == member {
			return true
		}
	}
	return p.Move != nil && (slices.Contains(p.Move.From, member) || slices.Contains(p.Move.Through, member))
}

// AlterPartitionReassignments says where partitions shall be (KIP-455). Each
// stands for itself: what is wrong with one does not keep the others. Result:
// []error, one for each, nil where the wish was taken.
type AlterPartitionReassignments struct{ Partitions []Reassignment }

// Reassignment is the wish for one partition.
type Reassignment struct {
	Topic     string
	Partition int32
	// Replicas are the nodes, the preferred leader first; nil cancels what is
	// under way.
	Replicas []int32 `json:",omitempty"`
	// Was, if given, are the Replicas that the asker has seen: with others the
	// wish is refused.
	Was []int32 `json:",omitempty"`
	// KeepFactor refuses another number of replicas.
	KeepFactor bool `json:",omitempty"`
}

// CompleteMove is the report of a group's leader: the group has exactly these
// members, which are those that the move of this number wants. Refused with
// ErrMoveSuperseded when something else is wanted by now.
type CompleteMove struct {
	Topic     string
	Partition int32
	Seq       int64
	Members   []uint64
}

func (AlterPartitionReassignments) kind() byte { return kindAlterPartitionReassignments }
func (CompleteMove) kind() byte                { return kindCompleteMove }

func (s *State) alterPartitionReassignments(c AlterPartitionReassignments) (*State, any, error) {
	e := s.edit()
	errs := make([]error, len(c.Partitions))
	for i, r := range c.Partitions {
		p, err := e.partition(r.Topic, r.Partition)
		if err == nil {
			err = e.reassign(p, r)
		}
		if err != nil {
			errs[i] = fmt.Errorf("%s-%d: %w", r.Topic, r.Partition, err)
		}
	}
	return e.done(), errs, nil
}

// reassign takes one wish, or refuses it and changes nothing.
func (e *edit) reassign(p *Partition, r Reassignment) error {
	if r.Was != nil && !slices.Equal(r.Was, p.Replicas) {
		return fmt.Errorf("%w: its replicas are %v by now, the wish is for those on %v", ErrMoveSuperseded, p.Replicas, r.Was)
	}
	to := r.Replicas
	if to == nil {
		if len(p.Adding()) == 0 && len(p.Removing()) == 0 {
			return ErrNotMoving
		}
		to = nodesOf(p.Move.From)
	} else if err := e.old.checkTarget(*p, r); err != nil {
		return err
	}
	if slices.Equal(to, p.Replicas) {
		return nil
	}
	if p.Born == nil {
		p.Born = p.BornMembers() // which are about to differ from the replicas
	}
	was := e.old.Members(*p)
	p.Replicas = slices.Clone(to)
	if wanted := e.old.Members(*p); !sameMembers(was, wanted) {
		e.wish(p, was)
	}
	return nil
}

// checkTarget verifies where a partition shall go.
func (s *State) checkTarget(p Partition, r Reassignment) error {
	if len(r.Replicas) == 0 {
		return fmt.Errorf("%w: no node is named", ErrInvalidAssignment)
	}
	for i, id := range r.Replicas {
		n, ok := s.Node(id)
		switch {
		case !ok:
			return fmt.Errorf("%w: node %d is not in the site, which has %s", ErrInvalidAssignment, id, s.describeNodes())
		case slices.Contains(r.Replicas[:i], id):
			return fmt.Errorf("%w: node %d is named twice", ErrInvalidAssignment, id)
		case n.Leaving && !slices.Contains(p.Replicas, id):
			return fmt.Errorf("%w: node %d (%s) is being decommissioned", ErrInvalidAssignment, id, n.Name)
		}
	}
	if r.KeepFactor && len(r.Replicas) != len(p.Replicas) {
		return fmt.Errorf("%w: %d replicas instead of %d, and the number shall not change", ErrInvalidAssignment, len(r.Replicas), len(p.Replicas))
	}
	return nil
}

func (s *State) completeMove(c CompleteMove) (*State, any, error) {
	e := s.edit()
	p, err := e.partition(c.Topic, c.Partition)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case p.Move == nil:
		return nil, nil, fmt.Errorf("%w: %s-%d is not being moved", ErrMoveSuperseded, c.Topic, c.Partition)
	case p.Move.Seq != c.Seq:
		return nil, nil, fmt.Errorf("%w: %s-%d is at move %d, the report is of %d", ErrMoveSuperseded, c.Topic, c.Partition, p.Move.Seq, c.Seq)
	case !sameMembers(c.Members, s.Members(*p)):
		return nil, nil, fmt.Errorf("%w: move %d of %s-%d wants members %v, the group has %v", ErrMoveSuperseded, c.Seq, c.Topic, c.Partition, s.Members(*p), c.Members)
	}
	p.Move, p.Moved = nil, true
	return e.done(), nil, nil
}

// memberGone reports whether what a member had is lost for good, as far as the
// catalog knows.
func (s *State) memberGone(m uint64) bool {
	n, ok := s.Node(memberNode(m))
	return !ok || n.Member() != m || n.Lost
}

func sameMembers(a, b []uint64) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(m uint64) bool { return !slices.Contains(b, m) }) &&
		!slices.ContainsFunc(b, func(m uint64) bool { return !slices.Contains(a, m) })
}

// edit gathers changes of partitions, so that a command which changes many
// copies the lists of topics once.
type edit struct {
	old     *State
	changed map[string]*Topic
	lastSeq int64
}

func (s *State) edit() *edit { return &edit{old: s, changed: map[string]*Topic{}, lastSeq: s.lastMove} }

// partition is one that may be changed in place, but for what its slices hold.
func (e *edit) partition(topic string, n int32) (*Partition, error) {
	t := e.changed[topic]
	if t == nil {
		have, err := e.old.mustTopic(topic)
		if err != nil {
			return nil, err
		}
		t = have
	}
	if n < 0 || int(n) >= len(t.Partitions) {
		return nil, fmt.Errorf("%w: topic %q has partitions 0 to %d, not %d", record.ErrUnknownTopic, topic, len(t.Partitions)-1, n)
	}
	if e.changed[topic] == nil {
		c := *t
		c.Partitions = slices.Clone(t.Partitions)
		t = &c
		e.changed[topic] = t
	}
	return &t.Partitions[n], nil
}

// wish notes that a partition shall have other members than was.
func (e *edit) wish(p *Partition, was []uint64) {
	e.lastSeq++
	next := Move{Seq: e.lastSeq, From: was}
	if p.Move != nil {
		next.From, next.Through = p.Move.From, slices.Clone(p.Move.Through)
		for _, m := range was {
			if !slices.Contains(next.From, m) && !slices.Contains(next.Through, m) {
				next.Through = append(next.Through, m)
			}
		}
	}
	p.Move = &next
}

// done is the state with all changes.
func (e *edit) done() *State {
	if len(e.changed) == 0 {
		return e.old
	}
	next := *e.old
	next.lastMove = e.lastSeq
	for name, c := range e.changed {
		old, _ := e.old.Topic(name)
		next.moving += c.moves() - old.moves()
	}
	swap := func(all []*Topic) []*Topic {
		all = slices.Clone(all)
		for i, t := range all {
			if c := e.changed[t.Name]; c != nil {
				all[i] = c
			}
		}
		return all
	}
	next.topics, next.byID = swap(e.old.topics), swap(e.old.byID)
	return &next
}

// eachPartition calls f for every partition of the site, by topic and number,
// until it returns false.
func (s *State) eachPartition(f func(t *Topic, n int32, p Partition) bool) {
	for _, t := range s.topics {
		for n, p := range t.Partitions {
			if !f(t, int32(n), p) {
				return
			}
		}
	}
}

func (s *State) checkMove(p Partition) error {
	if p.Move == nil {
		return nil
	}
	if p.Move.Seq < 1 || p.Move.Seq > s.lastMove || len(p.Move.From) == 0 {
		return fmt.Errorf("move %d from %v, the last number given is %d", p.Move.Seq, p.Move.From, s.lastMove)
	}
	return errors.Join(s.checkMembers(p.Move.From), s.checkMembers(p.Move.Through))
}

// describeNodes lists the nodes for people.
func (s *State) describeNodes() string {
	if len(s.nodes) == 0 {
		return "none"
	}
	text := ""
	for i, n := range s.nodes {
		if i == 20 {
			return text + fmt.Sprintf(" and %d more", len(s.nodes)-i)
		}
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d (%s)", n.ID, n.Name)
	}
	return text
}
