package record

import (
	"errors"
	"fmt"
)

// The errors that cross packages. hub/protocol/errors.go is the only place
// that turns them into Kafka's codes. Wrap them with what, where and what
// would be right; compare with errors.Is.
var (
	ErrUnknownTopic      = errors.New("unknown topic or partition")
	ErrUnknownTopicID    = errors.New("unknown topic id")
	ErrTopicExists       = errors.New("topic already exists")
	ErrInvalidTopic      = errors.New("invalid topic name")
	ErrInvalidPartitions = errors.New("invalid number of partitions")
	ErrInvalidReplicas   = errors.New("invalid number of replicas")
	ErrInvalidConfig     = errors.New("invalid config")
	ErrInvalidRequest    = errors.New("invalid request")

	ErrNotLeader          = errors.New("not the leader of this partition")
	ErrLeaderUnknown      = errors.New("the partition has no leader at present")
	ErrFencedEpoch        = errors.New("leader epoch is older than the current one")
	ErrUnknownEpoch       = errors.New("leader epoch is newer than the current one")
	ErrOffsetOutOfRange   = errors.New("offset out of range")
	ErrOffsetNotAvailable = errors.New("offset not available at this replica yet")
	ErrNotEnoughReplicas  = errors.New("not enough replicas")
	ErrCorruptBatch       = errors.New("corrupt record batch")
	ErrInvalidBatch       = errors.New("invalid record batch")
	ErrBatchTooLarge      = errors.New("record batch too large")
	ErrUnsupportedCodec   = errors.New("unsupported compression")
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	ErrProducerFenced     = errors.New("producer epoch is older than the current one")
	ErrTransactionState   = errors.New("not the state that the transaction is in")
	ErrCoordinatorFenced  = errors.New("transaction coordinator epoch is older than the current one")

	ErrReadOnly      = errors.New("the partition is a mirror and read-only here")
	ErrMirrorFenced  = errors.New("the link no longer holds this partition")
	ErrDiskFull      = errors.New("the disk is full")
	ErrOffline       = errors.New("the volume is offline")
	ErrQuarantined   = errors.New("the replica is quarantined")
	ErrNoCredential  = errors.New("the user has no such credential")
	ErrBadCredential = errors.New("unacceptable credential")
	ErrStopped       = errors.New("stopped")
	ErrTimeout       = errors.New("timed out")
)

// CorruptionError says where bytes on disk are not what was written. It is
// never the result of a torn write: that ends a log without an error.
type CorruptionError struct {
	File   string
	Offset int64 // bytes from the start of the file
	Err    error
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d: %v", e.File, e.Offset, e.Err)
}

func (e *CorruptionError) Unwrap() error { return e.Err }
