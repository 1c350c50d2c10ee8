package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Node tells about the node itself.
type Node interface {
	Status() Status
	// Ready is nil when the node serves Kafka clients, else the reason why not.
	Ready() error
}

// Mesh tells about the gossip pools.
type Mesh interface {
	Members() []Member
	// RTT is the round-trip time estimated between two nodes by their
	// coordinates. ErrNotFound: one of them is not known.
	RTT(a, b string) (time.Duration, error)
}

// Copies is how fast the node fetches logs that it lacks: bytes a second, 0 is no
// bound. What is set holds until the node restarts.
type Copies interface {
	FetchRate() int64
	SetFetchRate(bytesPerSecond int64)
}

// FetchRate is /v1/fetch-rate.
type FetchRate struct {
	BytesPerSecond int64 `json:"bytes_per_second"` // 0: no bound
}

// Links tells about the mirrors into this site.
type Links interface{ Links() []Link }

// Jobs tells about connectors and steers them.
type Jobs interface {
	Jobs() []Job
	// Act does what an operator asked. ErrNotFound: no such job. ErrConflict:
	// not in the state it is in.
	Act(ctx context.Context, job string, action Action) error
	// Offsets is how far a job is, SetOffsets moves it, and ResetOffsets lets
	// it begin anew; the last two while it does not run.
	Offsets(ctx context.Context, job string) ([]Offset, error)
	SetOffsets(ctx context.Context, job string, to []Offset) error
	ResetOffsets(ctx context.Context, job string) error
	// Rewind takes a job back to a time, or tells what that would do.
	Rewind(ctx context.Context, job string, to RewindTo) (Rewind, error)
	// Replay brings dead letters through the job's present config, until all
	// that were there are done or ctx ends.
	Replay(ctx context.Context, job string) (Replayed, error)
}

