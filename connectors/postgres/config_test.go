package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func TestSpec(t *testing.T) {
	conntest.Spec(t, Sink{}.Spec())
	cfg := conntest.Config(t, Sink{}.Spec(), map[string]any{"dsn": "x", "table": "t"})
	if got, want := (Sink{}).Batching(cfg), (connectors.Limits{Records: 5000, Bytes: 8 << 20, Wait: time.Second}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	cfg = conntest.Config(t, Sink{}.Spec(), map[string]any{"dsn": "x", "table": "t", "batch": map[string]any{"rows": 7, "every": time.Minute}})
	if got := (Sink{}).Batching(cfg); got.Records != 7 || got.Wait != time.Minute {
		t.Errorf("got %+v", got)
	}
}

func TestFieldsThatAreWrong(t *testing.T) {
	long := strings.Repeat("n", 64)
	for want, fields := range map[string]map[string]any{
		"the name is empty":   {"table": ""},
		"more than one dot":   {"table": "a.b.c"},
		"longer than the 63":  {"table": "s." + long},
		"name is empty":       {"table": ".t"},
		"cannot be a":         {"offsets_table": "o\x00"},
		`"id" is there twice`: {"key": []string{"id", "id"}},
		`"varchar" is not`:    {"columns": []map[string]any{{"name": "id", "type": "varchar"}}},
		`"patch" is not one`:  {"mode": "patch"},
		"field \"name\" is":   {"columns": []map[string]any{{"type": "text"}}},
	} {
		_, err := connectors.NewConfig(Sink{}.Spec().Fields, with(with(upsertFields(), map[string]any{"dsn": "x"}), fields))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q in it", fields, err, want)
		}
	}
}

func TestValidateWithoutAServer(t *testing.T) {
	column := func(more ...string) []map[string]any {
		return []map[string]any{{"name": "id", "type": "bigint", "from": strings.Join(more, ".")}}
	}
	for _, c := range []struct {
		fields map[string]any
		field  string
	}{
		{map[string]any{}, ""},
		{map[string]any{"columns": nil}, ""},
		{map[string]any{"key": nil}, "key"},
		{map[string]any{"mode": "insert"}, "key"},
		{map[string]any{"mode": "insert", "key": nil, "delete_on_tombstone": true}, "delete_on_tombstone"},
		{map[string]any{"key": []string{"other"}}, "key"},
		{map[string]any{"columns": append(column("a"), column("b")...)}, "columns"},
		{map[string]any{"columns": column("a", "", "b")}, "columns"},
	} {
		cfg := conntest.Config(t, Sink{}.Spec(), with(with(upsertFields(), map[string]any{"dsn": "postgres://nowhere"}), c.fields))
		got := Sink{}.Validate(t.Context(), cfg, connectors.ProbeNone)
		if c.field == "" && len(got) > 0 || c.field != "" && (len(got) != 1 || got[0].Field != c.field || got[0].Warning) {
			t.Errorf("%v: got %+v, want a finding of %q", c.fields, got, c.field)
		}
		if _, err := (Sink{}).Open(t.Context(), conntest.Task(cfg), nil); c.field != "" && connectors.ClassOf(err) != connectors.ClassFatal {
			t.Errorf("%v: Open gave %v", c.fields, err)
		}
	}
}

