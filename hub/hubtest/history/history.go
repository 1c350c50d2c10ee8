// Package history checks what clients of a site saw against what they were
// promised, in the manner of Jepsen's checkers: a run records each operation
// with when it began and how it ended, and the checks look for a reason why no
// site that keeps its promises could have answered so. An operation whose end
// nobody was told stays unknown for ever: it may have taken effect, even later,
// or not.
//
// Everything but the Recorder is pure. Values are unique: no two sends of a
// history have the same one, so that a value tells where it came from.
package history

import (
	"sync"
	"time"
)

// Outcome is how an operation ended for the one who asked for it.
type Outcome string

// Failed is only what certainly had no effect and never will have any.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Unknown Outcome = "unknown"
)

// Span is from the call to its answer, since the begin of the run. Wall time
// decides nothing but which of two operations was over before the other began.
type Span struct {
	Begin time.Duration `json:"begin"`
	End   time.Duration `json:"end"`
}

// before reports whether s was over when other began.
func (s Span) before(other Span) bool { return s.End < other.Begin }

// History is what was recorded of a run.
type History struct {
	Topics  map[string]Topic `json:"topics"`
	Sends   []Send           `json:"sends"`
	Txns    []Txn            `json:"txns"`
	Polls   []Poll           `json:"polls"`
	Offsets []Offset         `json:"offsets"`
	Pipes   []Pipe           `json:"pipes"`
	Changes []Change         `json:"changes"`
	Probes  []Probe          `json:"probes"`
	Faults  []Fault          `json:"faults"`
	Notes   []string         `json:"notes"` // what clients said beside; for people
	// Replicas is what the nodes have on disk in the end. Nodes are those that
	// have one of every partition of Topics. Neither is kept in files.
	Replicas []Replica `json:"-"`
	Nodes    []string  `json:"-"`
}

// Topic is what the checks have to know of a topic.
type Topic struct {
	Partitions int32 `json:"partitions"`
	Compacted  bool  `json:"compacted,omitempty"` // only the last record of a key has to stay
}

// Send is one record given to a producer.
type Send struct {
	Span
	Producer  string  `json:"producer"`
	Retries   bool    `json:"retries,omitempty"` // without idempotence: may be there twice, and in any order
	Txn       string  `json:"txn,omitempty"`     // the transaction that it is part of
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Key       string  `json:"key,omitempty"`
	Value     string  `json:"value"`
	From      string  `json:"from,omitempty"` // the value that it was made of, in a Pipe
	Outcome   Outcome `json:"outcome"`
	Offset    int64   `json:"offset"` // -1: not told
}

// Txn is one transaction.
type Txn struct {
	Span
	Name    string  `json:"name"`
	Commit  bool    `json:"commit"`  // what was asked for; false is an abort, or nothing: it was left open
	Outcome Outcome `json:"outcome"` // OK: it was done
}

// Poll is what one consumer was given of one partition in one fetch. A consumer
// reads a partition in order from where it begins; one that is given a partition
// anew is another consumer with another name.
type Poll struct {
	Span
	Consumer  string `json:"consumer"`
	Group     string `json:"group,omitempty"` // it reads for a group
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed bool   `json:"committed,omitempty"` // read_committed
	// Final is a poll of a fresh consumer, after everything was healed, that
	// reads from the start of the log to its end.
	Final bool   `json:"final,omitempty"`
	High  int64  `json:"high"` // the high watermark that came with it; -1: none
	Reads []Read `json:"reads"`
}

// Read is one record, or marker, as it was read.
type Read struct {
	Offset  int64  `json:"o"`
	Epoch   int32  `json:"e"` // leader epoch; -1: the client does not tell
	Key     string `json:"k,omitempty"`
	Value   string `json:"v,omitempty"`
	Control bool   `json:"c,omitempty"` // a marker: no value
}

// Offset is a commit of a group's offset, or a question for it. One in a
// transaction has the span and the outcome of the transaction's end; who asks
// waits for the decision (require_stable).
type Offset struct {
	Span
	Group     string  `json:"group"`
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Ask       bool    `json:"ask,omitempty"`
	Txn       string  `json:"txn,omitempty"` // committed as part of it
	At        int64   `json:"at"`            // committed, or the answer; -1: none
	Outcome   Outcome `json:"outcome"`
}

// Pipe is a topic that is copied in transactions: each record once.
type Pipe struct {
	In    string `json:"in"`
	Out   string `json:"out"`
	Group string `json:"group"`
}

// Change is an operation on the site's metadata.
type Change struct {
	Span
	Client  int     `json:"client"`
	Topic   string  `json:"topic"`
	Verb    Verb    `json:"verb"`
	Value   string  `json:"value,omitempty"` // of the setting: given, or the answer of Get
	Found   bool    `json:"found"`           // the topic was there: the answer, whatever the verb
	Outcome Outcome `json:"outcome"`         // OK: answered, be it that the topic is there, or is not
}

// Verb is what a Change does. Create of a topic that is there, and the others of
// one that is not, change nothing and say so.
type Verb string

// The verbs.
const (
	Create Verb = "create"
	Delete Verb = "delete"
	Set    Verb = "set" // one setting of the topic
	Get    Verb = "get"
)

// Probe is how long it took after a fault was healed until a partition took a
// write of a client that came then.
type Probe struct {
	After     string        `json:"after"` // the fault's kind
	Topic     string        `json:"topic"`
	Partition int32         `json:"partition"`
	Healed    time.Duration `json:"healed"`
	Writable  time.Duration `json:"writable"` // 0: never
}

// Fault is what was done to the site.
type Fault struct {
	Span
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
}

// Recorder takes in operations from many goroutines.
type Recorder struct {
	start time.Time
	mu    struct {
		sync.Mutex
		h History
	}
}

// NewRecorder begins a history.
func NewRecorder() *Recorder {
	r := &Recorder{start: time.Now()}
	r.mu.h.Topics = map[string]Topic{}
	return r
}

// Now is the time since the begin of the run.
func (r *Recorder) Now() time.Duration { return time.Since(r.start) }

// Add lets fn add to the history.
func (r *Recorder) Add(fn func(*History)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(&r.mu.h)
}

// History ends the recording and returns it.
func (r *Recorder) History() *History {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.mu.h
	r.mu.h = History{}
	return &h
}
