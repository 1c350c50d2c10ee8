package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/record"
)

// ErrNotThisNode says that a node is not the one that the catalog has under
// its name: it was replaced or removed, or its name belongs to another one.
var ErrNotThisNode = errors.New("not the node that is registered under this name")

// Node is one hub process of the site, as clients and peers reach it.
type Node struct {
	ID    int32  // the Kafka broker ID: from 1, kept for the node's name for ever
	Name  string // node.id of its configuration
	Site  string
	Kafka string // advertised host:port; empty until a founder has announced itself
	Peer  string
	Admin string
	Rack  string

	Listeners map[string]string `json:",omitempty"` // advertised host:port of the listeners besides the one in Kafka

	// Incarnation counts the data directories that the node has had: one that
	// comes back with an empty one is another member of every Raft group, so
	// that no vote and no acknowledgement can be given twice.
	Incarnation uint32 `json:",omitempty"`
	// Nonce was drawn for the present data directory; empty for a directory
	// from before there were several nodes.
	Nonce string `json:",omitempty"`
	// Level is what the node's version knows of the catalog. A later version
	// sees by it whether all nodes know what it would like to propose.
	Level int32 `json:",omitempty"`

	Draining bool `json:",omitempty"` // leads nothing if others can: it is about to be restarted
	Leaving  bool `json:",omitempty"` // gets no replicas and loses those it has
	Lost     bool `json:",omitempty"` // it was replaced by another one and is not expected back
}

// Member is the node's present ID in Raft groups: incarnation << 32 | broker ID.
func (n Node) Member() uint64 { return memberID(n.ID, n.Incarnation) }

func memberID(node int32, incarnation uint32) uint64 {
	return uint64(incarnation)<<32 | uint64(uint32(node))
}

// memberNode is the broker ID of a member.
func memberNode(member uint64) int32 { return int32(uint32(member)) }

// Founder is a node that a new site begins with.
type Founder struct {
	Name  string
	Nonce string `json:",omitempty"`
	Peer  string `json:",omitempty"`
	Rack  string `json:",omitempty"`
}

// RegisterNode announces a node or its new addresses, in one of three ways.
//
//   - With Node: a node that knows who it is, at each start. Refused with
//     ErrNotThisNode when the name has another ID or Incarnation by now.
//   - With Nonce and without Node: one with an empty data directory asks to join
//     by its name. The nonce was drawn for the directory, so a request that is
//     sent twice has one effect. A name that is registered with another nonce is
//     refused, unless Wiped says that the node of that name has lost what it
//     had, Incarnation being the one that is given up: then it gets the next.
//   - With neither: the node of a site of one, by its name.
//
// Result: Registered.
type RegisterNode struct {
	Name  string
	Site  string
	Kafka string
	Peer  string `json:",omitempty"`
	Admin string `json:",omitempty"`
	Rack  string `json:",omitempty"`
	// Listeners are the addresses of the listeners besides the one in Kafka.
	Listeners map[string]string `json:",omitempty"`

	Node        int32  `json:",omitempty"`
	Incarnation uint32 `json:",omitempty"`
	Nonce       string `json:",omitempty"`
	Wiped       bool   `json:",omitempty"`
	Level       int32  `json:",omitempty"`
}

// Level is what this version knows of the catalog. It rises with each new
// command and each change of what a command does.
const Level = 2

// Registered is who a node is: its broker ID, the same for its name for ever,
// and the incarnation of its data directory.
type Registered struct {
	ID          int32
	Incarnation uint32
}

// Nodes are all registered nodes by ID.
func (s *State) Nodes() []Node { return s.nodes }

// Node finds a node by its broker ID.
func (s *State) Node(id int32) (Node, bool) {
	i, ok := s.findNode(id)
	if !ok {
		return Node{}, false
	}
	return s.nodes[i], true
}

func (s *State) findNode(id int32) (int, bool) {
	return slices.BinarySearchFunc(s.nodes, id, func(n Node, id int32) int { return cmp.Compare(n.ID, id) })
}