// What has to change at the destination or in the config, and what would be
// right. Validate says the same as Open, and leaves nothing behind.
func TestWhatDoesNotFit(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE plain (id bigint, name text)`, `CREATE TABLE keyed (id bigint PRIMARY KEY, name text)`,
		`CREATE TABLE filled (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, at timestamptz DEFAULT now())`,
		`CREATE TABLE strict (id bigint PRIMARY KEY, name text, must text NOT NULL)`, `CREATE VIEW seen AS SELECT DISTINCT id, name FROM keyed`,
		`CREATE TABLE other_offsets (job text)`,
		`CREATE ROLE reader LOGIN`, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader`)
	reader := strings.Replace(r.dsn, "postgres@", "reader@", 1)
	for _, c := range []struct {
		fields map[string]any
		texts  []string
	}{
		{map[string]any{"table": "nothing", "create": nil}, []string{"table public.nothing does not exist", "create: true"}},
		{map[string]any{"table": "nothing", "columns": []map[string]any{{"name": "id"}}}, []string{`"id" has no type`}},
		{map[string]any{"table": "no.where"}, []string{"3F000"}},
		{map[string]any{"table": "plain"}, []string{"unique index", "42P10"}},
		{map[string]any{"table": "keyed", "columns": []map[string]any{{"name": "id"}, {"name": "nmae"}}}, []string{`no column "nmae"`}},
		{map[string]any{"table": "keyed", "columns": []map[string]any{{"name": "id", "type": "integer"}}}, []string{"is bigint, but columns says integer"}},
		{map[string]any{"table": "keyed", "columns": nil, "key": []string{"nr"}}, []string{"the key (nr) is not among the columns of table public.keyed: id, name"}},
		{map[string]any{"table": "filled", "columns": nil}, []string{"columns with a default (id, at)", "list the columns"}},
		{map[string]any{"table": "strict"}, []string{`"must" of table public.strict may not be NULL`}},
		{map[string]any{"table": "seen", "mode": "insert", "key": nil}, []string{"public.seen", "55000"}},
		{map[string]any{"table": "keyed", "offsets_table": "other_offsets"}, []string{"offsets table public.other_offsets", "42"}},
		{map[string]any{"table": "keyed", "dsn": reader, "offsets_table": "new_offsets"}, []string{"42501", "grant"}},
		{map[string]any{"table": "keyed", "dsn": strings.Replace(r.dsn, "postgres@", "nobody@", 1)}, []string{"connect", "28", "nobody"}},
		{map[string]any{"table": "keyed", "dsn": strings.Replace(r.dsn, "/test", "/nodb", 1)}, []string{"connect", "3D000", "check the database"}},
		{map[string]any{"table": "keyed", "dsn": strings.Replace(r.dsn, "sslmode=disable", "sslmode=require", 1)}, []string{"connect", "TLS", "sslmode=disable"}},
		{map[string]any{"table": "keyed", "dsn": r.dsn + "&sslmod=x"}, []string{"connect", "sslmod"}},
	} {
		t.Run(c.texts[0], func(t *testing.T) {
			fields := with(upsertFields(), c.fields)
			_, err := r.open(fields)
			wantClass(t, err, connectors.ClassFatal, c.texts...)
			if fields["table"] == "no.where" || fields["offsets_table"] == "new_offsets" {
				return // only creating a table tells
			}
			got := Sink{}.Validate(t.Context(), r.config(fields), connectors.ProbeLive)
			if len(got) != 1 || got[0].Warning || !strings.Contains(got[0].Message, c.texts[0]) {
				t.Errorf("Validate found %+v, want %q", got, c.texts)
			}
		})
	}
	r.want(`SELECT count(*) FROM pg_class WHERE relname IN ('nothing', 'new_offsets')`, "0")
}

