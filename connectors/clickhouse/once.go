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

// chooseOnce decides how a plan is kept from being written twice, or refuses.
func (s settings) chooseOnce(f *found, t *target) error {
	t.token = f.tokens && f.window > 0
	asks := s.cannotAsk(f) == ""
	switch s.once {
	case onceNever:
		return nil
	case onceToken:
		if !t.token {
			return connectors.Fatalf("exactly_once: token: %s", s.noWindow(f))
		}
		return nil
	case onceVersion:
		if why := noVersion(f, t); why != "" {
			return connectors.Fatalf("exactly_once: version: %s", why)
		}
		return nil
	}
	if t.asks = asks; asks {
		return nil
	}
	ways := s.cannotAsk(f)
	if s.once == onceOffsets {
		return connectors.Fatalf("exactly_once: offsets: %s", ways)
	}
	return connectors.Fatalf("table %s cannot keep a plan from being written twice: %s. There are three ways out: "+
		"add the columns, ALTER TABLE %s ADD COLUMN %s String, ADD COLUMN %s Int32, ADD COLUMN %s Int64, to a MergeTree that keeps every row; "+
		"or exactly_once: token (%s); or exactly_once: version with a ReplacingMergeTree. exactly_once: none is at-least-once",
		t.name, ways, t.name.quoted(), topicColumn, partitionColumn, offsetColumn, s.noWindow(f))
}

// cannotAsk says why the table cannot tell which offsets it has; "" if it can.
func (s settings) cannotAsk(f *found) string {
	for _, c := range []string{topicColumn, partitionColumn, offsetColumn} {
		if f.column(c) == nil {
			return fmt.Sprintf("it has no column %s", c)
		}
	}
	if strings.TrimPrefix(strings.TrimPrefix(f.engine, "Replicated"), "Shared") != "MergeTree" {
		return fmt.Sprintf("its engine, %s, does not keep every row where it was written", f.engine)
	}
	return ""
}

// noWindow says what there is of a window of tokens.
func (s settings) noWindow(f *found) string {
	switch {
	case !f.tokens:
		return "this server does not know deduplication tokens, which need 22.2 or later"
	case !f.mergeTree():
		return fmt.Sprintf("the engine %s remembers no tokens", f.engine)
	case f.window == 0 && f.replicated():
		return "its replicated_deduplication_window is 0"
	case f.window == 0:
		return fmt.Sprintf("its window is 0: ALTER TABLE %s MODIFY SETTING non_replicated_deduplication_window = 10000", s.table.quoted())
	}
	return fmt.Sprintf("its window is %d blocks", f.window)
}

var versionColumn = regexp.MustCompile(`ReplacingMergeTree\((?:'[^']*',\s*'[^']*',\s*)?` + "`?([^,)`']+)`?" + `\s*[,)]`)

// noVersion says why rows that come again are not the same to a reader with
// FINAL; "" if they are.
func noVersion(f *found, t *target) string {
	if !strings.HasSuffix(f.engine, "ReplacingMergeTree") {
		return fmt.Sprintf("table %s is of the engine %s, want a ReplacingMergeTree with a version column, such as ReplacingMergeTree(%s)", t.name, f.engine, offsetColumn)
	}
	m := versionColumn.FindStringSubmatch(f.full)
	if m == nil || !strings.Contains(f.full, " ORDER BY ") { // without it, the parameters are those of long ago
		return fmt.Sprintf("table %s has no version column, want ReplacingMergeTree(column)", t.name)
	}
	if !slices.ContainsFunc(t.columns, func(c targetColumn) bool { return c.name == m[1] }) {
		return fmt.Sprintf("the version column %q of table %s is not among the columns that are written", m[1], t.name)
	}
	return ""
}

// remembered refuses a plan whose token may have left the window since the plan
// was made: then nobody can tell whether it is in. The blocks that came since
// are counted by the numbers of the table's parts; a merge can only make them
// look more. The server's clock counts, as it does for the parts.
func (l *link) remembered(ctx context.Context, f *found, n name, p connectors.Plan, now time.Time) error {
	age := now.Sub(time.UnixMilli(p.Made)) + 2*time.Second // a part's time is in seconds
	database := "currentDatabase()"
	if n.database != "" {
		database = quoteText(n.database)
	}
	group := "0" // all parts have one row of numbers, and those of a replicated table one for each partition
	if f.replicated() {
		group = "partition_id"
	}
	rows, err := l.texts(ctx, fmt.Sprintf("SELECT toString(sum(n)) FROM (SELECT max(max_block_number) - if(countIf(old) > 0, maxIf(max_block_number, old), -1) AS n FROM "+
		"(SELECT max_block_number, %s AS part, modification_time < now() - %d AS old FROM system.parts WHERE database = %s AND table = %s) GROUP BY part)",
		group, int64(age/time.Second), database, quoteText(n.table)))
	if err != nil || len(rows) == 0 {
		return err
	}
	came, err := strconv.Atoi(rows[0][0])
	if err != nil || came <= f.window && (f.seconds == 0 || age < time.Duration(f.seconds)*time.Second) {
		return err
	}
	return connectors.Fatalf("%s was decided %s ago, and up to %d blocks came into table %s since, which remembers %d: whether the plan is in cannot be told any more. "+
		"Look into the table and set the job's offset to %d if it is, or to %d if it is not; exactly_once: offsets does not need that",
		p, age.Round(time.Second), came, n, f.window, p.To, p.From)
}

// present asks the table which offsets of a plan it has. A try of the plan
// that still runs is waited for: its rows may come at any moment.
func (l *link) present(ctx context.Context, t *target, p connectors.Plan) (map[int64]bool, error) {
	running, err := l.texts(ctx, "SELECT query_id FROM system.processes WHERE query_id = "+quoteText(p.ID))
	if err != nil {
		return nil, err
	}
	if len(running) > 0 {
		return nil, connectors.Retry(0, fmt.Errorf("an earlier try of %s still runs in the server", p))
	}
	rows, err := l.Query(ctx, fmt.Sprintf("SELECT DISTINCT toInt64(%s) FROM %s WHERE %s = %s AND %s = %d AND %s >= %d AND %s < %d",
		offsetColumn, t.name.quoted(), topicColumn, quoteText(p.Partition.Topic), partitionColumn, p.Partition.Partition, offsetColumn, p.From, offsetColumn, p.To))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	have := map[int64]bool{}
	for rows.Next() {
		var o int64
		if err := rows.Scan(&o); err != nil {
			return nil, err
		}
		have[o] = true
	}
	return have, rows.Err()
}
