// Package share is share groups (KIP-932) as pure state machines: a Window for
// each partition that a group shares, which says who holds which record and
// what was acknowledged, and a Group for its members and what is assigned to
// them. Requests and the time go in, decisions come out; a driver
// (hub/protocol) reads the records and keeps a Window's Snapshot durable.
//
// Goroutines: none, and no clock, lock or I/O. A value must be used by one
// goroutine at a time.
package share

import (
	"errors"
	"time"
)

// Limits are the bounds of all windows. All fields are needed; Default gives
// Kafka's values.
type Limits struct {
	Deliveries int16 // a record that was handed out as often is given up
	InFlight   int64 // offsets from the start of a window to its end
	MaxMembers int   // of one group
}

// Default is Kafka's group.share.delivery.count.limit,
// group.share.partition.max.record.locks and group.share.max.size.
func Default() Limits { return Limits{Deliveries: 5, InFlight: 2000, MaxMembers: 200} }

// Settings are what a group can set for itself; DefaultSettings gives Kafka's
// values.
type Settings struct {
	Lock     time.Duration // share.record.lock.duration.ms: a record is held as long without an acknowledgement
	Session  time.Duration // share.session.timeout.ms: a member that is not heard as long is out
	Interval time.Duration // share.heartbeat.interval.ms
	Earliest bool          // share.auto.offset.reset: begin with the oldest record, else with the next one
}

// DefaultSettings are those of a group that has set nothing.
func DefaultSettings() Settings {
	return Settings{Lock: 30 * time.Second, Session: 45 * time.Second, Interval: 5 * time.Second}
}

// Refusals.
var (
	ErrRequest     = errors.New("invalid acknowledgement")
	ErrRecordState = errors.New("the records are not held by this member")
	ErrMember      = errors.New("not a member of the share group")
	ErrEpoch       = errors.New("the member is of another epoch")
	ErrFull        = errors.New("the share group has as many members as it may")
	ErrNotEmpty    = errors.New("the share group has members")
)
