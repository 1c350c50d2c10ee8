package clickhouse

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// block is a batch by columns.
type block struct {
	cells []cells
	rows  int
}

// encoder makes blocks of messages.
type encoder struct {
	*target
	slots map[string]int // field of the record to an entry of raws
	raws  [][]byte
	row   []any
	plain bool   // the columns are those of a row: none is taken of before or after
	from  []byte // the object whose fields are in raws
	last  []byte // of a row that is gone: what there is of it, in the place of after
	extra string // first field that no column takes
	same  []byte // __unchanged of the record
	op    []byte // what the record says of its row, as JSON
	told  bool   // a column takes op
}

func newEncoder(t *target) *encoder {
	e := &encoder{target: t, slots: map[string]int{}, row: make([]any, len(t.columns)), plain: true}
	for _, c := range t.columns {
		if _, ok := e.slots[c.path[0]]; !ok && c.meta == metaNone {
			e.slots[c.path[0]] = len(e.slots)
			e.plain = e.plain && c.path[0] != "before" && c.path[0] != "after"
		}
	}
	e.raws = make([][]byte, len(e.slots))
	return e
}

// encode makes a block of all messages, or says which of them cannot be rows.
func (e *encoder) encode(messages []connectors.Message) (*block, []connectors.RecordError) {
	b := &block{}
	for _, c := range e.columns {
		b.cells = append(b.cells, c.typ.newCells(len(messages)))
	}
	var wrong []connectors.RecordError
	for i := range messages {
		if err := e.values(&messages[i]); err != nil {
			wrong = append(wrong, connectors.RecordError{Index: i, Offset: messages[i].Offset, Err: connectors.Poison(err)})
			continue
		}
		for j, v := range e.row {
			b.cells[j].add(v)
		}
		b.rows++
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return b, nil
}

// values fills e.row with one message.
func (e *encoder) values(m *connectors.Message) error {
	object, gone := m.Value, m.Value == nil
	if gone {
		if object = m.Key; e.deleted == "" {
			return fmt.Errorf("the record has no value (a tombstone); deleted names the column that marks such a row")
		}
		if len(object) == 0 || object[0] != '{' {
			return fmt.Errorf("the record has no value, and its key is not an object with the columns of the table's key: got %s", clip(object))
		}
	}
	if err := e.split(object); err != nil {
		return err
	}
	if gone && !e.plain {
		e.last = object // the key is all that there is of the row
	}
	if e.extra != "" && e.failOnExtra {
		return fmt.Errorf("field %q has no column, and extra is fail", e.extra)
	}
	switch op := string(format.Text(e.op)); {
	case op == "t":
		return errors.New("the record says that the table was emptied (TRUNCATE), which is not done here")
	case op == "d" && e.deleted == "" && !e.told:
		return errors.New("the record says that its row was deleted; deleted names the column that marks such a row")
	case op == "d":
		gone = gone || e.deleted != ""
	}
	for i := range e.columns {
		if err := e.cell(i, m, gone); err != nil {
			return err
		}
	}
	return nil
}

// split finds the raw values that the columns take.
func (e *encoder) split(object []byte) error {
	e.same, e.op, e.last = nil, nil, nil
	_, e.told = e.slots["__op"]
	var c change
	err := e.find(object, func(field, raw []byte) {
		switch string(field) {
		case "__unchanged":
			e.same = raw
		case "__op":
			e.op = raw
		}
		c.see(field, raw)
	})
	if err != nil || !c.is() {
		return err
	}
	return e.unwrap(c)
}

// find puts the fields of an object into raws, and shows each.
func (e *encoder) find(object []byte, see func(field, raw []byte)) error {
	clear(e.raws)
	e.from, e.extra = object, ""
	return format.EachField(object, func(field, raw []byte) bool {
		if i, ok := e.slots[string(field)]; ok {
			e.raws[i] = raw
		} else if e.extra == "" && !bytes.HasPrefix(field, []byte("__")) {
			e.extra = string(field)
		}
		see(field, raw)
		return true
	})
}

func (e *encoder) cell(i int, m *connectors.Message, gone bool) error {
	c := &e.columns[i]
	switch c.meta {
	case metaTopic, metaPartition, metaOffset:
		v, err := c.fromPlace(m)
		e.row[i] = v
		return err
	case metaDeleted:
		v, err := c.typ.value(strconv.AppendBool(nil, gone))
		e.row[i] = v
		return err
	}
	raw, err := e.raw(c)
	if err != nil {
		return err
	}
	if raw == nil && gone && !c.key {
		e.row[i] = c.typ.zero()
		return nil
	}
	if raw == nil {
		if err := e.unchanged(c); err != nil {
			return err
		}
	}
	v, err := c.value(raw)
	if err != nil {
		return fmt.Errorf("column %q is %s: want %w, got %s", c.name, c.typ.shown, err, clip(raw))
	}
	e.row[i] = v
	return nil
}

// raw is a column's value in the record that was split; nil for null.
func (e *encoder) raw(c *targetColumn) ([]byte, error) {
	raw := e.raws[e.slots[c.path[0]]]
	if len(c.path) > 1 && c.path[0] == "after" && e.last != nil {
		raw = e.last
	}
	if len(c.path) > 1 && raw != nil {
		var err error
		if raw, err = format.Lookup(raw, c.path[1:]...); err != nil {
			return nil, err
		}
	}
	if len(raw) == 0 || raw[0] == 'n' {
		return nil, nil
	}
	return raw, nil
}

// unchanged refuses a value that a change of a row did not bring along: it is
// not NULL, and nobody here knows it.
func (e *encoder) unchanged(c *targetColumn) error {
	if e.same == nil {
		return nil
	}
	names, err := elements(e.same)
	if err != nil {
		return errors.New("__unchanged is not an array")
	}
	if slices.ContainsFunc(names, func(n []byte) bool { return string(format.Text(n)) == c.field() }) {
		return fmt.Errorf("column %q: the record does not have the value, because the change left it as it was; ALTER TABLE … REPLICA IDENTITY FULL at its source makes it come along", c.name)
	}
	return nil
}

// value converts what the config says the column takes.
func (c *targetColumn) value(raw []byte) (any, error) {
	switch {
	case raw == nil || c.as == "":
		return c.typ.value(raw)
	case c.as == "base64":
		return c.typ.fromBase64(raw)
	}
	return string(raw), nil
}

// fromPlace is where the record was read.
func (c *targetColumn) fromPlace(m *connectors.Message) (any, error) {
	var raw []byte
	switch c.meta {
	case metaTopic:
		raw = []byte(`"` + m.Partition.Topic + `"`) // Kafka's names need no escapes
	case metaPartition:
		raw = fmt.Append(nil, m.Partition.Partition)
	default:
		raw = fmt.Append(nil, m.Offset)
	}
	v, err := c.typ.value(raw)
	if err != nil {
		return nil, fmt.Errorf("column %q is %s: want %w, got %s", c.name, c.typ.shown, err, raw)
	}
	return v, nil
}

// clip shortens a value for a message.
func clip(b []byte) string {
	const most = 60
	if b == nil {
		return "null"
	}
	if b = bytes.ToValidUTF8(b, []byte("\uFFFD")); len(b) <= most {
		return string(b)
	}
	return string(bytes.ToValidUTF8(b[:most], nil)) + "…"
}
