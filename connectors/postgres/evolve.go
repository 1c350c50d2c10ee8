package postgres

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// told is what the header pg-schema of a record says: the types of the columns
// of the table that the record comes from, as PostgreSQL prints them. Whoever
// writes to the topic can write a header, so nothing of it becomes SQL as it is.
type told map[string]string

// builtinForm is a type of PostgreSQL itself: name, bounds, zone, dimensions.
var builtinForm = regexp.MustCompile(`^([a-z][a-z0-9 ]*?)(\([0-9]+(?:,-?[0-9]+)?\))?( with(?:out)? time zone)?((?:\[\])*)$`)

// builtins can be in a statement as they are.
var builtins = map[string]bool{
	"smallint": true, "integer": true, "bigint": true, "numeric": true, "real": true, "double precision": true, "boolean": true,
	"text": true, "character varying": true, "character": true, "json": true, "jsonb": true, "uuid": true, "bytea": true, "date": true,
	"timestamp with time zone": true, "timestamp without time zone": true, "time with time zone": true, "time without time zone": true,
	"interval": true, "inet": true, "cidr": true, "macaddr": true, "macaddr8": true, "bit": true, "bit varying": true, "money": true, "xml": true,
	"oid": true, "tsvector": true, "int4range": true, "int8range": true, "numrange": true, "tsrange": true, "tstzrange": true, "daterange": true,
}

func isBuiltin(typ string) bool {
	m := builtinForm.FindStringSubmatch(typ)
	return m != nil && builtins[m[1]+m[3]]
}

// named is the form of a type that somebody has made: an enum, a domain.
var named = regexp.MustCompile(`^(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)(?:\.(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*))?(?:\[\])*$`)

// typeHere is the type that a column gets here. An enum or a domain that this
// database has too is that; of one that it has not, the value decides. "" when
// there is nothing to decide by.
func (t *tx) typeHere(typ string, raw []byte) (string, error) {
	if isBuiltin(typ) {
		return typ, nil
	}
	if named.MatchString(typ) {
		got, err := t.query(fmt.Sprintf("SELECT coalesce(to_regtype(%s)::text, '')", pq.QuoteLiteral(typ)))
		if err != nil || got[0][0] != "" {
			return got[0][0], err
		}
	}
	if len(raw) == 0 {
		return "", nil
	}
	switch raw[0] {
	case '"':
		return "text", nil
	case 't', 'f':
		return "boolean", nil
	case '{', '[':
		return "jsonb", nil
	}
	return "numeric", nil
}

// retype gives columns that were found in records the types of their headers.
func (t *tx) retype(columns []declared, messages []connectors.Message) ([]declared, error) {
	columns = slices.Clone(columns)
	done := map[string]bool{}
	var header []byte
	for i := range messages {
		now := format.SchemaOf(&messages[i])
		if bytes.Equal(now, header) {
			continue // it says nothing new
		}
		header = now
		says := format.SchemaColumns(now)
		for k := range columns {
			c := &columns[k]
			typ, there := says[c.name]
			if !there || done[c.name] {
				continue
			}
			done[c.name] = true
			here, err := t.typeHere(typ, nil)
			if err != nil {
				return nil, err
			}
			if here != "" {
				c.typ = here
			}
		}
	}
	return columns, nil
}

// changes are what a table lacks for some records.
type changes struct {
	add   map[string]newColumn
	widen map[string]string // to this type
}

type newColumn struct {
	typ string // as the header has it
	raw []byte // a value
}

// lacks compares a table with what records say. A column is added when a record
// has a value for it: what a transform has taken out is not.
func (t *target) lacks(messages []connectors.Message) (c changes) {
	c = changes{map[string]newColumn{}, map[string]string{}}
	var (
		header  []byte
		missing told
	)
	for i := range messages {
		m := &messages[i]
		if m.Value == nil {
			continue
		}
		if now := format.SchemaOf(m); !bytes.Equal(now, header) {
			header, missing = now, told{}
			t.compare(format.SchemaColumns(now), missing, c.widen)
		}
		if len(missing) == 0 {
			continue
		}
		_ = format.EachField(m.Value, func(field, raw []byte) bool {
			typ, is := missing[string(field)]
			if _, there := c.add[string(field)]; is && !there && (raw[0] != 'n' || isBuiltin(typ)) {
				c.add[string(field)] = newColumn{typ, slices.Clone(raw)}
			}
			return true
		})
	}
	return c
}

