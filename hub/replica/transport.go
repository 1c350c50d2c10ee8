package replica

import "net"

// MemberID is a node as a member of Raft groups: its broker ID and its
// incarnation, which is 0 the first time and one more each time the node comes
// back with an empty data directory. Such a node has forgotten its votes and
// what it acknowledged, so it is another member of every group.
func MemberID(node int32, incarnation uint32) uint64 {
	return uint64(incarnation)<<32 | uint64(uint32(node))
}

// NodeOf is the broker ID in a member's ID; 0 for no member.
func NodeOf(member uint64) int32 { return int32(uint32(member)) }

// Class is a kind of traffic between nodes. What is of one class does not wait
// for another's.
type Class uint8

// The classes.
const (
	ClassHeartbeat Class = iota + 1 // small and urgent: heartbeats, votes, acknowledgements
	ClassAppend                     // entries of logs
	ClassBulk                       // whole states, for followers that are far behind
)

// Transport carries messages to other nodes.
type Transport interface {
	// Send hands a frame to the node of a member. It never blocks and keeps the
	// parts, which nobody changes any more. False: it was not sent (not
	// connected, too much waits), and Raft will send what matters again.
	Send(to uint64, class Class, parts net.Buffers) bool
}
