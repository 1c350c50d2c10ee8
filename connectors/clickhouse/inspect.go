package clickhouse

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// found is a table as the server describes it.
type found struct {
	engine, full string // its name; with parameters and settings
	sortingKey   string
	zone         *time.Location
	columns      []foundColumn
	tokens       bool // the server knows deduplication tokens
	enables      bool // it has deduplicate_insert, which counts more than insert_deduplicate
	sequential   bool // it has select_sequential_consistency
	window       int  // of tokens; 0 remembers none
	seconds      int  // how long a replicated table remembers them
}

type foundColumn struct {
	name, shown string
	filled      string // DEFAULT, MATERIALIZED, ALIAS or EPHEMERAL; "" for none
	as          string // what the sink noted when it created the column
}

// asComment begins the comment of a column that does not hold its field as it
// is: without columns in the config, it tells the next writer.
const asComment = "entrepot: as "

// describe asks the server all that a sink needs; nil when the table does not
// exist.
func (l *link) describe(ctx context.Context, n name) (*found, error) {
	f, err := l.tableOf(ctx, n)
	if err != nil || f == nil || !f.tokens {
		return f, err
	}
	return f, l.findWindow(ctx, f)
}

// tableOf asks the server for a table and what the server knows; nil when the
// table does not exist.
func (l *link) tableOf(ctx context.Context, n name) (*found, error) {
	at := "database = " + quoteText(n.database)
	if n.database == "" {
		at = "database = currentDatabase()"
	}
	where := at + " AND name = " + quoteText(n.table)
	tables, err := l.texts(ctx, "SELECT engine, engine_full, sorting_key, timezone() FROM system.tables WHERE "+where)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	f := &found{engine: tables[0][0], full: tables[0][1], sortingKey: tables[0][2]}
	if f.zone, err = time.LoadLocation(tables[0][3]); err != nil {
		return nil, connectors.Fatal(fmt.Errorf("the server's time zone is not known here: %w", err))
	}
	columns, err := l.texts(ctx, "SELECT name, type, default_kind, comment FROM system.columns WHERE "+at+" AND table = "+quoteText(n.table))
	if err != nil {
		return nil, err
	}
	for _, c := range columns {
		column := foundColumn{name: c[0], shown: c[1], filled: c[2]}
		if as, ok := strings.CutPrefix(c[3], asComment); ok {
			column.as = as
		}
		f.columns = append(f.columns, column)
	}
	known, err := l.texts(ctx, "SELECT name FROM system.settings WHERE name IN ('insert_deduplication_token', 'deduplicate_insert', 'select_sequential_consistency')")
	for _, k := range known {
		f.tokens = f.tokens || k[0] == "insert_deduplication_token"
		f.enables = f.enables || k[0] == "deduplicate_insert"
		f.sequential = f.sequential || k[0] == "select_sequential_consistency"
	}
	return f, err
}

// hasTokens reports whether the server is of 22.2 or later.
func (l *link) hasTokens(ctx context.Context) (bool, error) {
	known, err := l.texts(ctx, "SELECT name FROM system.settings WHERE name = 'insert_deduplication_token'")
	return len(known) > 0, err
}

func (f *found) replicated() bool {
	return strings.HasPrefix(f.engine, "Replicated") || strings.HasPrefix(f.engine, "Shared")
}

// mergeTree reports whether the table is of the family that has parts.
func (f *found) mergeTree() bool { return strings.HasSuffix(f.engine, "MergeTree") }

// findWindow looks into the table's own settings, and then into the server's.
func (l *link) findWindow(ctx context.Context, f *found) (err error) {
	switch {
	case !f.mergeTree():
		return nil
	case f.replicated():
		if f.seconds, err = l.tableSetting(ctx, f, "replicated_deduplication_window_seconds"); err != nil {
			return err
		}
		f.window, err = l.tableSetting(ctx, f, "replicated_deduplication_window")
	default:
		f.window, err = l.tableSetting(ctx, f, "non_replicated_deduplication_window")
	}
	return err
}

func (l *link) tableSetting(ctx context.Context, f *found, setting string) (int, error) {
	if m := regexp.MustCompile(`\b` + setting + `\s*=\s*'?([0-9]+)`).FindStringSubmatch(f.full); m != nil {
		return strconv.Atoi(m[1])
	}
	table := "system.merge_tree_settings"
	if f.replicated() {
		table = "system.replicated_merge_tree_settings"
	}
	rows, err := l.texts(ctx, "SELECT value FROM "+table+" WHERE name = "+quoteText(setting))
	if err != nil || len(rows) != 1 {
		return 0, err
	}
	return strconv.Atoi(rows[0][0])
}

