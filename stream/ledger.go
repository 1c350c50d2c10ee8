package stream

import (
	"maps"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// outcome is what became of one message of a source.
type outcome uint8

const (
	pending  outcome = iota // read, nothing decided or not yet acknowledged
	produced                // acknowledged in the output topic
	filtered                // dropped by a filter
	dead                    // acknowledged in the dead-letter topic
	moved                   // no message, only a place (connectors.Message.Mark)
)

// Counters are totals since a job was first started.
type Counters struct {
	Read        int64 `json:"read"`
	Filtered    int64 `json:"filtered"`
	Produced    int64 `json:"produced"` // by a source into its topic
	Written     int64 `json:"written"`  // by a sink into its destination
	DeadLetters int64 `json:"dead_letters"`
}

func (c Counters) plus(d Counters) Counters {
	return Counters{
		Read: c.Read + d.Read, Filtered: c.Filtered + d.Filtered, Produced: c.Produced + d.Produced,
		Written: c.Written + d.Written, DeadLetters: c.DeadLetters + d.DeadLetters,
	}
}

// ledger follows the messages of one split from read to settled and knows the
// contiguous prefix: the messages before the first one that is still pending.
// Only the prefix counts; that is what makes totals and position exact after
// a crash (invariant: checkpoint <= acknowledged). It is a pure value.
type ledger struct {
	entries []entry // entries[head:] are those after the prefix
	head    int
	base    int64 // sequence number of entries[0]

	prefix prefix
}

type entry struct {
	position connectors.Position
	origin   connectors.Origin
	outcome  outcome
	at       record.TopicPartition
	offset   int64
}

// prefix is what is settled without a gap.
type prefix struct {
	Position connectors.Position
	Origin   connectors.Origin
	Counters Counters
	// Ends holds for each output partition an offset at or above which the
	// outputs after Position are, and below which those up to it are.
	Ends map[record.TopicPartition]int64
}

func newLedger(from prefix) *ledger {
	from.Ends = maps.Clone(from.Ends)
	if from.Ends == nil {
		from.Ends = map[record.TopicPartition]int64{}
	}
	return &ledger{prefix: from}
}

// add takes up the next message and returns its sequence number.
func (l *ledger) add(position connectors.Position, origin connectors.Origin) int64 {
	l.entries = append(l.entries, entry{position: position, origin: origin})
	return l.base + int64(len(l.entries)) - 1
}

// settle decides a message. For produced and dead, at and offset say where
// its output is; an offset of -1 leaves Ends alone.
func (l *ledger) settle(seq int64, o outcome, at record.TopicPartition, offset int64) {
	e := &l.entries[seq-l.base]
	e.outcome, e.at, e.offset = o, at, offset
	if seq != l.base+int64(l.head) {
		return
	}
	for l.head < len(l.entries) && l.entries[l.head].outcome != pending {
		l.advance(&l.entries[l.head])
		l.entries[l.head] = entry{}
		l.head++
	}
	if l.head == len(l.entries) || l.head > 4096 && l.head > len(l.entries)/2 {
		n := copy(l.entries, l.entries[l.head:])
		clear(l.entries[n:])
		l.entries, l.base, l.head = l.entries[:n], l.base+int64(l.head), 0
	}
}

func (l *ledger) advance(e *entry) {
	p := &l.prefix
	p.Position, p.Origin = e.position, e.origin
	if e.outcome == moved {
		return
	}
	p.Counters.Read++
	switch e.outcome {
	case filtered:
		p.Counters.Filtered++
		return
	case produced:
		p.Counters.Produced++
	case dead:
		p.Counters.DeadLetters++
	}
	if e.offset >= p.Ends[e.at] {
		p.Ends[e.at] = e.offset + 1
	}
}

// pending is the number of messages after the prefix.
func (l *ledger) pending() int { return len(l.entries) - l.head }

// snapshot is a copy of the prefix that later settling does not change.
func (l *ledger) snapshot() prefix {
	p := l.prefix
	p.Ends = maps.Clone(p.Ends)
	return p
}
