package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
	"github.com/entrepot-hub/entrepot/record"
)

// envelope is the form of the records.
type envelope struct {
	debezium     bool
	meta         []string
	deletes      string // tombstone, record or both
	tableInKey   bool
	schemaHeader bool
	job, db      string
	mapping      *mapping
}

// form is a table in the form that rows of it need.
type form struct {
	name     name
	columns  []formColumn
	shown    int    // as many of the columns, from the first on, are in the record
	keys     []int  // in columns; none when the table has no key
	tableKey []byte // the table as a JSON string
	header   []byte // of schemaHeader; nil for none
}

type formColumn struct {
	name   string
	quoted []byte // "name":
	typ    *wireType
	shown  string // the type with its bounds
}

// newForm prepares a table. A column whose name is one of the envelope's own
// is refused: a record cannot have two fields of one name.
func (e *envelope) newForm(n name, columns []formColumn, keys []int) (*form, error) {
	f := &form{name: n, columns: columns, shown: len(columns), keys: keys}
	f.tableKey, _ = appendQuoted(nil, []byte(n.String()))
	for i := range columns {
		c := &columns[i]
		own := slices.Contains([]string{"__unchanged", "__table"}, c.name) || slices.ContainsFunc(e.meta, func(m string) bool { return c.name == "__"+m })
		if own && !e.debezium {
			return nil, connectors.Fatalf("table %s has a column %q, which is a field that the record has for itself: rename it, take it out of meta, or write envelope: debezium", n, c.name)
		}
		var err error
		if c.quoted, err = appendQuoted(nil, []byte(c.name)); err != nil {
			return nil, connectors.Fatalf("table %s has a column whose name is not UTF-8", n)
		}
		c.quoted = append(c.quoted, ':')
	}
	if e.schemaHeader {
		f.header = f.describe()
	}
	return f, nil
}

// describe is the schema as JSON.
func (f *form) describe() []byte {
	type column struct {
		Name string `json:"name"`
		Type string `json:"type"`
		Key  bool   `json:"key,omitempty"`
	}
	s := struct {
		Table   string   `json:"table"`
		Columns []column `json:"columns"`
	}{Table: f.name.String()}
	for i, c := range f.columns {
		s.Columns = append(s.Columns, column{c.name, c.shown, slices.Contains(f.keys, i)})
	}
	b, _ := json.Marshal(s) // texts and truths can always be written
	return b
}

// event is what happened to a row.
type event struct {
	op        byte // r, c, u, d or t
	before    pgoutput.Tuple
	whole     bool // before is the whole row, not its key alone
	after     pgoutput.Tuple
	lsn       pgoutput.LSN
	xid       uint32
	ts        int64 // milliseconds; connectors.NoTimestamp for rows that were there
	tombstone bool  // without a value
}

// message makes the record of an event, without its position.
func (e *envelope) message(f *form, ev *event) connectors.Message {
	m := connectors.Message{Timestamp: ev.ts, Origin: connectors.Origin{Name: f.name.String()}}
	if f.header != nil {
		m.Headers = []record.Header{{Key: "pg-schema", Value: f.header}}
	}
	err := e.fill(f, ev, &m)
	m.Original = m.Value
	if m.Value == nil {
		m.Original = m.Key
	}
	if err != nil {
		m.Key, m.Value, m.Original = nil, nil, asTexts(f, ev)
		m.Err = connectors.Poison(fmt.Errorf("table %s: %w", f.name, err))
	}
	return m
}

func (e *envelope) fill(f *form, ev *event, m *connectors.Message) (err error) {
	row := ev.after
	if row == nil {
		row = ev.before
	}
	if len(f.keys) > 0 && row != nil {
		if m.Key, err = e.appendKey(nil, f, row); err != nil {
			return err
		}
	}
	switch {
	case ev.tombstone:
		return nil
	case e.debezium:
		m.Value, err = e.appendDebezium(make([]byte, 0, 512), f, ev)
	default:
		m.Value, err = e.appendFlat(make([]byte, 0, 256), f, ev, row)
	}
	return err
}

