package peer

import "fmt"

// Refusal is why two nodes do not talk.
type Refusal uint16

// Why an end refuses the other.
const (
	RefusedVersion      Refusal = iota + 1 // no version that both speak
	RefusedCluster                         // of another cluster
	RefusedSelf                            // it is this node itself, or takes itself for it
	RefusedIncarnation                     // a newer incarnation of the node is known
	RefusedNode                            // another node than the one that was dialed
	RefusedUnregistered                    // does not belong to a cluster yet and wants more than to call
	RefusedHello                           // says what makes no sense
)

// RefusedError is returned where a handshake ended in a refusal.
type RefusedError struct {
	Code    Refusal
	Reason  string
	ByOther bool // the other end refused
}

func (e *RefusedError) Error() string {
	if e.ByOther {
		return "refused by the other node: " + e.Reason
	}
	return "refused: " + e.Reason
}

// anyNode is wanted by who dials an address and not a node.
const anyNode = 0

// judge decides what this end (own) thinks of the other: the version they
// speak, or why they do not. want is the node that was dialed, or anyNode;
// known the newest incarnation of the other's node that this end knows of.
func judge(own, other hello, want int32, known func(node int32) (newest uint32)) (version uint16, refused *RefusedError) {
	refuse := func(code Refusal, format string, args ...any) (uint16, *RefusedError) {
		return 0, &RefusedError{Code: code, Reason: fmt.Sprintf(format, args...)}
	}
	version = min(own.max, other.max)
	if version < own.min || version < other.min {
		return refuse(RefusedVersion, "no version of the peer protocol is spoken by both: node %s speaks %d to %d, node %s %d to %d; upgrade the older one by one release at a time",
			own.Name, own.min, own.max, other.Name, other.min, other.max)
	}
	switch {
	case other.class >= Classes, other.class != own.class, other.callOnly && other.class != Control, other.Name == "":
		return refuse(RefusedHello, "node %q says hello for %v, call only %v", other.Name, other.class, other.callOnly)
	case other.Registered() != (other.Node > 0), other.Node < 0:
		return refuse(RefusedHello, "node %s has ID %d and cluster %x: want both or neither", other.Name, other.Node, other.Cluster)
	case other.Name == own.Name:
		return refuse(RefusedSelf, "both ends are called %s: it is one node, or two have one name", own.Name)
	case own.Registered() && other.Registered() && own.Cluster != other.Cluster:
		return refuse(RefusedCluster, "node %s is of cluster %x, node %s of %x: a data directory or an address of another site", other.Name, other.Cluster, own.Name, own.Cluster)
	case own.Registered() && other.Registered() && own.Node == other.Node:
		return refuse(RefusedSelf, "nodes %s and %s both have ID %d", own.Name, other.Name, own.Node)
	case !(own.callOnly || other.callOnly) && !(own.Registered() && other.Registered()):
		return refuse(RefusedUnregistered, "of nodes %s and %s one does not belong to a cluster yet, and may only call and be called", own.Name, other.Name)
	case want != anyNode && other.Node != want:
		return refuse(RefusedNode, "node %s with ID %d answers where node %d was dialed", other.Name, other.Node, want)
	case other.Registered() && other.Incarnation < known(other.Node):
		return refuse(RefusedIncarnation, "node %s (ID %d) comes as incarnation %d, and %d is known: an old data directory, or the node was replaced", other.Name, other.Node, other.Incarnation, known(other.Node))
	}
	return version, nil
}
