package clickhouse

import (
	"os/exec"
	"strings"
	"testing"

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
