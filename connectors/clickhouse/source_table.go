package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// readColumn is one column of the records.
type readColumn struct {
	name  string
	field []byte // "name": as JSON
	typ   *chType
	as    string // json or base64 of a String; "" as it is
}

// open connects and looks at the table.
func (s reading) open(ctx context.Context, task connectors.TaskContext) (*tableReader, error) {
	if wrong := s.check(); len(wrong) > 0 {
		return nil, connectors.Fatalf("%s: %s", wrong[0].Field, wrong[0].Message)
	}
	opts, err := optionsOf(task)
	if err != nil {
		return nil, err
	}
	r := &tableReader{reading: s, clock: task.Clock}
	if r.link, err = connect(ctx, opts); err != nil {
		return nil, err
	}
	f, err := r.link.tableOf(ctx, s.table)
	switch {
	case err != nil:
		err = classify(ctx, "look at table "+s.table.String(), err)
	case f == nil:
		err = connectors.Fatalf("table %s does not exist", s.table)
	default:
		err = r.prepare(f)
	}
	if err != nil {
		_ = r.Close(ctx)
		return nil, err
	}
	r.sequential = f.sequential && f.replicated()
	return r, nil
}

// prepare decides what is read, and in which order.
func (r *tableReader) prepare(f *found) error {
	r.sortingKey = f.sortingKey
	names := r.columns
	if len(names) == 0 {
		for _, c := range f.columns {
			if c.filled != "EPHEMERAL" {
				names = append(names, c.name)
			}
		}
	}
	for _, k := range r.key {
		c, err := r.column(f, k)
		if err != nil {
			return err
		}
		kind, ok := orderKind(c.typ)
		if !ok {
			return connectors.Fatalf("column %q of table %s is %s, and a key has numbers without fraction, dates, times, texts and UUIDs that are not Nullable", k, r.table, c.typ.shown)
		}
		r.order.add(quoteName(k), kind, c.typ)
		r.keys = append(r.keys, c)
	}
	for _, n := range names {
		c, err := r.column(f, n)
		if err != nil {
			return err
		}
		r.shown = append(r.shown, c)
	}
	return nil
}

func (r *tableReader) column(f *found, name string) (readColumn, error) {
	c := f.column(name)
	if c == nil {
		return readColumn{}, connectors.Fatalf("table %s has no column %q", r.table, name)
	}
	typ, err := parseType(c.shown, f.zone)
	if err == nil {
		err = typ.readable(true)
	}
	if err != nil {
		return readColumn{}, connectors.Fatalf("column %q of table %s is %s, which cannot be read into a record: leave it out in columns, or read a view that has it as a String", name, r.table, c.shown)
	}
	out := readColumn{name: name, typ: typ, as: c.as}
	for as, names := range map[string][]string{"json": r.json, "base64": r.base64} {
		if slices.Contains(names, name) {
			out.as = as
		}
	}
	if out.as != "" && typ.kind != kindString && (out.as != "base64" || typ.kind != kindFixed) {
		return readColumn{}, connectors.Fatalf("column %q of table %s is %s, but %s is of a String", name, r.table, c.shown, out.as)
	}
	if out.field, err = appendText(nil, name); err != nil {
		return readColumn{}, connectors.Fatalf("table %s has a column whose name is not UTF-8", r.table)
	}
	out.field = append(out.field, ':')
	return out, nil
}

// slow says why each query has to sort; "" when it does not.
func (r *tableReader) slow() string {
	sorted := strings.FieldsFunc(r.sortingKey, func(c rune) bool { return strings.ContainsRune("(), `", c) })
	if len(sorted) > 0 && sorted[0] == r.key[0] {
		return ""
	}
	return fmt.Sprintf("table %s is sorted by (%s), so each query for the next rows reads all of it", r.table, strings.Join(sorted, ", "))
}

// selected is what a query asks for: the key, then the columns.
func (r *tableReader) selected() string {
	all := slices.Clone(r.order.picks)
	for _, c := range r.shown {
		all = append(all, c.typ.selected(quoteName(c.name)))
	}
	return strings.Join(all, ", ")
}

// statement asks for the next rows, one more than are taken.
func (r *tableReader) statement(rows int) string {
	where := []string{}
	if r.after != nil {
		where = append(where, r.order.beyond(r.after))
	}
	where = append(where, r.order.upTo(r.horizon))
	return fmt.Sprintf("SELECT %s FROM %s%s WHERE %s ORDER BY %s LIMIT %d",
		r.selected(), r.table.quoted(), r.finally(), strings.Join(where, " AND "), strings.Join(r.order.exprs, ", "), rows+1)
}

// newest asks for the greatest key.
func (r *tableReader) newest() string {
	down := make([]string, len(r.order.exprs))
	for i, e := range r.order.exprs {
		down[i] = e + " DESC"
	}
	return fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s LIMIT 1", strings.Join(r.order.picks, ", "), r.table.quoted(), r.finally(), strings.Join(down, ", "))
}

func (r *tableReader) finally() string {
	if r.final {
		return " FINAL"
	}
	return ""
}
