package registry

import (
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/hub/registry/schema"
)

// Error is an answer that is not a success, by the number that Confluent's API
// gives it. The HTTP status is the number itself, or its first three digits.
type Error struct {
	Code    int
	Message string
}

func (e *Error) Error() string { return e.Message }

// Status is the HTTP status.
func (e *Error) Status() int {
	if e.Code > 999 {
		return e.Code / 100
	}
	return e.Code
}

// The numbers in use. Source: the API reference of Confluent's Schema Registry.
const (
	codeSubjectNotFound   = 40401
	codeVersionNotFound   = 40402
	codeSchemaNotFound    = 40403
	codeSubjectDeleted    = 40404
	codeSubjectNotDeleted = 40405
	codeVersionDeleted    = 40406
	codeVersionNotDeleted = 40407
	codeNoSubjectConfig   = 40408
	codeNoSubjectMode     = 40409
	codeIncompatible      = 409
	codeInvalidSchema     = 42201
	codeInvalidVersion    = 42202
	codeInvalidLevel      = 42203
	codeInvalidMode       = 42204
	codeNotPermitted      = 42205
	codeReferenced        = 42206
	codeInvalidSubject    = 42208
	codeTooLarge          = 42209
	codeStore             = 50001
	codeTimeout           = 50002
)

func fail(code int, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

func subjectNotFound(subject string) *Error {
	return fail(codeSubjectNotFound, "Subject '%s' not found.", subject)
}

func versionNotFound(version string) *Error {
	return fail(codeVersionNotFound, "Version %s not found.", version)
}

// answer makes any error one of the API.
func answer(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, schema.ErrTooBig):
		return fail(codeTooLarge, "%v", err)
	case errors.Is(err, schema.ErrInvalid):
		return fail(codeInvalidSchema, "%v", err)
	}
	return fail(codeStore, "%v", err)
}
