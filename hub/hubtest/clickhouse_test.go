package hubtest

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestKilledClickHouseSinkIsExact kills the hub again and again while it loads
// a topic into ClickHouse: rows = distinct keys = source. The server is one
// without deduplication tokens: the offset columns do it alone.
func TestKilledClickHouseSinkIsExact(t *testing.T) {
	rows := fullRows(200_000)
	total := kills(t, 4)
	server := conntest.OwnClickHouse(t)
	dsn := server.Database(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	table := strings.TrimPrefix(u.Path, "/") + ".rows"
	input := inputFile(t, rows, func(i int) string { return fmt.Sprintf(`{"id":%d,"name":"row %d"}`, i, i) })
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: rows, partitions: 6}
connectors:
  - name: rows-in
    source: {type: file, path: %q, follow: false}
    transforms: [{parse: {format: json}}]
    topic: rows
    key: string(value.id)
  - name: rows-out
    topic: rows
    sink:
      type: clickhouse
      dsn: "${env:TEST_DSN}"
      table: rows
      create: true
      columns: [{name: id, type: Int64}, {name: name, type: String}]
      partition_by: id %% 3
      batch: {rows: 2000}
`, input), "TEST_DSN="+dsn)
	counts := func(of string) string {
		text, err := server.Query("SELECT " + of + " FROM " + table)
		if err != nil {
			return "0"
		}
		return text
	}
	l := load{n: n, what: "rows are loaded", total: rows, limit: 2 * time.Minute, late: 60 * time.Millisecond}
	l.count = func() (n int, err error) {
		_, err = fmt.Sscan(counts("count()"), &n)
		return n, err
	}
	l.kill(t, total)
	l.done(t, 5*time.Minute, caughtUp(n, "rows-out"))
	want := fmt.Sprintf("%d\t%d\t%d\t%d\t0", rows, rows, rows*(rows-1)/2, rows)
	if got := counts("count(), uniqExact(id), sum(id), uniqExact((_topic, _partition, _offset)), countIf(name != concat('row ', toString(id)))"); got != want {
		t.Errorf("rows, distinct keys, their sum, distinct offsets, changed rows: %s, want %s", got, want)
	}
	conntest.Figures(t, "%d kills, source %d = rows = distinct keys = distinct offsets (%s)", total, rows, counts("count(), uniqExact(id), uniqExact((_topic, _partition, _offset))"))
}
