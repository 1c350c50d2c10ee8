package postgres

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

var errWantArray = errors.New("an array, or text of one as PostgreSQL writes it")

// appendArray writes a JSON array as PostgreSQL's text of one, element by
// element with the same care as single values. A string is such a text already.
func (t sqlType) appendArray(dst, raw []byte) ([]byte, error) {
	switch raw[0] {
	case '"':
		return appendText(dst, format.Text(raw))
	case '[':
	default:
		return dst, errWantArray
	}
	text, err := t.elem.appendElements(nil, raw)
	if err != nil {
		return dst, err
	}
	return appendEscaped(dst, text), nil
}

// appendElements writes {1,NULL,{…}}. JSON arrays inside are dimensions, but
// not where elements are JSON themselves.
func (t sqlType) appendElements(dst, raw []byte) ([]byte, error) {
	dst = append(dst, '{')
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	if _, err := d.ReadToken(); err != nil {
		return dst, err
	}
	for first := true; d.PeekKind() != ']'; first = false {
		v, err := d.ReadValue()
		if err != nil {
			return dst, err
		}
		if !first {
			dst = append(dst, ',')
		}
		switch {
		case v[0] == 'n':
			dst = append(dst, "NULL"...)
		case v[0] == '[' && t.kind != kindJSON && t.kind != kindJSONB:
			dst, err = t.appendElements(dst, v)
		default:
			dst, err = t.appendElement(dst, v)
		}
		if err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func (t sqlType) appendElement(dst, raw []byte) ([]byte, error) {
	cell, err := t.append(nil, raw)
	if err != nil {
		return dst, fmt.Errorf("elements of %s, each %w", t.shown, err)
	}
	dst = append(dst, '"')
	for i := 0; i < len(cell); i++ {
		c := cell[i]
		if c == '\\' { // what COPY has escaped
			i++
			c = map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', '\\': '\\'}[cell[i]]
		}
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"'), nil
}
