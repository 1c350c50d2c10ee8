// Package storage keeps a node's data on one volume: a Store is its directory,
// a Log is one partition's copy. A log is a chain of append-only segments that
// describe themselves: each segment's header holds the whole state before its
// first entry, each frame says what it is, where it stands and up to which
// position the log was known synced when it was written. Nothing is ever cut
// in place. The rules are numbered in docs/invariants.md and cited here as
// "Invariant N"; the bytes are drawn in docs/format/segment.md.
//
// Goroutines: Store.Run is one loop (flusher, recovery point, disk watcher);
// during a flush it starts at most eight goroutines, one for each file, and
// waits for them. Nothing else is started. Append is called by one goroutine
// at a time per log; everything else may be called concurrently.
package storage

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// LogID is the identity of a log (Invariant 5). Topic is the name people see;
// ID tells a recreated topic from the one before it. The catalog's own log is
// a LogID too, with a zero topic ID.
type LogID struct {
	Topic                 string
	ID                    record.TopicID
	Partition, Generation int32
}

// String is the form people read: clicks-3, or clicks-3@1 for generation 1.
func (id LogID) String() string {
	if id.Generation == 0 {
		return fmt.Sprintf("%s-%d", id.Topic, id.Partition)
	}
	return fmt.Sprintf("%s-%d@%d", id.Topic, id.Partition, id.Generation)
}

// Kind tells what an entry holds.
type Kind uint8

// The kinds of entry. Frames have further kinds that are no entries.
const (
	KindData    Kind = 1 // one Kafka v2 record batch
	KindControl Kind = 2 // opaque: a configuration change, a no-op, a decision
)

// String names the kind as dumps do.
func (k Kind) String() string {
	switch k {
	case KindData:
		return "data"
	case KindControl:
		return "control"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Entry is one entry of the replicated log.
type Entry struct {
	Index, Term uint64
	Kind        Kind
	BaseOffset  int64 // data: offset of the first record; control: the next offset at that place (zero width, Invariant 1)
	LeaderEpoch int32
	// Payload of a data entry is exactly one record.Batch whose base offset
	// and leader epoch are already written in place, and whose own checksum was
	// checked: that of the frame is made from it, so that a batch with a wrong
	// one is damage in the log. The payload must not be changed after Append;
	// what reads return must not be changed either.
	Payload []byte
}

// Batch is the payload of a data entry.
func (e *Entry) Batch() record.Batch { return record.Batch(e.Payload) }

// NextOffset is the offset after the entry.
func (e *Entry) NextOffset() int64 {
	if e.Kind == KindData {
		return record.Batch(e.Payload).NextOffset()
	}
	return e.BaseOffset
}

// HardState is what a Raft voter must never forget.
type HardState struct{ Term, Vote, Commit uint64 }

// Aux is the state of the layers above at one place of the log, opaque here:
// the Raft configuration, the control state and the producer state.
type Aux struct{ Conf, Control, Producers []byte }

// State is everything before one place of a log, which is what a segment
// header holds: the index and term of the entry before it, the next offset
// there, and the state of the layers above.
type State struct {
	Index, Term uint64
	NextOffset  int64
	Hard        HardState
	Aux
}

// Round is what one step of a replica has to write. It becomes durable as a
// whole or, after a crash, as any prefix of its frames.
type Round struct {
	// Entries follow each other; the first index is Last+1, or lower to
	// supersede a conflicting suffix, which needs Before (Invariant 10).
	Entries []Entry
	// Hard, unless nil, replaces the hard state.
	Hard *HardState
	// Before, unless nil, begins a new segment in front of the entries: the
	// state of the layers above before Entries[0], or after the last entry
	// when there are none. Log.ShouldRoll asks for it.
	Before *Aux
	// Reset, unless nil, discards everything before and begins from this
	// state (Invariant 12). Its Hard is overridden by Round.Hard.
	Reset *State
	// NoSync calls Done once the round is written; the flusher syncs it within
	// 100 ms or 256 KiB. A change of term or vote is synced all the same.
	NoSync bool
	// Done, unless nil, is called exactly once, from the goroutine of
	// Store.Run (or Step, or Close), in the order of the rounds of a log:
	// with nil when the round is durable, with an error wrapping
	// record.ErrOffline or record.ErrStopped when that cannot be known any
	// more. It must not block.
	Done func(error)
}

// SegmentInfo describes one segment of a log.
type SegmentInfo struct {
	Seq                   uint32
	File                  string // name inside the log's directory
	FirstIndex, LastIndex uint64 // LastIndex = FirstIndex-1 when empty
	BaseOffset            int64  // next offset before the first entry
	NextOffset            int64  // next offset after the last entry
	Bytes                 int64
	MaxTime               int64 // largest timestamp of a batch, ms; -1 when there is none
	Created               int64 // ms since the Unix epoch
	Sealed                bool  // no more entries will be written to it
	Compacted             bool  // entries are missing between those that are there
	Clean                 int64 // compacted: what Rewrite was told
}

// DiskStatus is the state of a store's volume (Invariant 13).
type DiskStatus struct {
	Free    int64 // bytes left for this process
	Reserve bool  // the reserve file is in place
	Low     bool  // retention should run now
	High    bool  // produce should be refused
	Offline error // not nil: an fsync failed, nothing is written any more
}
