// Package schema reads schemas in the three formats of the registry (Avro, JSON
// Schema, Protobuf) and answers two questions about them: are two texts the
// same schema, and can data written with one be read with the other. It is
// pure: text in, verdict out; nothing is loaded from a file or a network.
package schema

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Type is the format of a schema, as the registry's API spells it.
type Type string

// The formats. An empty type in the API means Avro.
const (
	Avro     Type = "AVRO"
	JSON     Type = "JSON"
	Protobuf Type = "PROTOBUF"
)

// Errors of Parse.
var (
	ErrInvalid = errors.New("invalid schema")
	ErrTooBig  = errors.New("schema too large")
)

// The bounds of one schema. The topic takes records up to 1 MiB, and a schema
// with its escapes has to fit into one.
const (
	MaxBytes = 512 << 10
	maxDepth = 200 // brackets within brackets, in any format
	maxDeps  = 1000
)

// Dependency is a schema that another one refers to, by the name that stands in
// the referring text: a type's full name in Avro, the $ref in JSON Schema, the
// import in Protobuf.
type Dependency struct {
	Name string
	Text string
}

// Schema is a schema that has been read and found valid.
type Schema struct {
	Type Type
	// Text is what to keep and to give back.
	Text string
	// Identity is equal for two texts exactly when they are the same schema.
	Identity string

	impl impl
}

// impl is what a format knows of a schema.
type impl interface {
	// normalized is the one text of all schemas that mean the same.
	normalized() string
	// reads lists why data of writer, of the same format, cannot be read.
	reads(writer impl) []string
}

// Parse reads a schema. Dependencies come in an order in which each one refers
// only to those before it. The error wraps ErrInvalid or ErrTooBig.
func Parse(t Type, text string, deps []Dependency) (*Schema, error) {
	size := len(text)
	for _, d := range deps {
		size += len(d.Text)
	}
	switch {
	case len(text) > MaxBytes:
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are taken", ErrTooBig, len(text), MaxBytes)
	case len(deps) > maxDeps || size > 16*MaxBytes:
		return nil, fmt.Errorf("%w: with what it refers to it is %d schemas of %d bytes", ErrTooBig, len(deps)+1, size)
	case !utf8.ValidString(text):
		return nil, fmt.Errorf("%w: the text is not UTF-8", ErrInvalid)
	case strings.TrimSpace(text) == "":
		return nil, fmt.Errorf("%w: the text is empty", ErrInvalid)
	case tooDeep(text):
		return nil, fmt.Errorf("%w: it nests deeper than %d levels", ErrInvalid, maxDepth)
	}
	var s *Schema
	var err error
	switch t {
	case Avro:
		s, err = parseAvro(text, deps)
	case JSON:
		s, err = parseJSON(text, deps)
	case Protobuf:
		s, err = parseProto(text, deps)
	default:
		return nil, fmt.Errorf("%w: schema type %q is not known; want AVRO, JSON or PROTOBUF", ErrInvalid, t)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	s.Type = t
	return s, nil
}

// Normalize is the schema in the one form of all that mean the same, with its
// members in a fixed order. A Protobuf file that cannot be printed without loss
// (custom options) stays as it is.
func (s *Schema) Normalize(deps []Dependency) (*Schema, error) {
	n, err := Parse(s.Type, s.impl.normalized(), deps)
	if s.Type == Protobuf && (err != nil || n.Identity != s.Identity) {
		return s, nil
	}
	return n, err
}

// Reads lists the reasons why data written with writer cannot be read with s;
// none means that it can.
func (s *Schema) Reads(writer *Schema) []string {
	if s.Type != writer.Type {
		return []string{fmt.Sprintf("the schema is %s, the data is %s", s.Type, writer.Type)}
	}
	return s.impl.reads(writer.impl)
}

// tooDeep counts brackets without regard to strings and comments, which is
// cheap, and wrong only for texts that nobody writes.
func tooDeep(text string) bool {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '{', '[', '(', '<':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']', ')', '>':
			depth = max(depth-1, 0)
		}
	}
	return false
}
