// Package group is the two protocols of consumer groups as a pure state
// machine: one Group value for each group, classic (KIP-62, KIP-345, KIP-394,
// KIP-429) or consumer (KIP-848). Requests, the outcome of writes and the time
// go in; answers to parked requests and the writes that must be durable come
// out. In a classic group the assignment is made by a client, the group's
// leader, so that eager and cooperative assignors are the same thing here; in a
// consumer group it is made here (assignors.go), and consumer_*.go lead the
// members towards it.
//
// A driver (hub/protocol's coordinator) gives every request that may have to
// wait a Ticket, and later finds it in an Answer. It makes each Write durable
// in the order in which it was handed out and then reports it by Written;
// nothing that depends on a write is answered before. The driver calls Tick
// no later than Deadline says.
//
// Goroutines: none, and no clock, lock or I/O. A Group must be used by one
// goroutine at a time.
package group

import (
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Config bounds what clients may ask for. All fields are needed; Default
// gives Kafka's values.
type Config struct {
	MinSession time.Duration // shortest session timeout a client may ask for
	MaxSession time.Duration // longest one
	// InitialDelay is how long the first rebalance of an empty group waits for
	// more members, again for each one that comes, up to their rebalance
	// timeout. It saves a rebalance for each member when many start together.
	InitialDelay time.Duration
	NewMember    time.Duration // how long a member may wait in its first join
	MaxMembers   int           // members beyond it are refused
	MaxMetadata  int           // bytes of metadata with a committed offset
	Consumer     Timing        // of a consumer group for which nothing else is set
	Bounds       TimingBounds  // of what is set
	Migration    Migration     // which groups with members may change their protocol
	// Retention is how long offsets outlive the last member (or, without
	// members, the commit).
	Retention time.Duration
}

// Default is Kafka's configuration, with a bound on the members.
func Default() Config {
	return Config{
		MinSession:   6 * time.Second,
		MaxSession:   30 * time.Minute,
		InitialDelay: 3 * time.Second,
		NewMember:    5 * time.Minute,
		MaxMembers:   10_000,
		MaxMetadata:  4096,
		Retention:    7 * 24 * time.Hour,

		Consumer: Timing{Session: 45 * time.Second, Interval: 5 * time.Second},
		Bounds: TimingBounds{
			Min: Timing{Session: 45 * time.Second, Interval: 5 * time.Second},
			Max: Timing{Session: 60 * time.Second, Interval: 15 * time.Second},
		},
		Migration: MigrateBoth,
	}
}

// State is where a group is in its life.
type State uint8

// The states of a group. See rebalance.go for the moves between them.
const (
	Empty      State = iota // no members; offsets may be there
	Preparing               // waits for the members to join
	Completing              // waits for the leader's assignment
	Stable                  // members have their assignments
	Dead                    // nothing left; the driver drops the value

	// Consumer groups (KIP-848) are Empty, Assigning, Reconciling, Stable or Dead.
	Assigning   // targets are older than the group's epoch
	Reconciling // members are on their way to their targets
)

// String is Kafka's name of the state.
func (s State) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Assigning", "Reconciling"}[s]
}

// Ticket names a parked request; the driver chooses it and never reuses it.
type Ticket uint64

// Answer ends the wait of one parked request. Err nil means that the field of
// the request's kind is set.
type Answer struct {
	Ticket Ticket
	Err    error
	Join   *Joined
	Sync   *Synced
	Commit []error // one for each offset of the request, nil where committed
	Left   []error // one for each leaver, nil where it has left

	Consumer *ConsumerAnswer
}

// Write must become durable as a whole. Several fields may be set.
type Write struct {
	ID       uint64    // to be handed to Written
	Metadata *Metadata // the group's record, nil to leave it
	Delete   bool      // remove the classic group's record
	Entries  []Entry   // of a consumer group
	Offsets  []OffsetWrite
	// Transactional is set when the offsets are those of a transaction.
	Transactional *Transactional
}

// OffsetWrite is one committed offset; a nil Offset removes it.
type OffsetWrite struct {
	record.TopicPartition
	Offset *Offset
}

// Output is what the driver has to do after an input: Answers at once, Writes
// in order.
type Output struct {
	Answers []Answer
	Writes  []Write
}

func (o *Output) answer(a Answer) { o.Answers = append(o.Answers, a) }

// end answers a request that has nothing to say but its outcome.
func (o *Output) end(t Ticket, err error) {
	if t != 0 {
		o.answer(Answer{Ticket: t, Err: err})
	}
}