// NodeByName finds a node by the name in its configuration.
func (s *State) NodeByName(name string) (Node, bool) {
	for _, n := range s.nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// withNode returns a state in which n replaces the node of its ID, or joins
// the others.
func (s *State) withNode(n Node) *State {
	next := *s
	i, found := s.findNode(n.ID)
	next.nodes = slices.Clone(s.nodes)
	if found {
		next.nodes[i] = n
	} else {
		next.nodes = slices.Insert(next.nodes, i, n)
	}
	return &next
}

func (s *State) registerNode(c RegisterNode) (*State, any, error) {
	if err := s.checkRegistration(c); err != nil {
		return nil, nil, err
	}
	old, known := s.NodeByName(c.Name)
	n := Node{
		ID: old.ID, Name: c.Name, Site: c.Site, Kafka: c.Kafka, Peer: c.Peer, Admin: c.Admin, Rack: c.Rack,
		Listeners: maps.Clone(c.Listeners), Incarnation: old.Incarnation, Nonce: old.Nonce,
		Level: c.Level, Draining: old.Draining, Leaving: old.Leaving,
	}
	switch {
	case c.Node != 0:
		if err := s.checkIdentity(c, old, known); err != nil {
			return nil, nil, err
		}
	case !known:
		n.ID, n.Nonce = s.lastNode+1, c.Nonce
	case c.Nonce != "" && c.Nonce != old.Nonce:
		if err := checkWiped(c, old); err != nil {
			return nil, nil, err
		}
		n.Incarnation, n.Nonce = old.Incarnation+1, c.Nonce
	}
	next := s.withNode(n)
	next.lastNode = max(next.lastNode, n.ID)
	if known && n.Incarnation != old.Incarnation {
		next = next.rebuild(old)
	}
	return next, Registered{n.ID, n.Incarnation}, nil
}

// rebuild makes all groups of which a node was a member take its new incarnation
// in the place of the old one.
func (s *State) rebuild(old Node) *State {
	e := s.edit()
	s.eachPartition(func(t *Topic, n int32, p Partition) bool {
		if i := slices.Index(p.Replicas, old.ID); i >= 0 {
			was := s.Members(p)
			was[i] = old.Member()
			c, err := e.partition(t.Name, n)
			if err != nil {
				panic("catalog: a partition that is there is not found: " + err.Error())
			}
			e.wish(c, was)
		}
		return true
	})
	return e.done()
}

func (s *State) checkRegistration(c RegisterNode) error {
	if err := checkName("node", c.Name); err != nil {
		return err
	}
	if s.site == "" || c.Site != s.site {
		return fmt.Errorf("%w: node %q is of site %q, this is site %q", record.ErrInvalidRequest, c.Name, c.Site, s.site)
	}
	texts := []string{c.Kafka, c.Peer, c.Admin, c.Rack}
	for name, addr := range c.Listeners {
		texts = append(texts, name, addr)
	}
	for _, v := range texts {
		if !utf8.ValidString(v) {
			return fmt.Errorf("%w: node %q has an address that is not UTF-8", record.ErrInvalidRequest, c.Name)
		}
	}
	switch {
	case c.Nonce != "":
		if err := checkName("node's nonce", c.Nonce); err != nil {
			return err
		}
	case c.Wiped:
		return fmt.Errorf("%w: node %q has lost its data and does not say which directory it has now (no nonce)", record.ErrInvalidRequest, c.Name)
	}
	if c.Node == 0 && s.lastNode == math.MaxInt32 {
		return fmt.Errorf("%w: node %q: all broker IDs are used up", record.ErrInvalidRequest, c.Name)
	}
	return nil
}

// checkIdentity compares what a node says of itself with what is registered.
func (s *State) checkIdentity(c RegisterNode, old Node, known bool) error {
	switch {
	case c.Wiped:
		return fmt.Errorf("%w: node %q says both who it is and that it has lost that", record.ErrInvalidRequest, c.Name)
	case !known:
		return fmt.Errorf("%w: node %q with ID %d was removed from the site", ErrNotThisNode, c.Name, c.Node)
	case old.ID != c.Node:
		return fmt.Errorf("%w: node %q has ID %d in its data directory, in the site it has %d", ErrNotThisNode, c.Name, c.Node, old.ID)
	case old.Incarnation != c.Incarnation || c.Nonce != "" && old.Nonce != "" && c.Nonce != old.Nonce:
		return fmt.Errorf("%w: node %q with ID %d has joined again with another data directory (incarnation %d, this one is %d)", ErrNotThisNode, c.Name, c.Node, old.Incarnation, c.Incarnation)
	}
	return nil
}

// checkWiped decides whether a data directory may take the place of another of
// the same name.
func checkWiped(c RegisterNode, old Node) error {
	switch {
	case !c.Wiped:
		return fmt.Errorf("%w: there is a node %q already, with ID %d and another data directory: give this one another node.id, or let it join when that one is down for good", ErrNotThisNode, c.Name, old.ID)
	case c.Incarnation != old.Incarnation:
		return fmt.Errorf("%w: node %q has joined with another data directory since (incarnation %d; the request is to follow %d)", ErrNotThisNode, c.Name, old.Incarnation, c.Incarnation)
	case old.Incarnation == math.MaxUint32:
		return fmt.Errorf("%w: node %q has used up its incarnations", record.ErrInvalidRequest, c.Name)
	}
	return nil
}
