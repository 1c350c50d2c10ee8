package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
)

const allRows = `SELECT coalesce(string_agg(id || ':' || coalesce(name, 'NULL'), ' ' ORDER BY id), '') FROM rows`

func TestUpsertKeepsTheLastOfEachKey(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	put(t, w, 0, `{"id":2,"name":"b"}`, `{"id":1,"name":"a"}`, `{"id":2,"name":"B"}`, `{"id":3}`, `{"id":3,"name":null}`)
	r.want(allRows, "1:a 2:B 3:NULL")
	put(t, w, 5, `{"id":1,"name":"A","more":[1]}`, `{"id":4,"name":"tab\tnew\nline\\ \"quoted\" \\N é"}`)
	r.want(`SELECT name FROM rows WHERE id = 1`, "A")
	r.want(`SELECT name FROM rows WHERE id = 4`, "tab\tnew\nline\\ \"quoted\" \\N é")
	r.want(`SELECT next_offset || '/' || epoch FROM entrepot_offsets WHERE job = 'load' AND topic = 'clicks' AND "partition" = 3`, "7/1")
}

func TestInsertAddsARowForEachRecord(t *testing.T) {
	r := newRig(t)
	w := r.writer(with(upsertFields(), map[string]any{"mode": "insert", "key": nil}))
	put(t, w, 10, `{"id":1,"name":"a"}`, `{"id":1,"name":"a"}`)
	put(t, w, 12, `{"id":1,"name":"b"}`)
	r.want(allRows, "1:a 1:a 1:b")
}

func TestTheSamePlanTwiceChangesNothing(t *testing.T) {
	r := newRig(t)
	for _, mode := range []map[string]any{{"table": "first"}, {"table": "second", "mode": "insert", "key": nil}} {
		fields := with(upsertFields(), mode)
		table := fields["table"].(string)
		fields["offsets_table"] = table + "_offsets"
		w := r.writer(fields)
		values := []string{`{"id":1,"name":"a"}`, `{"id":2,"name":"b"}`}
		put(t, w, 0, values...)
		state := fmt.Sprintf(`SELECT string_agg(id || name || xmin, ' ' ORDER BY id) FROM %s`, table)
		before := r.text(state)
		put(t, w, 0, values...)
		put(t, r.writer(fields), 0, values...)
		r.want(state, before)
	}
}

func TestAPlanWithoutRecordsMovesTheOffset(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	if wrong, err := w.Write(t.Context(), planOf(0, 17, 1), connectors.Batch{}); err != nil || wrong != nil {
		t.Fatal(wrong, err)
	}
	if next, known, err := w.Resume(t.Context(), clicks); next != 17 || !known || err != nil {
		t.Fatal(next, known, err)
	}
}

func TestResume(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	if next, known, err := w.Resume(t.Context(), clicks); next != 0 || known || err != nil {
		t.Fatal(next, known, err)
	}
	put(t, w, 100, `{"id":1}`, `{"id":2}`)
	if next, known, err := r.writer(upsertFields()).Resume(t.Context(), clicks); next != 102 || !known || err != nil {
		t.Fatal(next, known, err)
	}
	other := clicks
	other.Partition++
	if _, known, err := w.Resume(t.Context(), other); known || err != nil {
		t.Fatal(known, err)
	}
}

func TestAnotherOffsetIsRefused(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	put(t, w, 0, `{"id":1,"name":"a"}`, `{"id":2,"name":"b"}`)
	for _, p := range []connectors.Plan{planOf(1, 3, 1), planOf(5, 6, 1), planOf(0, 1, 9)} {
		wrong, err := w.Write(t.Context(), p, batchOf(p.From, `{"id":1,"name":"changed"}`))
		if len(wrong) > 0 {
			t.Fatal(wrong)
		}
		wantClass(t, err, connectors.ClassRetry, "load", "offset 2", fmt.Sprintf("begins at %d", p.From))
	}
	r.want(allRows, "1:a 2:b")
}

