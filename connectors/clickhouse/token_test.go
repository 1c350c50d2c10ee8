package clickhouse

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// tokens says to ClickHouse's present engine, in a process of Python, what the
// sink relies on: a plan over several values of PARTITION BY has one token.
const tokens = `
from chdb import session
import tempfile
s = session.Session(tempfile.mkdtemp())
q = lambda text: s.query(text, "TSV").bytes().decode().strip()
def put(table, token, values):
    q(f"INSERT INTO {table} SETTINGS async_insert = 0, insert_deduplicate = 1, insert_deduplication_token = '{token}', deduplicate_insert = 'enable' VALUES {values}")
q("CREATE TABLE t (p Int32, n Int64) ENGINE = MergeTree PARTITION BY p ORDER BY n SETTINGS non_replicated_deduplication_window = 10")
for _ in range(3): put("t", "a", "(1,1),(2,2),(1,3),(3,4)")
print("three times:", q("SELECT count() FROM t"))
put("t", "b", "(2,5)"); put("t", "b", "(1,6),(2,5)")
print("half, then whole:", q("SELECT count(), uniqExact(n) FROM t"))
put("t", "d", "(2,7)"); put("t", "d", "(1,8)"); put("t", "d", "(1,8),(2,7)")
print("half, then the rest, then whole:", q("SELECT count() FROM t WHERE n IN (7, 8)"))
for i in range(11): put("t", f"c{i}", f"(9,{100 + i})")
put("t", "b", "(1,6),(2,5)")
print("beyond the window:", q("SELECT countIf(n = 6) FROM t"))
q("CREATE TABLE u (n Int64) ENGINE = MergeTree ORDER BY n")
for _ in range(2): put("u", "a", "(1)")
print("without a window:", q("SELECT count() FROM u"))
print("known:", q("SELECT count() FROM system.settings WHERE name IN ('insert_deduplication_token', 'deduplicate_insert')"))
print("engine:", q("SELECT engine_full LIKE '%non_replicated_deduplication_window = 10,%', sorting_key FROM system.tables WHERE name = 't'"))
`

