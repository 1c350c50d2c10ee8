package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/record"
)

// MaxPartitions is the most partitions a topic can have.
const MaxPartitions = 100_000

func (s *State) createTopic(c CreateTopic) (*State, any, error) {
	if err := s.checkNewTopic(c); err != nil {
		return nil, nil, err
	}
	parts, err := s.place(c.Name, 0, c.Partitions, c.Replicas, c.Assignment)
	if err != nil {
		return nil, nil, err
	}
	if err := CheckConfig(c.Config); err != nil {
		return nil, nil, fmt.Errorf("topic %q: %w", c.Name, err)
	}
	t := &Topic{Name: c.Name, ID: c.ID, Partitions: parts, Config: orNil(maps.Clone(c.Config)), Created: c.Created}
	if c.Mirror != nil {
		if t.Mirror, err = s.newMirror(c.Name, *c.Mirror); err != nil {
			return nil, nil, err
		}
	}
	return s.withTopic(t), t, nil
}

func (s *State) checkNewTopic(c CreateTopic) error {
	if err := record.CheckTopicName(c.Name); err != nil {
		return err
	}
	switch {
	case c.Name == MetaGroup:
		return fmt.Errorf("%w: %q is the name of the site's catalog", record.ErrInvalidTopic, c.Name)
	case c.ID.IsZero():
		return fmt.Errorf("%w: topic %q has no ID", record.ErrInvalidRequest, c.Name)
	case c.Created < 0:
		return fmt.Errorf("%w: topic %q created at %d ms", record.ErrInvalidRequest, c.Name, c.Created)
	}
	if t, ok := s.Topic(c.Name); ok {
		return fmt.Errorf("%w: %q, with ID %s", record.ErrTopicExists, c.Name, t.ID)
	}
	if t, ok := s.TopicByID(c.ID); ok {
		return fmt.Errorf("%w: ID %s of %q is that of %q", record.ErrTopicExists, c.ID, c.Name, t.Name)
	}
	return s.checkCollision(c.Name)
}

// checkCollision refuses a name that differs from another only in '.' against
// '_': both give the same names of metrics (Kafka's Topic.hasCollision).
func (s *State) checkCollision(name string) error {
	if !strings.ContainsAny(name, "._") {
		return nil
	}
	flat := strings.ReplaceAll(name, ".", "_")
	for _, t := range s.topics {
		if len(t.Name) == len(name) && strings.ReplaceAll(t.Name, ".", "_") == flat {
			return fmt.Errorf("%w: %q collides with the existing topic %q: '.' and '_' count as the same", record.ErrInvalidTopic, name, t.Name)
		}
	}
	return nil
}

// born is a new partition on nodes.
func (s *State) born(nodes []int32) Partition {
	p := Partition{Replicas: nodes}
	if members := s.membersOf(nodes); !slices.Equal(members, p.BornMembers()) {
		p.Born = members
	}
	return p
}

// membersOf are the present members of nodes, in their order.
func (s *State) membersOf(nodes []int32) []uint64 {
	members := make([]uint64, len(nodes))
	for i, id := range nodes {
		n, _ := s.Node(id)
		members[i] = memberID(id, n.Incarnation)
	}
	return members
}

func (s *State) checkReplicas(topic string, nodes []int32) error {
	if len(nodes) == 0 {
		return fmt.Errorf("%w: a partition of topic %q is given no node", record.ErrInvalidReplicas, topic)
	}
	for i, n := range nodes {
		if _, ok := s.Node(n); !ok {
			return fmt.Errorf("%w: topic %q is placed on node %d, which the site does not have", record.ErrInvalidReplicas, topic, n)
		}
		if slices.Contains(nodes[:i], n) {
			return fmt.Errorf("%w: a partition of topic %q is placed on node %d twice", record.ErrInvalidReplicas, topic, n)
		}
	}
	return nil
}

func (s *State) mustTopic(name string) (*Topic, error) {
	t, ok := s.Topic(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", record.ErrUnknownTopic, name)
	}
	return t, nil
}

func (s *State) deleteTopic(c DeleteTopic) (*State, any, error) {
	t, err := s.mustTopic(c.Name)
	if err != nil {
		return nil, nil, err
	}
	if IsInternal(c.Name) {
		return nil, nil, fmt.Errorf("%w: %q belongs to the hub and cannot be deleted", record.ErrInvalidTopic, c.Name)
	}
	return s.withoutTopic(t), t, nil
}

