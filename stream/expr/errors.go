package expr

import (
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr/file"
)

// Error is a fault in an expression, or in running it on one record.
type Error struct {
	Source  string // the expression
	Line    int    // from 1
	Column  int    // from 1, in characters; 0 when unknown
	Message string
}

func (e *Error) Error() string {
	if e.Column == 0 {
		return fmt.Sprintf("expression %q: %s", e.Source, e.Message)
	}
	if e.Line > 1 {
		return fmt.Sprintf("expression %q, line %d, column %d: %s", e.Source, e.Line, e.Column, e.Message)
	}
	return fmt.Sprintf("expression %q, column %d: %s", e.Source, e.Column, e.Message)
}

// located turns the compiler's or the machine's error into ours.
func located(source string, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var at *file.Error
	if !errors.As(err, &at) {
		return &Error{Source: source, Message: firstLine(err.Error())}
	}
	e := &Error{Source: source, Line: max(at.Line, 1), Column: at.Column + 1, Message: firstLine(at.Message)}
	if at.Snippet == "" { // not bound: the place is a count of characters
		e.Line, e.Column = place(source, at.From)
	}
	return e
}

// place turns an index of characters into line and column, both from 1.
func place(source string, index int) (line, column int) {
	line, column = 1, 1
	for _, r := range source {
		if index--; index < 0 {
			break
		}
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
