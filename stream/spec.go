package stream

import (
	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// Jobs is what one or more jobs files say, checked and compiled. Nothing has
// been opened or asked.
type Jobs struct {
	Topics     []TopicSpec
	Connectors []ConnectorSpec
	Tests      []TestSpec
}

// TopicSpec is a topic that a jobs file wants to exist.
type TopicSpec struct {
	Name       string
	Partitions int32 // 0: the site's default
	Replicas   int16 // 0: the site's default
	Configs    map[string]string
	File       string
	Pos        connectors.Pos
}

// ConnectorSpec is one configured connector: a job.
type ConnectorSpec struct {
	Name  string
	Topic string
	Type  string // of the connector, such as "file"
	// Exactly one of Source and Sink is set.
	Source connectors.Source
	Sink   connectors.Sink
	Config connectors.Config // the connector's own fields

	Pipeline *Pipeline
	Errors   ErrorPolicy
	Start    StartAt // of a sink that has no offset yet
	// Memory bounds what the job holds in flight, in bytes; 0 is the default.
	Memory int64
	// Tasks is into how many tasks the job is divided, each of which any node may
	// run; Parts is what becomes of it. 0 is one.
	Tasks int
	// Share is what of them this runner runs.
	Share Share

	// Fingerprint differs when anything in the job's config does.
	Fingerprint string
	File        string
	Pos         connectors.Pos

	node  strict.Node // of source or sink
	whole strict.Node
}

// Node is the connector's mapping as its file has it.
func (s ConnectorSpec) Node() strict.Node { return s.whole }

// Kind is "source" or "sink".
func (s ConnectorSpec) Kind() string {
	if s.Source != nil {
		return "source"
	}
	return "sink"
}

// spec is what the connector says about itself.
func (s ConnectorSpec) spec() connectors.Spec {
	if s.Source != nil {
		return s.Source.Spec()
	}
	return s.Sink.Spec()
}

// StartAt says where a sink without an offset begins.
type StartAt string

// Earliest begins with the oldest record there is, Latest with the next one.
const (
	Earliest StartAt = "earliest"
	Latest   StartAt = "latest"
)

// ErrorPolicy says what happens to records that fail.
type ErrorPolicy struct {
	DLQ string // topic of the dead letters; "" is JOB.dlq
	// MaxFailures of the last Window records may be dead letters; one more
	// stops the job. Window 0: the job never stops for them.
	MaxFailures, Window int
	// SkipGaps lets a sink go on over records that were deleted before it
	// read them; otherwise it stops and says so.
	SkipGaps bool
}

// DLQ is the topic of the job's dead letters.
func (s ConnectorSpec) DLQ() string {
	if s.Errors.DLQ != "" {
		return s.Errors.DLQ
	}
	return s.Name + ".dlq"
}

const (
	// defaultMemory is what a job holds in flight unless its config says
	// otherwise.
	defaultMemory = 64 << 20
	// largestDefault bounds what a sink's own batch size raises it to.
	largestDefault = 512 << 20
)

// memory is the bound for this job: a sink needs room for one of its batches.
func (s ConnectorSpec) memory() int64 {
	if s.Memory > 0 {
		return s.Memory
	}
	if s.Sink != nil {
		if want := int64(s.Sink.Batching(s.Config).Bytes); want > defaultMemory {
			return min(want, largestDefault)
		}
	}
	return defaultMemory
}

// TestSpec is one entry of tests: lines that go through the transforms of a
// connector, and what has to come out.
type TestSpec struct {
	Target string
	Input  []string
	Output []ExpectSpec
	File   string
	Pos    connectors.Pos
}

// ExpectSpec is what is expected of one input, in order: a record, a dead
// letter or nothing.
type ExpectSpec struct {
	JSONContains []byte // JSON; every field of it has to be there and equal
	JSONEquals   []byte // JSON
	Key          *string
	DeadLetter   *string // a part of the reason
	Filtered     bool
	Pos          connectors.Pos
}
