package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// found is a column of a table as the catalog has it.
type found struct {
	name      string
	typ       sqlType
	notNull   bool
	filled    bool // it has a default or is an identity
	generated bool // it cannot be written
}

// schemaOf is the schema in which a table is, or would be made.
func (t *tx) schemaOf(n name) (schema string, exists bool, err error) {
	got, err := t.query(fmt.Sprintf(`SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)`,
		pq.QuoteLiteral(n.qualified())))
	if err != nil {
		return "", false, err
	}
	if len(got) == 1 {
		return got[0][0], true, nil
	}
	if n.schema != "" {
		return n.schema, false, nil
	}
	if got, err = t.query(`SELECT current_schema()::text`); err != nil {
		return "", false, err
	}
	if got[0][0] == "" {
		return "", false, connectors.Fatalf("no schema of the search path exists; write the table as schema.table")
	}
	return got[0][0], false, nil
}

// describe lists a table's columns in order.
func (t *tx) describe(n name) ([]found, error) {
	got, err := t.query(fmt.Sprintf(`SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)::text, format_type(a.atttypid, -1)::text, a.atttypmod::text,
		coalesce(c.collisdeterministic, true)::text, a.attnotnull::text, (a.atthasdef OR a.attidentity <> '')::text, (a.attgenerated <> '')::text
		FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
		WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, pq.QuoteLiteral(n.qualified())))
	if err != nil {
		return nil, err
	}
	all := make([]found, len(got))
	for i, row := range got {
		typmod, err := strconv.Atoi(row[3])
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", row[0], err)
		}
		all[i] = found{
			name: row[0], typ: typeOf(row[1], row[2], typmod, row[4] == "true"),
			notNull: row[5] == "true", filled: row[6] == "true", generated: row[7] == "true",
		}
	}
	return all, nil
}

// match decides which columns of the table are written, and from what.
func (s settings) match(n name, table []found) (*target, error) {
	t := &target{table: n.qualified(), failOnExtra: s.failOnExtra, tombstones: s.deletes, merge: s.merge, present: map[string]bool{}}
	for _, f := range table {
		t.present[f.name] = true
	}
	wanted := s.columns
	if len(wanted) == 0 {
		var err error
		if wanted, err = s.all(n, table); err != nil {
			return nil, err
		}
	}
	for _, w := range wanted {
		i := slices.IndexFunc(table, func(f found) bool { return f.name == w.name })
		if i < 0 {
			return nil, connectors.Fatalf("table %s has no column %q: add it to the table, or take it out of columns", n, w.name)
		}
		if w.typ != "" && w.typ != table[i].typ.shown {
			return nil, connectors.Fatalf("column %q of table %s is %s, but columns says %s: write the one for the other, or leave type out", w.name, n, table[i].typ.shown, w.typ)
		}
		t.columns = append(t.columns, column{name: w.name, path: w.path, typ: table[i].typ, key: slices.Contains(s.key, w.name)})
	}
	for i, c := range t.columns {
		if c.key {
			t.keys = append(t.keys, i)
		}
	}
	if len(t.keys) != len(s.key) {
		return nil, connectors.Fatalf("the key (%s) is not among the columns of table %s: %s", strings.Join(s.key, ", "), n, namesOf(t.columns))
	}
	return t, s.checkFilled(n, table, t.columns)
}

// all takes every column of the table. One that fills itself would get NULL
// from a record that does not have it; whether it should is not guessed.
func (s settings) all(n name, table []found) ([]declared, error) {
	var (
		wanted []declared
		filled []string
	)
	for _, f := range table {
		switch {
		case f.generated:
		case f.filled:
			filled = append(filled, f.name)
		default:
			wanted = append(wanted, declared{name: f.name, path: []string{f.name}})
		}
	}
	if len(filled) > 0 {
		return nil, connectors.Fatalf("table %s has columns with a default (%s): list the columns to write in columns", n, strings.Join(filled, ", "))
	}
	return wanted, nil
}

// checkFilled refuses a table none of whose rows could be written.
func (s settings) checkFilled(n name, table []found, columns []column) error {
	for _, f := range table {
		if f.notNull && !f.filled && !f.generated && !slices.ContainsFunc(columns, func(c column) bool { return c.name == f.name }) {
			return connectors.Fatalf("column %q of table %s may not be NULL and has no default: add it to columns", f.name, n)
		}
	}
	return nil
}

func namesOf(columns []column) string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = c.name
	}
	return strings.Join(all, ", ")
}

// infer finds columns in the fields of records.
func (s settings) infer(messages []connectors.Message) ([]declared, []connectors.RecordError, error) {
	in := format.NewInference(nil)
	var wrong []connectors.RecordError
	for i := range messages {
		m := &messages[i]
		if s.deletes && s.gone(m) {
			continue
		}
		if err := in.Add(m); err != nil {
			wrong = append(wrong, connectors.RecordError{Index: i, Offset: m.Offset, Err: connectors.Poison(err)})
		}
	}
	if len(wrong) > 0 {
		return nil, wrong, nil
	}
	var columns []declared
	for _, c := range in.Schema() {
		if s.upsert && (c.Name == fieldOp || c.Name == fieldUnchanged) {
			continue // they say what to do with a row, and are not of it
		}
		if err := checkName(c.Name); err != nil {
			return nil, nil, connectors.Fatalf("a field of the records cannot be a column: %w; declare columns", err)
		}
		columns = append(columns, declared{name: c.Name, typ: inferredTypes[c.Type.Kind], path: []string{c.Name}})
	}
	return columns, nil, nil
}

// gone reports whether a record only says that its row is.
func (s settings) gone(m *connectors.Message) bool {
	if m.Value == nil {
		return true
	}
	var op string
	_ = format.EachField(m.Value, func(field, raw []byte) bool { // what is no object is found later
		if string(field) == fieldOp {
			op = string(raw)
		}
		return true
	})
	return s.upsert && op == `"d"`
}

// createTable is the statement for a table that does not exist.
func (s settings) createTable(n name, columns []declared) (string, error) {
	var parts []string
	for _, c := range columns {
		if c.typ == "" {
			return "", connectors.Fatalf("table %s does not exist, and column %q has no type: add the type to create the table", n, c.name)
		}
		parts = append(parts, pq.QuoteIdentifier(c.name)+" "+c.typ)
	}
	for _, k := range s.key {
		if !slices.ContainsFunc(columns, func(c declared) bool { return c.name == k }) {
			return "", connectors.Fatalf("table %s does not exist, and the key %q is not among the columns to create it with", n, k)
		}
	}
	if len(s.key) > 0 {
		quoted := make([]string, len(s.key))
		for i, k := range s.key {
			quoted[i] = pq.QuoteIdentifier(k)
		}
		parts = append(parts, "PRIMARY KEY ("+strings.Join(quoted, ", ")+")")
	}
	return fmt.Sprintf("CREATE TABLE %s (%s)", n.qualified(), strings.Join(parts, ", ")), nil
}
