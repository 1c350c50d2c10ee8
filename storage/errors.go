package storage

import "errors"

// The errors of this package, to be compared with errors.Is. What a client of
// the node can see are record.ErrDiskFull, record.ErrOffline,
// record.ErrQuarantined, record.ErrOffsetOutOfRange and record.ErrStopped;
// damage is a *record.CorruptionError.
var (
	// ErrLocked: another process owns the directory.
	ErrLocked = errors.New("the data directory is in use")
	// ErrFormat: the directory was written by an older or newer program.
	ErrFormat = errors.New("the data directory has another format")
	// ErrNotFound: the store has no such log.
	ErrNotFound = errors.New("no such log")
	// ErrLost: the store had this log, and its folder is gone. What it promised
	// is not known any more, so that it must not simply begin anew: see
	// Store.CreateLost.
	ErrLost = errors.New("the log was here and is gone")
	// ErrExists: the store already has this log, or one in its place.
	ErrExists = errors.New("the log exists already")
	// ErrNeedBefore: this round must begin a new segment, so it must carry the
	// state before its entries. Log.ShouldRoll says so in advance.
	ErrNeedBefore = errors.New("the round needs the state before its entries")
	// ErrRound: the round does not fit the log or itself. Nothing was written.
	ErrRound = errors.New("invalid round")
	// ErrCompacted: the entry is below the first index of the log.
	ErrCompacted = errors.New("the entry is no longer in the log")
	// ErrNotSealed: the segment cannot be compacted now.
	ErrNotSealed = errors.New("the segment cannot be compacted yet")
	// ErrUnavailable: the entry is above the last index of the log.
	ErrUnavailable = errors.New("the entry is not in the log yet")
)
