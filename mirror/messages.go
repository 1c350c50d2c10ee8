package mirror

import (
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// What the state machine of a link asks to be done, and what it is told of the
// outcome. Each action is answered by exactly one event.
type (
	// discover: ask the source for its topics → discovered.
	discover struct{}

	// ensure: make the topic here → ensured.
	ensure struct{ topic MirroredTopic }

	// open: find the end of the destination's log → opened.
	open struct{ part *partition }

	// fetch: ask a broker for batches → fetched.
	fetch struct {
		broker   int32
		asks     []ask
		maxBytes int32
		wait     time.Duration
	}

	// measure: ask a broker where its partitions begin and end → measured.
	measure struct {
		broker int32
		asks   []ask
	}

	// write: append to the destination → written.
	write struct {
		part    *partition
		era     int
		next    int64 // the guard
		batches []record.Batch
	}

	// trim: set the destination's log start → trimmed.
	trim struct {
		part  *partition
		era   int
		start int64
	}
)

// ask is one partition in a fetch.
type ask struct {
	part        *partition
	id          record.TopicID
	era         int // of the partition when it asked; an answer of another era is void
	offset      int64
	leaderEpoch int32 // of the leader asked, -1 unknown
	lastEpoch   int32 // of the batch before offset, -1 unknown
	maxBytes    int32
}

// Events.
type (
	discovered struct {
		topics []sourceTopic
		err    error
	}
	ensured struct {
		topic MirroredTopic
		err   error
	}
	opened struct {
		part  *partition
		next  int64
		epoch int32
		err   error
	}
	fetched struct {
		broker  int32
		asks    []ask
		answers []answer // in the order of asks; none with err
		bytes   int
		took    time.Duration
		err     error
	}
	measured struct {
		broker int32
		asks   []ask
		ranges []extent // in the order of asks; none with err
		err    error
	}
	written struct {
		write
		err error
	}
	trimmed struct {
		trim
		err error
	}
)

// fault is what a source's error code means to a mirror.
type fault uint8

const (
	faultNone       fault = iota
	faultLeader           // ask for the leader anew
	faultTopic            // the topic ID is not known there (any more)
	faultOutOfRange       // the offset asked for is not in the source's log
	faultOther            // try again
)

// answer is one partition of a fetch answer, its batches checked.
type answer struct {
	fault     fault
	text      string // of the fault
	start     int64  // log start, -1 unknown
	end       int64  // high watermark
	diverging *record.EpochEnd
	batches   []record.Batch
	corrupt   error // the batches after these are damaged
}

// extent is where a partition begins and ends at the source.
type extent struct {
	fault      fault
	text       string
	start, end int64
}

// sourceTopic is a topic as its source describes it.
type sourceTopic struct {
	name    string
	id      record.TopicID
	leaders []leader // by partition
	config  map[string]string
	to      []string // mirror.to
	mirror  bool     // it is a mirror there, too
	fault   string   // not empty: the source could not say; nothing follows from that
}

type leader struct{ node, epoch int32 } // node -1: none at present
