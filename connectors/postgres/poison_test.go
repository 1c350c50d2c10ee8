package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
)

// withBad are n rows of which some are of another kind.
func withBad(n int, bad map[int]string) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf(`{"id":%d,"name":"n%d"}`, i, i)
		if b, ok := bad[i]; ok {
			values[i] = b
		}
	}
	return values
}

// drop takes the refused records out, as the runtime does.
func drop(values []string, from int64, refused map[int64]string) connectors.Batch {
	b := batchOf(from, values...)
	b.Messages = slices.DeleteFunc(b.Messages, func(m connectors.Message) bool { return refused[m.Offset] != "" })
	return b
}

// Bad rows that the server refuses, each by another of its rules: exactly
// those are named, nothing is visible, and the plan goes in without them.
func TestBadRowsAreIsolated(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE groups (g integer PRIMARY KEY)`, `INSERT INTO groups VALUES (1)`,
		`CREATE TABLE rows (id bigint PRIMARY KEY, name text NOT NULL CHECK (name <> 'bad'), g integer REFERENCES groups DEFERRABLE INITIALLY DEFERRED)`,
		`CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.name = 'odd' THEN RAISE 'no odd names' USING ERRCODE = 'MY001'; END IF; RETURN NEW; END $$`,
		`CREATE TRIGGER judge BEFORE INSERT OR UPDATE ON rows FOR EACH ROW EXECUTE FUNCTION judge()`)
	bad := map[int]string{0: `{"id":0,"name":"bad"}`, 499: `{"id":499}`, 500: `{"id":500,"name":"odd"}`, 777: `{"id":777,"name":"x","g":2}`, 999: `{"id":999,"name":"bad"}`}
	reasons := map[int64]string{0: "name_check", 499: `"name"`, 500: "no odd names", 777: "rows_g_fkey", 999: "name_check"}
	for _, mode := range []string{"upsert", "insert"} {
		fields := map[string]any{"table": "rows", "mode": mode, "key": []string{"id"}, "offsets_table": mode + "_offsets"}
		if mode == "insert" {
			delete(fields, "key")
			r.exec(`TRUNCATE rows`)
		}
		w := r.writer(fields)
		values := withBad(1000, bad)
		got := refusals(t, w, 0, values...)
		if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(reasons))) {
			t.Fatalf("%s: got %v", mode, got)
		}
		for offset, want := range reasons {
			if !strings.Contains(got[offset], want) {
				t.Errorf("%s: offset %d: got %q, want %q in it", mode, offset, got[offset], want)
			}
		}
		r.want(`SELECT count(*) FROM rows`, "0")
		r.want(`SELECT count(*) FROM `+mode+`_offsets`, "0")
		if wrong, err := w.Write(t.Context(), planOf(0, 1000, 1), drop(values, 0, got)); err != nil || wrong != nil {
			t.Fatal(wrong, err)
		}
		r.want(`SELECT count(*) FROM rows`, "995")
		r.want(`SELECT next_offset FROM `+mode+`_offsets`, "1000")
	}
}

// Bad rows that the encoder finds: it takes no transaction to name them.
func TestBadValuesAreIsolated(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	values := withBad(1000, map[int]string{3: `{"id":9223372036854775808,"name":"x"}`, 500: `{"id":1,"name":"a\u0000"}`, 998: `not JSON`})
	got := refusals(t, w, 0, values...)
	if len(got) != 3 || !strings.Contains(got[3], `column "id" is bigint`) || !strings.Contains(got[500], `column "name" is text`) || !strings.Contains(got[998], "not a JSON object") {
		t.Fatal(got)
	}
	r.want(`SELECT count(*) FROM rows`, "0")
	if wrong, err := w.Write(t.Context(), planOf(0, 1000, 1), drop(values, 0, got)); err != nil || wrong != nil {
		t.Fatal(wrong, err)
	}
	r.want(`SELECT count(*) FROM rows`, "997")
}

func TestWhatIsNotAnObject(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	got := refusals(t, w, 0, `[1]`, `5`, `null`, `"x"`, ``, `{"id":1,"id":2}`, `{"id":1} {}`, "{\"id\":1,\"name\":\"\xff\"}", `{"id":`, `{"name":"no key"}`, `{"id":1}`)
	if len(got) != 10 || got[10] != "" {
		t.Fatalf("%d refused: %v", len(got), got)
	}
}

// A unique column that is not the key: the second row of two is the bad one.
func TestTheLaterOfTwoRowsThatExcludeEachOtherIsBad(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE rows (id bigint PRIMARY KEY, name text UNIQUE)`, `INSERT INTO rows VALUES (-1, 'taken')`)
	w := r.writer(with(upsertFields(), map[string]any{"columns": nil}))
	got := refusals(t, w, 0, withBad(200, map[int]string{20: `{"id":20,"name":"same"}`, 150: `{"id":150,"name":"same"}`, 60: `{"id":60,"name":"taken"}`})...)
	if len(got) != 2 || !strings.Contains(got[150], "(name)=(same)") || !strings.Contains(got[60], "(name)=(taken)") {
		t.Fatal(got)
	}
}

// A row may refer to a later one of the batch. The search for a bad row splits
// them; that must not cost a good row.
func TestRowsThatNeedEachOtherAreGood(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE rows (id bigint PRIMARY KEY, name text, parent bigint REFERENCES rows, CHECK (name <> 'bad'))`)
	w := r.writer(with(upsertFields(), map[string]any{"columns": nil}))
	values := withBad(64, map[int]string{1: `{"id":1,"name":"child","parent":62}`, 2: `{"id":2,"name":"child","parent":1}`, 33: `{"id":33,"name":"bad"}`, 5: `{"id":5,"name":"orphan","parent":33}`})
	got := refusals(t, w, 0, values...)
	if !slices.Equal(slices.Sorted(maps.Keys(got)), []int64{5, 33}) {
		t.Fatal(got)
	}
	if wrong, err := w.Write(t.Context(), planOf(0, 64, 1), drop(values, 0, got)); err != nil || wrong != nil {
		t.Fatal(wrong, err)
	}
	r.want(`SELECT count(*) FROM rows`, "62")
}

// Where all rows are bad, a write names only some of them: the job has its own
// limit and gets the chance to stop.
func TestManyBadRows(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE rows (id bigint PRIMARY KEY, name text CHECK (name = 'good'))`)
	w := r.writer(with(upsertFields(), map[string]any{"columns": nil}))
	values := withBad(500, map[int]string{444: `{"id":444,"name":"good"}`})
	b, rounds := batchOf(0, values...), 0
	for ; ; rounds++ {
		wrong, err := w.Write(t.Context(), planOf(0, 500, 1), b)
		if err != nil {
			t.Fatal(err)
		}
		if len(wrong) == 0 {
			break
		}
		out := map[int64]string{}
		for _, e := range wrong {
			out[e.Offset] = e.Err.Error()
		}
		b.Messages = slices.DeleteFunc(b.Messages, func(m connectors.Message) bool { return out[m.Offset] != "" })
	}
	if rounds != 5 {
		t.Errorf("it took %d rounds of up to %d bad rows", rounds, maxBad)
	}
	r.want(`SELECT string_agg(id::text, ' ') FROM rows`, "444")
	r.want(`SELECT next_offset FROM entrepot_offsets`, "500")
}
