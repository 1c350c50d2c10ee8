package protocol

import (
	"context"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// Partitions finds the partitions whose leader is this node.
type Partitions interface {
	// Partition returns an error wrapping record.ErrUnknownTopic,
	// record.ErrNotLeader or record.ErrLeaderUnknown.
	Partition(topic string, partition int32) (Partition, error)
	// Leader is the node that leads a partition as far as this node knows, and
	// its epoch; -1, -1 when nobody does.
	Leader(topic string, partition int32) (node, epoch int32)
	// InSync are the nodes whose copies have what is committed, but for what is on
	// its way to them, as the leader told a moment ago; nil: it has not.
	InSync(topic string, partition int32) []int32
	// Follower is this node's copy of a partition that another node leads. The
	// error wraps record.ErrNotLeader when there is none.
	Follower(topic string, partition int32) (Reader, error)
}

// Reader is a copy of a partition as Fetch sees it: one that is led here, or one
// that has what is committed as far as it has heard of it, never more than the
// leader has.
type Reader interface {
	// ReadLate is as for Partition; of a follower, beyond what it has heard of it
	// wraps record.ErrOffsetNotAvailable.
	ReadLate(offset int64, maxBytes int) (record.Chunk, error)
	Aborted(from, to int64) ([]record.AbortedTransaction, error)
	Serving() error
	Offsets() record.Offsets
	Changed() <-chan struct{}
	EpochEnd(epoch int32) record.EpochEnd
}

// Partition is one partition led by this node. All methods may be called from
// any goroutine, and none but SetLogStart, TransferTo and Confirm blocks for longer
// than a read from disk.
type Partition interface {
	// Append proposes the batches, which belong to the partition from now on,
	// and calls done exactly once, from any goroutine, when they are committed
	// and durable or cannot be. Appends take effect in the order of the calls.
	Append(batches []record.Batch, done func([]record.Appended, error))
	// Transaction is where the producer's transaction stands, after all appends
	// before this call. The error is one of Serving.
	Transaction(producerID int64) (record.Transaction, error)
	// AppendTransactional is Append for batches of one producer, refused with
	// record.ErrTransactionState if a transaction of it has ended here since
	// Transaction gave the guard: a batch that was checked against the
	// coordinator must not come behind the marker (KIP-890).
	AppendTransactional(batches []record.Batch, guard int64, done func([]record.Appended, error))
	// AppendFenced is Append for what a coordinator writes, refused with
	// record.ErrFencedEpoch if the leader epoch is another one by then: what the
	// coordinator knows is from before. With a guard of 0 or more it is
	// AppendTransactional besides.
	AppendFenced(batches []record.Batch, epoch int32, guard int64, done func([]record.Appended, error))
	// EndTransaction appends the marker that ends the producer's transaction
	// here, if one is open, and fences lower epochs. done is as for Append. The
	// error wraps record.ErrProducerFenced for an epoch below the known one, or
	// record.ErrCoordinatorFenced.
	EndTransaction(m record.TransactionMarker, done func(error))
	// Aborted lists the aborted transactions that a read_committed reader of
	// the offsets from ≤ o < to must know, to being at most the last stable
	// offset, by first offset.
	Aborted(from, to int64) ([]record.AbortedTransaction, error)
	// Read returns whole committed batches from the one that holds offset on,
	// at least one even if it is larger than maxBytes, none at the end. The
	// error wraps record.ErrOffsetOutOfRange below the log start and beyond
	// the end of the log.
	Read(offset int64, maxBytes int) (record.Chunk, error)
	// ReadLate is Read for who sends the batches on, and looks at no more than
	// their headers before: the chunk may have an Open, and must be released.
	ReadLate(offset int64, maxBytes int) (record.Chunk, error)
	// Serving is nil when this node leads the partition and knows all that was
	// ever committed; otherwise it wraps record.ErrNotLeader or another error.
	// Offsets and epochs of a partition that is still catching up would make
	// clients believe that records are gone, and so would Read, which checks
	// it itself.
	Serving() error
	// Confirm waits until a majority has said, after the call, that this node leads:
	// what it has, or loads, after that has everything that was acknowledged before
	// the call. The error is one of Serving, or wraps record.ErrTimeout.
	Confirm(ctx context.Context) error
	Offsets() record.Offsets
	// Changed is closed at the next commit, log start or change of leadership.
	Changed() <-chan struct{}
	EpochEnd(epoch int32) record.EpochEnd
	OffsetForTime(ms int64) (record.TimeOffset, error)
	// SetLogStart deletes the records below offset (DeleteRecords).
	SetLogStart(ctx context.Context, offset int64) error
	Producers() []Producer
	// TransferTo lets the replica of another node lead. It returns once another
	// one leads, or with what keeps this one leading.
	TransferTo(ctx context.Context, node int32) error
	Size() int64 // bytes on disk
}

// Peers reaches the Kafka servers of the site's other nodes.
type Peers interface {
	// Call gives a request to Server.Answer of another node and returns what that
	// returns. It fails at once when there is no connection.
	Call(ctx context.Context, node int32, request []byte) ([]byte, error)
	// Up reports whether this node can reach another one at present.
	Up(node int32) bool
}

// Producer is an idempotent producer as a partition remembers it.
type Producer struct {
	ID               int64
	Epoch            int16
	LastSequence     int32
	LastTimestamp    int64 // milliseconds
	CoordinatorEpoch int32 // of the last marker; -1 when there was none
	TxnFirstOffset   int64 // of the open transaction; -1 when none is open
}

// Meta is the site's catalog.
type Meta interface {
	// State is the catalog as far as this node has it.
	State() *catalog.State
	// Propose returns the command's result once it is applied here.
	Propose(ctx context.Context, cmd catalog.Command) (any, error)
	// Expect begins to look out for a topic that is about to be proposed: made is
	// the topic as a command that was applied here since has made it, also if it is
	// gone again, and nil if none has; sure is false when that is not known. end
	// has to be called.
	Expect(id record.TopicID) (made func() (t *catalog.Topic, sure bool), end func())
}
