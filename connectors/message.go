package connectors

import (
	"bytes"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// NoTimestamp is the timestamp of a message whose time is not known.
const NoTimestamp int64 = -1

// Message is what flows through a job. Value is always the truth: the bytes
// that a Kafka client sees, JSON once a record is structured. Parsed is a
// cache of the decoded Value (filled by format.Value), so that a chain of
// transforms decodes once.
type Message struct {
	Key       []byte // nil is Kafka's null
	Value     []byte // nil is Kafka's null: a tombstone
	Headers   []record.Header
	Timestamp int64 // milliseconds since the Unix epoch, or NoTimestamp

	// Parsed is the decoded Value or nil when it has not been decoded. Who
	// changes Value does it with SetValue, which drops Parsed.
	Parsed any

	// Original is what a source read, before any transform: it goes into a
	// dead letter. Sources set it; sinks do not look at it.
	Original []byte
	// Position is where the source stands after this message.
	Position Position
	// Place is the beginning of Position that is the same each time the
	// message is read and tells it from all others of its split; nil is the
	// whole. What follows it in Position are hints, such as what a file looked
	// like when it was read.
	Place []byte
	// ID is what its sender, or its bytes, call the message: the same when
	// its system offers it again, and of no other message of the split within
	// the window (see Queue). nil has none and is never taken for another. A
	// source that can be opened at a position leaves it nil.
	ID     []byte
	Origin Origin
	// Err is set by a source that met something it cannot make a record of
	// (a line over the limit). It is of class Poison. The message still has
	// its position and Original, and goes to the dead letters.
	Err error

	// Mark says that the message is only a place: it moves the position and is
	// no record. A source sends one when it has gone through what is not for
	// it, so that it may forget that too.
	Mark bool

	// Partition and Offset are where a sink's record was read; of a source they
	// are where it read the message, if it reads from partitions.
	Partition record.TopicPartition
	Offset    int64
	// Pinned says of a source's message that its record goes to the partition
	// of the number in Partition, and not to that of its key.
	Pinned bool
}

// SetValue replaces the value and drops what was decoded from the old one.
func (m *Message) SetValue(v []byte) { m.Value, m.Parsed = v, nil }

// Identity is Place, or Position where the source gives none.
func (m *Message) Identity() []byte {
	if m.Place != nil {
		return m.Place
	}
	return m.Position
}

// Size is the number of bytes that count against Limits.Bytes.
func (m *Message) Size() int { return len(m.Key) + len(m.Value) }

// Origin says to people where a message came from.
type Origin struct {
	Name string // a file, table or queue
	Line int64  // counted from 1; 0 when there are no lines
}

// String is name:line, or the name alone.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.Name
	}
	return fmt.Sprintf("%s:%d", o.Name, o.Line)
}

// Batch is a run of messages in order.
type Batch struct {
	Messages []Message

	// Records are all records of a sink's plan, as they are in the topic, and
	// Fates, as long, what each one's is so far; Messages are those that are
	// kept, after the transforms. They are for a sink that accounts for every
	// record. Both are nil where nobody has counted.
	Records []Message
	Fates   []Fate
}

// Fate is what becomes of one record of a plan.
type Fate uint8

// The fates.
const (
	Kept         Fate = iota // it is one of Messages
	Filtered                 // a transform has dropped it, or it is another job's
	DeadLettered             // it is in the dead letters
)

// Position is a place in a split, opaque to all but its source. Positions of
// one split are ordered as bytes.Compare orders them, and each message's is
// greater than that of the message before. nil is before everything.
type Position []byte

// Compare is -1, 0 or 1 as p is before, at or after q.
func (p Position) Compare(q Position) int { return bytes.Compare(p, q) }

// Plan is a durable decision of what one write to a destination holds.
type Plan struct {
	Partition record.TopicPartition
	From      int64  // first offset
	To        int64  // offset after the last one
	Epoch     int64  // of the task's lease; a later owner has a higher one
	ID        string // unique; the same when the plan is executed again
	// Made is when the plan was decided, in milliseconds since the Unix epoch:
	// nothing of it was written before. 0 when that is not known.
	Made int64
}

// String is the form people and logs read: clicks-3[100,200).
func (p Plan) String() string { return fmt.Sprintf("%s[%d,%d)", p.Partition, p.From, p.To) }

// RecordError is why one record of a plan cannot be written.
type RecordError struct {
	Index  int   // in Batch.Messages
	Offset int64 // of that message
	Err    error // of class Poison
}

func (e RecordError) Error() string { return fmt.Sprintf("offset %d: %v", e.Offset, e.Err) }

func (e RecordError) Unwrap() error { return e.Err }
