package format

import (
	"bytes"
	"math/big"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors"
)

// typedField is one field of a CSV or regexp record.
type typedField struct{ name, typ string }

// appendTyped writes a text as JSON of the field's type.
func (f typedField) appendTyped(b, text []byte) ([]byte, error) {
	if f.typ != "" && f.typ != "string" && len(text) == 0 {
		return append(b, "null"...), nil
	}
	bad := func(want string) ([]byte, error) {
		return b, connectors.Poisonf("field %q: want %s, got %q", f.name, want, clip(text))
	}
	switch f.typ {
	case "int":
		n, ok := new(big.Int).SetString(string(text), 10)
		if !ok || text[0] == '+' || len(text) > 40 {
			return bad("a whole number")
		}
		return n.Append(b, 10), nil
	case "float":
		if v := jsontext.Value(text); v.Kind() != '0' || !v.IsValid() || bytes.ContainsAny(text, " \t\r\n") {
			return bad("a number")
		}
		return append(b, text...), nil
	case "bool":
		v, err := strconv.ParseBool(string(text))
		if err != nil {
			return bad("true or false")
		}
		return strconv.AppendBool(b, v), nil
	case "json":
		v, err := Compact(text)
		if err != nil {
			return bad("JSON")
		}
		return append(b, v...), nil
	}
	return f.appendString(b, text)
}

func (f typedField) appendString(b, text []byte) ([]byte, error) {
	if plainText(text) {
		b = append(append(b, '"'), text...)
		return append(b, '"'), nil
	}
	if !utf8.Valid(text) {
		return b, connectors.Poisonf("field %q is not UTF-8: %q", f.name, clip(text))
	}
	b, _ = jsontext.AppendQuote(b, text)
	return b, nil
}

func (f typedField) appendName(b []byte, first bool) []byte {
	if !first {
		b = append(b, ',')
	}
	b, _ = jsontext.AppendQuote(b, f.name) // checked when the parser was made
	return append(b, ':')
}

// scaled reads a decimal number, multiplies it and rounds down, exactly.
func scaled(text string, factor int64) (int64, error) {
	if v := jsontext.Value(text); len(text) > 40 || v.Kind() != '0' || !v.IsValid() || bytes.ContainsAny(v, "eE") {
		return 0, strconv.ErrSyntax
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, strconv.ErrSyntax
	}
	r.Mul(r, new(big.Rat).SetInt64(factor))
	n := new(big.Int).Div(r.Num(), r.Denom()) // Euclidean: down, for the denominator is positive
	if !n.IsInt64() {
		return 0, strconv.ErrRange
	}
	return n.Int64(), nil
}

// jsonParser checks that the value is JSON and brings it into one line.
type jsonParser struct{ clock *clock }

func (p *jsonParser) Parse(m *connectors.Message) error {
	out, err := Compact(m.Value)
	if err != nil {
		return err
	}
	if p.clock != nil {
		if out[0] != '{' {
			return connectors.Poisonf("field %q: the value is not a JSON object", p.clock.field)
		}
		if err := p.clock.read(m, out); err != nil {
			return err
		}
	}
	m.SetValue(out)
	return nil
}
