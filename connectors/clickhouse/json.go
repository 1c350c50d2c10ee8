package clickhouse

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// timeText is how the server prints a DateTime64.
const timeText = "2006-01-02 15:04:05.999999999"

var (
	errNotUTF8    = errors.New("it is not UTF-8; base64 names columns that hold bytes")
	errNotJSON    = errors.New("it is not JSON, and json says so")
	errTwice      = errors.New("it has two entries of one key, which a record cannot have")
	errUnreadable = errors.New("a type that a record cannot have")
)

// readable says whether values of the type can be put into a record. The
// driver gives entries of a Map in no order unless it is the column itself.
func (t *chType) readable(top bool) error {
	if t.kind == kindMap && !top || t.kind == kindDateTime && t.bits == 64 && !top {
		return errUnreadable
	}
	for _, e := range t.elems {
		if err := e.readable(top && t.kind == kindArray); err != nil {
			return err
		}
	}
	return nil
}

// selected is the expression whose value the driver gives without loss: its
// DateTime64 counts nanoseconds, of which there are too many in 2262.
func (t *chType) selected(expr string) string { return t.picked(expr, 0) }

func (t *chType) picked(expr string, depth int) string {
	switch {
	case t.kind == kindDateTime && t.bits == 64:
		return "toString(" + expr + ", 'UTC')"
	case t.kind == kindArray && t.elems[0].picked("x", depth) != "x":
		v := "x" + strconv.Itoa(depth)
		return "arrayMap(" + v + " -> " + t.elems[0].picked(v, depth+1) + ", " + expr + ")"
	}
	return expr
}

// target is where the driver puts a value of a column; scan is its own choice.
func (t *chType) target(scan reflect.Type) any {
	if t.kind == kindMap {
		return &pairs{}
	}
	return reflect.New(scan).Interface()
}

// appendJSON writes a value as the driver gives it.
func (t *chType) appendJSON(dst []byte, value any) ([]byte, error) {
	if p, ok := value.(*pairs); ok {
		return t.appendMap(dst, p)
	}
	v := reflect.ValueOf(value)
	for v.IsValid() && (v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer) && v.Type() != reflect.TypeFor[*big.Int]() {
		v = v.Elem()
	}
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return append(dst, "null"...), nil
	}
	value = v.Interface()
	switch t.kind {
	case kindInt:
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case kindUInt:
		return strconv.AppendUint(dst, v.Uint(), 10), nil
	case kindFloat:
		return appendFloat(dst, v.Float(), t.bits), nil
	case kindBool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case kindDecimal:
		d, ok := value.(interface{ StringFixed(places int32) string })
		if !ok {
			return dst, fmt.Errorf("the driver gives a %T", value)
		}
		return append(append(append(dst, '"'), d.StringFixed(int32(t.scale))...), '"'), nil
	case kindDate, kindDateTime:
		return t.appendTime(dst, value)
	case kindArray:
		return t.appendArray(dst, v)
	case kindTuple:
		return t.appendTuple(dst, v)
	}
	if s, ok := value.(fmt.Stringer); ok { // a UUID, an address, a big number
		if t.kind == kindBigInt {
			return append(dst, s.String()...), nil
		}
		return appendText(dst, s.String())
	}
	return appendText(dst, v.String())
}

// appendFloat writes the shortest form that is the same number.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

// appendTime writes a date as such, and a time in UTC with the digits that its
// column keeps.
func (t *chType) appendTime(dst []byte, value any) ([]byte, error) {
	at, ok := value.(time.Time)
	if text, is := value.(string); is {
		var err error
		if at, err = time.Parse(timeText, text); err != nil {
			return dst, fmt.Errorf("it is %q, which is no time", text)
		}
	} else if !ok {
		return dst, fmt.Errorf("the driver gives a %T", value)
	}
	layout := time.DateOnly
	if t.kind == kindDate {
		at = midnight(at)
	} else {
		layout = "2006-01-02T15:04:05"
		if t.scale > 0 {
			layout += "." + strings.Repeat("0", t.scale)
		}
		layout += "Z"
		at = at.UTC()
	}
	return append(at.AppendFormat(append(dst, '"'), layout), '"'), nil
}

func (t *chType) appendArray(dst []byte, v reflect.Value) (_ []byte, err error) {
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = t.elems[0].appendJSON(dst, v.Index(i).Interface()); err != nil {
			return dst, fmt.Errorf("at element %d of the array: %w", i+1, err)
		}
	}
	return append(dst, ']'), nil
}

// appendTuple writes an object if the elements have names, else an array.
func (t *chType) appendTuple(dst []byte, v reflect.Value) (_ []byte, err error) {
	open, end := byte('['), byte(']')
	if v.Kind() == reflect.Map {
		open, end = '{', '}'
	}
	dst = append(dst, open)
	for i, e := range t.elems {
		if i > 0 {
			dst = append(dst, ',')
		}
		var one reflect.Value
		if v.Kind() == reflect.Map {
			if dst, err = appendText(dst, t.names[i]); err != nil {
				return dst, err
			}
			dst = append(dst, ':')
			one = v.MapIndex(reflect.ValueOf(t.names[i]))
		} else {
			one = v.Index(i)
		}
		if dst, err = e.appendJSON(dst, one.Interface()); err != nil {
			return dst, fmt.Errorf("at element %d of the tuple: %w", i+1, err)
		}
	}
	return append(dst, end), nil
}

// appendMap writes an object in the order of the map's entries.
func (t *chType) appendMap(dst []byte, p *pairs) (_ []byte, err error) {
	dst = append(dst, '{')
	seen := map[string]bool{}
	for i, k := range p.keys {
		var name []byte
		if name, err = t.elems[0].appendJSON(nil, k); err != nil {
			return dst, err
		}
		if name[0] != '"' {
			name = append(append([]byte{'"'}, name...), '"')
		}
		if seen[string(name)] {
			return dst, errTwice
		}
		seen[string(name)] = true
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, name...), ':')
		if dst, err = t.elems[1].appendJSON(dst, p.values[i]); err != nil {
			return dst, fmt.Errorf("at key %s: %w", name, err)
		}
	}
	return append(dst, '}'), nil
}

// appendText writes a JSON string.
func appendText(dst []byte, text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return dst, errNotUTF8
	}
	return jsontext.AppendQuote(dst, text)
}

// appendValue writes a column's value as the config says.
func (c *readColumn) appendValue(dst []byte, value any) ([]byte, error) {
	if c.as == "" {
		return c.typ.appendJSON(dst, value)
	}
	text, null := "", false
	switch s := value.(type) {
	case *string:
		text = *s
	case **string:
		if null = *s == nil; !null {
			text = **s
		}
	default:
		return dst, fmt.Errorf("the driver gives a %T", value)
	}
	switch {
	case null:
		return append(dst, "null"...), nil
	case c.as == "base64":
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), []byte(text)), '"'), nil
	case !jsontext.Value(text).IsValid():
		return dst, errNotJSON
	}
	return append(dst, strings.TrimSpace(text)...), nil
}
