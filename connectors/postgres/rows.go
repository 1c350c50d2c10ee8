package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// rows are a batch in the form in which it is staged: one line of COPY text
// for each row, in the order of the batch. In mode upsert there is one row for
// each key, the last.
type rows struct {
	text  []byte
	lines []line
}

type line struct {
	index      int // in the batch
	start, end int // in text
	gone       bool
	superseded bool
	kept       string // for each column 1 when it stays as it is; "" when none does
}

// deletes reports whether any row is to be deleted.
func (r *rows) deletes() bool {
	for _, l := range r.lines {
		if l.gone && !l.superseded {
			return true
		}
	}
	return false
}

// drop leaves out what later rows of the same key replace.
func (r *rows) drop() {
	kept := r.lines[:0]
	for _, l := range r.lines {
		if !l.superseded {
			kept = append(kept, l)
		}
	}
	r.lines = kept
}

// encoder makes rows of messages.
type encoder struct {
	*target
	slots map[string]int // field of the record to an entry of raws
	slot  []int          // the same by column
	raws  [][]byte
	key   []byte
	extra string // first field that no column takes
	known int    // fields found in the record that have a slot
	kept  []byte // of the row; empty when no column stays as it is
}

// Fields that a record has for itself.
const (
	fieldUnchanged = "__unchanged"
	fieldOp        = "__op"
)

func newEncoder(t *target) *encoder {
	e := &encoder{target: t, slots: map[string]int{}}
	for _, c := range t.columns {
		if _, ok := e.slots[c.path[0]]; !ok {
			e.slots[c.path[0]] = len(e.slots)
		}
		e.slot = append(e.slot, e.slots[c.path[0]])
	}
	for _, own := range []string{fieldUnchanged, fieldOp} {
		if _, ok := e.slots[own]; !ok {
			e.slots[own] = len(e.slots)
		}
	}
	e.raws = make([][]byte, len(e.slots))
	return e
}