// Offset is how far one part of a job is: a split of a source, or a partition
// of a sink.
type Offset struct {
	Split     string `json:"split,omitempty"`
	Position  []byte `json:"position,omitempty"` // base64; opaque
	Where     string `json:"where,omitempty"`    // the position for people
	Topic     string `json:"topic,omitempty"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// RewindTo is a request to go back to the first record at or after a time.
type RewindTo struct {
	Time   time.Time `json:"time"`
	DryRun bool      `json:"dry_run"` // only tell
}

// Rewind is what going back does to a job, or would do.
type Rewind struct {
	Job   string       `json:"job"`
	Kind  string       `json:"kind"`
	Time  time.Time    `json:"time"`
	Moved bool         `json:"moved"`
	Parts []RewindPart `json:"parts"`
	Then  string       `json:"then"` // what becomes of records that come again
}

// RewindPart is one partition of a sink, or split of a source.
type RewindPart struct {
	From    Offset `json:"from"`
	To      Offset `json:"to"`
	Stays   bool   `json:"stays"`   // it is not behind the time
	Records int64  `json:"records"` // to be read again, at most; -1: not known
}

// Replayed is what became of dead letters that were replayed.
type Replayed struct {
	Read     int64 `json:"read"`
	Written  int64 `json:"written"`
	Filtered int64 `json:"filtered"`
	Dead     int64 `json:"dead"` // dead letters again
	Left     int64 `json:"left"` // still to be replayed, at most
}

// Samples is any part that has metrics of its own.
type Samples interface{ Samples() []Sample }

// Action is a verb on a job.
type Action string

// The actions, as they stand in the URL.
const (
	Pause   Action = "pause"
	Resume  Action = "resume"
	Stop    Action = "stop"
	Restart Action = "restart"
)

// Status is GET /v1/status.
type Status struct {
	Node      string    `json:"node"`
	Site      string    `json:"site"`
	Version   string    `json:"version"`
	ClusterID string    `json:"cluster_id"`
	Kafka     string    `json:"kafka"` // the address that clients are told
	DataDir   string    `json:"data_dir"`
	Started   time.Time `json:"started"`
	Ready     bool      `json:"ready"`
	Reason    string    `json:"reason,omitempty"` // why it is not ready, or what is wrong although it is
	Disk      Disk      `json:"disk"`
	Scrub     *Scrub    `json:"scrub,omitempty"` // nil: what is on the disk is not checked, or the node belongs to no site yet
	Topics    []Topic   `json:"topics"`          // internal ones included, sorted by name
	// Peers are the connections with the other nodes of the site, by node and class.
	Peers []PeerLink `json:"peers,omitempty"`
}

// Disk is the volume under the data directory.
type Disk struct {
	FreeBytes int64 `json:"free_bytes"`
	// State is "ok", "low" (retention runs now), "full" (produce is refused) or
	// "offline" (a write or flush failed; Reason says how).
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// Scrub is what reading and checking all that is on the disk has found since the
// node started.
type Scrub struct {
	Running  bool      `json:"running"`
	Bytes    int64     `json:"bytes"`     // read in this pass, or the last one
	LastPass time.Time `json:"last_pass"` // when the last whole pass ended; zero: never
	Damaged  int64     `json:"damaged"`   // logs, which were quarantined
	// Indexes of segments that had decayed or were never finished, and how many of
	// them were written anew.
	Indexes int64 `json:"indexes"`
	Mended  int64 `json:"mended"`
}

// Topic as this node has it.
type Topic struct {
	Name       string      `json:"name"`
	Internal   bool        `json:"internal,omitempty"`
	Source     string      `json:"source,omitempty"`    // the site it is mirrored from; empty: local
	MirrorTo   []string    `json:"mirror_to,omitempty"` // the sites it is mirrored to
	Partitions []Partition `json:"partitions"`
}

// Records counts the offsets between log start and high watermark.
func (t Topic) Records() (n int64) {
	for _, p := range t.Partitions {
		n += p.HighWatermark - p.LogStart
	}
	return n
}

// Bytes is what the topic takes on this node's disk.
func (t Topic) Bytes() (n int64) {
	for _, p := range t.Partitions {
		n += p.Bytes
	}
	return n
}

// Partition as this node has it.
type Partition struct {
	ID            int32  `json:"partition"`
	LogStart      int64  `json:"log_start"`
	HighWatermark int64  `json:"high_watermark"`
	LeaderEpoch   int32  `json:"leader_epoch"`
	Bytes         int64  `json:"bytes"`
	Damage        string `json:"damage,omitempty"` // not empty: quarantined, and why
	// Compaction is nil unless the topic is compacted.
	Compaction *Compaction `json:"compaction,omitempty"`
}

// Compaction is what has become of a compacted partition on this node.
type Compaction struct {
	CleanBelow  int64     `json:"clean_below"`          // below this offset each key has one record at most
	DirtyBytes  int64     `json:"dirty_bytes"`          // of the segments that may be compacted and are not clean
	Ratio       float64   `json:"dirty_ratio"`          // their part of all that may be compacted
	Passes      uint64    `json:"passes"`               // since the node started, as the rest
	Errors      uint64    `json:"errors"`               //
	BeforeBytes int64     `json:"before_bytes"`         // what passes have read
	AfterBytes  int64     `json:"after_bytes"`          // what became of it
	Last        time.Time `json:"last,omitzero"`        // end of the last pass
	LastError   string    `json:"last_error,omitempty"` // of the last pass, if it failed
}

// Member is a node seen in one of the gossip pools.
type Member struct {
	ID      string `json:"id"`
	Site    string `json:"site"`
	Kafka   string `json:"kafka"`
	Peer    string `json:"peer"`
	Admin   string `json:"admin"`
	Version string `json:"version"`
	Addr    string `json:"addr"`   // of its gossip
	Status  string `json:"status"` // alive, leaving, left, failed
	Pool    string `json:"pool"`   // lan, wan
}

// RTT is GET /v1/mesh/rtt.
type RTT struct {
	A      string  `json:"a"`
	B      string  `json:"b"`
	Millis float64 `json:"rtt_ms"`
}

// Link is one mirror relation into this site.
type Link struct {
	Name       string          `json:"name"`
	Kind       string          `json:"kind"`   // mirror
	Source     string          `json:"source"` // site
	State      string          `json:"state"`  // streaming, catching-up, source-unreachable, ...
	Reason     string          `json:"reason,omitempty"`
	Records    int64           `json:"records"` // copied since this node started
	Bytes      int64           `json:"bytes"`
	LagRecords Measure         `json:"lag_records"` // sum over the partitions
	LagSeconds Measure         `json:"lag_seconds"` // greatest of the partitions
	Heard      Measure         `json:"heard_seconds_ago"`
	Partitions []LinkPartition `json:"partitions"`
}

// LinkPartition is one mirrored partition.
type LinkPartition struct {
	Topic      string  `json:"topic"`
	Partition  int32   `json:"partition"`
	Next       int64   `json:"next_offset"` // the next offset to copy
	SourceEnd  Measure `json:"source_end"`  // the source's high watermark
	LagRecords Measure `json:"lag_records"`
	LagSeconds Measure `json:"lag_seconds"`
	State      string  `json:"state"`
	Reason     string  `json:"reason,omitempty"`
}

// Job is a connector at run time.
type Job struct {
	Name      string           `json:"name"`
	Node      string           `json:"node,omitempty"` // that runs it, on a site of several
	Kind      string           `json:"kind"`           // source, sink
	Connector string           `json:"connector"`      // file, files, postgres, ...
	Topic     string           `json:"topic"`
	State     string           `json:"state"`            // running, paused, backing-off, stuck, failed, completed, ...
	Reason    string           `json:"reason,omitempty"` // why it is not running; of a running one, what went wrong last
	Retrying  *Retrying        `json:"retrying,omitempty"`
	Guarantee string           `json:"guarantee,omitempty"`
	Lag       Measure          `json:"lag_records"`
	Counters  map[string]int64 `json:"counters"` // records by what became of them: read, written, dead, ...
	Tasks     []Task           `json:"tasks"`
}

// Retrying says that a job tries and makes no progress; Job.Reason says why.
// After two minutes of it the state is stuck.
type Retrying struct {
	Since    time.Time `json:"since"`
	Seconds  float64   `json:"seconds"`
	Attempts int       `json:"attempts"`
}

// Task is one split or partition of a job.
type Task struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Reason   string `json:"reason,omitempty"`
	Position string `json:"position,omitempty"`
}

// Sample is one metric value. Name has no prefix; "entrepot_" is put before it.
// All samples of one name have the same help, kind and label names.
type Sample struct {
	Name    string
	Help    string
	Counter bool // else a gauge
	Labels  map[string]string
	Value   float64
}

// Measure is a number that may not be known. In JSON it is the number, or the
// string "unknown". The zero value is unknown.
type Measure struct {
	value float64
	known bool
}

// Known is a measured number. What is not finite is not known.
func Known(v float64) Measure {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Measure{}
	}
	return Measure{value: v, known: true}
}

// Value returns the number and whether it is known.
func (m Measure) Value() (v float64, known bool) { return m.value, m.known }

// plus is the sum, which is known when both are.
func (m Measure) plus(o Measure) Measure {
	return Measure{value: m.value + o.value, known: m.known && o.known}
}

// String is the number with no more than three decimals, or "unknown".
func (m Measure) String() string {
	if !m.known {
		return unknown
	}
	return strconv.FormatFloat(math.Round(m.value*1000)/1000, 'f', -1, 64)
}

const unknown = "unknown"

// MarshalJSON writes the number or "unknown".
func (m Measure) MarshalJSON() ([]byte, error) {
	if !m.known {
		return []byte(`"` + unknown + `"`), nil
	}
	return []byte(m.String()), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (m *Measure) UnmarshalJSON(data []byte) error {
	if string(data) == `"`+unknown+`"` {
		*m = Measure{}
		return nil
	}
	var v float64
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("a number or %q: %w", unknown, err)
	}
	*m = Known(v)
	return nil
}
