package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// toSink gives messages to a writer at the offsets from on.
func toSink(t *testing.T, w connectors.Writer, from int64, all []connectors.Message) {
	t.Helper()
	for i := range all {
		all[i].Partition, all[i].Offset = clicks, from+int64(i)
	}
	wrong, err := w.Write(t.Context(), planOf(from, from+int64(len(all)), 1), connectors.Batch{Messages: all})
	if err != nil || len(wrong) > 0 {
		t.Fatalf("write: %v, %v", wrong, err)
	}
}

// TestEdgeCasesRoundTrip: PostgreSQL → record → PostgreSQL. Each value of the
// table of edge cases is the same afterwards, byte by byte as the server
// prints it.
func TestEdgeCasesRoundTrip(t *testing.T) {
	c := newCDC(t, map[string]any{"tables": []string{"public.edges"}}, conntest.EdgeStatements("edges")...)
	c.exec("CREATE TABLE copied (LIKE edges INCLUDING ALL)")
	w := c.writer(map[string]any{"table": "copied", "mode": "upsert", "key": []string{"id"}, "delete_on_tombstone": true})
	toSink(t, w, 0, next(t, c.reader(nil), len(conntest.EdgeRecords())))
	c.sameText("edges", "copied")
}

// sameText compares tables by the texts of all columns.
func (r *rig) sameText(a, b string) {
	r.t.Helper()
	texts := "SELECT id"
	for _, col := range conntest.Edges() {
		texts += ", " + col.Name + "::text"
	}
	const differ = "(SELECT string_agg(x::text, '; ') FROM (%s FROM %s EXCEPT %s FROM %s) AS x)"
	r.want("SELECT coalesce("+fmt.Sprintf(differ, texts, a, texts, b)+", 'same')", "same")
	r.want("SELECT coalesce("+fmt.Sprintf(differ, texts, b, texts, a)+", 'same')", "same")
}

// TestReplica: everything that happens to a table, with rows that are updated
// often in one batch, large values that are not sent, changed keys and deletes,
// through the records and the sink into another.
func TestReplica(t *testing.T) {
	for _, batch := range []int{1, 3, 1000} {
		c := newCDC(t, map[string]any{"tables": []string{"public.things"}},
			"CREATE TABLE things (id int PRIMARY KEY, n int, doc text, tags text[])", "ALTER TABLE things ALTER doc SET STORAGE EXTERNAL",
			"CREATE TABLE copied (LIKE things INCLUDING ALL)",
			"INSERT INTO things SELECT i, 0, "+big+" || i, ARRAY['a', NULL] FROM generate_series(1, 6) AS i")
		r := c.reader(nil)
		all := rowsThere(t, r, 6)
		c.exec("UPDATE things SET n = n + 1", "UPDATE things SET n = n + 1 WHERE id < 3", "UPDATE things SET doc = 'short' WHERE id = 1", "UPDATE things SET tags = '{}', n = 7 WHERE id = 1",
			"DELETE FROM things WHERE id = 2", "INSERT INTO things VALUES (2, 0, "+big+" || 'again', NULL)", "UPDATE things SET n = 5 WHERE id = 2", "DELETE FROM things WHERE id = 3", "INSERT INTO things VALUES (7, 0, '', NULL), (8, NULL, NULL, NULL)", "DELETE FROM things WHERE id = 8")
		all = append(all, next(t, r, 6+2+1+1+1+1+1+1+2+1)...)
		w := c.writer(map[string]any{"table": "copied", "mode": "upsert", "key": []string{"id"}, "delete_on_tombstone": true})
		for i := 0; i < len(all); i += batch {
			toSink(t, w, int64(i), all[i:min(i+batch, len(all))])
		}
		c.want("SELECT (SELECT json_agg(t ORDER BY id)::text FROM things t) = (SELECT json_agg(t ORDER BY id)::text FROM copied t)", "true")
	}
}

