package hubtest

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestKilledSinkIsExact kills the hub again and again while it loads a topic
// into PostgreSQL: rows = distinct keys = source, in upsert and insert mode.
func TestKilledSinkIsExact(t *testing.T) {
	for _, mode := range []string{"insert", "upsert"} {
		t.Run(mode, func(t *testing.T) { killedSink(t, mode) })
	}
}

func killedSink(t *testing.T, mode string) {
	rows := fullRows(200_000)
	dsn := conntest.Postgres(t)
	input := inputFile(t, rows, func(i int) string { return fmt.Sprintf(`{"id":%d,"name":"row %d"}`, i, i) })
	key := ""
	if mode == "upsert" {
		key = ", key: [id]"
	}
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
    sink: {type: postgres, dsn: "${env:TEST_DSN}", table: rows, mode: %s%s, create: true, columns: [{name: id, type: bigint}, {name: name, type: text}], batch: {rows: 2000}}
`, input, mode, key), "TEST_DSN="+dsn)
	total := kills(t, 4)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rowsNow := func() (n, distinct int) {
		_ = db.QueryRowContext(t.Context(), "SELECT count(*), count(DISTINCT id) FROM rows").Scan(&n, &distinct)
		return n, distinct
	}
	l := load{n: n, what: "rows are loaded", total: rows, limit: time.Minute, late: 60 * time.Millisecond}
	l.count = func() (n int, err error) {
		_ = db.QueryRowContext(t.Context(), "SELECT count(*) FROM rows").Scan(&n) // none before the table is there
		return n, nil
	}
	l.kill(t, total)
	l.done(t, 2*time.Minute, caughtUp(n, "rows-out"))
	got, distinct := rowsNow()
	var sum, changed int
	if err := db.QueryRowContext(t.Context(), "SELECT sum(id), count(*) FILTER (WHERE name <> 'row ' || id) FROM rows").Scan(&sum, &changed); err != nil {
		t.Fatal(err)
	}
	if got != rows || distinct != rows || sum != rows*(rows-1)/2 || changed != 0 {
		t.Errorf("%d rows, %d distinct keys, want %d of both; the keys' sum is %d, want %d; %d rows are changed", got, distinct, rows, sum, rows*(rows-1)/2, changed)
	}
	conntest.Figures(t, "%d kills, source %d = rows %d = distinct keys %d, %d changed", total, rows, got, distinct, changed)
}
