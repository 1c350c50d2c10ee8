package rabbitmq

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A kind tells the type of a value of a table. It is
//
//	the letter of the type in AMQP, as RabbitMQ has it: t b B s u I i l f d D T S x V
//	"S64", a text that is not UTF-8, in base64 within arrays and tables
//	a list of kinds, of an array
//	an object of kinds, of a table
//
// so that the value itself can be a text that people and programs read: 5,
// true, 123.45, seconds since the Unix epoch, JSON for arrays and tables.

// textOf gives a value of a table as text, and its kind.
func textOf(v any) (text []byte, kind any, err error) {
	switch x := v.(type) {
	case nil:
		return nil, "V", nil
	case string:
		return []byte(x), "S", nil
	case []byte:
		return append([]byte{}, x...), "x", nil
	}
	plain, kind, err := plainOf(v)
	if err != nil {
		return nil, nil, err
	}
	switch x := plain.(type) {
	case string:
		return []byte(x), kind, nil
	case json.Number:
		return []byte(x), kind, nil
	}
	text, err = encodeJSON(plain)
	return text, kind, err
}

// plainOf gives a value as it stands in JSON, and its kind.
func plainOf(v any) (plain, kind any, err error) {
	switch x := v.(type) {
	case nil:
		return nil, "V", nil
	case bool:
		return x, "t", nil
	case string:
		if !utf8.ValidString(x) {
			return base64.StdEncoding.EncodeToString([]byte(x)), "S64", nil
		}
		return x, "S", nil
	case []byte:
		return base64.StdEncoding.EncodeToString(x), "x", nil
	case float32:
		return float(float64(x), 32), "f", nil
	case float64:
		return float(x, 64), "d", nil
	case amqp.Decimal:
		return decimalText(x), "D", nil
	case time.Time:
		return json.Number(strconv.FormatInt(x.Unix(), 10)), "T", nil
	case []any:
		return plainArray(x)
	case amqp.Table:
		return plainTable(x)
	}
	if n, letter := whole(v); letter != "" {
		return json.Number(strconv.FormatInt(n, 10)), letter, nil
	}
	return nil, nil, fmt.Errorf("a %T is no type of AMQP", v)
}

func whole(v any) (int64, string) {
	switch x := v.(type) {
	case int8:
		return int64(x), "b"
	case uint8:
		return int64(x), "B"
	case int16:
		return int64(x), "s"
	case uint16:
		return int64(x), "u"
	case int32:
		return int64(x), "I"
	case uint32:
		return int64(x), "i"
	case int64:
		return x, "l"
	}
	return 0, ""
}

// float is a number, or a text where JSON has none.
func float(v float64, bits int) any {
	text := strconv.FormatFloat(v, 'g', -1, bits)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return text
	}
	return json.Number(text)
}

func plainArray(all []any) (any, any, error) {
	values, kinds := make([]any, len(all)), make([]any, len(all))
	for i, one := range all {
		var err error
		if values[i], kinds[i], err = plainOf(one); err != nil {
			return nil, nil, err
		}
	}
	return values, kinds, nil
}

func plainTable(t amqp.Table) (any, any, error) {
	values, kinds := map[string]any{}, map[string]any{}
	for name, one := range t {
		if !utf8.ValidString(name) {
			return nil, nil, fmt.Errorf("the name %q within a table is not UTF-8", name)
		}
		var err error
		if values[name], kinds[name], err = plainOf(one); err != nil {
			return nil, nil, err
		}
	}
	return values, kinds, nil
}

// valueOf is the inverse of textOf. Without a kind the text is one.
func valueOf(text []byte, kind any) (any, error) {
	letter, _ := kind.(string)
	switch {
	case kind == nil && text == nil, letter == "V":
		return nil, nil
	case kind == nil, letter == "S":
		return string(text), nil
	case letter == "x":
		return append([]byte{}, text...), nil
	case letter == "S64":
		return nil, errors.New("type S64 is only for what is in arrays and tables")
	case letter == "t":
		v, err := decodeJSON(text)
		if _, ok := v.(bool); err != nil || !ok {
			return nil, fmt.Errorf("%.80q is not true or false", text)
		}
		return v, nil
	case letter != "":
		return scalarOf(string(text), letter)
	}
	v, err := decodeJSON(text)
	if err != nil {
		return nil, fmt.Errorf("the value is not the JSON that %s says: %w", headerTypes, err)
	}
	return nestedOf(v, kind)
}

