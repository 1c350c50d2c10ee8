package peer

import (
	"errors"
	"slices"
)

// node is another node: one that SetNodes named, one that called, or both.
type node struct {
	id       int32
	addr     string // empty: not named
	newest   uint32 // incarnation
	links    [Classes]*link
	ended    [Classes]<-chan struct{} // the links before; nil: none
	in       [Classes]*inbound
	ticket   [Classes]int64 // the newest accepted connection's
	accepted [Classes]traffic
}

// node is the node of that ID. The lock is held.
func (p *Peers) node(id int32) *node {
	n := p.mu.nodes[id]
	if n == nil {
		n = &node{id: id}
		p.mu.nodes[id] = n
	}
	return n
}

// newest is the newest incarnation that is known of a node.
func (p *Peers) newest(id int32) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.mu.nodes[id]; n != nil {
		return n.newest
	}
	return 0
}

// knock has all links dial now. The lock of Peers is held.
func (n *node) knock() {
	for _, l := range n.links {
		if l != nil {
			l.knock()
		}
	}
}

// met notes the incarnation of a connection's other end, and ends connections
// with older ones; it refuses what is older itself.
func (p *Peers) met(c *conn) error {
	p.mu.Lock()
	n := p.node(c.peer.Node)
	if c.peer.Incarnation < n.newest {
		p.mu.Unlock()
		return errNewer
	}
	n.newest = c.peer.Incarnation
	older := n.older()
	p.mu.Unlock()
	failAll(older, errNewer)
	return nil
}

// errNewer ends connections with who was replaced.
var errNewer = errors.New("a newer incarnation of the node is known")

// conns are all connections with the node. The lock of Peers is held.
func (n *node) conns() (all []*conn) {
	for class, l := range n.links {
		if l != nil {
			if k := l.current.Load(); k != nil {
				all = append(all, k.c)
			}
		}
		if in := n.in[class]; in != nil {
			all = append(all, in.c)
		}
	}
	return all
}

// older are the connections with older incarnations. The lock of Peers is held.
func (n *node) older() []*conn {
	return slices.DeleteFunc(n.conns(), func(c *conn) bool { return c.peer.Incarnation >= n.newest })
}

func failAll(all []*conn, err error) {
	for _, c := range all {
		c.fail(err)
	}
}

// cut ends all connections with a node that does not answer.
func (p *Peers) cut(id int32, err error) {
	p.mu.Lock()
	all := p.node(id).conns()
	p.mu.Unlock()
	failAll(all, err)
}

// reached has all links to a node dial that do not yet have a connection.
func (p *Peers) reached(id int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.node(id).knock()
}

// accepted counts what comes over connections that others dialed.
func (p *Peers) accepted(other hello) *traffic {
	if other.callOnly {
		return new(traffic)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &p.node(other.Node).accepted[other.class]
}
