package all_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// large is a text that PostgreSQL keeps outside of the row, and does not send
// when an update leaves it as it was.
const large = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) AS n)"

// TestReplicaInClickHouse: everything that happens to a table, by CDC into a
// ReplacingMergeTree that the sink makes of what the records say: rows that
// change often in one batch, changed keys, deletes.
// Without the whole row in the log, an update that leaves a large value as it
// was is refused: nobody here knows it, and no text stands for it.
func TestReplicaInClickHouse(t *testing.T) {
	server, engine := conntest.OwnClickHouse(t), conntest.OwnClickHouseEngine(t)
	for _, test := range []struct {
		name string
		dsn  string
		ask  asker
	}{{"18.16", server.Database(t), server.Query}, {"engine of today", engine.Database(t), engine.Query}} {
		for _, identity := range []string{"FULL", "DEFAULT"} {
			for _, envelope := range []string{"flat", "debezium"} {
				t.Run(test.name+"/"+identity+"/"+envelope, func(t *testing.T) { replica(t, test.dsn, test.ask, identity, envelope) })
			}
		}
	}
}

func replica(t *testing.T, dsn string, ask asker, identity, envelope string) {
	pg := conntest.OwnPostgres(t)
	source := pg.Database(t)
	do := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := pg.Query(source, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	do("CREATE TABLE things (id int PRIMARY KEY, n int, doc text, tags text[])", "ALTER TABLE things ALTER doc SET STORAGE EXTERNAL",
		"ALTER TABLE things REPLICA IDENTITY "+identity, "INSERT INTO things SELECT i, 0, "+large+" || i, ARRAY['a', NULL] FROM generate_series(1, 6) AS i")
	next := follow(t, source, envelope)
	records := next(6)
	do("UPDATE things SET n = n + 1", "UPDATE things SET doc = 'short' WHERE id = 1", "UPDATE things SET tags = '{}', n = 7 WHERE id = 1",
		"DELETE FROM things WHERE id = 2", "INSERT INTO things VALUES (2, 0, "+large+" || 'again', NULL)", "DELETE FROM things WHERE id = 3",
		"INSERT INTO things VALUES (7, 0, '', NULL), (8, NULL, NULL, NULL)", "DELETE FROM things WHERE id = 8", "UPDATE things SET id = 9, doc = 'moved' WHERE id = 4", "UPDATE things SET n = 5 WHERE id = 6")
	records = append(records, next(6+1+1+1+1+1+2+1+2+1)...)
	table := "things_" + strings.ToLower(identity) + "_" + envelope
	refused := writeGood(t, map[string]any{"dsn": dsn, "table": table, "create": true, "engine": "ReplacingMergeTree(_offset)", "exactly_once": "version", "deleted": "_deleted"}, 0, records)
	left := slices.DeleteFunc(slices.Clone(refused), func(s string) bool { return s == "" })
	wantRefused := 0
	if identity == "DEFAULT" {
		wantRefused = 6 + 1 // the first update of each row, and the last of row 6; those of row 1 are of a short text
	}
	if len(left) != wantRefused || slices.ContainsFunc(left, func(s string) bool {
		return !strings.Contains(s, `column "doc"`) || !strings.Contains(s, "REPLICA IDENTITY FULL")
	}) {
		t.Fatalf("%d records are refused, want %d: %q", len(left), wantRefused, left)
	}
	if identity == "DEFAULT" {
		return
	}
	rows := "SELECT concat(toString(id), ' ', ifNull(toString(n), '-'), ' ', ifNull(toString(length(doc)), '-'), ' ', ifNull(substring(doc, -5), '-'), ' ', ifNull(tags, '-')) FROM test1." + table + " FINAL WHERE _deleted = 0 ORDER BY id FORMAT TSVRaw"
	want, err := pg.Query(source, "SELECT concat(id, ' ', coalesce(n::text, '-'), ' ', coalesce(length(doc)::text, '-'), ' ', coalesce(right(doc, 5), '-'), ' ', coalesce(array_to_json(tags)::text, '-')) FROM things ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, ask, rows); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("ClickHouse has\n%s\nPostgreSQL\n%s", got, want)
	}
}

// follow opens a CDC reader that ends with the test, and returns a way to read
// n records of it.
func follow(t *testing.T, dsn, envelope string) func(n int) []connectors.Message {
	t.Helper()
	src, err := all.Builtin().Source("postgres-cdc")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{"dsn": dsn, "tables": []string{"public.things"}, "schema_header": true, "envelope": envelope}
	if envelope == "flat" {
		fields["meta"] = []string{"op"}
	} else {
		fields["deletes"] = "record"
	}
	cfg := conntest.Config(t, src.Spec(), fields)
	r, err := src.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "things"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(t.Context()) })
	return func(n int) (got []connectors.Message) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for len(got) < n && time.Now().Before(deadline) {
			b, err := r.Read(t.Context(), connectors.Limits{Records: n - len(got), Wait: time.Second})
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			for _, m := range b.Messages {
				if !m.Mark {
					got = append(got, m)
				} else if err := r.Committed(t.Context(), m.Position); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(got) != n {
			t.Fatalf("%d records, want %d", len(got), n)
		}
		return got
	}
}
