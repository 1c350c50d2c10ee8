package postgres

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

// own is a field that the record has for itself; nil when it has not, or when
// the table has a column of that name.
func (e *encoder) own(field string) []byte {
	i := e.slots[field]
	for _, s := range e.slot {
		if s == i {
			return nil
		}
	}
	return e.raws[i]
}

// findKept finds the columns that the record leaves as they are.
func (e *encoder) findKept() error {
	listed, err := e.unchanged()
	if err != nil || len(listed) == 0 && !e.merge {
		return err
	}
	any := false
	for i, c := range e.columns {
		keep := byte('0')
		if listed[c.path[0]] || e.merge && e.raws[e.slot[i]] == nil {
			keep, any = '1', true
		}
		e.kept = append(e.kept, keep)
	}
	if !any {
		e.kept = e.kept[:0]
		return nil
	}
	return e.checkKept()
}

// unchanged reads the record's list of what was not sent.
func (e *encoder) unchanged() (map[string]bool, error) {
	raw := e.own(fieldUnchanged)
	if raw == nil {
		return nil, nil
	}
	v, err := format.Decode(raw)
	if err != nil {
		return nil, err
	}
	names, ok := v.([]any)
	listed := map[string]bool{}
	for _, n := range names {
		name, text := n.(string)
		ok = ok && text
		listed[name] = true
	}
	if !ok {
		return nil, fmt.Errorf("field %s: want a list of fields, got %s", fieldUnchanged, clip(raw))
	}
	return listed, nil
}

func (e *encoder) checkKept() error {
	if len(e.keys) == 0 {
		return errors.New("the record leaves columns as they are (__unchanged), which needs the row of its key: mode upsert or merge")
	}
	for _, k := range e.keys {
		switch c := &e.columns[k]; {
		case keeps(string(e.kept), k):
			return fmt.Errorf("column %q is part of the key: want a value, got none", c.name)
		case !c.typ.exact:
			return fmt.Errorf("the record leaves columns as they are, but which rows have the same key the server alone knows, for column %q is %s", c.name, c.typ.shown)
		}
	}
	return nil
}

var errAfterDelete = errors.New("it leaves columns as they are (__unchanged), and the record before it deletes the row")

// complete takes the columns that a line leaves as they are from the line
// before it of the same key, and writes the line anew.
func (e *encoder) complete(r *rows, l *line, before line) error {
	if before.gone {
		if !e.merge {
			return errAfterDelete
		}
		return nil // the row is deleted, and made anew with what is given here
	}
	const first = 3 // number, gone, kept
	cells := bytes.Split(r.text[l.start:l.end-1], []byte{'\t'})
	older := bytes.Split(r.text[before.start:before.end-1], []byte{'\t'})
	kept, any := []byte(l.kept), false
	for i := range e.columns {
		if kept[i] == '0' {
			continue
		}
		if !keeps(before.kept, i) {
			cells[first+i], kept[i] = older[first+i], '0'
			continue
		}
		any = true
	}
	if !any {
		kept = nil
	}
	cells[first-1] = kept
	l.start, l.kept = len(r.text), string(kept)
	r.text = append(append(r.text, bytes.Join(cells, []byte{'\t'})...), '\n')
	l.end = len(r.text)
	return nil
}