func TestWhatATokenIsWorth(t *testing.T) {
	out, err := exec.Command(conntest.Python(t, "chdb"), "-c", tokens).CombinedOutput()
	if err != nil {
		t.Fatalf("chdb: %v\n%s", err, out)
	}
	want := "three times: 4\nhalf, then whole: 6\t6\nhalf, then the rest, then whole: 2\nbeyond the window: 2\nwithout a window: 2\nknown: 2\nengine: 1\tn"
	if got := strings.TrimSpace(string(out)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// windowed is a rig of the engine of today with a table that remembers so many
// tokens and has no columns to ask, a view over it, and the fields for a writer.
func windowed(t *testing.T, window int) (*rig, map[string]any) {
	r := newEngineRig(t)
	r.exec("CREATE TABLE rows (id Int64, name String) ENGINE = MergeTree PARTITION BY id % 4 ORDER BY id SETTINGS non_replicated_deduplication_window = "+fmt.Sprint(window),
		"CREATE TABLE sums (part Int64, n UInt64) ENGINE = MergeTree ORDER BY part SETTINGS non_replicated_deduplication_window = "+fmt.Sprint(window),
		"CREATE MATERIALIZED VIEW summed TO sums AS SELECT id % 4 AS part, count() AS n FROM rows GROUP BY part")
	return r, map[string]any{"table": "rows", "exactly_once": "token"}
}

// madeAt is a plan that was decided some time ago.
func madeAt(p connectors.Plan, ago time.Duration) connectors.Plan {
	p.Made = time.Now().Add(-ago).UnixMilli()
	return p
}

// TestTokenAlone: one owner after the other writes the same plan, and each row
// is there once, in a view over the table too. Of a plan that came in by half
// the rest comes into the table; the view takes the plan's token for what it
// had already, and stays without the rest, which the package says of views.
func TestTokenAlone(t *testing.T) {
	r, fields := windowed(t, 100)
	const sums = "SELECT toString(groupArray((part, s))) FROM (SELECT part, sum(n) AS s FROM sums GROUP BY part ORDER BY part)"
	for i := range 3 {
		writeUntilIn(t, r.writer(fields), madeAt(planOf(0, 40, 1), time.Duration(i)*time.Second), batchOf(0, rowsOf(0, 40)...))
		r.want("SELECT toString((count(), uniqExact(id))) FROM rows", "(40,40)")
		r.want(sums, "[(0,10),(1,10),(2,10),(3,10)]")
	}
	r.exec("INSERT INTO rows SETTINGS async_insert = 0, insert_deduplication_token = 'load-40-80' SELECT number, concat('row ', toString(number)) FROM numbers(40, 40) WHERE number % 4 = 2")
	for range 2 {
		writeUntilIn(t, r.writer(fields), madeAt(planOf(40, 80, 1), 0), batchOf(40, rowsOf(40, 80)...))
		r.want("SELECT toString((count(), uniqExact(id))) FROM rows", "(80,80)")
		r.want(sums, "[(0,10),(1,10),(2,20),(3,10)]")
	}
}

// TestTokenStopsAFormerOwner: an owner that has asked the table, and is held up
// before it writes, does not write what its successor has written since.
func TestTokenStopsAFormerOwner(t *testing.T) {
	r := newEngineRig(t)
	former := r.writer(partitioned()).(*writer)
	plan, batch := planOf(0, 40, 1), batchOf(0, rowsOf(0, 40)...)
	b, wrong := newEncoder(former.target).encode(batch.Messages)
	if b, err := former.remainder(t.Context(), plan, batch.Messages, b); err != nil || len(wrong) > 0 || b.rows != 40 {
		t.Fatal(wrong, err)
	}
	put(t, r.writer(partitioned()), 0, rowsOf(0, 40)...)
	if err := former.insert(t.Context(), plan, b); err != nil {
		t.Fatal(err)
	}
	r.want("SELECT toString((count(), uniqExact(id))) FROM rows", "(40,40)")
}

// TestPushedOut is failure test 13 where a token is all there is: so many
// others have written since a plan was made that its token may be forgotten.
// The plan is refused; it is never written twice.
func TestPushedOut(t *testing.T) {
	window := conntest.Size(10, 1000)
	r, fields := windowed(t, window)
	plan, batch := madeAt(planOf(0, 3, 1), 0), batchOf(0, rowsOf(0, 3)...) // three blocks
	writeUntilIn(t, r.writer(fields), plan, batch)
	others := func(from, n int) {
		for i := range n {
			r.exec(fmt.Sprintf("INSERT INTO rows SETTINGS async_insert = 0 SELECT %d, 'other'", 1000+from+i))
		}
	}
	others(0, window-4)
	writeUntilIn(t, r.writer(fields), plan, batch) // 3 and those: all are remembered; the server counts it as more
	others(window, window+1)
	for range 2 {
		_, err := r.writer(fields).Write(t.Context(), plan, batch)
		wantClass(t, err, connectors.ClassFatal, "cannot be told", "set the job's offset to 3 if it is, or to 0")
	}
	r.want("SELECT toString((count(), uniqExact(id))) FROM rows WHERE name LIKE 'row%'", "(3,3)")
	r.exec("OPTIMIZE TABLE rows FINAL") // the parts from before are in others now
	_, err := r.writer(fields).Write(t.Context(), plan, batch)
	wantClass(t, err, connectors.ClassFatal, "cannot be told")
	put(t, r.writer(fields), 3, rowsOf(3, 6)...) // of which the time is not known
	r.want("SELECT toString((count(), uniqExact(id))) FROM rows WHERE name LIKE 'row%'", "(6,6)")
	conntest.Figures(t, "window %d, %d other blocks after a plan: refused, its rows in the table once", window, 2*window-3)
}
