package hubtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestKilledClickHouseSourceIsExact kills the hub again and again while it reads
// a table of ClickHouse into a topic: every row is in the topic once, for readers
// of committed and of uncommitted records alike.
func TestKilledClickHouseSourceIsExact(t *testing.T) {
	total, rows := kills(t, 4), fullRows(200_000)
	server := conntest.OwnClickHouse(t)
	dsn := server.Database(t)
	for _, statement := range []string{
		"CREATE TABLE test1.events (at DateTime, id Int64) ENGINE = MergeTree PARTITION BY id % 3 ORDER BY (at, id)",
		fmt.Sprintf("INSERT INTO test1.events SELECT toDateTime(1431857103 + intDiv(number, 1000)), number FROM numbers(%d)", rows),
	} {
		if _, err := server.Query(statement); err != nil {
			t.Fatal(err)
		}
	}
	n := jobsNode(t, `
topics:
  - {name: rows, partitions: 6}
connectors:
  - name: rows-in
    source: {type: clickhouse, dsn: "${env:TEST_DSN}", table: events, key: [at, id], columns: [id], follow: false, rows: 5000}
    topic: rows
    key: string(value.id)
`, "TEST_DSN="+dsn)
	l := load{n: n, what: "rows are read", total: rows, count: counter(n, "rows-in", "written"), limit: 2 * time.Minute, late: 60 * time.Millisecond}
	l.kill(t, total)
	l.done(t, 2*time.Minute, func() error { return completed(n) })
	all := map[string]bool{}
	for i := range rows {
		all[fmt.Sprintf(`{"id":%d}`, i)] = true
	}
	checkLines(t, n, "rows", rows, all)
	conntest.Figures(t, "%d kills, source %d = records %d = distinct %d", total, rows, rows, rows)
}
