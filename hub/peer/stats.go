package peer

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// traffic counts what goes over the connections of one node, class and end,
// over all of them one after the other.
type traffic struct {
	sentFrames, sentBytes         atomic.Int64
	receivedFrames, receivedBytes atomic.Int64
	dropped                       atomic.Int64
	roundTrip                     atomic.Int64 // nanoseconds
}

// Stat is the state of a class of connections with one node.
type Stat struct {
	Node  int32
	Class Class

	// Of the connection that this node dialed.
	Name        string // of the other node; empty if it was never reached
	Version     uint16 // of the peer protocol
	Incarnation uint32
	Since       time.Time     // when it was connected; zero: it is not
	Connects    int64         // how often it was
	Error       string        // why it is not connected
	RoundTrip   time.Duration // of the last keep-alive
	QueueBytes  int           // not written yet
	Dropped     int64         // messages that were refused or lost before they were written

	// Accepted is since when the other node's connection to this one is there;
	// zero: it is not.
	Accepted time.Time

	// Over both connections, with what belongs to the protocol itself.
	SentFrames, SentBytes         int64
	ReceivedFrames, ReceivedBytes int64
}

// Stats are the states of all nodes that SetNodes named, by node and class.
func (p *Peers) Stats() []Stat {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Stat
	for _, n := range p.mu.nodes {
		for class, l := range n.links {
			if l == nil {
				continue
			}
			s := l.stat()
			if in := n.in[class]; in != nil {
				s.Accepted = in.c.began
			}
			for _, t := range []*traffic{&l.traffic, &n.accepted[class]} {
				s.SentFrames += t.sentFrames.Load()
				s.SentBytes += t.sentBytes.Load()
				s.ReceivedFrames += t.receivedFrames.Load()
				s.ReceivedBytes += t.receivedBytes.Load()
			}
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Stat) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Class, b.Class))
	})
	return all
}
