package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// TypeKind is the logical type of a column.
type TypeKind uint8

// The types of columns, and what of JSON fits into each. Everything fits null.
const (
	TypeString    TypeKind = iota + 1 // a string
	TypeInt64                         // a number without fraction, of 64 bits
	TypeDouble                        // a number that a float64 holds exactly as written, or NaN, Infinity, -Infinity as text
	TypeBool                          // true or false
	TypeTimestamp                     // RFC 3339 text, at most microseconds; kept as an instant in UTC
	TypeDate                          // text 2006-01-02
	TypeDecimal                       // number, or text of one, within precision and scale
	TypeJSON                          // anything, as JSON text
	TypeInt32                         // a number without fraction, of 32 bits
	TypeFloat                         // as TypeDouble, of a float32
	TypeLocal                         // text 2006-01-02T15:04:05.999999 without a zone
	TypeTime                          // text 15:04:05.999999, before 24:00
	TypeUUID                          // text of a UUID
	TypeBytes                         // text in base64
)

var typeNames = [...]string{
	TypeString: "string", TypeInt64: "int64", TypeDouble: "double", TypeBool: "bool",
	TypeTimestamp: "timestamp", TypeDate: "date", TypeDecimal: "decimal", TypeJSON: "json",
	TypeInt32: "int32", TypeFloat: "float", TypeLocal: "local_timestamp", TypeTime: "time", TypeUUID: "uuid", TypeBytes: "bytes",
}

// TypeForms are the texts that ParseType reads.
const TypeForms = "string, int32, int64, float, double, bool, timestamp, local_timestamp, date, time, decimal(precision,scale), uuid, bytes, json or list(…) of one of these"

// maxPrecision is what 16 bytes hold, and what readers agree on.
const maxPrecision = 38

// Type is the type of a column. Precision and Scale are of decimals only.
type Type struct {
	Kind      TypeKind
	Precision int  // decimal digits in all, 1 to 38
	Scale     int  // of them after the point
	List      bool // a JSON array whose elements have the type, or are null
}

// String is the form that ParseType reads.
func (t Type) String() string {
	s := typeNames[t.Kind]
	if t.Kind == TypeDecimal {
		s = fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	}
	if t.List {
		return "list(" + s + ")"
	}
	return s
}

// elem is the type of a list's elements.
func (t Type) elem() Type {
	t.List = false
	return t
}

// ParseType reads one of TypeForms.
func ParseType(s string) (Type, error) {
	s = strings.ReplaceAll(s, " ", "")
	if inner, ok := strings.CutPrefix(s, "list("); ok {
		inner, closed := strings.CutSuffix(inner, ")")
		t, err := ParseType(inner)
		if err != nil || !closed || t.List {
			return Type{}, fmt.Errorf("%q is not a type, want list(…) of a type that is no list", s)
		}
		t.List = true
		return t, nil
	}
	for k, name := range typeNames {
		if k > 0 && name == s && TypeKind(k) != TypeDecimal {
			return Type{Kind: TypeKind(k)}, nil
		}
	}
	inner, ok := strings.CutPrefix(s, "decimal(")
	inner, closed := strings.CutSuffix(inner, ")")
	p, sc, two := strings.Cut(inner, ",")
	if !ok || !closed || !two {
		return Type{}, fmt.Errorf("%q is not a type, want %s", s, TypeForms)
	}
	t := Type{Kind: TypeDecimal}
	var errP, errS error
	t.Precision, errP = strconv.Atoi(p)
	t.Scale, errS = strconv.Atoi(sc)
	if errP != nil || errS != nil || t.Precision < 1 || t.Precision > maxPrecision || t.Scale < 0 || t.Scale > t.Precision {
		return Type{}, fmt.Errorf("%q: want a precision of 1 to %d and a scale of 0 to the precision", s, maxPrecision)
	}
	return t, nil
}

// MarshalText writes what ParseType reads.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (t *Type) UnmarshalText(b []byte) (err error) {
	*t, err = ParseType(string(b))
	return err
}

// Meta names something that a column takes from the record, not its value.
type Meta string

// What there is to take.
const (
	MetaTopic     Meta = "topic"     // string
	MetaPartition Meta = "partition" // int64
	MetaOffset    Meta = "offset"    // int64
	MetaTimestamp Meta = "timestamp" // timestamp; null when the record has none
	MetaKey       Meta = "key"       // string; null without a key
)

// Column is one column of a table, always nullable.
type Column struct {
	Name string   `json:"name"`
	From []string `json:"from,omitempty"` // path in the JSON value; empty means the name itself
	Meta Meta     `json:"meta,omitempty"` // instead of From
	Type Type     `json:"type"`
}

func (c Column) path() []string {
	if len(c.From) == 0 {
		return []string{c.Name}
	}
	return c.From
}

// Schema is the columns of a table in order.
type Schema []Column