// nestedOf is the inverse of plainOf.
func nestedOf(v, kind any) (any, error) {
	switch k := kind.(type) {
	case []any:
		return arrayOf(v, k)
	case map[string]any:
		return tableOf(v, k)
	}
	letter, _ := kind.(string)
	switch x := v.(type) {
	case nil:
		if letter == "V" {
			return nil, nil
		}
	case bool:
		if letter == "t" {
			return x, nil
		}
	case json.Number:
		return scalarOf(x.String(), letter)
	case string:
		switch letter {
		case "S":
			return x, nil
		case "S64", "x":
			b, err := base64.StdEncoding.DecodeString(x)
			if letter == "x" {
				return b, err
			}
			return string(b), err
		}
		return scalarOf(x, letter)
	}
	return nil, fmt.Errorf("%.80q is not of type %.20q", fmt.Sprint(v), fmt.Sprint(kind))
}

func arrayOf(v any, kinds []any) (any, error) {
	all, ok := v.([]any)
	if !ok || len(all) != len(kinds) {
		return nil, fmt.Errorf("%.80q is not an array of %d", fmt.Sprint(v), len(kinds))
	}
	out := make([]any, len(all))
	for i := range all {
		var err error
		if out[i], err = nestedOf(all[i], kinds[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func tableOf(v any, kinds map[string]any) (any, error) {
	all, ok := v.(map[string]any)
	if !ok || len(all) != len(kinds) {
		return nil, fmt.Errorf("%.80q is not a table of %d", fmt.Sprint(v), len(kinds))
	}
	out := amqp.Table{}
	for name, one := range all {
		kind, ok := kinds[name]
		if !ok || len(name) > maxShort {
			return nil, fmt.Errorf("field %.80q has no type, or a name of more than %d bytes", name, maxShort)
		}
		var err error
		if out[name], err = nestedOf(one, kind); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// scalarOf reads a number or a time.
func scalarOf(text, letter string) (v any, err error) {
	sizes := map[string]int{"b": 8, "s": 16, "I": 32, "l": 64, "T": 64, "B": 8, "u": 16, "i": 32, "f": 32, "d": 64}
	bits := sizes[letter]
	switch letter {
	case "b", "s", "I", "l", "T":
		var n int64
		n, err = strconv.ParseInt(text, 10, bits)
		v = map[string]any{"b": int8(n), "s": int16(n), "I": int32(n), "l": n, "T": time.Unix(n, 0)}[letter]
	case "B", "u", "i":
		var n uint64
		n, err = strconv.ParseUint(text, 10, bits)
		v = map[string]any{"B": uint8(n), "u": uint16(n), "i": uint32(n)}[letter]
	case "f", "d":
		var f float64
		f, err = strconv.ParseFloat(text, bits)
		v = any(f)
		if letter == "f" {
			v = float32(f)
		}
	case "D":
		v, err = parseDecimal(text)
	default:
		err = errors.New("no such type")
	}
	if err != nil {
		return nil, fmt.Errorf("%.80q is not of type %.20q", text, letter)
	}
	return v, nil
}

// decimalText writes all digits, so that their number after the point is the
// scale.
func decimalText(d amqp.Decimal) string {
	text, sign := strconv.FormatInt(int64(d.Value), 10), ""
	if d.Value < 0 {
		text, sign = text[1:], "-"
	}
	scale := int(d.Scale)
	if scale == 0 {
		return sign + text
	}
	if len(text) <= scale {
		text = strings.Repeat("0", scale+1-len(text)) + text
	}
	return sign + text[:len(text)-scale] + "." + text[len(text)-scale:]
}

func parseDecimal(text string) (amqp.Decimal, error) {
	before, after, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(before+after, 10, 32)
	if err != nil || len(after) > math.MaxUint8 {
		return amqp.Decimal{}, fmt.Errorf("%.80q is not a decimal of 31 bits and at most 255 digits after the point", text)
	}
	return amqp.Decimal{Scale: uint8(len(after)), Value: int32(n)}, nil
}

func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func decodeJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the JSON")
	}
	return v, nil
}
