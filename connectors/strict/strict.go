// Package strict decodes YAML config so that nothing is guessed: a key that
// is not known is an error that names the nearest known one, a value of the
// wrong type is an error that says what was wanted, and every error carries
// file, line and column. All errors of a file are reported, not only the
// first.
//
// What it accepts is a small part of YAML: one document of mappings, lists and
// scalars. Anchors, aliases, merge keys, tags and complex keys are refused,
// for they make a config that reads otherwise than it means.
//
// A text may hold ${env:NAME} and ${file:/path}; $${ stands for a literal ${.
// References in a connectors.Secret are only checked for being there when the
// config is read, and resolved when the secret is revealed; in plain texts
// they are resolved at once.
//
// Parsing and decoding are pure but for the functions given in Options.
//
// Goroutines: none.
package strict

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Pos is a place in a file, line and column counted from 1. A struct field of
// this type receives the place of its struct's mapping.
type Pos = connectors.Pos

// Secret is a text that is never shown.
type Secret = connectors.Secret

// Options says where references are looked up. A nil function refuses its
// kind of reference.
type Options struct {
	Env      func(name string) (string, bool)
	ReadFile func(path string) ([]byte, error)
}

// FromOS looks references up in the process's environment and file system.
func FromOS() Options { return Options{Env: os.LookupEnv, ReadFile: os.ReadFile} }

// Error is one thing that is wrong in a config file.
type Error struct {
	File string
	Pos
	Msg  string // what is wrong
	Hint string // what would be right; may be empty
}

func (e *Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Col)
	}
	if e.Hint == "" {
		return fmt.Sprintf("%s: %s", where, e.Msg)
	}
	return fmt.Sprintf("%s: %s; %s", where, e.Msg, e.Hint)
}

// Errors is everything that is wrong, in the order of the file. Its Error is
// one line for each.
type Errors []*Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Err is nil when there is no error; use it where an error value is wanted.
func (es Errors) Err() error {
	if len(es) == 0 {
		return nil
	}
	return es
}

// Unwrap lets errors.As find the single errors.
func (es Errors) Unwrap() []error {
	all := make([]error, len(es))
	for i, e := range es {
		all[i] = e
	}
	return all
}

// sorted orders the errors by file and place, and drops repetitions.
func (es Errors) sorted() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	return slices.CompactFunc(es, func(a, b *Error) bool { return *a == *b })
}

// Decode reads one YAML document into a struct (a pointer to one), whose
// present values are the defaults. Fields are named by the tag
// `yaml:"name"`, with ",required" when they have to be there and ",inline"
// for a struct whose keys belong to the outer one; `yaml:"-"` is left out.
// See Node.Decode for the types.
func Decode(file string, text []byte, into any, opts Options) Errors {
	root, errs := Parse(file, text)
	if len(errs) > 0 {
		return errs
	}
	return root.Decode(into, opts)
}
