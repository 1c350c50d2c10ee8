package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

var (
	errArray    = errors.New("the server sent an array that cannot be read")
	errDeepJSON = errors.New("dimensions cannot be told from elements")
)

// appendRounded writes a number as the nearest double. The config asked for it.
func appendRounded(dst, text []byte) ([]byte, error) {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return dst, fmt.Errorf("a double does not reach so far: %w", err)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64), nil
}

// maxDepth is the most dimensions that PostgreSQL gives an array.
const maxDepth = 6

// appendArray writes {1,NULL,{…}} as JSON. An array whose numbering does not
// begin with 1 cannot be one in JSON, and one of several dimensions whose
// elements are JSON could not be told from one of arrays: they are strings, as
// the server prints them.
func (m *mapping) appendArray(dst, text []byte, t *wireType) ([]byte, error) {
	if len(text) > 0 && text[0] == '[' {
		return appendQuoted(dst, text)
	}
	start := len(dst)
	a := arrayReader{mapping: m, typ: t, rest: text}
	dst, err := a.list(dst, 1)
	if errors.Is(err, errDeepJSON) {
		return appendQuoted(dst[:start], text)
	}
	if err == nil && len(a.rest) > 0 {
		err = errArray
	}
	return dst, err
}

// arrayReader walks the text of an array.
type arrayReader struct {
	*mapping
	typ  *wireType
	rest []byte
	word []byte
}

// eat takes a byte if it comes next.
func (a *arrayReader) eat(c byte) bool {
	if len(a.rest) == 0 || a.rest[0] != c {
		return false
	}
	a.rest = a.rest[1:]
	return true
}

func (a *arrayReader) list(dst []byte, depth int) ([]byte, error) {
	if !a.eat('{') || depth > maxDepth {
		return dst, errArray
	}
	if depth > 1 && a.typ.elem.shape == shapeJSON {
		return dst, errDeepJSON
	}
	dst = append(dst, '[')
	if a.eat('}') {
		return append(dst, ']'), nil
	}
	for {
		var err error
		if len(a.rest) > 0 && a.rest[0] == '{' {
			dst, err = a.list(dst, depth+1)
		} else {
			dst, err = a.element(dst)
		}
		switch {
		case err != nil:
			return dst, err
		case a.eat(a.typ.delim):
			dst = append(dst, ',')
		case a.eat('}'):
			return append(dst, ']'), nil
		default:
			return dst, errArray
		}
	}
}

func (a *arrayReader) element(dst []byte) ([]byte, error) {
	if a.eat('"') {
		a.word = a.word[:0]
		for !a.eat('"') {
			a.eat('\\')
			if len(a.rest) == 0 {
				return dst, errArray
			}
			a.word = append(a.word, a.rest[0])
			a.rest = a.rest[1:]
		}
		return a.appendJSON(dst, a.word, a.typ.elem)
	}
	end := bytes.IndexAny(a.rest, string([]byte{a.typ.delim, '}'}))
	if end <= 0 {
		return dst, errArray
	}
	word := a.rest[:end]
	a.rest = a.rest[end:]
	if string(word) == "NULL" {
		return append(dst, "null"...), nil
	}
	return a.appendJSON(dst, word, a.typ.elem)
}
