package clickhouse

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kind says how a JSON value becomes a value of a ClickHouse type.
type kind uint8

const (
	kindInt kind = iota + 1
	kindUInt
	kindBigInt // 128 and 256 bits
	kindFloat
	kindBool
	kindString
	kindFixed
	kindUUID
	kindDate
	kindDateTime
	kindDecimal
	kindEnum
	kindIPv4
	kindIPv6
	kindArray
	kindMap
	kindTuple
)

// chType is the type of a column.
type chType struct {
	kind     kind
	shown    string // as ClickHouse prints it
	nullable bool
	low      bool // LowCardinality

	bits      int  // of numbers; of Date 16, of Date32 32, of DateTime 32, of DateTime64 64
	unsigned  bool // of kindBigInt
	precision int  // decimal digits in all
	scale     int  // digits after the point: of decimals, and of seconds
	zone      *time.Location
	length    int             // of FixedString, in bytes
	labels    map[string]bool // of enums
	first     string          // of them, which has the lowest number
	elems     []*chType       // of arrays one, of maps two
	names     []string        // of tuples; "" where there is none

	lossy losses
}

// allow lets the type and those inside of it lose what the config names.
func (t *chType) allow(l losses) {
	t.lossy = l
	for _, e := range t.elems {
		e.allow(l)
	}
}

// plainTypes are the types without parameters.
var plainTypes = map[string]chType{
	"Int8": {kind: kindInt, bits: 8}, "Int16": {kind: kindInt, bits: 16}, "Int32": {kind: kindInt, bits: 32}, "Int64": {kind: kindInt, bits: 64},
	"UInt8": {kind: kindUInt, bits: 8}, "UInt16": {kind: kindUInt, bits: 16}, "UInt32": {kind: kindUInt, bits: 32}, "UInt64": {kind: kindUInt, bits: 64},
	"Int128": {kind: kindBigInt, bits: 128}, "Int256": {kind: kindBigInt, bits: 256},
	"UInt128": {kind: kindBigInt, bits: 128, unsigned: true}, "UInt256": {kind: kindBigInt, bits: 256, unsigned: true},
	"Float32": {kind: kindFloat, bits: 32}, "Float64": {kind: kindFloat, bits: 64},
	"Bool": {kind: kindBool}, "String": {kind: kindString}, "UUID": {kind: kindUUID},
	"Date": {kind: kindDate, bits: 16}, "Date32": {kind: kindDate, bits: 32}, "DateTime": {kind: kindDateTime, bits: 32},
	"IPv4": {kind: kindIPv4}, "IPv6": {kind: kindIPv6},
}

// parseType reads a type as ClickHouse prints it. zone is the server's, which
// counts where a type has none. The error completes "column … is …".
func parseType(s string, zone *time.Location) (*chType, error) {
	name, params, err := splitType(s)
	if err != nil {
		return nil, err
	}
	if t, ok := plainTypes[name]; ok && params == nil {
		t.shown, t.zone = s, zone
		return &t, nil
	}
	t := &chType{shown: s, zone: zone}
	switch name {
	case "Nullable", "LowCardinality", "SimpleAggregateFunction":
		return wrapped(s, name, params, zone)
	case "Decimal":
		t.kind = kindDecimal
		return t, t.numbers(params, 1, 76, &t.precision, &t.scale)
	case "FixedString":
		t.kind = kindFixed
		return t, t.numbers(params, 1, 1<<20, &t.length)
	case "DateTime":
		t.kind, t.bits = kindDateTime, 32
		return t, t.zoned(params)
	case "DateTime64":
		t.kind, t.bits = kindDateTime, 64
		if err := t.numbers(params[:min(1, len(params))], 0, 9, &t.scale); err != nil {
			return nil, err
		}
		return t, t.zoned(params[1:])
	case "Enum8", "Enum16":
		t.kind = kindEnum
		return t, t.enum(params)
	case "Array":
		t.kind = kindArray
		return t, t.inner(params, 1)
	case "Map":
		t.kind = kindMap
		return t, t.inner(params, 2)
	case "Tuple":
		t.kind = kindTuple
		return t, t.tuple(params)
	}
	return nil, fmt.Errorf("a type that cannot be written; keep the value in a String (as: json takes any)")
}

