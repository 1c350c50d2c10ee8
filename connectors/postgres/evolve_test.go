package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/record"
)

// says makes a batch whose records have a header with these columns: "name type,
// name type".
func says(from int64, columns string, values ...string) connectors.Batch {
	b := batchOf(from, values...)
	var list []string
	for one := range strings.SplitSeq(columns, "; ") {
		name, typ, _ := strings.Cut(one, " ")
		list = append(list, fmt.Sprintf(`{"name":%q,"type":%q}`, name, typ))
	}
	for i := range b.Messages {
		b.Messages[i].Headers = []record.Header{{Key: format.SchemaHeader, Value: []byte(`{"table":"rows","columns":[` + strings.Join(list, ",") + `]}`)}}
	}
	return b
}

// putSaid writes a batch of says, which has to go in.
func putSaid(t testing.TB, w connectors.Writer, b connectors.Batch) {
	t.Helper()
	from := b.Messages[0].Offset
	wrong, err := w.Write(t.Context(), planOf(from, from+int64(len(b.Messages)), 1), b)
	if err != nil || len(wrong) > 0 {
		t.Fatalf("write: %v, %v", wrong, err)
	}
}

const allColumns = `SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN '!' ELSE '' END, '; ' ORDER BY attnum)
	FROM pg_attribute WHERE attrelid = 'rows'::regclass AND attnum > 0 AND NOT attisdropped`

func evolving(more map[string]any) map[string]any {
	return with(with(upsertFields(), map[string]any{"columns": nil, "evolve": true, "delete_on_tombstone": true}), more)
}

// TestTableFromHeader: the table has the types of the source, and what only says
// what to do with a row is no column.
func TestTableFromHeader(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0)`)
	w := r.writer(evolving(nil))
	head := "id bigint; price numeric(12,2); at timestamp without time zone; m mood; p positive; other their.enum; list integer[]; gone text"
	putSaid(t, w, says(0, head, `{"id":9,"__op":"d"}`))
	r.want(`SELECT to_regclass('rows')::text`, "")
	putSaid(t, w, says(1, head, `{"id":1,"price":"10.50","at":"2015-05-17T10:05:03","m":"ok","p":5,"other":"red","list":[1,null],"__op":"c"}`))
	r.want(allColumns, "id bigint!; price numeric(12,2); at timestamp without time zone; m mood; p positive; other text; list integer[]")
	r.want(`SELECT rows::text FROM rows`, `(1,10.50,"2015-05-17 10:05:03",ok,5,red,"{1,NULL}")`)
	putSaid(t, w, says(2, head, `{"id":1,"__op":"d"}`))
	r.want(`SELECT count(*) FROM rows`, "0")
}

// TestEvolution: columns are added and made wider, never dropped or narrower, and
// not when a transform has taken the field out.
func TestEvolution(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE rows (id integer PRIMARY KEY, n smallint, d numeric(6,2), v varchar(3), big bigint, old text, twice bigint GENERATED ALWAYS AS (big * 2) STORED)`)
	w := r.writer(evolving(nil))
	other := r.writer(evolving(nil)) // opened before the table changes
	putSaid(t, w, says(0, "id integer; n smallint; d numeric(6,2); v character varying(3); big bigint; twice bigint", `{"id":1,"n":1,"d":"1.25","v":"abc","big":1,"old":"x","twice":2}`))
	before := r.text(allColumns)
	if strings.Contains(before, "mood") {
		t.Fatal(before)
	}
	// Nothing to change: big is narrower at the source, secret was taken out, and
	// undeclared has no type.
	putSaid(t, w, says(1, "id integer; n smallint; big integer; secret text", `{"id":2,"n":1,"big":2,"undeclared":1}`))
	r.want(allColumns, before)
	putSaid(t, w, says(2, "id bigint; n integer; d numeric(10,3); v text; big integer; m mood; who their.enum; flag boolean; tags text[]",
		`{"id":3000000000,"n":70000,"d":"1234567.125","v":"abcdef","m":"sad","who":null,"flag":null,"tags":["a"]}`))
	r.want(allColumns, "id bigint!; n integer; d numeric(10,3); v text; big bigint; old text; twice bigint; flag boolean; m mood; tags text[]")
	r.want(`SELECT old || d FROM rows WHERE id = 1`, "x1.250")
	putSaid(t, other, says(3, "id bigint; n integer; who their.enum; flag boolean", `{"id":3000000001,"n":70000,"who":"me","flag":true}`))
	r.want(`SELECT n || who || flag FROM rows WHERE id = 3000000001`, "70000metrue")
	// The next writer finds it as it is.
	putSaid(t, r.writer(evolving(nil)), says(4, "id bigint; n integer; who their.enum", `{"id":1,"n":2,"who":"you"}`))
	r.want(`SELECT count(*) || ' ' || max(n) FROM rows`, "4 70000")

	frozen := r.writer(evolving(map[string]any{"evolve": nil}))
	putSaid(t, frozen, says(5, "id bigint; new text", `{"id":5,"new":"x"}`))
	if strings.Contains(r.text(allColumns), "new") {
		t.Error("without evolve a column was added")
	}
	if _, err := r.open(with(upsertFields(), map[string]any{"evolve": true})); connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("evolve beside columns: %v", err)
	}
}

