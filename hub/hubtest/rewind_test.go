package hubtest

import (
	"database/sql"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// connector calls `entrepot connector` at a node.
func (n *Node) connector(args ...string) (string, error) {
	out, err := exec.Command(Build(n.t), append([]string{"connector", "--admin", "http://" + n.Admin}, args...)...).CombinedOutput()
	return string(out), err
}

// TestRewindFromPostgresToPostgres takes both ends of a load back to a time:
// the sink does what its answer says, statements included, and the source reads
// the rows of that time and later once more.
func TestRewindFromPostgresToPostgres(t *testing.T) {
	dsn := conntest.Postgres(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	exec := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := db.Exec(s); err != nil {
				t.Fatal(s, err)
			}
		}
	}
	count := func(query string) (n int) {
		_ = db.QueryRow(query).Scan(&n) // none before the table is there
		return n
	}
	exec("CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL)",
		"INSERT INTO orders SELECT n, '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 hour' FROM generate_series(1, 100) n")
	n := jobsNode(t, `
topics:
  - {name: orders, partitions: 3}
connectors:
  - name: orders-in
    topic: orders
    source: {type: postgres, dsn: "${env:TEST_DSN}", table: public.orders, timestamp: at, poll: 50ms}
  - name: orders-out
    topic: orders
    sink: {type: postgres, dsn: "${env:TEST_DSN}", table: loaded, create: true, mode: upsert, key: [id], columns: [{name: id, type: bigint}, {name: at, type: timestamptz}], batch: {every: 50ms}}
`, "TEST_DSN="+dsn)
	loaded := func(want int) {
		t.Helper()
		Until(t, time.Minute, "rows are loaded", func() error {
			if got := count("SELECT count(*) FROM loaded"); got != want {
				return fmt.Errorf("%d rows, want %d", got, want)
			}
			return nil
		})
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := n.connector(args...)
		if err != nil {
			t.Fatalf("connector %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	offsets := func() int { return count("SELECT sum(next_offset) FROM entrepot_offsets") }
	loaded(100)
	const midnight = "2026-01-04T00:00:00Z" // of the row 72

	if out, err := n.connector("rewind", "orders-out", "--to-time", midnight); err == nil || !strings.Contains(out, "stop it first") {
		t.Errorf("a running job: %v\n%s", err, out)
	}
	out := must("rewind", "orders-out", "--to-time", midnight, "--dry-run")
	wantAll(t, out, "records at most are read again", "\n  UPDATE \"entrepot_offsets\" SET", "nothing was moved")
	must("stop", "orders-out")
	exec("TRUNCATE loaded")
	out = must("rewind", "orders-out", "--to-time", midnight)
	for _, line := range strings.Split(out, "\n") {
		if s := strings.TrimSpace(line); strings.HasPrefix(s, "UPDATE ") {
			exec(s)
		}
	}
	must("resume", "orders-out")
	loaded(29)
	if got := count("SELECT min(id) FROM loaded"); got != 72 {
		t.Errorf("the first row that came again is %d, want 72", got)
	}

	before := offsets()
	must("stop", "orders-in")
	wantAll(t, must("rewind", "orders-in", "--to-time", midnight), "public.orders before 2026-01-04T00:00:00Z", "a second time")
	must("resume", "orders-in")
	Until(t, time.Minute, "the rows come again", func() error {
		if got := offsets() - before; got < 29 {
			return fmt.Errorf("%d offsets more, want 29 at least", got)
		}
		return nil
	})
	loaded(29)
}