// Check refuses what cannot be written: no columns, an empty or repeated name.
func (s Schema) Check() error {
	if len(s) == 0 {
		return fmt.Errorf("there are no columns")
	}
	seen := map[string]bool{}
	for i, c := range s {
		switch {
		case c.Name == "":
			return fmt.Errorf("column %d has no name", i+1)
		case seen[c.Name]:
			return fmt.Errorf("column %q is there twice", c.Name)
		case c.Type.Kind == 0:
			return fmt.Errorf("column %q has no type", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

// Encode writes the schema as JSON.
func (s Schema) Encode() ([]byte, error) { return json.MarshalIndent(s, "", "  ") }

// DecodeSchema reads what Encode writes.
func DecodeSchema(b []byte) (Schema, error) {
	var s Schema
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return s, s.Check()
}

// KnownSchema gives the columns of the records that the parsers combined and
// common make.
func KnownSchema(format string) (Schema, bool) {
	if format != "combined" && format != "common" {
		return nil, false
	}
	str := Type{Kind: TypeString}
	s := Schema{
		{Name: "remote_addr", Type: str},
		{Name: "ident", Type: str},
		{Name: "user", Type: str},
		{Name: "ts", Type: Type{Kind: TypeTimestamp}},
		{Name: "method", Type: str},
		{Name: "path", Type: str},
		{Name: "protocol", Type: str},
		{Name: "status", Type: Type{Kind: TypeInt64}},
		{Name: "bytes", Type: Type{Kind: TypeInt64}},
	}
	if format == "combined" {
		s = append(s, Column{Name: "referer", Type: str}, Column{Name: "agent", Type: str})
	}
	return s, true
}

// UnknownFieldError says that a record has a field for which there is no
// column. The caller decides whether that is poison or a new column.
type UnknownFieldError struct{ Name string }

func (e *UnknownFieldError) Error() string {
	return fmt.Sprintf("field %q has no column", e.Name)
}

// splitter cuts JSON objects into the raw values of a schema's columns.
type splitter struct {
	schema  Schema
	lenient bool // fields without a column are left out in silence, but for those that say what the others mean
	lossy   Lossy
	first   map[string]int // first element of a path to an entry of raws
	fields  fields
	raws    [][]byte // by first
	out     [][]byte // by column
}

func newSplitter(s Schema, lenient bool) *splitter {
	sp := &splitter{schema: s, lenient: lenient, first: map[string]int{}, out: make([][]byte, len(s))}
	for _, c := range s {
		if name := c.path()[0]; c.Meta == "" {
			if _, ok := sp.first[name]; !ok {
				sp.first[name] = len(sp.first)
			}
		}
	}
	sp.raws = make([][]byte, len(sp.first))
	return sp
}

// split returns the raw JSON of each column, nil for null and absent. It is
// valid until the next call and aliases m.
func (sp *splitter) split(m *connectors.Message) ([][]byte, error) {
	if m.Value == nil {
		return nil, connectors.Poisonf("a tombstone has no columns")
	}
	clear(sp.raws)
	clear(sp.out)
	var unknown, refused error
	err := sp.fields.each(m.Value, func(name, raw []byte) bool {
		if i, ok := sp.first[string(name)]; ok {
			sp.raws[i] = raw
		} else if !sp.lenient && unknown == nil && raw[0] != 'n' { // null says as much as no field
			unknown = &UnknownFieldError{Name: string(name)}
		} else if sp.lenient && refused == nil {
			refused = sp.meaning(name, raw)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if err := firstError(unknown, refused); err != nil {
		return nil, err
	}
	return sp.out, sp.assign()
}

// meaning refuses a field without a column that changes what the others say:
// a column that a source has left out because it did not change is not null,
// and the key of a row that was deleted is no row.
func (sp *splitter) meaning(name, raw []byte) error {
	switch {
	case string(name) == unchangedField && raw[0] == '[' && len(raw) > 2 && sp.lossy&LossUnchanged == 0:
		return connectors.Poisonf("the record leaves columns as they were (%s: %s), and there is no column %[1]s to say so (allow_lossy: [unchanged_to_null] makes them null)", unchangedField, clip(raw))
	case string(name) == opField && (string(raw) == `"d"` || string(raw) == `"t"`),
		string(name) == "op" && string(raw) == `"d"` && sp.has("after"):
		return connectors.Poisonf("the record says that a row was deleted (%s: %s), and there is no column %[1]s to say so", name, raw)
	}
	return nil
}

func (sp *splitter) has(first string) bool {
	_, ok := sp.first[first]
	return ok
}

// Fields that sources add to the columns of a row.
const (
	unchangedField = "__unchanged" // names of columns that are left out because they did not change
	opField        = "__op"        // r, c, u, d or t
)

func (sp *splitter) assign() (err error) {
	for i, c := range sp.schema {
		if c.Meta != "" {
			continue
		}
		path := c.path()
		raw := sp.raws[sp.first[path[0]]]
		if len(path) > 1 && raw != nil {
			if raw, err = Lookup(raw, path[1:]...); err != nil {
				return err
			}
		}
		if len(raw) > 0 && raw[0] != 'n' {
			sp.out[i] = raw
		}
	}
	return nil
}

// Columns lists the names.
func (s Schema) Columns() []string {
	all := make([]string, len(s))
	for i, c := range s {
		all[i] = c.Name
	}
	return all
}

// has reports whether a top-level field has a column.
func (s Schema) has(field string) bool {
	return slices.ContainsFunc(s, func(c Column) bool { return c.Meta == "" && c.path()[0] == field })
}
