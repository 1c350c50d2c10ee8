package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// snapshotVersion is the first byte of an encoded State.
const snapshotVersion = 1

// snapshot is a State as JSON, after the version byte.
type snapshot struct {
	Site        string                       `json:",omitempty"`
	SiteID      int32                        `json:",omitempty"`
	Cluster     string                       `json:",omitempty"`
	LastNode    int32                        `json:",omitempty"`
	LastMove    int64                        `json:",omitempty"`
	ProducerIDs int64                        `json:",omitempty"`
	Nodes       []Node                       `json:",omitempty"`
	Topics      []*Topic                     `json:",omitempty"` // by name
	Jobs        map[string]string            `json:",omitempty"`
	Security    *Security                    `json:",omitempty"`
	Groups      map[string]map[string]string `json:",omitempty"`
	Deleted     []record.TopicID             `json:",omitempty"`
	Leases      map[string]Lease             `json:",omitempty"`
	Connectors  map[string]map[string]string `json:",omitempty"`
}

// Encode writes the whole state. Equal states give equal bytes.
func (s *State) Encode() ([]byte, error) {
	body, err := json.Marshal(snapshot{
		Site: s.site, SiteID: s.siteID, Cluster: s.cluster, LastNode: s.lastNode, LastMove: s.lastMove, ProducerIDs: s.producer, Nodes: s.nodes, Topics: s.topics,
		Jobs: s.jobs, Security: s.security, Groups: s.groups, Deleted: s.deleted, Leases: s.leases, Connectors: s.connectors,
	})
	if err != nil {
		return nil, fmt.Errorf("encode catalog: %w", err)
	}
	return append([]byte{snapshotVersion}, body...), nil
}

// DecodeState reads what Encode wrote and nothing else.
func DecodeState(b []byte) (*State, error) {
	if len(b) == 0 || b[0] != snapshotVersion {
		return nil, fmt.Errorf("decode catalog: first byte of %d is not version %d, the one this node reads", len(b), snapshotVersion)
	}
	var doc snapshot
	if err := json.Unmarshal(b[1:], &doc); err != nil {
		return nil, fmt.Errorf("decode catalog: %w", err)
	}
	s := &State{
		site: doc.Site, siteID: doc.SiteID, cluster: doc.Cluster, lastNode: doc.LastNode, lastMove: doc.LastMove, producer: doc.ProducerIDs, nodes: doc.Nodes, topics: doc.Topics,
		jobs: doc.Jobs, security: doc.Security, groups: doc.Groups, deleted: doc.Deleted, leases: doc.Leases, connectors: doc.Connectors,
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("decode catalog: %w", err)
	}
	for _, t := range s.topics {
		settings := t.readSettings()
		t.settings = &settings
		s.moving += t.moves()
	}
	s.byID = slices.SortedFunc(slices.Values(s.topics), func(a, b *Topic) int { return slices.Compare(a.ID[:], b.ID[:]) })
	for i := 1; i < len(s.byID); i++ {
		if s.byID[i-1].ID == s.byID[i].ID {
			return nil, fmt.Errorf("decode catalog: topics %q and %q have the same ID", s.byID[i-1].Name, s.byID[i].Name)
		}
	}
	again, err := s.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("decode catalog: not in the one form that is written")
	}
	return s, nil
}

// check verifies what the rest of the package takes for granted of a State.
func (s *State) check() error {
	if s.siteID < 0 || s.siteID > maxSiteID || s.producer < 0 || s.producer > producerCounter {
		return fmt.Errorf("site ID %d, producer counter %d", s.siteID, s.producer)
	}
	if len(s.deleted) > keepDeleted {
		return fmt.Errorf("%d deleted topics, at most %d are kept", len(s.deleted), keepDeleted)
	}
	if err := s.checkNodes(); err != nil {
		return err
	}
	for i, t := range s.topics {
		if t == nil {
			return fmt.Errorf("topic %d is null", i)
		}
		if i > 0 && cmp.Compare(s.topics[i-1].Name, t.Name) >= 0 {
			return fmt.Errorf("topic %q comes after %q", t.Name, s.topics[i-1].Name)
		}
		if err := s.checkTopic(t); err != nil {
			return fmt.Errorf("topic %q: %w", t.Name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.jobs)) {
		if d := s.jobs[name]; d != JobPaused && d != JobStopped {
			return fmt.Errorf("job %q is %q", name, d)
		}
	}
	if err := errors.Join(s.checkGroups(), s.checkLeases()); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.connectors)) {
		if err := checkConnector(name, s.connectors[name]); err != nil {
			return err
		}
	}
	if s.security != nil {
		return s.security.check()
	}
	return nil
}

func (s *State) checkNodes() error {
	names := map[string]bool{}
	for i, n := range s.nodes {
		if n.ID < 1 || n.ID > s.lastNode || i > 0 && s.nodes[i-1].ID >= n.ID {
			return fmt.Errorf("node %q has ID %d, out of order or above the last one given, %d", n.Name, n.ID, s.lastNode)
		}
		if names[n.Name] {
			return fmt.Errorf("two nodes are called %q", n.Name)
		}
		names[n.Name] = true
	}
	return nil
}

func (s *State) checkTopic(t *Topic) error {
	if err := record.CheckTopicName(t.Name); err != nil {
		return err
	}
	if t.ID.IsZero() {
		return fmt.Errorf("no topic ID")
	}
	if n := len(t.Partitions); n < 1 || n > MaxPartitions {
		return fmt.Errorf("%w: %d", record.ErrInvalidPartitions, n)
	}
	for _, p := range t.Partitions {
		if err := s.checkReplicas(t.Name, p.Replicas); err != nil {
			return err
		}
		if err := errors.Join(s.checkMembers(p.Born), s.checkMove(p)); err != nil {
			return err
		}
	}
	if t.Mirror != nil {
		if _, err := s.newMirror(t.Name, *t.Mirror); err != nil {
			return err
		}
	}
	return CheckConfig(t.Config)
}

// checkMembers verifies a list of members: nodes that there are or were, none
// of them twice.
func (s *State) checkMembers(members []uint64) error {
	for i, m := range members {
		if n := memberNode(m); n < 1 || n > s.lastNode {
			return fmt.Errorf("member %d is node %d, the last ID given is %d", m, n, s.lastNode)
		}
		if slices.Contains(members[:i], m) {
			return fmt.Errorf("member %d is named twice", m)
		}
	}
	return nil
}
