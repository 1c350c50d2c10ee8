package format

import (
	"fmt"
	"math"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Inference finds columns for JSON objects. A field's column appears with its
// first value that is not null. Whole numbers and others together make a
// double; times that are always RFC 3339 in UTC (with Z) make a timestamp;
// objects, arrays and any other mixture are kept as JSON text.
type Inference struct {
	base  Schema
	order []string
	types map[string]TypeKind
	walk  fields
}

// NewInference begins with columns that are settled.
func NewInference(base Schema) *Inference {
	return &Inference{base: base, types: map[string]TypeKind{}}
}

// Add looks at one more record. Its errors are of class Poison: the record is
// not a JSON object, and does not count.
func (in *Inference) Add(m *connectors.Message) error {
	if m.Value == nil {
		return connectors.Poisonf("a tombstone has no columns")
	}
	found := map[string]TypeKind{}
	var order []string
	var bad error
	err := in.walk.each(m.Value, func(name, raw []byte) bool {
		if kind := kindOf(raw); kind != 0 && !in.base.has(string(name)) {
			if len(name) == 0 {
				bad = connectors.Poisonf("a field has an empty name")
			}
			found[string(name)] = kind
			order = append(order, string(name))
		}
		return true
	})
	if err != nil || bad != nil {
		return firstError(err, bad)
	}
	for _, name := range order {
		was, known := in.types[name]
		if !known {
			in.order = append(in.order, name)
		}
		in.types[name] = widen(was, found[name])
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Schema is the settled columns and then the new ones, in the order in which
// they were first seen.
func (in *Inference) Schema() Schema {
	s := append(Schema{}, in.base...)
	for _, name := range in.order {
		s = append(s, Column{Name: name, Type: Type{Kind: in.types[name]}})
	}
	return s
}

// kindOf is the narrowest type for a raw value; 0 for null.
func kindOf(raw []byte) TypeKind {
	switch raw[0] {
	case 'n':
		return 0
	case 't', 'f':
		return TypeBool
	case '{', '[':
		return TypeJSON
	case '"':
		if text := Text(raw); len(text) >= 20 && text[len(text)-1] == 'Z' {
			if _, err := parseMicros(text); err == nil {
				return TypeTimestamp
			}
		}
		return TypeString
	}
	switch number(string(raw)).(type) {
	case int64:
		return TypeInt64
	case float64:
		return TypeDouble
	}
	return TypeJSON
}

func widen(a, b TypeKind) TypeKind {
	pair := func(x, y TypeKind) bool { return a == x && b == y || a == y && b == x }
	switch {
	case a == 0 || a == b:
		return b
	case pair(TypeInt64, TypeDouble):
		return TypeDouble
	case pair(TypeString, TypeTimestamp):
		return TypeString
	}
	return TypeJSON
}

// exactDouble converts a JSON number that a float64 holds exactly as written.
func exactDouble(raw []byte) (float64, error) {
	switch n := number(string(raw)).(type) {
	case float64:
		return n, nil
	case int64:
		if f := float64(n); f < math.MaxInt64 && int64(f) == n {
			return f, nil
		}
	}
	if string(raw) == "-0" {
		return math.Copysign(0, -1), nil
	}
	return 0, fmt.Errorf("a number that a double can hold without loss")
}