// TestKeptColumns: what stays as it is, and what is refused because nobody
// knows what it was.
func TestKeptColumns(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE rows (id bigint PRIMARY KEY, a text, b text)", "INSERT INTO rows VALUES (1, 'old', 'old'), (2, 'old', 'old')")
	fields := map[string]any{"table": "rows", "mode": "upsert", "key": []string{"id"}, "delete_on_tombstone": true}
	w := r.writer(fields)
	put(t, w, 0, `{"id":1,"a":"new","__unchanged":["b"]}`, `{"id":2,"a":"x","b":"y"}`, `{"id":2,"a":"z","__unchanged":["b"]}`, `{"id":2,"__unchanged":["a","b"]}`)
	r.want("SELECT string_agg(id || a || b, ',' ORDER BY id) FROM rows", "1newold,2zy")
	got := refusals(t, w, 4, `{"id":9,"a":"x","__unchanged":["b"]}`, `{"id":1,"a":"y","b":"y"}`, `{"__unchanged":["id"],"a":"x"}`, `{"id":1,"__unchanged":7}`)
	for offset, part := range map[int64]string{6: `part of the key`, 7: "want a list"} {
		if !strings.Contains(got[offset], part) {
			t.Errorf("offset %d: %q, want %q in it", offset, got[offset], part)
		}
	}
	got = refusals(t, w, 4, `{"id":9,"a":"x","__unchanged":["b"]}`, `{"id":1,"a":"y","b":"y"}`)
	if len(got) != 1 || !strings.Contains(got[4], "no row of its key") {
		t.Errorf("refused: %v", got)
	}
	got = refusals(t, w, 4, `1=`, `{"id":1,"a":"y","__unchanged":["b"]}`)
	if len(got) != 1 || !strings.Contains(got[5], "deletes the row") {
		t.Errorf("refused: %v", got)
	}
	put(t, w, 4, `{"id":2,"__op":"d"}`, `{"id":1,"a":"q","__unchanged":["b"]}`)
	r.want("SELECT string_agg(id || a || b, ',' ORDER BY id) FROM rows", "1qold")
	if got := refusals(t, w, 6, `{"__op":"t"}`); !strings.Contains(got[6], "TRUNCATE") {
		t.Errorf("refused: %v", got)
	}
}

func TestMerge(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE rows (id bigint PRIMARY KEY, a text DEFAULT 'given', b text)", "INSERT INTO rows VALUES (1, 'old', 'old')")
	w := r.writer(map[string]any{"table": "rows", "mode": "merge", "key": []string{"id"}, "delete_on_tombstone": true,
		"columns": []map[string]any{{"name": "id"}, {"name": "a"}, {"name": "b"}}})
	put(t, w, 0, `{"id":1,"a":"new"}`, `{"id":2,"b":"only"}`, `{"id":3,"a":"x"}`, `{"id":3,"b":null}`)
	r.want("SELECT string_agg(id || a || coalesce(b, '-'), ',' ORDER BY id) FROM rows", "1newold,2givenonly,3x-")
	put(t, w, 4, `1=`, `{"id":1,"b":"again"}`)
	r.want("SELECT id || coalesce(a, '-') || b FROM rows WHERE id = 1", "1givenagain")
	// The same in plans of their own, and with more of the key behind it.
	put(t, w, 6, `1=`)
	put(t, w, 7, `{"id":1,"b":"again"}`)
	r.want("SELECT id || coalesce(a, '-') || b FROM rows WHERE id = 1", "1givenagain")
	put(t, w, 8, `1=`, `{"id":1,"b":"one"}`, `{"id":1,"b":"two"}`, `2=`, `{"id":2,"a":"x"}`, `{"id":2,"a":"y","b":"z"}`, `3=`, `{"id":3,"a":"x"}`, `3=`)
	r.want("SELECT string_agg(id || a || coalesce(b, '-'), ',' ORDER BY id) FROM rows", "1giventwo,2yz")
}
