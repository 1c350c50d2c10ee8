package hubtest

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestFrozenNodeIsFenced stops the node that runs a sink with SIGSTOP in the
// middle of a load, lets another node of the site take its connectors over, and
// lets it go on: what it still has in hand must not reach PostgreSQL again.
func TestFrozenNodeIsFenced(t *testing.T) {
	t.Parallel() // it waits more than it works
	strikes := conntest.Size(2, 10)
	chunk := fullRows(40_000) / strikes
	dir := t.TempDir()
	input := filepath.Join(dir, "rows.ndjson")
	jobs := writeJobs(t, dir, fmt.Sprintf(`
topics:
  - {name: rows, partitions: 3, replicas: 3}
connectors:
  - {name: rows-in, topic: rows, source: {type: file, path: %q}}
  - name: rows-out
    topic: rows
    sink: {type: postgres, dsn: "${env:TEST_DSN}", table: rows, mode: insert, batch: {rows: 500}}
`, input))
	s := newRowsSite(t, "frozen", jobs)
	midway := 0
	for i := range strikes {
		writeRows(t, input, i*chunk, chunk)
		s.reach(i*chunk + 1 + rand.N(chunk/2))
		frozen := s.runner(t, "rows-out", nil)
		frozen.Stop()
		if s.there < (i+1)*chunk {
			midway++
		}
		s.runner(t, "rows-out", frozen)
		frozen.Cont()
		s.reach((i + 1) * chunk)
		Until(t, time.Minute, "the node that stood still serves again", func() error { return Ready(frozen.Admin) })
	}
	for _, n := range s.Nodes {
		Until(t, time.Minute, "nothing waits", caughtUp(n, "rows-out"))
	}
	conntest.Figures(t, "%d times the node that ran the sink stood still and another took over, %d of them in the middle of a load: %s", strikes, midway, s.exactly(strikes*chunk))
}

// rowsSite is a site of three nodes whose jobs load the topic rows into a table
// of PostgreSQL of that name.
type rowsSite struct {
	*Site
	db    *sql.DB
	there int // rows that the table had when it was last looked at
}

func newRowsSite(t *testing.T, name, jobs string) *rowsSite {
	t.Helper()
	dsn := conntest.OwnPostgres(t).Database(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE rows (id bigint)"); err != nil {
		t.Fatal(err)
	}
	s := &rowsSite{Site: NewSite(t, name, 3, "TEST_DSN="+dsn), db: db}
	for _, n := range s.Nodes {
		n.Configure(fmt.Sprintf("jobs: [%q]", jobs))
	}
	Build(t)
	s.Start()
	return s
}

// reach waits until the table has so many rows.
func (s *rowsSite) reach(rows int) {
	s.t.Helper()
	Until(s.t, 3*time.Minute, fmt.Sprintf("%d rows are in the table", rows), func() error {
		if err := s.db.QueryRowContext(s.t.Context(), "SELECT count(*) FROM rows").Scan(&s.there); err != nil || s.there < rows {
			return fmt.Errorf("%d rows, %w", s.there, err)
		}
		return nil
	})
}

// exactly checks that the topic and the table have each row of the source once,
// and tells what they have.
func (s *rowsSite) exactly(total int) string {
	s.t.Helper()
	var rows, distinct int
	if err := s.db.QueryRowContext(s.t.Context(), "SELECT count(*), count(DISTINCT id) FROM rows").Scan(&rows, &distinct); err != nil {
		s.t.Fatal(err)
	}
	records := recordsIn(s.t, s.Brokers(), "rows")
	if rows != total || distinct != total || records != total {
		s.t.Errorf("%d rows, %d distinct, %d records, want %d of each", rows, distinct, records, total)
	}
	return fmt.Sprintf("source %d = records %d = rows %d = distinct keys %d in PostgreSQL", total, records, rows, distinct)
}

// writeRows appends rows to the file that a source follows.
func writeRows(t *testing.T, path string, from, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 0, n*16)
	for i := range n {
		text = fmt.Appendf(text, "{\"id\":%d}\n", from+i)
	}
	if _, err := f.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// runner is the node that runs a connector, as the others than without say:
// not that one.
func (s *Site) runner(t *testing.T, name string, without *Node) (where *Node) {
	t.Helper()
	Until(t, time.Minute, "a node runs "+name, func() error {
		for _, n := range s.Nodes {
			if n == without {
				continue
			}
			j, err := job(n.Admin, name)
			if err != nil || j.State != "running" {
				return fmt.Errorf("%s says %s %s, %v", n.ID, j.State, j.Reason, err)
			}
			for _, one := range s.Nodes {
				if one.ID == j.Node && one != without {
					where = one
					return nil
				}
			}
		}
		return fmt.Errorf("it is still at %s", without.ID)
	})
	return where
}
