package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

// shape says how the text of a value becomes JSON.
type shape uint8

const (
	shapeText shape = iota // a string, as the server prints it
	shapeBool
	shapeInt
	shapeFloat
	shapeNumeric
	shapeJSON
	shapeInstant
	shapeLocal
	shapeDate
	shapeBytes
	shapeArray
)

// shapes are those of PostgreSQL's own types, by their names in pg_type.
var shapes = map[string]shape{
	"bool": shapeBool, "int2": shapeInt, "int4": shapeInt, "int8": shapeInt, "oid": shapeInt, "float4": shapeFloat, "float8": shapeFloat,
	"numeric": shapeNumeric, "json": shapeJSON, "jsonb": shapeJSON, "timestamptz": shapeInstant, "timestamp": shapeLocal, "date": shapeDate,
	"bytea": shapeBytes,
}

// wireType is a type as values of it come from the server.
type wireType struct {
	name  string // as PostgreSQL prints it, without bounds
	shape shape
	elem  *wireType // of an array
	delim byte      // between its elements
}

var (
	errInfinite = errors.New("it is infinite, and infinity is fail")
	errNotUTF8  = errors.New("it is not UTF-8")
	errNullJSON = errors.New("it is the JSON null, which cannot be told from NULL when it is embedded; write json: string, or add json_null_to_null to allow_lossy")
)

// appendJSON writes a value that is not NULL. What cannot be written without
// loss is an error.
func (m *mapping) appendJSON(dst, text []byte, t *wireType) ([]byte, error) {
	switch t.shape {
	case shapeBool:
		if len(text) == 1 && text[0] == 't' || string(text) == "true" {
			return append(dst, "true"...), nil
		}
		return append(dst, "false"...), nil
	case shapeInt:
		return append(dst, text...), nil
	case shapeFloat:
		if isNumber(text) {
			return append(dst, text...), nil
		}
	case shapeNumeric:
		return m.appendNumeric(dst, text)
	case shapeJSON:
		return m.appendEmbedded(dst, text)
	case shapeInstant, shapeLocal, shapeDate:
		return m.appendTime(dst, text, t.shape)
	case shapeBytes:
		return appendBase64(dst, text)
	case shapeArray:
		return m.appendArray(dst, text, t)
	}
	return appendQuoted(dst, text)
}

// isNumber tells digits from NaN and Infinity.
func isNumber(text []byte) bool {
	return len(text) > 0 && text[len(text)-1] >= '0' && text[len(text)-1] <= '9'
}

func (m *mapping) appendNumeric(dst, text []byte) ([]byte, error) {
	switch {
	case m.numeric == "string" || !isNumber(text):
		return appendQuoted(dst, text)
	case m.numeric == "number":
		return append(dst, text...), nil
	}
	return appendRounded(dst, text)
}

func (m *mapping) appendEmbedded(dst, text []byte) ([]byte, error) {
	if m.jsonString {
		return appendQuoted(dst, text)
	}
	if string(bytes.TrimSpace(text)) == "null" {
		if !m.jsonNull {
			return dst, errNullJSON
		}
	} else if _, err := format.Compact(text); err != nil { // a second name, half a character
		return dst, fmt.Errorf("it cannot be embedded, json: string keeps it: %w", err)
	}
	return append(dst, text...), nil
}

// appendTime writes 2015-05-17 10:05:03.1+00 as 2015-05-17T10:05:03.1Z. Years
// before 1 and after 9999 keep the form that PostgreSQL gives them, with a T.
func (m *mapping) appendTime(dst, text []byte, s shape) ([]byte, error) {
	if len(text) == 0 || text[len(text)-1] == 'y' { // infinity
		switch m.infinity {
		case "null":
			return append(dst, "null"...), nil
		case "fail":
			return dst, errInfinite
		}
		return appendQuoted(dst, text)
	}
	dst = append(dst, '"')
	text, bc := bytes.CutSuffix(text, []byte(" BC"))
	if s == shapeInstant {
		text = bytes.TrimSuffix(text, []byte("+00")) // the session's zone is UTC
	}
	if i := bytes.IndexByte(text, ' '); i > 0 {
		dst = append(append(dst, text[:i]...), 'T')
		text = text[i+1:]
	}
	dst = append(dst, text...)
	if s == shapeInstant {
		dst = append(dst, 'Z')
	}
	if bc {
		dst = append(dst, " BC"...)
	}
	return append(dst, '"'), nil
}

func appendBase64(dst, text []byte) ([]byte, error) {
	digits, ok := bytes.CutPrefix(text, []byte(`\x`))
	raw := make([]byte, hex.DecodedLen(len(digits)))
	if n, err := hex.Decode(raw, digits); !ok || err != nil || n != len(raw) {
		return dst, errors.New("the server sent bytes in a form that is not hex")
	}
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), raw), '"'), nil
}

// appendQuoted writes text as a JSON string.
func appendQuoted(dst, text []byte) ([]byte, error) {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	clean, plain := 0, true
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			plain = plain && c < utf8.RuneSelf
			continue
		}
		dst = append(dst, text[clean:i]...)
		clean = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	if !plain && !utf8.Valid(text) {
		return dst, errNotUTF8
	}
	return append(append(dst, text[clean:]...), '"'), nil
}
