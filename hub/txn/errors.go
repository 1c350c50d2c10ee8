package txn

import "errors"

// What a request can be refused with. Each but ErrNeedsID is one of Kafka's
// error codes.
var (
	ErrInvalidID       = errors.New("the transactional id is empty")
	ErrTimeout         = errors.New("the transaction timeout is outside of the allowed range")
	ErrUnknownProducer = errors.New("the producer id is not the one of the transactional id")
	ErrFenced          = errors.New("a newer producer has the transactional id")
	ErrConcurrent      = errors.New("the transactional id is busy with an earlier request or the end of its transaction")
	ErrState           = errors.New("the state of the transaction does not allow it")
	ErrNotAdded        = errors.New("the partition was not added to the transaction")
	ErrNotFound        = errors.New("no such transactional id")
	// ErrNeedsID: ask again with an unused producer ID.
	ErrNeedsID = errors.New("an unused producer id is needed")
)