// TestHeaderIsNoSQL: whoever can write to the topic can write headers.
func TestHeaderIsNoSQL(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE rows (id bigint PRIMARY KEY)`)
	w := r.writer(evolving(nil))
	for i, typ := range []string{
		`text; DROP TABLE rows`, `text, ADD COLUMN x text`, `text DEFAULT pg_sleep(9)`, `text)--`, `"text" NOT NULL`, `integer CHECK (false)`, `pg_catalog.text COLLATE "C"`, `character varying(99999999999)`, ``,
	} {
		name := fmt.Sprintf("c%d", i)
		b := batchOf(int64(i), fmt.Sprintf(`{"id":%d,%q:"v"}`, i, name))
		b.Messages[0].Headers = []record.Header{{Key: format.SchemaHeader, Value: fmt.Appendf(nil, `{"columns":[{"name":%q,"type":%q}]}`, name, typ)}}
		wrong, err := w.Write(t.Context(), planOf(int64(i), int64(i+1), 1), b)
		if typ == `character varying(99999999999)` {
			wantClass(t, err, connectors.ClassFatal)
			b.Messages[0].Headers = nil
			wrong, err = w.Write(t.Context(), planOf(int64(i), int64(i+1), 1), b)
		} else {
			r.want(`SELECT `+name+` FROM rows WHERE id = `+fmt.Sprint(i), "v")
		}
		if err != nil || len(wrong) > 0 {
			t.Fatalf("%s: %v, %v", typ, wrong, err)
		}
	}
	r.want(`SELECT string_agg(DISTINCT format_type(atttypid, -1), ',') FROM pg_attribute WHERE attrelid = 'rows'::regclass AND attnum > 1`, "text")
}

// TestWidens: to a type is wider only when it holds every value.
func TestWidens(t *testing.T) {
	for pair, want := range map[string]bool{
		"smallint>integer": true, "integer>smallint": false, "bigint>numeric": true, "bigint>numeric(19,0)": true, "bigint>numeric(19,1)": false, "bigint>numeric(18,0)": false,
		"numeric>bigint": false, "numeric(6,2)>numeric": true, "numeric>numeric(6,2)": false, "numeric(6,2)>numeric(7,3)": true, "numeric(6,2)>numeric(7,1)": false, "numeric(6,2)>numeric(6,3)": false,
		"real>double precision": true, "double precision>real": false, "double precision>numeric": false, "real>text": false, "integer>text": false,
		"character varying(3)>character varying(4)": true, "character varying(4)>character varying(3)": false, "character varying(3)>text": true, "character varying>text": true, "text>character varying": false,
		"integer[]>bigint[]": true, "integer>bigint[]": false, "mood>text": false, "integer>integer": false, "timestamp without time zone>timestamp with time zone": false,
	} {
		now, to, _ := strings.Cut(pair, ">")
		if widens(now, to) != want {
			t.Errorf("%s: %t", pair, !want)
		}
	}
}

// TestColumnlessBeforeTheTable: a record without a field is not passed over while
// there is no table; a delete is.
func TestColumnlessBeforeTheTable(t *testing.T) {
	r := newRig(t)
	w := r.writer(with(upsertFields(), map[string]any{"columns": nil, "delete_on_tombstone": true}))
	if got := refusals(t, w, 0, `{}`, `1=`, `{"id":2,"__op":"d"}`); len(got) != 1 || !strings.Contains(got[0], "the record has no field") {
		t.Fatal(got)
	}
	put(t, w, 0, `1=`, `{"id":2,"__op":"d"}`)
	r.want(`SELECT to_regclass('rows')::text`, "")
	r.want(`SELECT next_offset FROM entrepot_offsets`, "2")
	w = r.writer(map[string]any{"table": "rows", "create": true})
	if got := refusals(t, w, 2, `{}`); len(got) != 1 {
		t.Fatal(got)
	}
}
