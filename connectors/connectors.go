// Package connectors is the contract between the hub and the systems around
// it: what a source and a sink must do, what they say about themselves, how
// they fail. It holds no connector; each external system has a folder of its
// own below this one, and connectors/all lists the built-in ones.
//
// The contract is made so that the runtime (package stream) can promise exact
// results without knowing any external system:
//
//   - A source gives every message a Position, strictly increasing within its
//     split. Opening a split at a position gives exactly what followed it. A
//     source that cannot do that (see Queue) gives every message an ID.
//   - A sink executes a Plan: a range of offsets of one partition, decided and
//     made durable before the first byte is written. Executing the same plan
//     again changes nothing.
//   - Errors carry a class (see Class). The runtime decides what happens,
//     never the connector.
//
// Goroutines: none here. A connector may start some; Close of the Reader or
// Writer, or the end of the context for Splits, has to end and await them.
package connectors

import (
	"context"
	"log/slog"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Source reads an external system. It is a stateless value: everything that
// lives longer than a call is in what Open returns. All methods may be called
// at the same time.
type Source interface {
	// Spec names the source and its fields. It never changes.
	Spec() Spec
	// Validate looks for what the fields' own checks cannot see. It does no
	// I/O unless probe is ProbeLive, and then only reads.
	Validate(ctx context.Context, cfg Config, probe Probe) []Finding
	// Splits sends the whole present list of splits at once and again
	// whenever it changes, and closes the channel when ctx ends or the list
	// is final. Split IDs are stable over restarts.
	Splits(ctx context.Context, cfg Config) (<-chan []Split, error)
	// Open begins to read one split after the position from; nil is the
	// beginning, as the config defines it.
	Open(ctx context.Context, task TaskContext, split Split, from Position) (Reader, error)
}

// Queue is implemented by a Source whose system cannot be read again from a
// position: it hands a message out until it is told that it may forget it (a
// message broker), or offers it again as often as it likes (an HTTP client).
//
// Positions of such a source only number its messages. Open's from is the
// last number that was committed, and the new reader counts on from there; it
// gives whatever the system offers now. The runtime tells a message that
// comes again by its ID, and calls Committed after the transaction that holds
// the messages, in the order of their numbers and without a gap. A number
// that Committed has not reached when the reader is closed is not in the hub,
// or not known to be: the system has to keep the message and offer it again.
type Queue interface {
	Source
	// Dedup says how many of a split's newest message IDs are remembered. A
	// message that comes again within the window is acknowledged and not
	// written a second time.
	Dedup(cfg Config) Window
}

// Window bounds what is remembered, by what comes first.
type Window struct {
	IDs int           // the newest so many; 0 remembers nothing
	Age time.Duration // and not older than this; 0 does not bound
}

// Paced is implemented by a Source that somebody waits for: it says how soon
// what was read has to be committed: so many records, or so long after the last
// commit began. The runtime commits by what comes first, and at the latest when
// it has a full transaction by its own measure. Without it, a source commits
// twice a second.
type Paced interface {
	Source
	Pace(cfg Config) Limits
}

// Finite is implemented by a Source that may have very many splits, each of which
// ends: no more than Parallel of them are read at the same time.
type Finite interface {
	Source
	Parallel(cfg Config) int
}

// Reader reads one split. Its methods are called by one goroutine at a time.
type Reader interface {
	// Read returns the next messages, in order of their positions, at most
	// as limits say (but at least one, however large). It waits up to
	// limits.Wait for the first; an empty batch and no error means that none
	// came. io.EOF means that the split is finished for good. The messages'
	// memory belongs to the caller.
	Read(ctx context.Context, limits Limits) (Batch, error)
	// Committed says that everything up to and including the position is
	// durable in the hub: its transaction is committed, or it was filtered, or
	// was there already. Only then may a source forget it (acknowledge,
	// delete, advance a slot).
	Committed(ctx context.Context, upTo Position) error
	// Close releases everything, also after an error.
	Close(ctx context.Context) error
}

// Sink writes to an external system. Like Source it is a stateless value.
type Sink interface {
	Spec() Spec
	Validate(ctx context.Context, cfg Config, probe Probe) []Finding
	// Batching says when the runtime should cut a plan, by what comes first.
	Batching(cfg Config) Limits
	// Open prepares to write records of these partitions, which belong to
	// the task until Close.
	Open(ctx context.Context, task TaskContext, partitions []record.TopicPartition) (Writer, error)
}

// Writer executes plans. Its methods are called by one goroutine at a time.
type Writer interface {
	// Resume asks the destination for the next offset it wants of the
	// partition. known is false when the destination keeps no such record;
	// then the offset in the hub and the last durable plan decide.
	Resume(ctx context.Context, tp record.TopicPartition) (next int64, known bool, err error)
	// Write executes the plan, wholly or not at all:
	//
	//   - nil, nil: the plan is durable at the destination, by this call or an
	//     earlier one.
	//   - errors for single records: nothing of the plan is visible there.
	//     The runtime makes the dead letters durable and calls Write again
	//     with the same plan and a batch without those records.
	//   - an error: of class Retry or Fatal, and nothing is visible; or of
	//     class Unknown, and the same plan has to be written again to learn.
	//
	// batch holds the plan's records in offset order; offsets may have gaps,
	// and a batch without messages still moves the destination's own offset.
	Write(ctx context.Context, plan Plan, batch Batch) ([]RecordError, error)
	// Close releases everything, also after an error.
	Close(ctx context.Context) error
}

// Remembering is implemented by a Writer whose destination keeps the last plan
// of a partition, where other sites find it too: a site that takes a job over
// has the records at the same offsets, and none of the hub's own notes.
type Remembering interface {
	Writer
	// Last returns the newest plan of the partition that was begun at the
	// destination, by whoever owned it. From is To when the destination knows
	// only that all below is there. It is executed again, verbatim, before
	// anything after it; and its Epoch is below that of the owner that asks, or
	// the runtime makes it so.
	Last(ctx context.Context, tp record.TopicPartition) (last Plan, known bool, err error)
}

// Keeping is implemented by a Sink with work beside its plans that looks at the
// whole topic: to close an hour, to merge small files.
type Keeping interface {
	Sink
	// OpenKeeper returns nil and no error when the config asks for nothing.
	OpenKeeper(ctx context.Context, task TaskContext) (Keeper, error)
}

// Keeper does a sink's work beside the plans, in a goroutine of its own: one for
// each run of a job, however many tasks it has. A former one may still be at
// work, as with plans: whatever it does has to be harmless.
type Keeper interface {
	// Keep does what is due. It is called about once a second, with where each
	// partition of the topic stands. An error of class Fatal parks the job;
	// after any other it is called again, and loading goes on meanwhile.
	Keep(ctx context.Context, at []Standing) error
	// Close releases everything, also after an error.
	Close(ctx context.Context) error
}

// Standing says how far a sink job is with a partition.
type Standing struct {
	Partition record.TopicPartition
	Loaded    int64 // the destination has everything below this offset
	End       int64 // offset at which the next record of the partition will be
}

// TaskContext is what a running task gets from the runtime.
type TaskContext struct {
	Job    string // name of the connector in the config
	Task   string // name of this unit of the job, unique within it
	Site   string // the site that runs it
	Config Config // the connector's own fields
	Logger *slog.Logger
	Clock  func() time.Time
	// Noted is what Note tells; nil where nobody wants to know.
	Noted func(trouble error)
}

// Note tells how a call stands that takes long, while it is under way: nil that
// a part of what it has to do is done, an error why it waits or tries again by
// itself. Either gives a Write more time: one that says nothing for two minutes
// is taken for dead. People see the error, and for how long nothing was done, in
// the status of the job.
func (t TaskContext) Note(trouble error) {
	if t.Noted != nil {
		t.Noted(trouble)
	}
}

// Probe says how far Validate may go.
type Probe uint8

// ProbeNone allows no I/O at all, ProbeLive allows reading the real system.
const (
	ProbeNone Probe = iota
	ProbeLive
)

// Finding is one remark of Validate about one field.
type Finding struct {
	Field   string // name in the Spec, dotted for nested ones; "" for the whole
	Message string // what is wrong
	Hint    string // what would be right; may be empty
	Warning bool   // the config can run all the same
}

// Split is a source's unit of parallelism: a file, a table, a queue, a shard.
type Split struct {
	ID     string            // stable, unique within the source, shown to people
	Weight int               // relative load for placement; 0 counts as 1
	Config map[string]string // the source's own notes, opaque to others
}

// Limits bounds a batch. A zero field does not bound; Wait 0 does not wait.
type Limits struct {
	Records int
	Bytes   int           // of keys and values, uncompressed
	Wait    time.Duration // from the first call or the first record
}

// Cut takes from what is pending as much as a batch may have, one message at
// least.
func (l Limits) Cut(pending []Message) (got, rest []Message) {
	n, size := 0, 0
	for n < len(pending) && (n == 0 || l.Records <= 0 || n < l.Records) {
		if size += pending[n].Size(); n > 0 && l.Bytes > 0 && size > l.Bytes {
			break
		}
		n++
	}
	return pending[:n:n], pending[n:]
}
