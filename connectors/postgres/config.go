package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/connectors"
)

// maxName is the longest name in bytes that PostgreSQL keeps; it cuts longer ones.
const maxName = 63

// settings are the fields of the config in the form the writer needs.
type settings struct {
	table, offsets name
	upsert         bool
	merge          bool // an upsert that leaves fields that are not there as they are
	key            []string
	columns        []declared // none: to be found
	create         bool
	failOnExtra    bool
	deletes        bool
	evolve         bool
}

// declared is a column as the config has it; typ is "" when the table decides.
type declared struct {
	name, typ string
	path      []string
}

// name is a table's; schema may be empty.
type name struct{ schema, table string }

func nameOf(s string) name {
	if schema, table, two := strings.Cut(s, "."); two {
		return name{schema, table}
	}
	return name{table: s}
}

func settingsOf(cfg connectors.Config) settings {
	s := settings{
		table: nameOf(cfg.String("table")), offsets: nameOf(cfg.String("offsets_table")),
		upsert: cfg.String("mode") != "insert", merge: cfg.String("mode") == "merge", key: cfg.Strings("key"), create: cfg.Bool("create"),
		failOnExtra: cfg.String("extra") == "fail", deletes: cfg.Bool("delete_on_tombstone"), evolve: cfg.Bool("evolve"),
	}
	for _, c := range cfg.Objects("columns") {
		d := declared{name: c.String("name"), typ: canonicalType(c.String("type")), path: []string{c.String("name")}}
		if from := c.String("from"); from != "" {
			d.path = strings.Split(from, ".")
		}
		s.columns = append(s.columns, d)
	}
	return s
}

// check finds what the single fields cannot tell.
func (s settings) check() []connectors.Finding {
	var all []connectors.Finding
	add := func(field, message, hint string) {
		all = append(all, connectors.Finding{Field: field, Message: message, Hint: hint})
	}
	switch {
	case s.upsert && len(s.key) == 0:
		add("key", "modes upsert and merge need a key", "list the columns that identify a row, such as key: [id]")
	case !s.upsert && len(s.key) > 0:
		add("key", "a key has no meaning in mode insert", "set mode: upsert or merge, or leave key out")
	}
	if s.deletes && !s.upsert {
		add("delete_on_tombstone", "without a key there is no row to delete", "set mode: upsert or merge, and a key")
	}
	if s.evolve && len(s.columns) > 0 {
		add("evolve", "columns says which columns there are", "leave columns out, or evolve")
	}
	names := make([]string, len(s.columns))
	for i, c := range s.columns {
		if slices.Contains(names[:i], c.name) {
			add("columns", fmt.Sprintf("column %q is there twice", c.name), "")
		}
		if slices.Contains(c.path, "") {
			add("columns", fmt.Sprintf("column %q: from has an empty name between its dots", c.name), "write fields inside of fields as customer.id")
		}
		names[i] = c.name
	}
	for _, k := range s.key {
		if len(names) > 0 && !slices.Contains(names, k) {
			add("key", fmt.Sprintf("%q is not one of the columns", k), "add it to columns")
		}
	}
	return all
}

func checkName(v any) error {
	switch s := v.(string); {
	case s == "":
		return errors.New("the name is empty")
	case len(s) > maxName:
		return fmt.Errorf("%q is longer than the %d bytes that a PostgreSQL name can have", s, maxName)
	case strings.ContainsRune(s, 0) || !utf8.ValidString(s):
		return fmt.Errorf("%q cannot be a PostgreSQL name", s)
	}
	return nil
}

func checkTable(v any) error {
	n := nameOf(v.(string))
	if strings.Contains(n.table, ".") {
		return fmt.Errorf("%q has more than one dot, want table or schema.table", v)
	}
	if err := checkName(n.table); err != nil || !strings.Contains(v.(string), ".") {
		return err
	}
	return checkName(n.schema)
}

func checkKey(v any) error {
	all := v.([]string)
	for i, k := range all {
		if err := checkName(k); err != nil {
			return err
		}
		if slices.Contains(all[:i], k) {
			return fmt.Errorf("%q is there twice", k)
		}
	}
	return nil
}

func checkType(v any) error {
	if canonicalType(v.(string)) == "" {
		return fmt.Errorf("%q is not one of %s", v, typeChoice)
	}
	return nil
}
