package format

import (
	"bytes"
	"errors"
	"math"
	"strconv"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Inference finds columns for JSON objects. A field's column appears with its
// first value that is not null. Whole numbers and others together make a
// double; times that are always RFC 3339 in UTC (with Z) make a timestamp;
// objects, arrays and any other mixture are kept as JSON text.
type Inference struct {
	base  Schema
	order []string
	types map[string]Type
	walk  fields

	typed     bool            // what follows counts
	given     map[string]Type // types that are settled by the config
	checkName func(string) error
	header    []byte // the last schema header, and what it says
	says      map[string]Type
}

// NewInference begins with columns that are settled.
func NewInference(base Schema) *Inference {
	return &Inference{base: base, types: map[string]Type{}}
}

// Typed lets a column have one of the given types, else the one that a
// record's schema header names, else that of its values; and lets columns of
// the base become wider. A name that check refuses has no column.
func (in *Inference) Typed(given map[string]Type, check func(name string) error) {
	in.typed, in.given, in.checkName = true, given, check
	in.base = append(Schema{}, in.base...)
}

// Add looks at one more record. Its errors are of class Poison: the record is
// not a JSON object, or has a name that cannot be, and does not count.
func (in *Inference) Add(m *connectors.Message) error {
	if m.Value == nil {
		return connectors.Poisonf("a tombstone has no columns")
	}
	says := in.told(m)
	found := map[string]Type{}
	var order []string
	var bad error
	err := in.walk.each(m.Value, func(name, raw []byte) bool {
		t := in.typeOf(name, raw, says)
		if t.Kind == 0 || in.base.has(string(name)) {
			return true
		}
		if len(name) == 0 {
			bad = connectors.Poisonf("a field has an empty name")
		} else if in.checkName != nil && bad == nil {
			bad = in.checkName(string(name))
		}
		found[string(name)] = t
		order = append(order, string(name))
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
		in.types[name] = mix(was, found[name])
	}
	for i, c := range in.base {
		if t, ok := says[c.Name]; ok && c.Meta == "" && in.given[c.Name].Kind == 0 {
			in.base[i].Type = Widen(c.Type, t)
		}
	}
	return nil
}

// told is what a record's header says of its columns. That of a change with an
// envelope speaks of what is inside.
func (in *Inference) told(m *connectors.Message) map[string]Type {
	if !in.typed {
		return nil
	}
	header := SchemaOf(m)
	if header == nil {
		return nil
	}
	if source, _ := Lookup(m.Value, "source"); bytes.HasPrefix(source, []byte(`{"connector":"postgresql"`)) {
		return nil
	}
	if !bytes.Equal(header, in.header) || in.says == nil {
		in.header, in.says = header, headerTypes(header)
	}
	return in.says
}

// typeOf is the type for a field by what is known best; none for null.
func (in *Inference) typeOf(name, raw []byte, says map[string]Type) Type {
	if raw[0] == 'n' {
		return Type{}
	}
	if in.typed {
		if t, ok := in.given[string(name)]; ok {
			return t
		}
		if t, ok := says[string(name)]; ok {
			return t
		}
		if string(name) == unchangedField || says != nil && stringList(raw) {
			return Type{Kind: TypeString, List: true}
		}
	}
	return Type{Kind: kindOf(raw)}
}

// stringList recognizes an array of a type of its own, such as an enum: all
// elements are strings or null, and one is a string.
func stringList(raw []byte) bool {
	if raw[0] != '[' {
		return false
	}
	texts := 0
	err := eachElement(raw, func(elem []byte) error {
		if elem[0] == '"' {
			texts++
		} else if elem[0] != 'n' {
			return errWantString
		}
		return nil
	})
	return err == nil && texts > 0
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
		s = append(s, Column{Name: name, Type: in.types[name]})
	}
	return s
}

// Widen is the narrowest type that holds all values of both without a change,
// as readers of tables know it: a long for an int, a double for a float, a
// decimal with more digits before the point. Any other pair stays a.
func Widen(a, b Type) Type {
	switch {
	case a.List != b.List:
		return a
	case a.Kind == TypeInt32 && b.Kind == TypeInt64, a.Kind == TypeFloat && b.Kind == TypeDouble:
		return b
	case a.Kind == TypeDecimal && b.Kind == TypeDecimal && a.Scale == b.Scale && b.Precision > a.Precision:
		return b
	}
	return a
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
		if text := Text(raw); len(text) >= 20 && text[len(text)-1] == 'Z' && text[4] == '-' {
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

// mix is the type of a column that has values of both.
func mix(a, b Type) Type {
	if a.Kind == 0 {
		return b
	}
	if w := Widen(a, b); w != a {
		return w
	} else if w := Widen(b, a); w != b || a == b {
		return w
	}
	if a.List || b.List {
		return Type{Kind: TypeJSON}
	}
	pair := func(x, y TypeKind) bool { return a.Kind == x && b.Kind == y || a.Kind == y && b.Kind == x }
	switch {
	case pair(TypeInt64, TypeDouble):
		return Type{Kind: TypeDouble}
	case pair(TypeString, TypeTimestamp):
		return Type{Kind: TypeString}
	}
	return Type{Kind: TypeJSON}
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
	return 0, errInexact
}

var errInexact = errors.New("a number that it can hold without loss (allow_lossy: [numeric_to_double] rounds)")

// exactFloat is exactDouble of 32 bits: the shortest text of the float is the
// number as written.
func exactFloat(raw []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(raw), 32)
	if err != nil || normal(strconv.FormatFloat(f, 'e', -1, 32)) != normal(string(raw)) {
		return 0, errInexact
	}
	return f, nil
}
