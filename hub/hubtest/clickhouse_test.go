package hubtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestKilledClickHouseSinkIsExact kills the hub again and again while it loads
// a topic into ClickHouse: rows = distinct keys = source. The server is one
// without deduplication tokens: the offset columns do it alone.
func TestKilledClickHouseSinkIsExact(t *testing.T) {
	rows := 200_000
	if os.Getenv("ENTREPOT_KILLS") != "" {
		rows = 1_000_000
	}
	total := kills(t, 4)
	server := conntest.OwnClickHouse(t)
	dsn := server.Database(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	table := strings.TrimPrefix(u.Path, "/") + ".rows"
	dir := t.TempDir()
	input := filepath.Join(dir, "rows.ndjson")
	var lines strings.Builder
	for i := range rows {
		fmt.Fprintf(&lines, `{"id":%d,"name":"row %d"}`+"\n", i, i)
	}
	if err := os.WriteFile(input, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	jobs := filepath.Join(dir, "jobs.yaml")
	text := fmt.Sprintf(`
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
`, input)
	if err := os.WriteFile(jobs, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n := NewNode(t, "solo", dir, nil, []string{jobs}, []string{"TEST_DSN=" + dsn})
	n.Start()
	counts := func(of string) string {
		text, err := server.Query("SELECT " + of + " FROM " + table)
		if err != nil {
			return "0"
		}
		return text
	}
	rowsNow := func() (n int) {
		_, _ = fmt.Sscan(counts("count()"), &n)
		return n
	}
	// A kill at each even share of the load, while rows are being written.
	for i := range total {
		want := rows * i / (total + 1)
		Until(t, 2*time.Minute, fmt.Sprintf("%d rows are loaded", want), func() error {
			if got := rowsNow(); got < want {
				return fmt.Errorf("%d rows", got)
			}
			return nil
		})
		pause(t.Context(), time.Millisecond, 60*time.Millisecond)
		n.Kill()
		n.Start()
	}
	Until(t, 5*time.Minute, "all rows are loaded", func() error {
		if got := rowsNow(); got < rows {
			return fmt.Errorf("%d rows", got)
		}
		j, err := job(n.Admin, "rows-out")
		if err != nil {
			return err
		}
		if lag, known := j.Lag.Value(); !known || lag != 0 {
			return fmt.Errorf("lag %s", j.Lag)
		}
		return nil
	})
	want := fmt.Sprintf("%d\t%d\t%d\t%d", rows, rows, rows-1, rows)
	if got := counts("count(), uniqExact(id), max(id), uniqExact((_topic, _partition, _offset))"); got != want {
		t.Errorf("rows, distinct keys, last key, distinct offsets: %s, want %s", got, want)
	}
	t.Logf("%d kills, source %d = rows = distinct keys = distinct offsets (%s)", total, rows, counts("count(), uniqExact(id), uniqExact((_topic, _partition, _offset))"))
}
