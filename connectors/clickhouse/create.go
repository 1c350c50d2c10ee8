package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// createFrom creates the table with the columns that records describe, or that
// are found in them; if there are only tombstones it waits for others.
func (w *writer) createFrom(ctx context.Context, messages []connectors.Message) ([]connectors.RecordError, error) {
	modern, err := w.link.hasTokens(ctx)
	if err != nil {
		return nil, classify(ctx, "ask for the server's settings", err)
	}
	columns, wrong, err := w.settings.columnsFrom(messages, modern)
	if len(wrong) > 0 || err != nil {
		return wrong, err
	}
	if len(columns) == 0 {
		return nothingOf(messages), nil
	}
	w.settings.columns = columns // what was found stays found
	return nil, classify(ctx, "create table "+w.settings.table.String(), w.prepare(ctx, columns))
}

// columnsFrom finds the columns of a table to create, and its key where none
// is given; none in tombstones alone that do not describe their table.
func (s *settings) columnsFrom(messages []connectors.Message, modern bool) ([]declared, []connectors.RecordError, error) {
	columns, keys, err := fromHeader(messages, modern)
	var wrong []connectors.RecordError
	if columns == nil && err == nil {
		columns, wrong = s.infer(messages, modern)
	}
	if len(wrong) > 0 || err != nil {
		return nil, wrong, err
	}
	if len(s.orderBy) == 0 && replaces(s.engine) {
		s.orderBy = keys // what replaces each other is what has the same key
	}
	for i, c := range columns {
		if !slices.Contains(s.orderBy, c.name) {
			columns[i].typ = "Nullable(" + c.typ + ")"
		}
	}
	return columns, nil, nil
}

// replaces reports whether an engine keeps one row of each sorting key.
func replaces(engine string) bool { return strings.Contains(engine, "ReplacingMergeTree") }

// infer finds columns in the values of records.
func (s settings) infer(messages []connectors.Message, modern bool) ([]declared, []connectors.RecordError) {
	in := format.NewInference(nil)
	var wrong []connectors.RecordError
	for i := range messages {
		m := &messages[i]
		if m.Value == nil && s.deleted != "" {
			continue
		}
		if err := in.Add(m); err != nil {
			wrong = append(wrong, connectors.RecordError{Index: i, Offset: m.Offset, Err: connectors.Poison(err)})
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	var columns []declared
	for _, c := range in.Schema() {
		if strings.HasPrefix(c.Name, "__") { // of the source, not of the row
			continue
		}
		d := declared{name: c.Name, path: []string{c.Name}, typ: inferred(c.Type.Kind, modern)}
		if c.Type.Kind == format.TypeJSON {
			d.as = "json"
		}
		columns = append(columns, d)
	}
	return columns, nil
}

// nothingOf refuses the records that no column could be made of: a table that
// is not there cannot keep them. Tombstones have nothing to delete in it.
func nothingOf(messages []connectors.Message) []connectors.RecordError {
	var wrong []connectors.RecordError
	for i, m := range messages {
		if m.Value != nil {
			err := connectors.Poison(errors.New("the table does not exist yet, and the record has no value to make a column of"))
			wrong = append(wrong, connectors.RecordError{Index: i, Offset: m.Offset, Err: err})
		}
	}
	return wrong
}

// inferred is the column for what was found in records.
func inferred(k format.TypeKind, modern bool) string {
	switch k {
	case format.TypeInt64:
		return "Int64"
	case format.TypeDouble:
		return "Float64"
	case format.TypeBool:
		if modern {
			return "Bool"
		}
		return "UInt8"
	case format.TypeTimestamp:
		if modern {
			return "DateTime64(6, 'UTC')"
		}
	}
	return "String"
}

// create makes the table, unless somebody else does.
func (w *writer) create(ctx context.Context, columns []declared) error {
	modern, err := w.link.hasTokens(ctx)
	if err != nil {
		return err
	}
	statement, err := w.settings.createTable(columns, modern)
	if err != nil {
		return err
	}
	if err := w.link.Exec(ctx, statement); err != nil {
		return fmt.Errorf("create table %s: %w", w.settings.table, err)
	}
	return nil
}

// createTable is the statement for a table that does not exist.
func (s settings) createTable(columns []declared, modern bool) (string, error) {
	var parts []string
	for _, c := range columns {
		if c.typ == "" {
			return "", connectors.Fatalf("table %s does not exist, and column %q has no type: add the type to create the table", s.table, c.name)
		}
		part := quoteName(c.name) + " " + c.typ
		if c.as != "" {
			part += " COMMENT " + quoteText(asComment+c.as)
		}
		parts = append(parts, part)
	}
	for _, k := range s.orderBy {
		if !slices.ContainsFunc(columns, func(c declared) bool { return c.name == k }) {
			return "", connectors.Fatalf("table %s does not exist, and %q of order_by is not among the columns to create it with", s.table, k)
		}
	}
	if len(s.orderBy) == 0 && replaces(s.engine) {
		return "", connectors.Fatalf("table %s does not exist, and order_by has to name the key by which rows of a %s replace each other", s.table, s.engine)
	}
	if s.deleted != "" {
		parts = append(parts, quoteName(s.deleted)+" UInt8")
	}
	topic, window, index := "String", "", []string{}
	if modern {
		topic, index = "LowCardinality(String)", []string{"INDEX entrepot_offsets " + offsetColumn + " TYPE minmax"}
		if strings.HasPrefix(s.engine, "Replicated") {
			window = "replicated_deduplication_window = 10000"
		} else if strings.Contains(s.engine, "MergeTree") {
			window = "non_replicated_deduplication_window = 10000"
		}
	}
	parts = append(parts, topicColumn+" "+topic, partitionColumn+" Int32", offsetColumn+" Int64")
	order := topicColumn + ", " + partitionColumn + ", " + offsetColumn
	if len(s.orderBy) > 0 {
		quoted := make([]string, len(s.orderBy))
		for i, k := range s.orderBy {
			quoted[i] = quoteName(k)
		}
		order = strings.Join(quoted, ", ")
	}
	statement := fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (%s) ENGINE = %s", s.table.quoted(), strings.Join(append(parts, index...), ", "), s.engine)
	if s.partitionBy != "" {
		statement += " PARTITION BY " + s.partitionBy
	}
	statement += " ORDER BY (" + order + ")"
	if window != "" {
		statement += " SETTINGS " + window
	}
	return statement, nil
}
