package clickhouse

import (
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// withSchema makes a batch whose records say what their table is like.
func withSchema(b connectors.Batch, header string) connectors.Batch {
	for i := range b.Messages {
		b.Messages[i].Headers = []record.Header{{Key: schemaHeader, Value: []byte(header)}}
	}
	return b
}

const orders = `{"table":"public.orders","columns":[{"name":"id","type":"bigint","key":true},{"name":"total","type":"numeric(12,2)"},{"name":"doc","type":"jsonb"},{"name":"blob","type":"bytea"},{"name":"mood","type":"some.enum"}]}`

// TestTableOfADescription: the table is made of what the records say of theirs,
// with its key; also when a delete comes first. A writer that finds the table
// later knows what its columns hold.
func TestTableOfADescription(t *testing.T) { onServers(t, testTableOfADescription) }

func testTableOfADescription(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	fields := func() map[string]any {
		return map[string]any{"table": "orders", "create": true, "engine": "ReplacingMergeTree(_offset)", "exactly_once": "version", "deleted": "_deleted"}
	}
	w := r.writer(fields())
	wrong, err := w.Write(t.Context(), planOf(0, 1, 1), withSchema(batchOf(0, `{"id":7}=`), orders))
	if err != nil || len(wrong) > 0 {
		t.Fatal(wrong, err)
	}
	r.want("SELECT replaceRegexpAll(sorting_key, '[()]', '') FROM system.tables WHERE database = currentDatabase() AND name = 'orders'", "id")
	r.want("SELECT toString(groupArray(concat(name, ' ', type))) FROM (SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'orders' AND name NOT LIKE '\\\\_%')",
		"['id Int64','total Nullable(Decimal(12, 2))','doc Nullable(String)','blob Nullable(String)','mood Nullable(String)']")
	put(t, r.writer(fields()), 1, `{"id":7,"total":"1.50","doc":{"n": 12345678901234567890},"blob":"AP9c","mood":"sad"}`, `{"id":8,"total":null,"doc":"text","blob":null,"mood":null}`)
	r.want("SELECT toString(groupArray((id, toString(total), doc, hex(blob), mood, _deleted))) FROM (SELECT * FROM orders FINAL ORDER BY id)",
		`[(7,'`+r.text("SELECT toString(toDecimal64(1.5, 2))")+`','{"n": 12345678901234567890}','00FF5C','sad',0),(8,NULL,'"text"',NULL,NULL,0)]`)
}

// TestNothingReplacesNothing: a table whose rows are to replace each other has
// a key by which they do.
func TestNothingReplacesNothing(t *testing.T) {
	r := newRig(t)
	_, err := r.open(with(rowFields(), map[string]any{"engine": "ReplacingMergeTree(_offset)", "exactly_once": "version"}))
	wantClass(t, err, connectors.ClassFatal, "order_by has to name the key")
	w := r.writer(map[string]any{"table": "bad", "create": true})
	_, err = w.Write(t.Context(), planOf(0, 1, 1), withSchema(batchOf(0, `{"id":7}`), "nonsense"))
	wantClass(t, err, connectors.ClassFatal, "not a schema")
}

// TestAllowedLosses: what is lost is what the config names, and without the
// name the record is refused with it.
func TestAllowedLosses(t *testing.T) { onServers(t, testAllowedLosses) }

func testAllowedLosses(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	at := "DateTime"
	if r.tokens() {
		at = "DateTime64(3, 'UTC')"
	}
	r.exec("CREATE TABLE t (f Float64, s Array(Float32), at " + at + ", tags Array(String), _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY _offset")
	record := `{"f":"0.1234567890123456789","s":[16777217,"2.5"],"at":"2015-05-17T10:05:03.1239Z","tags":null}`
	for _, names := range [][]string{{}, {numericToDouble}, {timeToPrecision}, {nullToEmpty}, {numericToDouble, timeToPrecision}} {
		wrong, err := r.writer(map[string]any{"table": "t", "allow_lossy": names}).Write(t.Context(), planOf(0, 1, 1), batchOf(0, record))
		if err != nil || len(wrong) != 1 || !strings.Contains(wrong[0].Error(), "allow_lossy: [") {
			t.Errorf("with %v: refused %v, %v", names, wrong, err)
		}
		for _, name := range names {
			if len(wrong) == 1 && strings.Contains(wrong[0].Error(), name) {
				t.Errorf("with %v: refused %v", names, wrong)
			}
		}
	}
	put(t, r.writer(map[string]any{"table": "t", "allow_lossy": []string{numericToDouble, timeToPrecision, nullToEmpty}}), 0, record)
	kept := "2015-05-17 10:05:03"
	if r.tokens() {
		kept += ".123"
	}
	r.want("SELECT toString((toString(f), toString(s), toString(at), tags)) FROM t", "('0.12345678901234568','[16777216,2.5]','"+kept+"',[])")
}

// TestTruncateIsRefused: a record that says that its table was emptied is not a
// row, also where every column could be NULL.
func TestTruncateIsRefused(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE t (n Nullable(Int64), _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY _offset")
	wrong, err := r.writer(map[string]any{"table": "t"}).Write(t.Context(), planOf(0, 1, 1), batchOf(0, `{"__op":"t"}`))
	if err != nil || len(wrong) != 1 || !strings.Contains(wrong[0].Error(), "TRUNCATE") {
		t.Errorf("refused %v, %v", wrong, err)
	}
}