// compare sorts a header's columns: those that the table has not, and those
// whose type here is a narrower one.
func (t *target) compare(says, missing told, widen map[string]string) {
	for name, typ := range says {
		if !t.present[name] {
			missing[name] = typ
			continue
		}
		for _, c := range t.columns {
			if c.name == name && widens(c.typ.shown, typ) {
				widen[name] = typ
			}
		}
	}
}

// evolve changes the table so that records fit. It is a transaction of its own,
// and done before the plan's: to do it again changes nothing.
func (w *writer) evolve(ctx context.Context, messages []connectors.Message) error {
	c := w.target.lacks(messages)
	if len(c.add) == 0 && len(c.widen) == 0 {
		return nil
	}
	return w.inside(ctx, "change the table", func(t *tx) error {
		n, exists, err := w.locate(t)
		if err != nil {
			return err
		}
		if !exists {
			return missing(n)
		}
		if err := t.alone(n); err != nil {
			return err
		}
		if err := t.alter(n, c); err != nil {
			return fmt.Errorf("table %s: %w", n, err)
		}
		w.target, err = w.plan(t, n)
		return err
	})
}

// alter does what nobody else has done meanwhile.
func (t *tx) alter(n name, c changes) error {
	table, err := t.describe(n)
	if err != nil {
		return err
	}
	wider, added, err := t.needed(table, c)
	if err != nil || len(wider)+len(added) == 0 {
		return err
	}
	_, err = t.exec("SET LOCAL lock_timeout = '30s'; " + alterTable(n, wider, added))
	return err
}

// needed are the changes that a table has not had yet, with the types here.
func (t *tx) needed(table []found, c changes) (wider, added []declared, err error) {
	for _, f := range table {
		delete(c.add, f.name)
		if to, ok := c.widen[f.name]; ok && widens(f.typ.shown, to) {
			wider = append(wider, declared{name: f.name, typ: to})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.add)) {
		if err := checkName(name); err != nil {
			return nil, nil, connectors.Fatalf("a field of the records cannot be a column: %w; declare columns", err)
		}
		typ, err := t.typeHere(c.add[name].typ, c.add[name].raw)
		if err != nil {
			return nil, nil, err
		}
		if typ != "" {
			added = append(added, declared{name: name, typ: typ, path: []string{name}})
		}
	}
	return wider, added, nil
}

// alterTable is the statement that changes a table.
func alterTable(n name, wider, added []declared) string {
	var parts []string
	for _, d := range wider {
		parts = append(parts, fmt.Sprintf("ALTER COLUMN %s TYPE %s", pq.QuoteIdentifier(d.name), d.typ))
	}
	for _, d := range added {
		parts = append(parts, fmt.Sprintf("ADD COLUMN %s %s", pq.QuoteIdentifier(d.name), d.typ))
	}
	return "ALTER TABLE " + n.qualified() + " " + strings.Join(parts, ", ")
}

// whole numbers by their decimal digits.
var wholeDigits = map[string]int{"smallint": 5, "integer": 10, "bigint": 19}

// widens reports whether every value of the type now is one of the type to, and
// to has more.
func widens(now, to string) bool {
	if now == to || !isBuiltin(now) || !isBuiltin(to) {
		return false
	}
	a, b := builtinForm.FindStringSubmatch(now), builtinForm.FindStringSubmatch(to)
	if a[4] != b[4] {
		return false
	}
	digits, bounds := boundsOf(a[2]), boundsOf(b[2])
	switch from, into := a[1]+a[3], b[1]+b[3]; {
	case wholeDigits[from] > 0 && wholeDigits[into] > 0:
		return wholeDigits[from] < wholeDigits[into]
	case wholeDigits[from] > 0 && into == "numeric":
		return bounds == nil || bounds[0]-bounds[1] >= wholeDigits[from] && bounds[1] >= 0
	case from == "real" && into == "double precision":
		return true
	case from == "numeric" && into == "numeric":
		return digits != nil && (bounds == nil || bounds[1] >= digits[1] && bounds[0]-bounds[1] >= digits[0]-digits[1])
	case from == "character varying" && into == "text":
		return true
	case from == "character varying" && into == "character varying":
		return digits != nil && (bounds == nil || bounds[0] > digits[0])
	}
	return false
}

// boundsOf reads (12,2) or (12); nil for none.
func boundsOf(s string) []int {
	if s == "" {
		return nil
	}
	first, second, _ := strings.Cut(s[1:len(s)-1], ",")
	p, _ := strconv.Atoi(first) // the form was matched
	scale, _ := strconv.Atoi(second)
	return []int{p, scale}
}