func wrapped(s, name string, params []string, zone *time.Location) (*chType, error) {
	if len(params) == 0 {
		return nil, fmt.Errorf("a type without its parameter")
	}
	t, err := parseType(params[len(params)-1], zone)
	if err != nil {
		return nil, err
	}
	t.shown = s
	t.nullable = t.nullable || name == "Nullable"
	t.low = t.low || name == "LowCardinality"
	return t, nil
}

// numbers reads whole numbers in a range.
func (t *chType) numbers(params []string, low, high int, to ...*int) error {
	if len(params) != len(to) {
		return fmt.Errorf("a type with %d parameters, want %d", len(params), len(to))
	}
	for i, p := range params {
		n, err := strconv.Atoi(p)
		if err != nil || n > high || i == 0 && n < low || n < 0 {
			return fmt.Errorf("a type with the parameter %q, want a whole number from %d to %d", p, low, high)
		}
		*to[i] = n
	}
	return nil
}

func (t *chType) zoned(params []string) error {
	if len(params) == 0 {
		return nil
	}
	name, err := unquote(params[0])
	if err != nil {
		return err
	}
	if t.zone, err = time.LoadLocation(name); err != nil {
		return fmt.Errorf("a time of the zone %q, which is not known here: %w", name, err)
	}
	return nil
}

func (t *chType) enum(params []string) error {
	t.labels = map[string]bool{}
	for n, p := range params {
		i := strings.LastIndex(p, "=")
		if i < 0 {
			return fmt.Errorf("an enum with %q", p)
		}
		label, err := unquote(strings.TrimSpace(p[:i]))
		if err != nil {
			return err
		}
		if t.labels[label] = true; n == 0 {
			t.first = label
		}
	}
	return nil
}

func (t *chType) inner(params []string, want int) error {
	if len(params) != want {
		return fmt.Errorf("a type with %d parameters, want %d", len(params), want)
	}
	for _, p := range params {
		e, err := parseType(p, t.zone)
		if err != nil {
			return err
		}
		t.elems = append(t.elems, e)
	}
	return nil
}

// tuple reads elements with or without names.
func (t *chType) tuple(params []string) error {
	for _, p := range params {
		name, typ := "", p
		if i := strings.IndexByte(p, ' '); i > 0 && !strings.ContainsAny(p[:i], "('") {
			name, typ = strings.Trim(p[:i], "`"), p[i+1:]
		}
		e, err := parseType(typ, t.zone)
		if err != nil {
			return err
		}
		t.elems, t.names = append(t.elems, e), append(t.names, name)
	}
	return nil
}

// splitType cuts Name(a, b) into its name and parameters; params is nil when
// there are no parentheses.
func splitType(s string) (name string, params []string, err error) {
	open := strings.IndexByte(s, '(')
	if open < 0 {
		return s, nil, nil
	}
	if !strings.HasSuffix(s, ")") {
		return "", nil, fmt.Errorf("a type that does not end with a parenthesis")
	}
	inner := s[open+1 : len(s)-1]
	depth, quoted, start := 0, false, 0
	params = []string{}
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case quoted && c == '\\':
			i++
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			params = append(params, strings.TrimSpace(inner[start:i]))
			start = i + 1
		}
	}
	if depth != 0 || quoted {
		return "", nil, fmt.Errorf("a type whose parentheses or quotes do not match")
	}
	if last := strings.TrimSpace(inner[start:]); last != "" {
		params = append(params, last)
	}
	return s[:open], params, nil
}

// unquote reads a text in single quotes with backslashes.
func unquote(s string) (string, error) {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return "", fmt.Errorf("a type with %q, want a text in quotes", s)
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s)-1 {
			i++
			c = s[i]
			if at := strings.IndexByte("bfnrt0", c); at >= 0 {
				c = "\b\f\n\r\t\x00"[at]
			}
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}
