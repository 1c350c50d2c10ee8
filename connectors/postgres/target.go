package postgres

import (
	"fmt"
	"strings"

	"github.com/lib/pq"
)

// column is one column that the sink writes.
type column struct {
	name string
	path []string // of the value in the record
	typ  sqlType
	key  bool
}

// target is a table as it was found, with all that is needed to write to it.
type target struct {
	table       string // quoted, with its schema
	columns     []column
	keys        []int // in columns; none in mode insert
	failOnExtra bool
	tombstones  bool // delete rows
	merge       bool // fields that a record does not have stay as they are

	present map[string]bool // names of all columns of the table
}

// distinct reports whether equal keys may have come through the encoder as
// different ones, so that the server has to find the last of each.
func (t *target) distinct() bool {
	for _, k := range t.keys {
		if !t.columns[k].typ.exact {
			return true
		}
	}
	return false
}

// stage is the temporary table that a batch is copied to. All its columns are
// text, so that its name tells its form; what a value means is decided when
// the rows go to the real table, where a bad one can be found and left out.
func (t *target) stage() string { return fmt.Sprintf("entrepot_stage_%d", len(t.columns)) }

func (t *target) createStage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TEMPORARY TABLE IF NOT EXISTS %s (n integer NOT NULL, gone boolean NOT NULL, kept text NOT NULL", t.stage())
	for i := range t.columns {
		fmt.Fprintf(&b, ", c%d text", i)
	}
	b.WriteString(") ON COMMIT DELETE ROWS")
	return b.String()
}

func (t *target) copyStage() string { return fmt.Sprintf("COPY pg_temp.%s FROM STDIN", t.stage()) }

// staged selects the rows with lo <= n < hi, of each key the last one.
func (t *target) staged(lo, hi int) string {
	where := fmt.Sprintf("FROM pg_temp.%s WHERE n >= %d AND n < %d", t.stage(), lo, hi)
	if !t.distinct() {
		return "SELECT * " + where
	}
	keys := t.keyCasts("")
	return fmt.Sprintf("SELECT DISTINCT ON (%s) * %s ORDER BY %s, n DESC", keys, where, keys)
}

// nothing selects no rows of the form of the stage, for a look at the plan.
func (t *target) nothing() string {
	cells := make([]string, len(t.columns))
	for i := range cells {
		cells[i] = fmt.Sprintf("NULL::text AS c%d", i)
	}
	return "SELECT 0 AS n, false AS gone, '' AS kept, " + strings.Join(cells, ", ") + " WHERE false"
}

func (t *target) cast(i int, of string) string {
	return fmt.Sprintf("%sc%d::%s", of, i, t.columns[i].typ.cast)
}

func (t *target) keyCasts(of string) string {
	all := make([]string, len(t.keys))
	for i, k := range t.keys {
		all[i] = t.cast(k, of)
	}
	return strings.Join(all, ", ")
}

// insert writes the rows of a query over the stage, of those that leave these
// columns as they are ("" for none). They go in the order of their keys, so
// that two writers never wait for each other in a circle.
func (t *target) insert(query, kept string) string {
	var names, casts []string
	for i, c := range t.columns {
		if !keeps(kept, i) {
			names, casts = append(names, pq.QuoteIdentifier(c.name)), append(casts, t.cast(i, "s."))
		}
	}
	order := "s.n"
	if len(t.keys) > 0 {
		order = t.keyCasts("s.")
	}
	return fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM (%s) AS s WHERE NOT s.gone AND s.kept = '%s' ORDER BY %s%s",
		t.table, strings.Join(names, ", "), strings.Join(casts, ", "), query, kept, order, t.onConflict(kept))
}

// keeps reports whether a column is one that stays as it is.
func keeps(kept string, column int) bool { return kept != "" && kept[column] == '1' }

func (t *target) onConflict(kept string) string {
	if len(t.keys) == 0 {
		return ""
	}
	var keys, sets []string
	for i, c := range t.columns {
		quoted := pq.QuoteIdentifier(c.name)
		switch {
		case c.key:
			keys = append(keys, quoted)
		case !keeps(kept, i):
			sets = append(sets, quoted+" = EXCLUDED."+quoted)
		}
	}
	action := "DO NOTHING"
	if len(sets) > 0 {
		action = "DO UPDATE SET " + strings.Join(sets, ", ")
	}
	return fmt.Sprintf(" ON CONFLICT (%s) %s", strings.Join(keys, ", "), action)
}

// update changes rows that have to be there: the columns that stay as they
// are cannot be made up.
func (t *target) update(query, kept string) string {
	var same, sets []string
	for i, c := range t.columns {
		quoted := pq.QuoteIdentifier(c.name)
		switch {
		case c.key:
			same = append(same, fmt.Sprintf("t.%s = %s", quoted, t.cast(i, "s.")))
			sets = append(sets, fmt.Sprintf("%s = t.%s", quoted, quoted)) // there may be no other
		case !keeps(kept, i):
			sets = append(sets, fmt.Sprintf("%s = %s", quoted, t.cast(i, "s.")))
		}
	}
	return fmt.Sprintf("UPDATE %s AS t SET %s FROM (%s) AS s WHERE NOT s.gone AND s.kept = '%s' AND %s",
		t.table, strings.Join(sets, ", "), query, kept, strings.Join(same, " AND "))
}

// remove deletes the rows whose tombstones are in a query over the stage.
func (t *target) remove(query string) string {
	same := make([]string, len(t.keys))
	for i, k := range t.keys {
		same[i] = fmt.Sprintf("t.%s = %s", pq.QuoteIdentifier(t.columns[k].name), t.cast(k, "s."))
	}
	return fmt.Sprintf("DELETE FROM %s AS t USING (%s) AS s WHERE s.gone AND %s", t.table, query, strings.Join(same, " AND "))
}

// qualified is a table's quoted name with its schema.
func (n name) qualified() string {
	if n.schema == "" {
		return pq.QuoteIdentifier(n.table)
	}
	return pq.QuoteIdentifier(n.schema) + "." + pq.QuoteIdentifier(n.table)
}

func (n name) String() string {
	if n.schema == "" {
		return n.table
	}
	return n.schema + "." + n.table
}