func (e *envelope) appendKey(dst []byte, f *form, row pgoutput.Tuple) ([]byte, error) {
	dst = append(dst, '{')
	if e.tableInKey {
		dst = append(append(dst, `"__table":`...), f.tableKey...)
	}
	for _, k := range f.keys {
		var err error
		if dst, err = e.appendField(dst, &f.columns[k], row[k]); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendField writes one column, with a comma before all but the first.
func (e *envelope) appendField(dst []byte, c *formColumn, v pgoutput.Value) ([]byte, error) {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, c.quoted...)
	switch v.Kind {
	case pgoutput.Null:
		return append(dst, "null"...), nil
	case pgoutput.Unchanged: // of a key; appendRow leaves out others
		return dst, fmt.Errorf("column %q: the server did not send it, and without it the row cannot be told from others", c.name)
	}
	dst, err := e.mapping.appendJSON(dst, v.Data, c.typ)
	if err != nil {
		return dst, fmt.Errorf("column %q of type %s: %w, got %s", c.name, c.shown, err, clip(v.Data))
	}
	return dst, nil
}

// appendRow writes the columns of a row and returns those left out. Of a row
// that is only a key, the other columns mean nothing.
func (e *envelope) appendRow(dst []byte, f *form, row pgoutput.Tuple, whole bool) (_ []byte, unchanged []string, err error) {
	for i := range f.columns[:f.shown] {
		if !whole && !slices.Contains(f.keys, i) {
			continue
		}
		if row[i].Kind == pgoutput.Unchanged {
			unchanged = append(unchanged, f.columns[i].name)
			continue
		}
		if dst, err = e.appendField(dst, &f.columns[i], row[i]); err != nil {
			return dst, nil, err
		}
	}
	return dst, unchanged, nil
}

func (e *envelope) appendFlat(dst []byte, f *form, ev *event, row pgoutput.Tuple) ([]byte, error) {
	dst = append(dst, '{')
	var (
		unchanged []string
		err       error
	)
	if row != nil {
		if dst, unchanged, err = e.appendRow(dst, f, row, ev.after != nil || ev.whole); err != nil {
			return dst, err
		}
	}
	for _, m := range e.meta {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, `"__`...), m...), `":`...)
		switch m {
		case "op":
			dst = append(dst, '"', ev.op, '"')
		case "table":
			dst = append(dst, f.tableKey...)
		case "lsn":
			dst = strconv.AppendUint(dst, uint64(ev.lsn), 10)
		case "tx":
			dst = strconv.AppendUint(dst, uint64(ev.xid), 10)
		case "ts_ms":
			dst = appendMillis(dst, ev.ts)
		}
	}
	return append(appendUnchanged(dst, unchanged), '}'), nil
}

func appendMillis(dst []byte, ts int64) []byte {
	if ts == connectors.NoTimestamp {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, ts, 10)
}

func appendUnchanged(dst []byte, columns []string) []byte {
	for i, c := range columns {
		switch {
		case i > 0:
			dst = append(dst, ',')
		case dst[len(dst)-1] == '{':
			dst = append(dst, `"__unchanged":[`...)
		default:
			dst = append(dst, `,"__unchanged":[`...)
		}
		dst, _ = appendQuoted(dst, []byte(c)) // checked with the form
	}
	if len(columns) > 0 {
		dst = append(dst, ']')
	}
	return dst
}

func (e *envelope) appendDebezium(dst []byte, f *form, ev *event) ([]byte, error) {
	var (
		unchanged []string
		err       error
	)
	dst = append(dst, `{"before":`...)
	if dst, _, err = e.appendImage(dst, f, ev.before, ev.whole); err != nil {
		return dst, err
	}
	dst = append(dst, `,"after":`...)
	if dst, unchanged, err = e.appendImage(dst, f, ev.after, true); err != nil {
		return dst, err
	}
	dst = append(dst, `,"source":{"connector":"postgresql","name":`...)
	for i, field := range []string{e.job, e.db, f.name.schema, f.name.table} {
		dst = append(dst, [...]string{"", `,"db":`, `,"schema":`, `,"table":`}[i]...)
		if dst, err = appendQuoted(dst, []byte(field)); err != nil {
			return dst, err
		}
	}
	dst = strconv.AppendBool(append(dst, `,"snapshot":"`...), ev.op == 'r')
	dst = strconv.AppendUint(append(dst, `","lsn":`...), uint64(ev.lsn), 10)
	if ev.op != 'r' {
		dst = strconv.AppendUint(append(dst, `,"txId":`...), uint64(ev.xid), 10)
	}
	dst = appendMillis(append(dst, `,"ts_ms":`...), ev.ts)
	dst = append(dst, `},"op":"`...)
	dst = append(dst, ev.op, '"')
	dst = appendMillis(append(dst, `,"ts_ms":`...), ev.ts)
	return append(appendUnchanged(dst, unchanged), '}'), nil
}

func (e *envelope) appendImage(dst []byte, f *form, row pgoutput.Tuple, whole bool) ([]byte, []string, error) {
	if row == nil {
		return append(dst, "null"...), nil, nil
	}
	dst, unchanged, err := e.appendRow(append(dst, '{'), f, row, whole)
	return append(dst, '}'), unchanged, err
}

// asTexts is a row that cannot be a record, for its dead letter: every value
// as the server printed it.
func asTexts(f *form, ev *event) []byte {
	row := ev.after
	if row == nil {
		row = ev.before
	}
	dst := []byte{'{'}
	for i := range min(len(row), len(f.columns)) {
		if row[i].Kind == pgoutput.Null || row[i].Kind == pgoutput.Unchanged {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst, _ = appendQuoted(append(dst, f.columns[i].quoted...), bytes.ToValidUTF8(row[i].Data, []byte("\uFFFD")))
	}
	return append(dst, '}')
}
