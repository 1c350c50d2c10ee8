// Package txn is the transaction coordinator (KIP-98, KIP-360, KIP-890) as a
// pure state machine: one Txn value for each transactional ID. Requests, the
// outcome of writes and the time go in; answers, the states that must be
// durable and the markers to write come out.
//
//	Empty ──add──► Ongoing ──end──► PrepareCommit ──all markers──► CompleteCommit ──add──► Ongoing
//	                  └──end, timeout, init──► PrepareAbort ──all markers──► CompleteAbort ──add──► Ongoing
//
// A state is entered when its record is durable, never before. So a marker is
// handed out only after the decision is, and Complete… is written only after
// the last marker is committed; whoever loads a Prepare… state after a crash
// writes all of its markers again.
//
// A driver (hub/protocol's transaction coordinator) gives each request that
// may have to wait a Ticket, and later finds it in an Answer. It makes each
// Write durable and reports it by Written, writes each Marker until it is
// committed and reports it by Marked, and calls Tick no later than Deadline
// says.
//
// Goroutines: none, and no clock, lock or I/O. A Txn must be used by one
// goroutine at a time.
package txn

import (
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Config bounds what clients may ask for. All fields are needed; Default
// gives Kafka's values.
type Config struct {
	MaxTimeout time.Duration // longest transaction timeout a client may ask for
	Expiration time.Duration // a transactional ID without use for as long is forgotten
	Retry      time.Duration // before a write of the machine's own that failed is tried again
}

// Default is Kafka's configuration.
func Default() Config {
	return Config{MaxTimeout: 15 * time.Minute, Expiration: 7 * 24 * time.Hour, Retry: 100 * time.Millisecond}
}

// Ticket names a parked request; the driver chooses it and never reuses it. 0
// is nobody.
type Ticket uint64

// Answer ends the wait of one parked request.
type Answer struct {
	Ticket   Ticket
	Err      error
	Producer Producer // for Init and End: what the client goes on with
}

// Write must become durable; nil removes the record of the transactional ID.
type Write struct {
	Record *Record
}

// Marker must be written to one partition until it is committed there, or the
// partition is gone with its topic.
type Marker struct {
	record.TopicPartition
	Producer Producer
	Commit   bool
	Version  int16 // of the transaction
}

// Output is what the driver has to do after an input.
type Output struct {
	Answers []Answer
	Write   *Write // one at most is ever on its way
	Markers []Marker
}

func (o *Output) answer(t Ticket, p Producer, err error) {
	if t != 0 {
		o.Answers = append(o.Answers, Answer{Ticket: t, Producer: p, Err: err})
	}
}

// Txn is one transactional ID. Make it with New or Load.
type Txn struct {
	id  string
	cfg Config
	rec Record // durable

	// last is the producer before the epoch was last raised at its own wish: a
	// client that lost the answer comes again with it (KIP-360).
	last Producer

	next    *Write // on its way
	apply   func(now time.Time, err error, out *Output)
	marking map[record.TopicPartition]bool // Prepare…: markers not yet committed
	parked  []parked
	retry   time.Time // Tick tries again then what failed; zero: nothing has
}

// parked is an Add that waits for the end of something.
type parked struct {
	t Ticket
	r AddRequest
}

// New returns a transactional ID that nobody has used.
func New(id string, cfg Config, now time.Time) *Txn {
	return &Txn{
		id: id, cfg: cfg, last: None,
		rec: Record{Producer: None, Previous: -1, Next: -1, State: Empty, Started: -1, Updated: now.UnixMilli()},
	}
}

// Load returns a transactional ID as it was kept. The output has the markers
// of a decision that was made and perhaps not carried out. rec must pass Check.
func Load(id string, cfg Config, now time.Time, rec Record) (*Txn, Output) {
	x := &Txn{id: id, cfg: cfg, last: None, rec: rec}
	x.rec.Partitions = rec.with(nil)
	var out Output
	if rec.State.preparing() {
		x.mark(now, &out)
	}
	return x, out
}

// ID is the transactional ID.
func (x *Txn) ID() string { return x.id }

// State is where the transactional ID is.
func (x *Txn) State() State { return x.rec.State }

// Describe shows what is durable. The partitions must not be changed.
func (x *Txn) Describe() Record { return x.rec }

// Vacant reports whether there is nothing to remember: it came into being with
// a request that changed nothing.
func (x *Txn) Vacant() bool { return x.rec.Producer == None && x.next == nil }

// write hands out a record and remembers what follows it; nil removes the
// transactional ID.
func (x *Txn) write(out *Output, rec *Record, apply func(time.Time, error, *Output)) {
	x.next, x.apply = &Write{rec}, apply
	out.Write = x.next
}

// enter writes a record and makes it the present one; then follows it either
// way.
func (x *Txn) enter(out *Output, rec Record, then func(now time.Time, err error, out *Output)) {
	x.write(out, &rec, func(now time.Time, err error, out *Output) {
		if err == nil {
			x.rec = rec
		}
		then(now, err, out)
	})
}

// Written reports the outcome of the write: nil when it is durable.
func (x *Txn) Written(now time.Time, err error) (out Output) {
	if x.next == nil {
		return out
	}
	apply := x.apply
	x.next, x.apply = nil, nil
	apply(now, err, &out)
	x.unpark(now, &out)
	return out
}

// changed is the record that follows the present one.
func (x *Txn) changed(now time.Time, s State) Record {
	rec := x.rec
	rec.State, rec.Updated = s, now.UnixMilli()
	return rec
}

// Close answers every parked request with err: the transactional ID is handed
// over.
func (x *Txn) Close(err error) (out Output) {
	for _, p := range x.parked {
		out.answer(p.t, None, err)
	}
	x.parked = nil
	if x.next != nil {
		apply := x.apply
		x.next, x.apply = nil, nil
		apply(time.Time{}, err, &out)
	}
	x.rec.State = Dead
	return Output{Answers: out.Answers}
}