// What the server only tells when rows come is as final.
func TestWhatDoesNotFitLater(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE rows (id bigint UNIQUE DEFERRABLE, name text)`)
	w := r.writer(upsertFields())
	_, err := w.Write(t.Context(), planOf(0, 1, 1), batchOf(0, `{"id":1}`))
	wantClass(t, err, connectors.ClassFatal, "55000")
	r.exec(`ALTER TABLE rows DROP CONSTRAINT rows_id_key, ADD PRIMARY KEY (id)`)
	put(t, w, 0, `{"id":1,"name":"a"}`)
	r.exec(`ALTER TABLE rows DROP COLUMN name`)
	_, err = w.Write(t.Context(), planOf(1, 2, 1), batchOf(1, `{"id":2}`))
	wantClass(t, err, connectors.ClassFatal, "name", "42703")
	r.want(`SELECT string_agg(id::text, ' ') FROM rows`, "1")
}

func TestValidateWithAServer(t *testing.T) {
	r := newRig(t)
	for range 2 {
		if got := (Sink{}).Validate(t.Context(), r.config(upsertFields()), connectors.ProbeLive); len(got) > 0 {
			t.Fatal(got)
		}
	}
	r.want(`SELECT count(*) FROM pg_class WHERE relname IN ('rows', 'entrepot_offsets')`, "0")
	put(t, r.writer(upsertFields()), 0, `{"id":1}`)
	if got := (Sink{}).Validate(t.Context(), r.config(upsertFields()), connectors.ProbeLive); len(got) > 0 {
		t.Fatal(got)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	got := Sink{}.Validate(t.Context(), r.config(with(upsertFields(), map[string]any{"dsn": "postgres://x@" + l.Addr().String()})), connectors.ProbeLive)
	if len(got) != 1 || got[0].Field != "dsn" || !got[0].Warning {
		t.Fatalf("a server that is not there: %+v", got)
	}
}

// The password is in no error and no text of the config, whatever fails.
func TestThePasswordIsNeverShown(t *testing.T) {
	r := newRig(t)
	const password = "s3cr3t-p4ss"
	r.exec(`CREATE ROLE guarded`, `CREATE ROLE loader LOGIN PASSWORD 'another' IN ROLE guarded`)
	u, err := url.Parse(r.dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("loader", password)
	broken := strings.Replace(u.String(), u.Host, u.Host+"x", 1)
	for name, c := range map[string]struct {
		dsn   string
		class connectors.Class
	}{
		"wrong":            {u.String(), connectors.ClassFatal},
		"a broken URL":     {broken, connectors.ClassFatal},
		"pairs":            {"host=127.0.0.1 passwort=" + password + " port=x", connectors.ClassFatal},
		"no pairs":         {"password='" + password, connectors.ClassFatal},
		"nobody listening": {"host=127.0.0.1 port=1 sslmode=disable user=x password=" + password, connectors.ClassRetry},
		"no such host":     {"host=" + password + ".invalid sslmode=disable user=x", connectors.ClassRetry},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := r.config(with(upsertFields(), map[string]any{"dsn": c.dsn}))
			_, err := Sink{}.Open(t.Context(), conntest.Task(cfg), nil)
			wantClass(t, err, c.class)
			shown := fmt.Sprintf("%v %+v %#v %v %+v %v", cfg, cfg, cfg, cfg.Shown(), Sink{}.Validate(t.Context(), cfg, connectors.ProbeLive), err)
			for e := err; e != nil; e = errors.Unwrap(e) {
				shown += fmt.Sprintf("%v %+v", e, e)
			}
			if name != "no such host" && strings.Contains(shown, password) {
				t.Errorf("it is in %s", shown)
			}
		})
	}
}

func TestASecretThatCannotBeRead(t *testing.T) {
	cfg := conntest.Config(t, Sink{}.Spec(), with(upsertFields(), map[string]any{"dsn": connectors.LazySecret(func() (string, error) { return "", errors.New("no variable X") })}))
	_, err := Sink{}.Open(t.Context(), conntest.Task(cfg), nil)
	wantClass(t, err, connectors.ClassFatal, "dsn", "no variable X")
}

func TestCreatingFromRecords(t *testing.T) {
	r := newRig(t)
	fields := with(upsertFields(), map[string]any{"columns": nil, "delete_on_tombstone": true})
	w := r.writer(fields)
	put(t, w, 0, `1=`)
	if got := refusals(t, w, 1, `{"id":1}`, `5`); len(got) != 1 || got[2] == "" {
		t.Fatal(got)
	}
	r.want(`SELECT to_regclass('rows')::text`, "")
	put(t, w, 1, `{"id":1,"s":"x","n":1,"b":true,"at":"2015-05-17T10:05:03Z","o":{"a":1},"Mixed Case":null}`, `{"id":2,"n":1.5,"Mixed Case":"y","big":123456789012345678901234567890}`)
	r.want(`SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'rows'::regclass AND attnum > 0`,
		"id bigint, s text, n double precision, b boolean, at timestamp with time zone, o jsonb, Mixed Case text, big jsonb")
	r.want(`SELECT string_agg(id || coalesce(s, '-') || n || coalesce("Mixed Case", '-') || coalesce(big::text, '-'), ' ' ORDER BY id) FROM rows`, "1x1-- 2-1.5y123456789012345678901234567890")
	w = r.writer(fields)
	put(t, w, 3, `{"id":1,"s":"X","new":1}`, `2=`)
	r.want(`SELECT string_agg(id || s || coalesce(n::text, '-'), ' ') FROM rows`, "1X-")

	w = r.writer(with(upsertFields(), map[string]any{"table": "keyless", "columns": nil, "offsets_table": "o"}))
	_, err := w.Write(t.Context(), planOf(0, 1, 1), batchOf(0, `{"nr":1}`))
	wantClass(t, err, connectors.ClassFatal, `the key "id" is not among`)
	_, err = w.Write(t.Context(), planOf(0, 1, 1), batchOf(0, fmt.Sprintf(`{"id":1,%q:2}`, strings.Repeat("f", 64))))
	wantClass(t, err, connectors.ClassFatal, "cannot be a column", "declare columns")
}

// Several tasks of a job begin at the same time and all find nothing there.
func TestManyCreateTheTables(t *testing.T) {
	r := newRig(t)
	done := make(chan error)
	const many = 8
	for range many {
		go func() {
			w, err := Sink{}.Open(t.Context(), conntest.Task(r.config(upsertFields())), nil)
			if err == nil {
				err = w.Close(context.Background())
			}
			done <- err
		}()
	}
	for range many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Names are taken as written, and nothing in them is SQL.
func TestNames(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE SCHEMA "My Schema"`)
	fields := map[string]any{
		"table": `My Schema.Row's "x"; DROP TABLE`, "mode": "upsert", "key": []string{`a"b`}, "create": true, "delete_on_tombstone": true,
		"columns": []map[string]any{{"name": `a"b`, "type": "text"}, {"name": "select", "type": "text", "from": `it's`}},
	}
	w := r.writer(fields)
	put(t, w, 0, `{"a\"b":"k'1","it's":"v'); --"}`, `{"a\"b":"k2"}`, `{"a\"b":"k2"}=`)
	r.want(`SELECT "a""b" || "select" FROM "My Schema"."Row's ""x""; DROP TABLE"`, `k'1v'); --`)
	r.want(`SELECT next_offset FROM "My Schema".entrepot_offsets`, "3")
	task := conntest.Task(r.config(fields))
	task.Job = `it's \ "odd"`
	odd, err := Sink{}.Open(t.Context(), task, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer odd.Close(t.Context())
	put(t, odd, 5, `{"a\"b":"k3"}`)
	if next, known, err := odd.Resume(t.Context(), clicks); next != 6 || !known || err != nil {
		t.Fatal(next, known, err)
	}
}

// A column that fills itself, and one that is computed, of a table that others
// made.
func TestColumnsThatFillThemselves(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE rows (nr bigint GENERATED ALWAYS AS IDENTITY, id bigint PRIMARY KEY, name text, twice bigint GENERATED ALWAYS AS (id * 2) STORED, state text NOT NULL DEFAULT 'new')`)
	put(t, r.writer(upsertFields()), 0, `{"id":5,"name":"a"}`, `{"id":6,"name":"b"}`)
	r.want(`SELECT string_agg(nr || ':' || id || name || twice || state, ' ' ORDER BY id) FROM rows`, "1:5a10new 2:6b12new")
	put(t, r.writer(with(upsertFields(), map[string]any{"mode": "insert", "key": nil, "columns": []map[string]any{{"name": "nr"}, {"name": "id"}}, "offsets_table": "o"})), 0, `{"nr":99,"id":7}`)
	r.want(`SELECT nr FROM rows WHERE id = 7`, "99")
}