// encode makes rows of all messages, or says which of them cannot be rows.
func (e *encoder) encode(messages []connectors.Message) (*rows, []connectors.RecordError) {
	var (
		r     = &rows{lines: make([]line, 0, len(messages)), text: make([]byte, 0, sizeOf(messages))}
		last  = make(map[string]int, len(messages)) // key to an entry of r.lines
		wrong []connectors.RecordError
	)
	for i := range messages {
		m := &messages[i]
		l := line{index: i, start: len(r.text)}
		var err error
		if r.text, l.gone, err = e.appendLine(r.text, m, i); err == nil {
			l.end, l.kept = len(r.text), string(e.kept)
			before, again := last[string(e.key)]
			if again && len(e.keys) > 0 && l.kept != "" {
				err = e.complete(r, &l, r.lines[before])
			}
			if again && len(e.keys) > 0 && err == nil {
				// A tombstone is needed still where the row is made anew with the
				// defaults of what is not given.
				r.lines[before].superseded = !r.lines[before].gone || l.kept == ""
			}
		}
		if err != nil {
			r.text = r.text[:l.start]
			wrong = append(wrong, connectors.RecordError{Index: i, Offset: m.Offset, Err: connectors.Poison(err)})
			continue
		}
		if len(e.keys) > 0 {
			last[string(e.key)] = len(r.lines)
		}
		r.lines = append(r.lines, l)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	r.drop()
	return r, nil
}

// sizeOf guesses the room for the lines: field names go, numbers of lines come.
func sizeOf(messages []connectors.Message) (bytes int) {
	for i := range messages {
		bytes += messages[i].Size()
	}
	return bytes
}

// appendLine writes one message as a line, and leaves its key in e.key and
// what stays as it is in e.kept. gone tells that the row is to be deleted.
func (e *encoder) appendLine(dst []byte, m *connectors.Message, index int) (_ []byte, gone bool, err error) {
	dst = strconv.AppendInt(dst, int64(index), 10)
	e.key, e.kept = e.key[:0], e.kept[:0]
	if m.Value == nil {
		dst, err = e.appendTombstone(append(dst, "\tt\t"...), m)
		return dst, true, err
	}
	if err := e.split(m.Value); err != nil {
		return dst, false, err
	}
	if len(e.keys) > 0 && e.own(fieldOp) != nil {
		switch op := string(e.own(fieldOp)); op {
		case `"d"`:
			dst, err = e.appendGone(append(dst, "\tt\t"...))
			return dst, true, err
		case `"t"`:
			return dst, false, errTruncated
		}
	}
	if e.extra != "" && e.failOnExtra {
		return dst, false, fmt.Errorf("field %q has no column, and extra is fail", e.extra)
	}
	if err := e.findKept(); err != nil {
		return dst, false, err
	}
	dst = append(append(dst, "\tf\t"...), e.kept...)
	for i := range e.columns {
		raw, err := e.raw(i)
		if err != nil {
			return dst, false, err
		}
		if dst, err = e.appendCell(append(dst, '\t'), &e.columns[i], raw); err != nil {
			return dst, false, err
		}
	}
	return append(dst, '\n'), false, nil
}

// split finds the raw values that the columns take.
func (e *encoder) split(object []byte) error {
	clear(e.raws)
	e.extra, e.known = "", 0
	return format.EachField(object, func(field, raw []byte) bool {
		if i, ok := e.slots[string(field)]; ok {
			e.raws[i] = raw
			e.known++
		} else if e.extra == "" {
			e.extra = string(field)
		}
		return true
	})
}

// raw is a column's value in the record that was split; nil for null.
func (e *encoder) raw(column int) ([]byte, error) {
	raw, path := e.raws[e.slot[column]], e.columns[column].path
	if len(path) > 1 && raw != nil {
		var err error
		if raw, err = format.Lookup(raw, path[1:]...); err != nil {
			return nil, err
		}
	}
	if len(raw) == 0 || raw[0] == 'n' {
		return nil, nil
	}
	return raw, nil
}

func (e *encoder) appendCell(dst []byte, c *column, raw []byte) ([]byte, error) {
	if raw == nil {
		if c.key {
			return dst, fmt.Errorf("column %q is part of the key: want a value, got none", c.name)
		}
		return append(dst, `\N`...), nil
	}
	start := len(dst)
	dst, err := c.typ.append(dst, raw)
	if err != nil {
		return dst, fmt.Errorf("column %q is %s: want %w, got %s", c.name, c.typ.shown, err, clip(raw))
	}
	if c.key {
		e.key = append(c.appendKey(e.key, dst[start:]), '\t') // no field of COPY has a tab in it
	}
	return dst, nil
}

// appendKey writes what was made for a cell so that equal values of an exact
// type are equal bytes.
func (c *column) appendKey(dst, cell []byte) []byte {
	if c.typ.kind == kindNumeric {
		if d, ok := parseDecimal(cell); ok {
			return d.appendKey(dst)
		}
	}
	return append(dst, cell...)
}

var (
	errTombstone = errors.New("the record has no value (a tombstone), or says that its row is gone; delete_on_tombstone: true in mode upsert or merge makes it delete the row of its key")
	errTruncated = errors.New("the record says that a whole table was emptied (TRUNCATE), which this sink does not do: truncate: skip in the source leaves it out")
)

// appendGone writes a row to delete that the record names by its own fields.
func (e *encoder) appendGone(dst []byte) ([]byte, error) {
	if !e.tombstones {
		return dst, errTombstone
	}
	for i := range e.columns {
		c := &e.columns[i]
		dst = append(dst, '\t')
		if !c.key {
			dst = append(dst, `\N`...)
			continue
		}
		raw, err := e.raw(i)
		if err != nil {
			return dst, err
		}
		if dst, err = e.appendCell(dst, c, raw); err != nil {
			return dst, err
		}
	}
	return append(dst, '\n'), nil
}

// appendTombstone writes a row to delete: its key and nothing else.
func (e *encoder) appendTombstone(dst []byte, m *connectors.Message) ([]byte, error) {
	switch {
	case !e.tombstones:
		return dst, errTombstone
	case len(m.Key) == 0:
		return dst, fmt.Errorf("the record has neither a value nor a key: there is no telling which row to delete")
	}
	fields := m.Key[0] == '{' && e.split(m.Key) == nil && e.known > 0
	if !fields && len(e.keys) > 1 {
		return dst, fmt.Errorf("the record's key is not an object with the fields of the columns of the key, got %s", clip(m.Key))
	}
	for i := range e.columns {
		c := &e.columns[i]
		dst = append(dst, '\t')
		var err error
		switch {
		case !c.key:
			dst = append(dst, `\N`...)
		case fields:
			var raw []byte
			if raw, err = e.raw(i); err == nil {
				dst, err = e.appendCell(dst, c, raw)
			}
		default:
			dst, err = e.appendBareKey(dst, c, m.Key)
		}
		if err != nil {
			return dst, fmt.Errorf("the record's key: %w", err)
		}
	}
	return append(dst, '\n'), nil
}

// appendBareKey takes a whole record key as the value of the only column of
// the key: JSON if it fits as such, else as plain text.
func (e *encoder) appendBareKey(dst []byte, c *column, key []byte) ([]byte, error) {
	start, before := len(dst), len(e.key)
	if raw, err := format.Compact(key); err == nil && raw[0] != '{' && raw[0] != '[' && raw[0] != 'n' {
		if out, err := e.appendCell(dst, c, raw); err == nil {
			return out, nil
		}
	}
	dst, e.key = dst[:start], e.key[:before]
	if !utf8.Valid(key) {
		return dst, fmt.Errorf("column %q is %s: want text in UTF-8, got %s", c.name, c.typ.shown, clip(key))
	}
	quoted, err := format.Append(nil, string(key))
	if err != nil {
		return dst, err
	}
	return e.appendCell(dst, c, quoted)
}

// clip shortens a value for a message.
func clip(b []byte) string {
	const most = 60
	if b = bytes.ToValidUTF8(b, []byte("\uFFFD")); len(b) <= most {
		return string(b)
	}
	return string(bytes.ToValidUTF8(b[:most], nil)) + "…"
}
