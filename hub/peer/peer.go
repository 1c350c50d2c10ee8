// Package peer is the connections between the nodes of a site: messages that
// may be lost, calls that are answered, and streams of bytes. It knows nothing
// of what is said over them.
//
// A node dials every other node once for each class of traffic, and sends its
// messages, calls and requests for streams over the connections that it dialed;
// answers and streams come back over the same ones. So two nodes have two
// connections of each class, one from each end, and never have to agree on
// which of two is the one: a node that comes back, or has moved, reaches the
// others whether they can reach it yet or not, and its call wakes those that
// wait to dial it.
//
// A class is an order and a queue of its own: what is sent in a class arrives
// in order, at most once and whole, or not at all, and a class that is full or
// slow holds up no other and no other node. What is lost with a connection is
// told by Handler.Link.
//
// Every frame is under CRC32C, unless its class has sums of its own. TCP's own
// sum has 16 bits and is known to let damage pass (Stone and Partridge, "When
// the CRC and TCP checksum disagree", 2000); the sum of a batch of records leaves
// out its offset and epoch, and a message's own fields have none. A frame that is
// damaged ends its connection.
//
// Goroutines: Run listens on the nodes that SetNodes names. It has one that
// accepts, one for each node and class that dials, two for each connection (one
// reads, one writes), and one for each call and stream that is being answered;
// all end with Run's context and Run waits for them. CallAddr has two for its
// connection and waits for them.
package peer

import (
	"context"
	"fmt"
	"io"
)

// Class is a kind of traffic between two nodes, with a connection, an order
// and a queue of its own.
type Class uint8

const (
	// Heartbeat is small and urgent. Its keep-alives tell whether the other
	// node answers at all: when they fail, all connections with it are cut.
	Heartbeat Class = iota
	// Append is for what is being replicated.
	Append
	// Bulk is for streams and what else can wait.
	Bulk
	// Control is for calls and notices.
	Control

	// Classes is how many there are.
	Classes = 4
)

var classNames = [Classes]string{"heartbeat", "append", "bulk", "control"}

func (c Class) String() string {
	if c < Classes {
		return classNames[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// ClusterID is drawn when a site begins. A node that belongs to none yet has
// the zero one.
type ClusterID [16]byte

// Identity is who a node is.
type Identity struct {
	Cluster ClusterID
	// Node is the broker ID, above 0; 0 without a cluster.
	Node int32
	// Incarnation counts how often the node came back without its data. An
	// older one is refused where a newer one is known.
	Incarnation uint32
	Name        string // unique in the site, 1 to 255 bytes
}

// Registered reports whether the node belongs to a cluster. One that does not
// may call and be called, and nothing else.
func (i Identity) Registered() bool { return i.Cluster != ClusterID{} }

// Peer is another node as its handshake told.
type Peer struct {
	Identity
	Version uint16 // of the peer protocol, the highest that both speak
	Addr    string // host:port of the other end of the connection
}

// Node is where another node is found.
type Node struct {
	Addr        string // host:port
	Incarnation uint32 // the newest that is known
}

// Handler is what a node does with what others send. Its methods are called
// from many goroutines.
type Handler interface {
	// Message takes a message of a registered node. The frame belongs to the
	// handler from now on. Messages of one node and class come in order, one
	// after the other: while it does not return, that node's messages of that
	// class wait, at last at their sender.
	Message(from Peer, class Class, frame []byte)

	// Call answers a call. The context ends when the caller gives up or its
	// connection is lost. from may be unregistered.
	Call(ctx context.Context, from Peer, method string, body []byte) ([]byte, error)

	// Stream writes a stream that another node opened. Write waits for the
	// receiver and fails when it gives up. The receiver is told a clean end
	// only if Stream returns nil.
	Stream(ctx context.Context, from Peer, method string, body []byte, w io.Writer) error

	// Link tells that this node's connection to another is up, or down. Up:
	// messages that were sent in the class before may be lost, and those sent
	// from now on are not until it is down. It may send and call, and should
	// return soon: the next connection waits for it.
	Link(to Peer, class Class, up bool)
}
