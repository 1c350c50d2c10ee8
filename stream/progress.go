package stream

import (
	"maps"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// outcome is what became of one message of a source.
type outcome uint8

const (
	produced  outcome = iota + 1 // it is in the output topic
	filtered                     // dropped by a filter
	dead                         // it is in the dead-letter topic
	moved                        // no message, only a place (connectors.Message.Mark)
	duplicate                    // its system offered it again; the first time counts
)

// Counters are totals since a job was first started.
type Counters struct {
	Read        int64 `json:"read"`
	Filtered    int64 `json:"filtered"`
	Produced    int64 `json:"produced"` // by a source into its topic
	Written     int64 `json:"written"`  // by a sink into its destination
	DeadLetters int64 `json:"dead_letters"`
	Duplicates  int64 `json:"duplicates,omitempty"` // that came again and were not written again
}

func (c Counters) plus(d Counters) Counters {
	return Counters{
		Read: c.Read + d.Read, Filtered: c.Filtered + d.Filtered, Produced: c.Produced + d.Produced,
		Written: c.Written + d.Written, DeadLetters: c.DeadLetters + d.DeadLetters, Duplicates: c.Duplicates + d.Duplicates,
	}
}

func (c Counters) minus(d Counters) Counters {
	return Counters{
		Read: c.Read - d.Read, Filtered: c.Filtered - d.Filtered, Produced: c.Produced - d.Produced,
		Written: c.Written - d.Written, DeadLetters: c.DeadLetters - d.DeadLetters, Duplicates: c.Duplicates - d.Duplicates,
	}
}

// progress is how far a split is read. Everything up to Position has one
// outcome, and Counters says how many of each. It is a value, but for Ends.
type progress struct {
	Position connectors.Position
	Origin   connectors.Origin
	Counters Counters
	// Ends holds for each output partition an offset at or above which the
	// outputs after Position are, and below which those up to it are.
	Ends map[record.TopicPartition]int64
}

// add takes up the next message.
func (p *progress) add(m *connectors.Message, o outcome) {
	p.Position, p.Origin = m.Position, m.Origin
	if o == moved {
		return
	}
	p.Counters.Read++
	switch o {
	case produced:
		p.Counters.Produced++
	case filtered:
		p.Counters.Filtered++
	case dead:
		p.Counters.DeadLetters++
	case duplicate:
		p.Counters.Duplicates++
	}
}

// clone is a copy that later changes leave alone.
func (p progress) clone() progress {
	if p.Ends = maps.Clone(p.Ends); p.Ends == nil {
		p.Ends = map[record.TopicPartition]int64{}
	}
	return p
}
