package connectors

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Class is what an error means to the runtime.
type Class uint8

// The classes. An error without one counts as Retry: it is safe to try again,
// as every connector's work is idempotent, and backoff bounds the cost.
const (
	ClassNone    Class = iota // no error
	ClassRetry                // nothing happened; the same call may succeed later
	ClassPoison               // this record can never succeed, others may
	ClassFatal                // config or rights have to change: the job is parked
	ClassUnknown              // it may or may not have happened: execute the same plan again
	ClassStopped              // the context ended
)

func (c Class) String() string {
	names := [...]string{"none", "retry", "poison", "fatal", "unknown outcome", "stopped"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// ErrFenced says that a later owner holds this work now: the old one stops.
// It comes wrapped in a FatalError.
var ErrFenced = errors.New("fenced: a later owner has taken over")

// RetryError is of ClassRetry. After is how long to wait at least; 0 leaves it
// to the runtime's backoff.
type RetryError struct {
	After time.Duration
	Err   error
}

// PoisonError is of ClassPoison.
type PoisonError struct{ Err error }

// FatalError is of ClassFatal.
type FatalError struct{ Err error }

// UnknownError is of ClassUnknown.
type UnknownError struct{ Err error }

// classed is implemented by the errors above and by nothing else.
type classed interface{ class() Class }

func (*RetryError) class() Class   { return ClassRetry }
func (*PoisonError) class() Class  { return ClassPoison }
func (*FatalError) class() Class   { return ClassFatal }
func (*UnknownError) class() Class { return ClassUnknown }

func (e *RetryError) Error() string   { return e.Err.Error() }
func (e *RetryError) Unwrap() error   { return e.Err }
func (e *PoisonError) Error() string  { return e.Err.Error() }
func (e *PoisonError) Unwrap() error  { return e.Err }
func (e *FatalError) Error() string   { return e.Err.Error() }
func (e *FatalError) Unwrap() error   { return e.Err }
func (e *UnknownError) Error() string { return "outcome unknown: " + e.Err.Error() }
func (e *UnknownError) Unwrap() error { return e.Err }

// Retry gives err the class Retry.
func Retry(after time.Duration, err error) error { return &RetryError{After: after, Err: err} }

// Poison gives err the class Poison.
func Poison(err error) error { return &PoisonError{Err: err} }

// Poisonf is Poison of a formatted error.
func Poisonf(format string, args ...any) error { return Poison(fmt.Errorf(format, args...)) }

// Fatal gives err the class Fatal.
func Fatal(err error) error { return &FatalError{Err: err} }

// Fatalf is Fatal of a formatted error.
func Fatalf(format string, args ...any) error { return Fatal(fmt.Errorf(format, args...)) }

// Unknown gives err the class Unknown.
func Unknown(err error) error { return &UnknownError{Err: err} }

// ClassOf finds the class of err: the outermost one in its chain. An error
// that has none is ClassStopped when it comes from a context, else ClassRetry.
func ClassOf(err error) Class {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if c, ok := e.(classed); ok {
			return c.class()
		}
	}
	return unclassified(err)
}

// unclassified looks through joined errors as well, where no one is outermost.
func unclassified(err error) Class {
	var (
		fatal   *FatalError
		unknown *UnknownError
		poison  *PoisonError
	)
	switch {
	case err == nil:
		return ClassNone
	case errors.As(err, &fatal):
		return ClassFatal
	case errors.As(err, &unknown):
		return ClassUnknown
	case errors.As(err, &poison):
		return ClassPoison
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ClassStopped
	}
	return ClassRetry
}

// RetryAfter is the least wait that err asks for; 0 when it does not say.
func RetryAfter(err error) time.Duration {
	if r, ok := errors.AsType[*RetryError](err); ok {
		return r.After
	}
	return 0
}
