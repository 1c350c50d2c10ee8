package expr

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// lenient accepts what other programs write: a repeated name (the last one
// counts, as in most decoders).
func lenient() jsontext.Options { return jsontext.AllowDuplicateNames(true) }

// decode reads the wanted part of a JSON text. A null value (tombstone) is
// nil. The rest of the text is checked for syntax but not kept.
func decode(text []byte, want *wanted) (any, error) { return new(reader).decode(text, want) }

// reader is a decoder that is used again and again.
type reader struct {
	buffer  bytes.Buffer
	decoder jsontext.Decoder
}

func (r *reader) decode(text []byte, want *wanted) (any, error) {
	if text == nil {
		return nil, nil
	}
	r.buffer = *bytes.NewBuffer(text)
	d := &r.decoder
	d.Reset(&r.buffer, lenient())
	v, err := decodeValue(d, want)
	if err == nil {
		err = atEnd(d)
	}
	if err != nil {
		return nil, notJSON(err)
	}
	return v, nil
}

func atEnd(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("text after the end of the value")
		}
		return err
	}
	return nil
}

func notJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	return fmt.Errorf("%w: %w", errNotJSON, err)
}

func decodeValue(d *jsontext.Decoder, want *wanted) (any, error) {
	switch d.PeekKind() {
	case '{':
		return decodeObject(d, want)
	case '[':
		return decodeArray(d)
	}
	tok, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return tok.Bool(), nil
	case '"':
		return tok.String(), nil
	}
	return number(tok.String())
}

func decodeObject(d *jsontext.Decoder, want *wanted) (any, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	out := make(map[string]any, len(want.fields))
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		field := want.field(name)
		if field == nil {
			if err := d.SkipValue(); err != nil {
				return nil, err
			}
			continue
		}
		key := unquote(name)
		v, err := decodeValue(d, field)
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
	_, err := d.ReadToken()
	return out, err
}

// field is what is wanted of a field, by its name as JSON; nil is nothing.
func (w *wanted) field(quoted jsontext.Value) *wanted {
	if w.all {
		return w
	}
	if bytes.IndexByte(quoted, '\\') >= 0 {
		return w.fields[unquote(quoted)]
	}
	return w.fields[string(quoted[1:len(quoted)-1])] // without making the text
}

// unquote is the text of a JSON string that the decoder has checked.
func unquote(quoted jsontext.Value) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	text, _ := jsontext.AppendUnquote(nil, quoted)
	return string(text)
}

var everything = &wanted{all: true}

func decodeArray(d *jsontext.Decoder) (any, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	out := []any{}
	for d.PeekKind() != ']' {
		v, err := decodeValue(d, everything)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := d.ReadToken()
	return out, err
}

// Number is an integer that does not fit 64 bits, as it is written. It can be
// passed on, compared for equality and made a text; to compute with it is an
// error rather than a rounded result.
type Number string

// number keeps integers exact.
func number(text string) (any, error) {
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.Atoi(text); err == nil {
			return n, nil
		}
		return Number(text), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, fmt.Errorf("the number %.60s is out of range", text)
	}
	return f, nil
}

// Lookup returns the JSON at a path of field names, byte for byte as it
// stands in text, or null when it is missing. With a repeated name the last
// one counts.
func Lookup(text []byte, path []string) (jsontext.Value, error) {
	raw := jsontext.Value(text)
	for i, name := range path {
		if raw.Kind() != '{' {
			if i > 0 && raw.Kind() == 'n' || text == nil {
				return jsontext.Value("null"), nil
			}
			if i == 0 && !raw.IsValid(lenient()) {
				return nil, fmt.Errorf("%w", errNotJSON)
			}
			return nil, fmt.Errorf("there is no field %q in something that is not an object", name)
		}
		next, err := member(raw, name)
		if err != nil {
			return nil, notJSON(err)
		}
		raw = next
	}
	return raw, nil
}

func member(object jsontext.Value, name string) (jsontext.Value, error) {
	found := jsontext.Value("null")
	err := eachField(object, func(n string, v jsontext.Value) {
		if n == name {
			found = v
		}
	})
	return found, err
}

// eachField calls fn for each field of a JSON object; the values alias it.
func eachField(object []byte, fn func(name string, value jsontext.Value)) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(object), lenient())
	if tok, err := d.ReadToken(); err != nil {
		return err
	} else if tok.Kind() != '{' {
		return errors.New("it is not an object")
	}
	for d.PeekKind() != '}' {
		tok, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := tok.String()
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		end := d.InputOffset()
		fn(name, object[end-int64(len(value)):end])
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	return atEnd(d)
}
