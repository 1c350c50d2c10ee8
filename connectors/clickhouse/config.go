package clickhouse

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/connectors"
)

// How the destination keeps a plan from being written twice.
const (
	onceAuto    = "auto"
	onceOffsets = "offsets"
	onceToken   = "token"
	onceVersion = "version"
	onceNever   = "none"
)

// The columns that say where a row was read. A table that has them is asked
// before a plan is written again.
const (
	topicColumn     = "_topic"
	partitionColumn = "_partition"
	offsetColumn    = "_offset"
)

// Losses that allow_lossy can name.
const (
	numericToDouble = "numeric_to_double"
	timeToPrecision = "time_to_precision"
	nullToEmpty     = "null_to_empty"
)

// losses are those that are allowed.
type losses struct{ round, cut, empty bool }

func lossesOf(names []string) losses {
	return losses{
		round: slices.Contains(names, numericToDouble), cut: slices.Contains(names, timeToPrecision), empty: slices.Contains(names, nullToEmpty),
	}
}

func checkLossy(v any) error {
	choice := []string{numericToDouble, timeToPrecision, nullToEmpty}
	for _, name := range v.([]string) {
		if !slices.Contains(choice, name) {
			return fmt.Errorf("%q is not one of %s", name, strings.Join(choice, ", "))
		}
	}
	return nil
}

// settings are the fields of the config in the form the writer needs.
type settings struct {
	table                        name
	columns                      []declared // none: to be found
	create                       bool
	engine, partitionBy, deleted string
	orderBy                      []string
	once                         string
	failOnExtra                  bool
	lossy                        losses
	more                         map[string]string // settings of the server for each INSERT
}

// declared is a column as the config has it; typ is "" when the table decides.
type declared struct {
	name, typ, as string
	path          []string
}

// name is a table's; database may be empty.
type name struct{ database, table string }

func nameOf(s string) name {
	if database, table, two := strings.Cut(s, "."); two {
		return name{database, table}
	}
	return name{table: s}
}

func (n name) quoted() string {
	if n.database == "" {
		return quoteName(n.table)
	}
	return quoteName(n.database) + "." + quoteName(n.table)
}

func (n name) String() string {
	if n.database == "" {
		return n.table
	}
	return n.database + "." + n.table
}

func quoteName(s string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(s) + "`"
}

func quoteText(s string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(s) + "'"
}

func settingsOf(cfg connectors.Config) settings {
	s := settings{
		table: nameOf(cfg.String("table")), create: cfg.Bool("create"), engine: cfg.String("engine"), partitionBy: cfg.String("partition_by"),
		deleted: cfg.String("deleted"), orderBy: cfg.Strings("order_by"), once: cfg.String("exactly_once"),
		failOnExtra: cfg.String("extra") == "fail", lossy: lossesOf(cfg.Strings("allow_lossy")), more: cfg.StringMap("settings"),
	}
	for _, c := range cfg.Objects("columns") {
		d := declared{name: c.String("name"), typ: c.String("type"), as: c.String("as"), path: []string{c.String("name")}}
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
	names := make([]string, len(s.columns))
	for i, c := range s.columns {
		if slices.Contains(names[:i], c.name) {
			add("columns", fmt.Sprintf("column %q is there twice", c.name), "")
		}
		if slices.Contains(c.path, "") {
			add("columns", fmt.Sprintf("column %q: from has an empty name between its dots", c.name), "write fields inside of fields as customer.id")
		}
		if slices.Contains([]string{topicColumn, partitionColumn, offsetColumn, s.deleted}, c.name) {
			add("columns", fmt.Sprintf("column %q is filled by the sink itself", c.name), "take it out of columns")
		}
		names[i] = c.name
	}
	for _, k := range s.orderBy {
		if !s.create {
			add("order_by", "a table that exists has its own order", "set create: true, or leave order_by out")
			break
		}
		if len(names) > 0 && !slices.Contains(names, k) {
			add("order_by", fmt.Sprintf("%q is not one of the columns", k), "add it to columns")
		}
	}
	for key := range s.more {
		if slices.Contains([]string{"insert_deduplication_token", "insert_deduplicate", "async_insert"}, key) {
			add("settings", fmt.Sprintf("%s is set by the sink itself", key), "take it out")
		}
	}
	return all
}

func checkName(v any) error {
	switch s := v.(string); {
	case s == "":
		return errors.New("the name is empty")
	case strings.ContainsRune(s, 0) || !utf8.ValidString(s):
		return fmt.Errorf("%q cannot be a ClickHouse name", s)
	}
	return nil
}

func checkTable(v any) error {
	n := nameOf(v.(string))
	if strings.Contains(n.table, ".") {
		return fmt.Errorf("%q has more than one dot, want table or database.table", v)
	}
	if err := checkName(n.table); err != nil || !strings.Contains(v.(string), ".") {
		return err
	}
	return checkName(n.database)
}

func checkNames(v any) error {
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