func (s *State) alterTopicConfig(c AlterTopicConfig) (*State, any, error) {
	t, err := s.mustTopic(c.Name)
	if err != nil {
		return nil, nil, err
	}
	t = t.clone()
	t.Config = maps.Clone(t.Config)
	for _, k := range c.Remove {
		if _, both := c.Set[k]; both {
			return nil, nil, fmt.Errorf("topic %q: %w: %s is both set and removed", c.Name, record.ErrInvalidConfig, k)
		}
		if _, err := lookupKey(k); err != nil {
			return nil, nil, fmt.Errorf("topic %q: %w", c.Name, err)
		}
		delete(t.Config, k)
	}
	if t.Config == nil {
		t.Config = map[string]string{}
	}
	maps.Copy(t.Config, c.Set)
	if err := CheckConfig(t.Config); err != nil {
		return nil, nil, fmt.Errorf("topic %q: %w", c.Name, err)
	}
	t.Config = orNil(t.Config)
	return s.withTopic(t), t, nil
}

func (s *State) createPartitions(c CreatePartitions) (*State, any, error) {
	t, err := s.mustTopic(c.Name)
	if err != nil {
		return nil, nil, err
	}
	have := int32(len(t.Partitions))
	switch {
	case t.Mirror != nil && t.Mirror.Link != c.Link:
		return nil, nil, fmt.Errorf("%w: topic %q has as many partitions as its source at %q", record.ErrReadOnly, c.Name, t.Mirror.Source)
	case c.Count <= have:
		return nil, nil, fmt.Errorf("%w: topic %q has %d, want more than that, not %d", record.ErrInvalidPartitions, c.Name, have, c.Count)
	case c.Assignment != nil && len(c.Assignment) != int(c.Count-have):
		return nil, nil, fmt.Errorf("%w: topic %q gets %d more partitions, %d are assigned", record.ErrInvalidReplicas, c.Name, c.Count-have, len(c.Assignment))
	}
	more, err := s.place(c.Name, have, c.Count-have, int32(len(t.Partitions[0].Replicas)), c.Assignment)
	if err != nil {
		return nil, nil, err
	}
	t = t.clone()
	t.Partitions = slices.Concat(t.Partitions, more)
	return s.withTopic(t), t, nil
}

func (s *State) newMirror(topic string, m Mirror) (*Mirror, error) {
	if IsInternal(topic) {
		return nil, fmt.Errorf("%w: %q belongs to the hub and is not mirrored", record.ErrInvalidTopic, topic)
	}
	if err := checkName("mirror's source", m.Source); err != nil {
		return nil, err
	}
	if err := checkName("link", m.Link); err != nil {
		return nil, err
	}
	switch {
	case m.Source == s.site:
		return nil, fmt.Errorf("%w: topic %q cannot be a mirror of its own site %q", record.ErrInvalidRequest, topic, s.site)
	case m.Epoch < 0:
		return nil, fmt.Errorf("%w: mirror epoch %d of topic %q", record.ErrInvalidRequest, m.Epoch, topic)
	case m.State != MirrorActive && m.State != MirrorStopped:
		return nil, fmt.Errorf("%w: mirror state %q of topic %q, want %s or %s", record.ErrInvalidRequest, m.State, topic, MirrorActive, MirrorStopped)
	}
	return &m, nil
}

func (s *State) setMirror(c SetMirror) (*State, any, error) {
	t, err := s.mustTopic(c.Name)
	if err != nil {
		return nil, nil, err
	}
	old := t.Mirror
	t = t.clone()
	t.Mirror = nil
	if c.Mirror != nil {
		if t.Mirror, err = s.newMirror(c.Name, *c.Mirror); err != nil {
			return nil, nil, err
		}
		if old != nil && c.Mirror.Epoch <= old.Epoch {
			return nil, nil, fmt.Errorf("%w: topic %q is at mirror epoch %d, the command has %d", record.ErrMirrorFenced, c.Name, old.Epoch, c.Mirror.Epoch)
		}
	}
	return s.withTopic(t), t, nil
}

func orNil(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}
