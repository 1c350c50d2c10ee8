// Package bootstrap lets the first nodes of a site agree on what the site is:
// its cluster ID, and which nodes it begins with under which broker IDs. It is a
// pure state machine; hub feeds it with what gossip shows, with the time that
// passes and with the calls of other nodes.
//
// The agreement is a two-phase commit over all nodes that the site begins with.
// The node with the lowest name of those it sees proposes, and owns its
// proposal: it alone decides it, when all have accepted, or drops it, as long as
// it has not. A node holds one proposal at a time and lets go of it only on its
// owner's word, or when a decision proves that it is dead. So of two proposals
// that have a node in common, one at most is ever decided.
//
// What gossip shows may be wrong or old, and differ from node to node: that
// delays a decision and cannot make two. Only nodes that never see each other
// and have no node in common can begin two sites.
//
// A node is known by its name and by the nonce of its data directory. One whose
// directory was lost on the way is another node, and joins the site that was
// decided like any other that comes late.
//
// Goroutines: none. A Machine belongs to one caller.
package bootstrap

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Member is a node as it takes part: a name, and the data directory that it
// has under it.
type Member struct {
	Name  string
	Nonce string // drawn for the data directory
	Peer  string // host:port for calls
	Zone  string `json:",omitempty"`
}

// is reports whether two are the same node with the same data directory.
func (m Member) is(name, nonce string) bool { return m.Name == name && m.Nonce == nonce }

// Node is what gossip shows of a node.
type Node struct {
	Member
	Expect  int    // how many nodes it begins a site with; 0: it only joins one
	Cluster string // the site that it belongs to; empty: none yet
}

// Proposal is a site that may begin.
type Proposal struct {
	Cluster string   // random; no two proposals have the same
	Owner   string   // the member that decides it
	Members []Member // by name; the broker ID of each is its place, from 1
}

// BrokerID is the place of a member; 0 when it is none.
func (p *Proposal) BrokerID(name, nonce string) int32 {
	return int32(1 + slices.IndexFunc(p.Members, func(m Member) bool { return m.is(name, nonce) }))
}

func (p *Proposal) equal(q *Proposal) bool {
	return p.Cluster == q.Cluster && p.Owner == q.Owner && slices.Equal(p.Members, q.Members)
}

// meets reports whether a member of p is one of q.
func (p *Proposal) meets(q *Proposal) bool {
	return slices.ContainsFunc(p.Members, func(m Member) bool { return q.BrokerID(m.Name, m.Nonce) != 0 })
}

// The most that a proposal may have: what a stranger sends is bounded.
const (
	maxMembers = 1000
	maxText    = 249 // bytes of a name, a nonce, an address
)

// check verifies what comes from outside.
func (p *Proposal) check() error {
	if len(p.Members) == 0 || len(p.Members) > maxMembers {
		return fmt.Errorf("a proposal with %d nodes, want 1 to %d", len(p.Members), maxMembers)
	}
	if err := checkTexts(p.Cluster, p.Owner); err != nil {
		return fmt.Errorf("a proposal's cluster ID or owner: %w", err)
	}
	for i, m := range p.Members {
		if err := checkTexts(m.Name, m.Nonce); err != nil {
			return fmt.Errorf("node %d of a proposal: %w", i+1, err)
		}
		if len(m.Peer) > maxText || len(m.Zone) > maxText || !utf8.ValidString(m.Peer+m.Zone) {
			return fmt.Errorf("node %q of a proposal: an address or zone that is too long or no UTF-8", m.Name)
		}
		if i > 0 && cmp.Compare(p.Members[i-1].Name, m.Name) >= 0 {
			return fmt.Errorf("node %q of a proposal comes after %q", m.Name, p.Members[i-1].Name)
		}
	}
	if !slices.ContainsFunc(p.Members, func(m Member) bool { return m.Name == p.Owner }) {
		return fmt.Errorf("a proposal whose owner %q is none of its nodes", p.Owner)
	}
	return nil
}

func checkTexts(texts ...string) error {
	for _, s := range texts {
		if s == "" || len(s) > maxText || !utf8.ValidString(s) {
			return fmt.Errorf("%.20q is empty, longer than %d bytes or no UTF-8", s, maxText)
		}
	}
	return nil
}

// State is what has to survive a crash. The zero value is a node that has never
// taken part.
type State struct {
	Nonce   string    // of the data directory
	Held    *Proposal `json:",omitempty"` // accepted, not known to be decided or dropped
	Decided *Proposal `json:",omitempty"` // the site that began, whether this node is in it or not
}

// Request is what one node asks another. A reply always comes from the node
// that was asked.
type Request struct {
	Kind     Kind
	Proposal *Proposal `json:",omitempty"`
}

// Kind is what a request wants.
type Kind string

// The kinds of requests.
const (
	Propose Kind = "propose" // accept this proposal
	Ask     Kind = "ask"     // what became of this proposal, or without one: does the site exist?
	Tell    Kind = "tell"    // this proposal is decided
)

// Reply is the answer.
type Reply struct {
	Nonce   string // of who answers
	Verdict Verdict
	Decided *Proposal `json:",omitempty"` // with VerdictDecided
	Why     string    `json:",omitempty"` // for people
}

// Verdict is what a reply says of the proposal.
type Verdict string

// The verdicts.
const (
	Accepted Verdict = "accepted" // it is held, durably
	Busy     Verdict = "busy"     // it is not held, for now
	Open     Verdict = "open"     // nothing is known that decides it
	Dropped  Verdict = "dropped"  // by its owner, for ever
	Decided  Verdict = "decided"  // there is a site
	Stranger Verdict = "stranger" // the node that the proposal means is another one
)

// Call is a request to be sent.
type Call struct {
	To      Member
	Request Request
}