// give answers with a, or with the error in place of what it tells.
func (o *Output) give(a Answer, err error) {
	if err != nil {
		a = Answer{Ticket: a.Ticket, Err: err}
	}
	if a.Ticket != 0 {
		o.answer(a)
	}
}

// Group is one consumer group. Make it with New or Load.
type Group struct {
	id           string
	cfg          Config
	state        State
	since        time.Time // when state was entered
	generation   int32
	protocolType string
	protocol     string
	leader       string // member ID
	gone         bool   // a member was removed that may be in the group's record

	members []*member // in the order of their first join
	byID    map[string]*member
	statics map[string]*member   // by instance ID
	pending map[string]time.Time // IDs handed out and not yet joined with; until when

	joinBy  time.Time // Preparing: goes on without the missing members
	initial bool      // Preparing: the delay of an empty group's first rebalance
	more    bool      // Preparing: a member came during the initial delay
	capBy   time.Time // Preparing: the initial delay is never extended beyond
	syncBy  time.Time // Completing, Stable: members without a sync are removed; zero: all have synced

	consumer *consumers // nil for a classic group

	offsets   map[record.TopicPartition]Offset
	undecided map[int64]*undecided // by producer ID
	place     int64                // of the last offset that came into one of them
	inFlight  map[uint64]inFlight
	lastWrite uint64
}

// New returns an empty group.
func New(id string, cfg Config, now time.Time) *Group {
	return &Group{
		id: id, cfg: cfg, since: now,
		byID:     map[string]*member{},
		statics:  map[string]*member{},
		pending:  map[string]time.Time{},
		offsets:  map[record.TopicPartition]Offset{},
		inFlight: map[uint64]inFlight{},
	}
}

// ID is the group's name.
func (g *Group) ID() string { return g.id }

// State is where the group is.
func (g *Group) State() State { return g.state }

// Generation counts the completed rebalances.
func (g *Group) Generation() int32 { return g.generation }

func (g *Group) enter(now time.Time, s State) { g.state, g.since = s, now }

// inFlight is what happens once a write is durable: apply is called with the
// outcome.
type inFlight struct {
	apply func(now time.Time, err error, out *Output)
}

// write hands out a write and remembers what follows it.
func (g *Group) write(out *Output, w Write, apply func(time.Time, error, *Output)) {
	g.lastWrite++
	w.ID = g.lastWrite
	g.inFlight[w.ID] = inFlight{apply}
	out.Writes = append(out.Writes, w)
}

// after gives the answer once the last write of out is durable, at once if
// there is none.
func (g *Group) after(out *Output, a Answer) {
	if len(out.Writes) == 0 {
		out.give(a, nil)
		return
	}
	id := out.Writes[len(out.Writes)-1].ID
	first := g.inFlight[id].apply
	g.inFlight[id] = inFlight{func(now time.Time, err error, out *Output) {
		first(now, err, out)
		out.give(a, err)
	}}
}

// Written reports the outcome of a write: nil when it is durable.
func (g *Group) Written(now time.Time, id uint64, err error) (out Output) {
	f, ok := g.inFlight[id]
	if !ok {
		return out
	}
	delete(g.inFlight, id)
	f.apply(now, err, &out)
	return out
}

// Deadline is when Tick has to be called next; zero: not before another input.
func (g *Group) Deadline() time.Time {
	var d time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	if g.consumer != nil {
		return g.consumer.deadline()
	}
	for _, t := range g.pending {
		earlier(t)
	}
	for _, m := range g.members {
		if m.expires() {
			earlier(m.deadline)
		}
	}
	switch g.state {
	case Preparing:
		earlier(g.joinBy)
	case Completing, Stable:
		earlier(g.syncBy)
	}
	return d
}

// Tick ends what has waited too long: sessions, joins, syncs.
func (g *Group) Tick(now time.Time, topics Topics) (out Output) {
	if g.consumer != nil {
		g.tickConsumers(now, topics, &out)
		return out
	}
	for _, id := range sortedKeys(g.pending) {
		if !now.Before(g.pending[id]) {
			delete(g.pending, id)
			g.tryComplete(now, &out)
		}
	}
	for _, m := range slices.Clone(g.members) {
		if g.byID[m.id] == m && m.expires() && !now.Before(m.deadline) {
			out.end(m.join, ErrUnknownMember)
			g.remove(m)
			g.afterRemoval(now, &out)
		}
	}
	switch {
	case g.state == Preparing && !now.Before(g.joinBy):
		g.joinTimeout(now, &out)
	case (g.state == Completing || g.state == Stable) && !g.syncBy.IsZero() && !now.Before(g.syncBy):
		g.syncTimeout(now, &out)
	}
	g.recordGone(&out)
	return out
}
