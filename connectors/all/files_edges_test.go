package all_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

// edgesRig is a database with the table of edge cases, and the same without
// those that columns of their types cannot hold.
type edgesRig struct {
	*testing.T
	dsn  string
	exec func(statements ...string)
}

func newEdges(t *testing.T) edgesRig {
	s := conntest.OwnPostgres(t)
	e := edgesRig{T: t, dsn: s.Database(t)}
	e.exec = func(statements ...string) {
		t.Helper()
		for _, one := range statements {
			if _, err := s.Query(e.dsn, one); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.exec(conntest.EdgeStatements("edges")...)
	e.exec("CREATE TABLE plain AS SELECT * FROM edges", "ALTER TABLE plain ADD PRIMARY KEY (id)")
	for column, cases := range conntest.BeyondColumns() {
		for i := range cases {
			e.exec(fmt.Sprintf("UPDATE plain SET %s = NULL WHERE id = %d", column, i))
		}
	}
	return e
}

// read reads n records of a table.
func (e edgesRig) read(source, table string, n int, more func()) []connectors.Message {
	e.Helper()
	src, err := all.Builtin().Source(source)
	if err != nil {
		e.Fatal(err)
	}
	fields := map[string]any{"dsn": e.dsn, "schema_header": true}
	split := connectors.Split{ID: "public." + table}
	if source == "postgres" {
		fields["table"], fields["follow"] = "public."+table, false
	} else {
		fields["tables"], fields["slot"], fields["publication"] = []string{"public." + table}, "slot_"+table, "pub_"+table
		fields["meta"], fields["deletes"] = []string{"op"}, "record"
		split.ID = "slot"
	}
	r, err := src.Open(e.Context(), conntest.Task(conntest.Config(e, src.Spec(), fields)), split, nil)
	if err != nil {
		e.Fatal(err)
	}
	defer func() { _ = r.Close(context.Background()) }()
	ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
	defer cancel()
	var got []connectors.Message
	for len(got) < n {
		b, err := r.Read(ctx, connectors.Limits{Records: 100, Wait: time.Second})
		if err != nil && (!errors.Is(err, io.EOF) || len(got)+len(b.Messages) < n) {
			e.Fatalf("%s of %s: after %d of %d records: %v", source, table, len(got), n, err)
		}
		for _, m := range b.Messages {
			if !m.Mark {
				got = append(got, m)
				continue
			}
			if err := r.Committed(ctx, m.Position); err != nil { // the slot is there; no row comes before that
				e.Fatal(err)
			}
			if more != nil {
				more()
				more = nil
			}
		}
	}
	for i := range got {
		if got[i].Err != nil {
			e.Fatal(got[i].Err)
		}
		got[i].Partition, got[i].Offset = record.TopicPartition{Topic: "edges"}, int64(i)
	}
	return got
}

// load writes records with the files sink, and says which are refused.
func (e edgesRig) load(root string, fields map[string]any, records []connectors.Message) []connectors.RecordError {
	e.Helper()
	sink, err := all.Builtin().Sink("files")
	if err != nil {
		e.Fatal(err)
	}
	fields["url"] = "file://" + root
	tp := record.TopicPartition{Topic: "edges"}
	w, err := sink.Open(e.Context(), conntest.Task(conntest.Config(e, sink.Spec(), fields)), []record.TopicPartition{tp})
	if err != nil {
		e.Fatal(err)
	}
	defer func() { _ = w.Close(context.Background()) }()
	bad, err := w.Write(e.Context(), connectors.Plan{Partition: tp, To: int64(len(records)), Epoch: 1, ID: "edges"}, connectors.Batch{Messages: records})
	if err != nil {
		e.Fatal(err)
	}
	return bad
}

// back reads the files with the files source.
func (e edgesRig) back(root string) (values []string) {
	e.Helper()
	src, err := all.Builtin().Source("files")
	if err != nil {
		e.Fatal(err)
	}
	cfg := conntest.Config(e, src.Spec(), map[string]any{"url": "file://" + root, "follow": false})
	lists, err := src.Splits(e.Context(), cfg)
	if err != nil {
		e.Fatal(err)
	}
	for _, split := range <-lists {
		r, err := src.Open(e.Context(), conntest.Task(cfg), split, nil)
		if err != nil {
			e.Fatal(err)
		}
		for {
			b, err := r.Read(e.Context(), connectors.Limits{})
			for _, m := range b.Messages {
				values = append(values, string(m.Value))
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				e.Fatal(err)
			}
		}
		_ = r.Close(e.Context())
	}
	return values
}

// TestEdgeCasesThroughFiles: PostgreSQL → topic → Parquet and Avro → topic, and
// DuckDB, from both sources. What columns can hold comes back byte by byte; what
// they cannot is refused, with its column; and with other types for those fields
// everything comes back.
func TestEdgeCasesThroughFiles(t *testing.T) {
	e := newEdges(t)
	others := map[string]string{"instant": "string", "local": "string", "day": "string", "clock": "string", "ints": "json", "texts": "json", "amounts": "list(string)", "times": "list(string)", "docs": "json"}
	n := len(conntest.EdgeRecords())
	for _, source := range []string{"postgres", "postgres-cdc"} {
		plain, whole := e.read(source, "plain", n, nil), e.read(source, "edges", n, nil)
		for _, kind := range []string{"parquet", "avro"} {
			name := source + ", " + kind
			root := filepath.Join(t.TempDir(), "lake")
			if bad := e.load(root, map[string]any{"format": kind}, plain); len(bad) > 0 {
				t.Errorf("%s: refused %v", name, bad)
			}
			e.same(name, e.back(root), plain, "amounts", "times")
			if kind == "parquet" {
				conntest.SameInDuckDB(t, func(query string) string {
					return conntest.DuckDB(t, strings.ReplaceAll(query, "FILE", "'"+root+"/*.parquet'"))
				})
			}
			e.refused(name, e.load(filepath.Join(t.TempDir(), "lake"), map[string]any{"format": kind}, whole))
			root = filepath.Join(t.TempDir(), "lake")
			if bad := e.load(root, map[string]any{"format": kind, "types": others}, whole); len(bad) > 0 {
				t.Errorf("%s, with types: refused %v", name, bad)
			}
			e.same(name+", with types", e.back(root), whole)
		}
	}
}

// same compares values with records, of which columns are left out that are
// null in all of them.
func (e edgesRig) same(what string, got []string, want []connectors.Message, without ...string) {
	e.Helper()
	if len(got) != len(want) {
		e.Fatalf("%s: %d rows, want %d", what, len(got), len(want))
	}
	for i, m := range want {
		text := string(m.Value)
		for _, column := range without {
			text = strings.Replace(text, fmt.Sprintf(`,"%s":null`, column), "", 1)
		}
		if got[i] != text {
			e.Errorf("%s: row %d\n got %s\nwant %s", what, i, got[i], text)
		}
	}
}

// refused: each row that has a case beyond its column, with one of these
// columns named, and no other row.
func (e edgesRig) refused(what string, bad []connectors.RecordError) {
	e.Helper()
	rows := map[int][]string{}
	for column, cases := range conntest.BeyondColumns() {
		for i := range cases {
			rows[i] = append(rows[i], column)
		}
	}
	if len(bad) != len(rows) {
		e.Errorf("%s: %d rows are refused, want %d", what, len(bad), len(rows))
	}
	for _, b := range bad {
		named := false
		for _, column := range rows[b.Index] {
			named = named || strings.Contains(b.Err.Error(), fmt.Sprintf("column %q", column))
		}
		if !named || connectors.ClassOf(b.Err) != connectors.ClassPoison {
			e.Errorf("%s: row %d: %v names none of %v", what, b.Index, b.Err, rows[b.Index])
		}
	}
}

// TestUnchangedAndDeletes: what an update did not change is told from null, and
// a deleted row from one with nulls.
func TestUnchangedAndDeletes(t *testing.T) {
	e := newEdges(t)
	e.exec("CREATE TABLE docs (id int PRIMARY KEY, n int, doc text)", "ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL", "INSERT INTO docs VALUES (1, 0, repeat('x', 9000)), (2, NULL, NULL)")
	changes := e.read("postgres-cdc", "docs", 5, func() {
		e.exec("UPDATE docs SET n = 1 WHERE id = 1", "DELETE FROM docs WHERE id = 2", "UPDATE docs SET doc = NULL WHERE id = 1")
	})
	root := filepath.Join(t.TempDir(), "lake")
	if bad := e.load(root, map[string]any{}, changes); len(bad) > 0 {
		t.Fatalf("refused %v", bad)
	}
	got := conntest.DuckDB(t, fmt.Sprintf(`SELECT id, n, length(doc), __op, __unchanged FROM read_parquet('%s/*.parquet')`, root))
	if want := "1|0|9000|r|None\n2|None|None|r|None\n1|1|None|u|['doc']\n2|None|None|d|None\n1|1|None|u|None"; got != want {
		t.Errorf("DuckDB reads\n%s\nwant\n%s", got, want)
	}
	// Without these columns the records would say something else.
	columns := []map[string]any{{"name": "id", "type": "int32"}, {"name": "n", "type": "int32"}, {"name": "doc", "type": "string"}}
	bad := e.load(filepath.Join(t.TempDir(), "lake"), map[string]any{"columns": columns}, changes)
	if len(bad) != 2 || bad[0].Index != 2 || !strings.Contains(bad[0].Err.Error(), "leaves columns as they were") || bad[1].Index != 3 || !strings.Contains(bad[1].Err.Error(), "deleted") {
		t.Errorf("refused %v", bad)
	}
}
