package connectors

import (
	"context"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Timed is implemented by a Source that finds a time in its system.
type Timed interface {
	Source
	// At finds where a split has to be opened so that the first message of
	// the time or later comes, and all after it.
	At(ctx context.Context, task TaskContext, split Split, at time.Time) (Found, error)
}

// Found is a place that belongs to a time.
type Found struct {
	Position Position // nil: the beginning, as the config defines it
	Where    string   // the position for people
}

// Move is a partition of a sink job that goes back: what lies in [To, From) is
// read once more.
type Move struct {
	Partition record.TopicPartition
	From, To  int64
}

// Replayer is implemented by a Sink that can say what becomes of records that
// it has written when they come again.
type Replayer interface {
	Sink
	// Replayed tells people what the destination will do with records that it
	// has, and what they have to do there first if it would not take them.
	Replayed(cfg Config, job string, moves []Move) string
}
