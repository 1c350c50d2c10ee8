package postgres

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// serverState is everything that a look must not change: transactions that
// wrote something, objects, slots, rows.
func serverState(r *rig) string {
	return strings.Join([]string{
		r.text("SELECT pg_snapshot_xmax(pg_current_snapshot())"),
		r.text("SELECT md5(string_agg(oid::text || relname || relfilenode, ',' ORDER BY oid)) FROM pg_class"),
		r.text("SELECT count(*) FROM pg_publication"),
		r.text("SELECT string_agg(slot_name || coalesce(confirmed_flush_lsn::text, ''), ',') FROM pg_replication_slots"),
		r.text("SELECT md5(string_agg(things::text, ',' ORDER BY id)) FROM things"),
	}, "\n")
}

// quietRig is a server that does nothing by itself.
func quietRig(t *testing.T) *rig {
	r := rigAt(t, conntest.OwnPostgres(t).Database(t))
	r.exec("ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
	return r
}

// things has a column of each kind that is often lost on the way.
const things = `CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE things (id bigint PRIMARY KEY, amount numeric(12,2), free numeric, at timestamptz NOT NULL,
	local timestamp, name text, short varchar(5), doc jsonb, feeling mood, updated timestamptz NOT NULL DEFAULT now())`

const someThings = `INSERT INTO things SELECT n, n + 0.25, 12345678901234567890.123, '2026-01-02T03:04:05.000006Z', '2026-01-02T03:04:05.000006',
	CASE WHEN n > 1 THEN 'name ' || n END, 'abc', '{"n": 9007199254740993}', 'happy', now() - interval '1 minute' FROM generate_series(1, 20) n`

// TestSampleChangesNothing looks at tables through both sources: what they
// read is what is there, with its types, and the server does not notice.
func TestSampleChangesNothing(t *testing.T) {
	r := quietRig(t)
	r.exec(things, someThings, "VACUUM ANALYZE")
	for name, c := range map[string]struct {
		source connectors.Sampler
		fields map[string]any
		makes  int
	}{
		"query": {Query{}, map[string]any{"dsn": r.dsn, "table": "public.things", "timestamp": "updated"}, 0},
		"cdc":   {CDC{}, map[string]any{"dsn": r.dsn, "tables": []string{"public.things"}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			before := serverState(r)
			got, err := c.source.Sample(t.Context(), conntest.Task(conntest.Config(t, c.source.Spec(), c.fields)), 10)
			if err != nil {
				t.Fatal(err)
			}
			if after := serverState(r); after != before {
				t.Errorf("the server was changed:\n%s\nit was\n%s", after, before)
			}
			if len(got.Messages) != 10 || !strings.Contains(string(got.Messages[0].Value), `"amount":"`) {
				t.Fatalf("%d messages: %v", len(got.Messages), got.Messages)
			}
			if len(got.Makes) != c.makes {
				t.Errorf("a first start would make %q, want %d statements", got.Makes, c.makes)
			}
			want := []connectors.FieldType{
				{Field: "id", Type: "bigint", Is: connectors.Logical{Kind: connectors.LogicalInt, Bits: 64}},
				{Field: "amount", Type: "numeric(12,2)", Is: connectors.Logical{Kind: connectors.LogicalDecimal, Precision: 12, Scale: 2}, Nullable: true},
				{Field: "free", Type: "numeric", Is: connectors.Logical{Kind: connectors.LogicalDecimal}, Nullable: true},
				{Field: "at", Type: "timestamp with time zone", Is: connectors.Logical{Kind: connectors.LogicalInstant, Fraction: 6}},
				{Field: "local", Type: "timestamp without time zone", Is: connectors.Logical{Kind: connectors.LogicalLocal, Fraction: 6}, Nullable: true},
				{Field: "name", Type: "text", Is: connectors.Logical{Kind: connectors.LogicalText}, Nullable: true},
				{Field: "short", Type: "character varying(5)", Is: connectors.Logical{Kind: connectors.LogicalText, Length: 5}, Nullable: true},
			}
			if have := got.Fields[:min(len(want), len(got.Fields))]; !slices.Equal(have, want) {
				t.Errorf("fields\n%v, want\n%v", have, want)
			}
		})
	}
}

// TestPreviewOfTableThatIsThere finds what the server would refuse, column by
// column, and writes nothing.
func TestPreviewOfTableThatIsThere(t *testing.T) {
	r := quietRig(t)
	r.exec(things, "ALTER TABLE things ALTER name SET NOT NULL", "ALTER TABLE things ADD spare integer DEFAULT 7")
	columns := []map[string]any{}
	for _, c := range []string{"id", "amount", "at", "name", "short", "feeling"} {
		columns = append(columns, map[string]any{"name": c})
	}
	cfg := conntest.Config(t, Sink{}.Spec(), map[string]any{"dsn": r.dsn, "table": "things", "mode": "upsert", "key": []string{"id"}, "columns": columns})
	values := []string{
		`{"id":1,"amount":"1.25","at":"2026-01-02T03:04:05Z","name":"a","short":"abc","feeling":"happy","more":1}`,
		`{"id":2,"amount":"1.255","at":"2026-01-02T03:04:05Z","name":"a"}`,
		`{"id":3,"at":"2026-01-02T03:04:05Z","name":null}`,
		`{"id":4,"at":"2026-01-02T03:04:05Z","name":"a","short":"abcdef"}`,
		`{"id":5,"at":"2026-01-02T03:04:05Z","name":"a","feeling":"bored"}`,
		`{"id":6,"at":"2026-01-02T03:04:05","name":"a"}`,
		`no object`,
	}
	before := serverState(r)
	got, err := Sink{}.Preview(t.Context(), conntest.Task(cfg), messagesOf(values))
	if err != nil {
		t.Fatal(err)
	}
	if after := serverState(r); after != before {
		t.Errorf("the server was changed:\n%s\nit was\n%s", after, before)
	}
	slices.SortFunc(got.Refused, func(a, b connectors.RecordError) int { return a.Index - b.Index })
	for i, want := range []string{"amount", "name", "short", "feeling", "at", "object"} {
		if i >= len(got.Refused) || got.Refused[i].Index != i+1 || !strings.Contains(got.Refused[i].Error(), want) {
			t.Fatalf("refused %v, want record %d for %s", got.Refused, i+1, want)
		}
	}
	if len(got.Makes) != 1 || !strings.Contains(got.Makes[0], "entrepot_offsets") {
		t.Errorf("it would make %q, want the offsets' table", got.Makes)
	}
	if !slices.Equal(got.Dropped, []string{"more"}) || !got.Meant {
		t.Errorf("dropped %q, meant %t", got.Dropped, got.Meant)
	}
	if !slices.Contains(got.Unfilled, "spare integer") || len(got.Columns) != 6 {
		t.Errorf("unfilled %q, columns %v", got.Unfilled, got.Columns)
	}
}

// TestPreviewOfTableThatIsNot shows the statement that a run would begin with:
// a run with the same records makes just this table.
func TestPreviewOfTableThatIsNot(t *testing.T) {
	r := quietRig(t)
	r.exec("CREATE TABLE things (id integer)") // for serverState
	cfg := conntest.Config(t, Sink{}.Spec(), map[string]any{"dsn": r.dsn, "table": "public.fresh", "create": true})
	sample := messagesOf([]string{`{"id":1,"ratio":1.5,"at":"2026-01-02T03:04:05Z","doc":{"a":1},"text":"x"}`, `{"id":2,"ok":true}`})
	before := serverState(r)
	got, err := Sink{}.Preview(t.Context(), conntest.Task(cfg), sample)
	if err != nil {
		t.Fatal(err)
	}
	if after := serverState(r); after != before {
		t.Errorf("the server was changed:\n%s\nit was\n%s", after, before)
	}
	if len(got.Makes) != 2 || len(got.Refused) != 0 {
		t.Fatalf("it would make %q and refuse %v", got.Makes, got.Refused)
	}
	r.exec(got.Makes[1])
	columns := "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ',' ORDER BY attnum) FROM pg_attribute WHERE attnum > 0 AND attrelid = 'fresh'::regclass"
	promised := r.text(columns)
	r.exec("DROP TABLE fresh")
	w, err := Sink{}.Open(t.Context(), conntest.Task(cfg), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(t.Context())
	if wrong, err := w.Write(t.Context(), connectors.Plan{Partition: clicks, To: 2}, connectors.Batch{Messages: sample}); err != nil || len(wrong) > 0 {
		t.Fatal(wrong, err)
	}
	r.want(columns, promised)
}

// TestPreviewFromHeader: a look says what the types of the records' headers make of
// a table, and so does a run.
func TestPreviewFromHeader(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TYPE mood AS ENUM ('sad', 'ok')")
	look := func(head string, values ...string) (connectors.Batch, connectors.Preview) {
		t.Helper()
		b := says(0, head, values...)
		got, err := Sink{}.Preview(t.Context(), conntest.Task(r.config(evolving(nil))), b.Messages)
		if err != nil {
			t.Fatal(err)
		}
		return b, got
	}
	b, got := look("id bigint; n integer; price numeric(12,2); m mood; short character varying(3)",
		`{"id":1,"n":1,"price":"10.50","m":"ok","short":"abc"}`, `{"id":2,"m":"bored"}`, `{"id":3,"short":"abcd"}`)
	made := got.Makes[len(got.Makes)-1]
	if len(got.Refused) != 2 || got.Refused[0].Index == 0 || got.Refused[1].Index == 0 {
		t.Errorf("refused %v", got.Refused)
	}
	r.exec(made)
	promised := r.text(allColumns)
	r.exec("DROP TABLE rows")
	b.Messages = b.Messages[:1]
	putSaid(t, r.writer(evolving(nil)), b)
	r.want(allColumns, promised)

	b, got = look("id bigint; n bigint; price numeric(12,2); tags text[]; other their.enum; secret text", `{"id":1,"n":3000000000,"tags":["a"],"other":"x","lost":1}`)
	if len(got.Refused) != 0 || len(got.Makes) != 1 || !slices.Equal(got.Dropped, []string{"lost"}) || len(got.Columns) != 7 {
		t.Errorf("refused %v, makes %q, dropped %q, columns %v", got.Refused, got.Makes, got.Dropped, got.Columns)
	}
	before := r.text(allColumns)
	r.exec(got.Makes...)
	promised = r.text(allColumns)
	if promised == before {
		t.Error("nothing would be changed")
	}
	r.exec("DROP TABLE rows", "DROP TABLE entrepot_offsets", made)
	putSaid(t, r.writer(evolving(nil)), b)
	r.want(allColumns, promised)
}

// TestDeclaredType: what a name says of a type is what the catalog says of it.
func TestDeclaredType(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE "My Mood" AS ENUM ('sad')`)
	r.exec(`CREATE TABLE rows (a smallint, b integer, c bigint, d numeric, e numeric(12,2), f numeric(5), g numeric(5,-2), h real, i double precision, j text,
		k varchar, l varchar(7), m character(7), n boolean, o timestamptz, p timestamptz(3), q timestamp, r timestamp(0), s date, t jsonb, u uuid, v bytea,
		w interval, x inet, y mood, z "My Mood", aa integer[], ab numeric(12,2)[], ac varchar(7)[], ad mood[], ae time(3), af bit(4), ag bit varying, ah char(2)[])`)
	w, err := newWriter(conntest.Task(r.config(evolving(nil))))
	if err != nil {
		t.Fatal(err)
	}
	if w.link, err = connect(t.Context(), w.cfg); err != nil {
		t.Fatal(err)
	}
	defer w.drop()
	err = w.inside(t.Context(), "look", func(in *tx) error {
		table, err := in.describe(name{"", "rows"})
		if err == nil && len(table) != 34 {
			t.Errorf("%d columns", len(table))
		}
		for _, f := range table {
			if got := declaredType(f.typ.shown); !reflect.DeepEqual(got, f.typ) {
				t.Errorf("column %s: %+v, want %+v", f.name, got, f.typ)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func messagesOf(values []string) []connectors.Message {
	all := make([]connectors.Message, len(values))
	for i, v := range values {
		all[i] = connectors.Message{Value: []byte(v), Partition: clicks, Offset: int64(i)}
	}
	return all
}
