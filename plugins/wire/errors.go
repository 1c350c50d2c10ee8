package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// FromError is err as it goes over the wire; nil is no error.
func FromError(err error) *Error {
	if err == nil {
		return nil
	}
	return &Error{
		Class: uint32(connectors.ClassOf(err)), Message: text(err), Fenced: errors.Is(err, connectors.ErrFenced),
		RetryAfter: int64(connectors.RetryAfter(err)),
	}
}

// text is the error without what its class puts before it, which comes back
// with the class.
func text(err error) string {
	if u, ok := err.(*connectors.UnknownError); ok {
		err = u.Err
	}
	return utf8Text(err.Error())
}

// utf8Text is a text for people that the wire can carry: texts are UTF-8 there,
// and an error may quote what is not.
func utf8Text(s string) string { return strings.ToValidUTF8(s, "?") }

// remote is an error of the other side: its text, and what errors.Is finds.
type remote struct {
	text string
	is   error
}

func (e *remote) Error() string { return e.text }
func (e *remote) Unwrap() error { return e.is }

// Err is the error with its class; nil is no error. A class that does not
// exist is a fault of the other side and counts as retry.
func (x *Error) Err() error {
	if x == nil {
		return nil
	}
	err := error(&remote{text: x.Message})
	if x.Fenced {
		err = &remote{text: x.Message, is: connectors.ErrFenced}
	}
	switch connectors.Class(x.Class) {
	case connectors.ClassPoison:
		return connectors.Poison(err)
	case connectors.ClassFatal:
		return connectors.Fatal(err)
	case connectors.ClassUnknown:
		return connectors.Unknown(err)
	case connectors.ClassStopped:
		return &remote{text: x.Message, is: context.Canceled}
	}
	return connectors.Retry(time.Duration(max(x.RetryAfter, 0)), err)
}

// FromRefused is what a sink says of single records.
func FromRefused(all []connectors.RecordError) []*RecordError {
	var out []*RecordError
	for _, e := range all {
		out = append(out, &RecordError{Index: int64(e.Index), Offset: e.Offset, Message: text(e.Err)})
	}
	return out
}

// Refused is the way back. It fails when a record is not of the batch.
func Refused(all []*RecordError, batch connectors.Batch) ([]connectors.RecordError, error) {
	var out []connectors.RecordError
	last := int64(-1)
	for _, e := range all {
		if e.Index <= last || e.Index >= int64(len(batch.Messages)) || batch.Messages[e.Index].Offset != e.Offset {
			return nil, fmt.Errorf("it refuses record %d at offset %d of a plan with %d records, after record %d: want records of the plan, in order, each once", e.Index, e.Offset, len(batch.Messages), last)
		}
		last = e.Index
		out = append(out, connectors.RecordError{Index: int(e.Index), Offset: e.Offset, Err: connectors.Poison(&remote{text: e.Message})})
	}
	return out, nil
}
