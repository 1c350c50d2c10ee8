package clickhouse

// change is a record in the envelope of Debezium, as far as it was seen: the
// row before and after, where it is from, and what happened to it.
type change struct {
	before, after, op []byte
	own               int  // fields that each such record has
	other             bool // a field that none has
}

// see takes a field of the record.
func (c *change) see(field, raw []byte) {
	switch string(field) {
	case "before":
		c.before = raw
	case "after":
		c.after = raw
	case "op":
		c.op = raw
	case "source":
	case "ts_ms", "ts_us", "ts_ns", "transaction", "__unchanged":
		return
	default:
		c.other = true
	}
	c.own++
}

// is reports whether the record is one. A row whose columns have these names,
// and hold objects, is taken for one unless a column takes before or after.
func (c *change) is() bool {
	image := func(raw []byte) bool { return len(raw) > 0 && (raw[0] == '{' || raw[0] == 'n') }
	return c.own == 4 && !c.other && image(c.before) && image(c.after) && len(c.op) > 0 && c.op[0] == '"'
}

// unwrap gives the columns the row that a change is about: as it is now, or as
// much as is known of one that is gone. Where columns take after or before
// themselves, only what they take of after is the row.
func (e *encoder) unwrap(c change) error {
	e.op = c.op
	row := c.after
	if row[0] == 'n' {
		row = c.before
	}
	if e.plain {
		if row[0] == 'n' {
			row = []byte("{}") // op says what there is to say
		}
		return e.find(row, func(_, _ []byte) {})
	}
	_, e.told = e.slots["op"]
	switch string(c.op) {
	case `"d"`:
		e.last = row
	case `"t"`:
		if e.told {
			e.op = nil
		}
	}
	return nil
}

// field is the column's field of the row, by which __unchanged names it.
func (c *targetColumn) field() string {
	if c.path[0] == "after" && len(c.path) > 1 {
		return c.path[1]
	}
	return c.path[0]
}
