package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Number is a JSON number, as written, that neither int64 nor float64 can hold
// exactly. All others are decoded to those two.
type Number string

// MarshalJSON writes the number as it was.
func (n Number) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// Value decodes a message's value once and keeps it in Parsed: nil, bool,
// int64, float64, Number, string, []any or map[string]any. Its error is of
// class Poison.
func Value(m *connectors.Message) (any, error) {
	if m.Parsed != nil || m.Value == nil {
		return m.Parsed, nil
	}
	v, err := Decode(m.Value)
	if err != nil {
		return nil, err
	}
	m.Parsed = v
	return v, nil
}

// SetValue replaces a message's value by v, as JSON, and keeps v as decoded.
func SetValue(m *connectors.Message, v any) error {
	b, err := Append(nil, v)
	if err != nil {
		return err
	}
	m.Value, m.Parsed = b, v
	return nil
}

// Decode reads exactly one JSON value. Names that repeat within an object are
// refused, since readers disagree on which one counts. Errors are of class
// Poison.
func Decode(b []byte) (any, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	v, err := decodeNext(dec)
	if err != nil {
		return nil, notJSON(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, connectors.Poisonf("not JSON: more text after the value, at byte %d", dec.InputOffset())
	}
	return v, nil
}

func notJSON(err error) error {
	if errors.Is(err, io.EOF) {
		return connectors.Poisonf("not JSON: the value is empty")
	}
	return connectors.Poisonf("not JSON: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
}

func decodeNext(dec *jsontext.Decoder) (any, error) {
	switch dec.PeekKind() {
	case '{':
		return decodeObject(dec)
	case '[':
		return decodeArray(dec)
	}
	t, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return t.Bool(), nil
	case '0':
		return number(t.String()), nil
	}
	return t.String(), nil
}

func decodeObject(dec *jsontext.Decoder) (any, error) {
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	out := map[string]any{}
	for dec.PeekKind() != '}' {
		t, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		name := t.String()
		if out[name], err = decodeNext(dec); err != nil {
			return nil, err
		}
	}
	_, err := dec.ReadToken()
	return out, err
}

func decodeArray(dec *jsontext.Decoder) (any, error) {
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	out := []any{}
	for dec.PeekKind() != ']' {
		v, err := decodeNext(dec)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := dec.ReadToken()
	return out, err
}

// number decodes a JSON number without loss: int64, else float64 when its
// shortest form has the same digits, else Number.
func number(s string) any {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil && s != "-0" {
		return i
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return Number(s)
	}
	if digits(s) <= 15 && f != 0 {
		return f // 15 digits always survive
	}
	if a, b := normal(s), normal(strconv.FormatFloat(f, 'e', -1, 64)); a == b {
		return f
	}
	return Number(s)
}

// digits counts the digits before an exponent.
func digits(s string) (n int) {
	for _, c := range s {
		switch {
		case c == 'e' || c == 'E':
			return n
		case c >= '0' && c <= '9':
			n++
		}
	}
	return n
}

// normal brings a JSON number to one form: sign, digits without zeros at
// either end, decimal exponent.
func normal(s string) string {
	sign := ""
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		sign, s = "-", rest
	}
	mantissa, expText, _ := strings.Cut(strings.ToLower(s), "e")
	exp, _ := strconv.Atoi(expText)
	whole, frac, _ := strings.Cut(mantissa, ".")
	all := strings.TrimLeft(whole+frac, "0")
	exp -= len(frac)
	if trimmed := strings.TrimRight(all, "0"); trimmed != all {
		exp += len(all) - len(trimmed)
		all = trimmed
	}
	if all == "" {
		return sign + "0"
	}
	return fmt.Sprintf("%s%se%d", sign, all, exp)
}

// Append writes v, of the types that Value gives or any that encoding to JSON
// knows, in one line and always with the same bytes: names are sorted.
func Append(dst []byte, v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return dst, connectors.Poisonf("cannot be written as JSON: %w", err)
	}
	return append(dst, b...), nil
}

// Compact brings one JSON value into one line, digits and order kept, in
// memory of its own. Errors are of class Poison.
func Compact(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, notJSON(io.EOF)
	}
	v := jsontext.Value(bytes.Clone(b))
	if err := v.Format(jsontext.PreserveRawStrings(true)); err != nil {
		return nil, notJSON(err)
	}
	return v, nil
}

// Lookup finds one member of a JSON object, and of objects inside, without
// decoding the rest. It returns the raw JSON, or nil when there is no such
// member. Errors are of class Poison.
func Lookup(b []byte, path ...string) ([]byte, error) {
	for _, name := range path {
		if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
			return nil, nil
		}
		var found []byte
		err := EachField(b, func(field, raw []byte) bool {
			if string(field) == name {
				found = raw
			}
			return found == nil
		})
		if err != nil || found == nil {
			return nil, err
		}
		b = found
	}
	return b, nil
}

// EachField calls fn with the name and the raw value of each member of a JSON
// object until fn returns false. raw aliases b; name is valid during the call.
func EachField(b []byte, fn func(name, raw []byte) bool) error {
	var f fields
	return f.each(b, fn)
}

// eachElement calls fn with the raw value of each element of an array that is
// valid JSON.
func eachElement(b []byte, fn func(raw []byte) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	if _, err := dec.ReadToken(); err != nil {
		return notJSON(err)
	}
	for dec.PeekKind() != ']' {
		raw, err := dec.ReadValue()
		if err != nil {
			return notJSON(err)
		}
		end := dec.InputOffset()
		if err := fn(b[end-int64(len(raw)) : end]); err != nil {
			return err
		}
	}
	return nil
}

// AppendName writes a member's name, as EachField gives it, and the colon.
func AppendName(dst, name []byte) []byte {
	dst, _ = jsontext.AppendQuote(dst, name) // it was read from JSON
	return append(dst, ':')
}

// fields walks objects; one value is used again and again to save memory.
type fields struct {
	src  bytes.Buffer
	dec  jsontext.Decoder
	name []byte
}

func (f *fields) each(b []byte, fn func(name, raw []byte) bool) error {
	f.src = *bytes.NewBuffer(b)
	f.dec.Reset(&f.src)
	if k := f.dec.PeekKind(); k != '{' && k != 0 {
		return connectors.Poisonf("not a JSON object")
	}
	if _, err := f.dec.ReadToken(); err != nil {
		return notJSON(err)
	}
	for f.dec.PeekKind() != '}' {
		t, err := f.dec.ReadToken()
		if err != nil {
			return notJSON(err)
		}
		f.name = append(f.name[:0], t.String()...)
		raw, err := f.dec.ReadValue()
		if err != nil {
			return notJSON(err)
		}
		end := f.dec.InputOffset()
		if !fn(f.name, b[end-int64(len(raw)):end]) {
			return nil
		}
	}
	if _, err := f.dec.ReadToken(); err != nil {
		return notJSON(err)
	}
	if _, err := f.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return connectors.Poisonf("not JSON: more text after the value, at byte %d", f.dec.InputOffset())
	}
	return nil
}

// Text is the text of a raw JSON value: a string without quotes and escapes,
// anything else as it is written. null gives nil.
func Text(raw []byte) []byte {
	switch {
	case len(raw) == 0 || raw[0] == 'n':
		return nil
	case raw[0] != '"':
		return raw
	case bytes.IndexByte(raw, '\\') < 0:
		return raw[1 : len(raw)-1]
	}
	out, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return raw
	}
	return out
}
