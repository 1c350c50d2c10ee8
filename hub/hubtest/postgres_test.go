package hubtest

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// postgresRows is the size of the load, in records.
const postgresRows = 200_000

// TestKilledSinkIsExact kills the hub again and again while it loads a topic
// into PostgreSQL: rows = distinct keys = source, in upsert and insert mode.
func TestKilledSinkIsExact(t *testing.T) {
	for _, mode := range []string{"insert", "upsert"} {
		t.Run(mode, func(t *testing.T) { killedSink(t, mode) })
	}
}

func killedSink(t *testing.T, mode string) {
	dsn := conntest.Postgres(t)
	dir := t.TempDir()
	input := filepath.Join(dir, "rows.ndjson")
	var rows strings.Builder
	for i := range postgresRows {
		fmt.Fprintf(&rows, `{"id":%d,"name":"row %d"}`+"\n", i, i)
	}
	if err := os.WriteFile(input, []byte(rows.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	key := ""
	if mode == "upsert" {
		key = ", key: [id]"
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
    sink: {type: postgres, dsn: "${env:TEST_DSN}", table: rows, mode: %s%s, create: true, columns: [{name: id, type: bigint}, {name: name, type: text}], batch: {rows: 2000}}
`, input, mode, key)
	if err := os.WriteFile(jobs, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n := NewNode(t, "solo", dir, nil, []string{jobs}, []string{"TEST_DSN=" + dsn})
	n.Start()
	total := kills(t, 4)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rowsNow := func() (n, distinct int64) {
		_ = db.QueryRowContext(t.Context(), "SELECT count(*), count(DISTINCT id) FROM rows").Scan(&n, &distinct)
		return n, distinct
	}
	// A kill at each even share of the load, while rows are being written.
	for i := range total {
		want := int64(postgresRows) * int64(i) / int64(total+1)
		Until(t, time.Minute, fmt.Sprintf("%d rows are loaded", want), func() error {
			if got, _ := rowsNow(); got < want {
				return fmt.Errorf("%d rows", got)
			}
			return nil
		})
		pause(t.Context(), time.Millisecond, 60*time.Millisecond)
		n.Kill()
		n.Start()
	}
	Until(t, 2*time.Minute, "all rows are loaded", func() error {
		if got, _ := rowsNow(); got < postgresRows {
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
	got, distinct := rowsNow()
	if got != postgresRows || distinct != postgresRows {
		t.Errorf("%d rows, %d distinct keys, want %d of both", got, distinct, postgresRows)
	}
	t.Logf("%s: %d kills, source %d = rows %d = distinct keys %d", mode, total, postgresRows, got, distinct)
}