func TestAZombieIsFenced(t *testing.T) {
	r := newRig(t)
	zombie, owner := r.writer(upsertFields()), r.writer(upsertFields())
	put(t, zombie, 0, `{"id":1,"name":"a"}`)
	if _, err := owner.Write(t.Context(), planOf(1, 2, 7), batchOf(1, `{"id":2,"name":"b"}`)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []connectors.Plan{planOf(1, 2, 6), planOf(2, 3, 6), planOf(0, 1, 1)} {
		_, err := zombie.Write(t.Context(), p, batchOf(p.From, `{"id":1,"name":"zombie"}`))
		wantFenced(t, err)
	}
	r.want(allRows, "1:a 2:b")
}

// A zombie whose transaction is open holds its successor up only until it
// ends, and loses when it comes too late.
func TestAPlanInFlightElsewhere(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	put(t, w, 0, `{"id":1,"name":"a"}`)
	open, err := r.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Exec(`UPDATE entrepot_offsets SET next_offset = 2 WHERE next_offset = 1 AND epoch <= 1`); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Exec(`INSERT INTO rows VALUES (2, 'theirs')`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := w.Write(t.Context(), planOf(1, 2, 1), batchOf(1, `{"id":2,"name":"ours"}`))
		done <- err
	}()
	await(t, func() bool {
		return r.text(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'`) == "1"
	})
	if err := open.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.want(allRows, "1:a 2:theirs")
}

func TestTombstones(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	got := refusals(t, w, 0, `{"id":1,"name":"a"}`, `1=`)
	if len(got) != 1 || !strings.Contains(got[1], "delete_on_tombstone: true") {
		t.Fatal(got)
	}
	w = r.writer(with(upsertFields(), map[string]any{"delete_on_tombstone": true}))
	put(t, w, 0, `5=`, `{"id":1,"name":"a"}`, `{"id":2,"name":"b"}`, `1=`, `{"id":3,"name":"c"}`, `{"id":3}=`, `{"id":3,"name":"C"}`)
	r.want(allRows, "2:b 3:C")
	put(t, w, 7, `{"id":4}`, `{"id":2,"other":1}=`, `4=`, `{"id":4,"name":"d"}`)
	r.want(allRows, "3:C 4:d")
	got = refusals(t, w, 11, `x=`, `=`, `{"other":1}=`, `[4]=`, `null=`, `{"id":null}=`, `{"id":4,"name":"new"}`)
	if len(got) != 6 {
		t.Fatalf("%d refused: %v", len(got), got)
	}
	r.want(allRows, "3:C 4:d")
}

func TestTombstonesOfTextKeys(t *testing.T) {
	r := newRig(t)
	w := r.writer(with(upsertFields(), map[string]any{"delete_on_tombstone": true, "columns": []map[string]any{{"name": "id", "type": "text"}, {"name": "name", "type": "text"}}}))
	put(t, w, 0, `{"id":"a b"}`, `{"id":"c\"d"}`, `{"id":"7"}`, `{"id":"e"}`, `{"id":"kept"}`)
	put(t, w, 5, `a b=`, `c"d=`, `7=`, `"e"=`)
	r.want(allRows, "kept:NULL")
}

// Keys that the server holds equal though their texts differ: the last still
// wins, deletions included.
func TestKeysThatAreEqualOnlyToTheServer(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
		`CREATE TABLE rows (id text COLLATE nocase PRIMARY KEY, name text)`, `CREATE TABLE sums (id numeric PRIMARY KEY, name text)`,
		`CREATE TABLE weights (id double precision PRIMARY KEY, name text)`)
	w := r.writer(map[string]any{"table": "rows", "mode": "upsert", "key": []string{"id"}, "delete_on_tombstone": true})
	put(t, w, 0, `{"id":"ABC","name":"1"}`, `{"id":"abc","name":"2"}`, `{"id":"xyz","name":"3"}`, `XYZ=`, `{"id":"q","name":"4"}`, `Q=`, `{"id":"q","name":"5"}`)
	r.want(`SELECT string_agg(id || ':' || name, ' ' ORDER BY id) FROM rows`, "ABC:2 q:5")
	w = r.writer(map[string]any{"table": "sums", "mode": "upsert", "key": []string{"id"}, "offsets_table": "o2"})
	put(t, w, 0, `{"id":1.50,"name":"1"}`, `{"id":"1.5","name":"2"}`, `{"id":15e-1,"name":"3"}`, `{"id":0,"name":"4"}`, `{"id":-0.0,"name":"5"}`)
	r.want(`SELECT string_agg(id::float || ':' || name, ' ' ORDER BY id) FROM sums`, "0:5 1.5:3")
	w = r.writer(map[string]any{"table": "weights", "mode": "upsert", "key": []string{"id"}, "offsets_table": "o3"})
	put(t, w, 0, `{"id":1.50,"name":"1"}`, `{"id":1.5,"name":"2"}`, `{"id":0,"name":"3"}`, `{"id":-0.0,"name":"4"}`)
	r.want(`SELECT string_agg(id || ':' || name, ' ' ORDER BY id) FROM weights`, "-0:4 1.5:2")
}

func TestCompositeKey(t *testing.T) {
	r := newRig(t)
	w := r.writer(with(upsertFields(), map[string]any{"key": []string{"name", "id"}, "delete_on_tombstone": true}))
	put(t, w, 0, `{"id":1,"name":"a"}`, `{"id":1,"name":"b"}`, `{"id":1,"name":"a"}`, `{"id":2,"name":"a"}`, `{"id":1,"name":"b"}=`)
	r.want(allRows, "1:a 2:a")
	got := refusals(t, w, 5, `{"id":1}`, `{"name":"x"}`, `{"id":2}=`, `a=`)
	if len(got) != 4 || !strings.Contains(got[5], `column "name" is part of the key`) {
		t.Fatal(got)
	}
}

func TestFieldsInsideOfFieldsAndExtraOnes(t *testing.T) {
	r := newRig(t)
	fields := with(upsertFields(), map[string]any{"extra": "fail", "columns": []map[string]any{
		{"name": "id", "type": "bigint", "from": "order.id"},
		{"name": "name", "type": "text", "from": "order.customer.name"},
		{"name": "raw", "type": "jsonb", "from": "order"},
	}})
	w := r.writer(fields)
	put(t, w, 0, `{"order":{"id":1,"customer":{"name":"a","x":1.0}}}`, `{"order":{"id":2,"customer":5}}`)
	r.want(`SELECT string_agg(id || coalesce(name, '-') || raw::text, ' ' ORDER BY id) FROM rows`,
		`1a{"id": 1, "customer": {"x": 1.0, "name": "a"}} 2-{"id": 2, "customer": 5}`)
	got := refusals(t, w, 2, `{"order":{"id":3},"more":1}`, `{"order":{"id":4}}`)
	if len(got) != 1 || !strings.Contains(got[2], `"more" has no column`) {
		t.Fatal(got)
	}
}