// meta says that a column is filled by the sink itself.
type meta uint8

const (
	metaNone meta = iota
	metaTopic
	metaPartition
	metaOffset
	metaDeleted
)

// targetColumn is one column that the sink writes.
type targetColumn struct {
	name, as string
	path     []string
	typ      *chType
	meta     meta
	key      bool // of the table's sorting key
}

// target is a table as it was found, with all that is needed to write to it.
type target struct {
	name        name
	columns     []targetColumn
	failOnExtra bool
	deleted     string
	lossy       losses
	asks        bool // the table is asked before a plan is repeated
	token       bool // an INSERT has a token
}

// insert is the statement; the driver sends the values after it.
func (t *target) insert() string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = quoteName(c.name)
	}
	return fmt.Sprintf("INSERT INTO %s (%s)", t.name.quoted(), strings.Join(names, ", "))
}

// match decides which columns of the table are written, and from what, and how
// a plan is kept from being written twice.
func (s settings) match(f *found) (*target, error) {
	t := &target{name: s.table, failOnExtra: s.failOnExtra, deleted: s.deleted, lossy: s.lossy}
	wanted := s.columns
	if len(wanted) == 0 {
		var err error
		if wanted, err = s.all(f); err != nil {
			return nil, err
		}
	}
	for _, w := range wanted {
		if err := t.take(f, w, metaNone); err != nil {
			return nil, err
		}
	}
	for i, own := range []string{topicColumn, partitionColumn, offsetColumn, s.deleted} {
		m := metaTopic + meta(i)
		if own != "" && (m == metaDeleted || f.column(own) != nil) {
			if err := t.take(f, declared{name: own, path: []string{""}}, m); err != nil {
				return nil, err
			}
		}
	}
	return t, s.chooseOnce(f, t)
}

func (f *found) column(name string) *foundColumn {
	i := slices.IndexFunc(f.columns, func(c foundColumn) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &f.columns[i]
}

func (t *target) take(f *found, w declared, m meta) error {
	c := f.column(w.name)
	switch {
	case c == nil:
		return connectors.Fatalf("table %s has no column %q: add it to the table, or take it out of the config", t.name, w.name)
	case c.filled != "" && c.filled != "DEFAULT" && c.filled != "EPHEMERAL":
		return connectors.Fatalf("column %q of table %s is %s and cannot be written: take it out of columns", w.name, t.name, c.filled)
	case w.typ != "" && squeezed(w.typ) != squeezed(c.shown):
		return connectors.Fatalf("column %q of table %s is %s, but columns says %s: write the one for the other, or leave type out", w.name, t.name, c.shown, w.typ)
	}
	typ, err := parseType(c.shown, f.zone)
	if err != nil {
		return connectors.Fatal(fmt.Errorf("column %q of table %s is %s, %w", w.name, t.name, c.shown, err))
	}
	typ.allow(t.lossy)
	if w.as != "" && typ.kind != kindString && (w.as != "base64" || typ.kind != kindFixed) {
		return connectors.Fatalf("column %q of table %s is %s, but as: %s is of a String", w.name, t.name, c.shown, w.as)
	}
	if m == metaDeleted {
		if _, err := typ.value([]byte("true")); err != nil {
			return connectors.Fatalf("column %q of table %s is %s, and deleted wants UInt8 or Bool", w.name, t.name, c.shown)
		}
	}
	key := slices.Contains(strings.FieldsFunc(f.sortingKey, func(r rune) bool { return strings.ContainsRune("(), `", r) }), w.name)
	t.columns = append(t.columns, targetColumn{name: w.name, as: w.as, path: w.path, typ: typ, meta: m, key: key})
	return nil
}

func squeezed(typ string) string { return strings.ReplaceAll(typ, " ", "") }

// all takes every column of the table. One that fills itself would get NULL
// from a record that does not have it; whether it should is not guessed.
func (s settings) all(f *found) ([]declared, error) {
	var (
		wanted []declared
		filled []string
	)
	for _, c := range f.columns {
		switch {
		case slices.Contains([]string{topicColumn, partitionColumn, offsetColumn, s.deleted}, c.name):
		case c.filled == "DEFAULT":
			filled = append(filled, c.name)
		case c.filled == "":
			wanted = append(wanted, declared{name: c.name, path: []string{c.name}, as: c.as})
		}
	}
	if len(filled) > 0 {
		return nil, connectors.Fatalf("table %s has columns with a default (%s): list the columns to write in columns", s.table, strings.Join(filled, ", "))
	}
	return wanted, nil
}
