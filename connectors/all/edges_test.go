package all_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/record"
)

// edge is a column of the table of edge cases as ClickHouse has it: its type,
// and what it prints for each case, or a refusal with what follows "!". Without
// texts it has those of the records.
type edge struct {
	typ   string
	texts []string
}

// edgesToday are the columns that the sink makes by itself on a server of
// today.
func edgesToday() map[string]edge {
	text, doc := edge{typ: "Nullable(String)"}, edge{typ: "Nullable(String)"}
	return map[string]edge{
		"small": {typ: "Nullable(Int16)"}, "big": {typ: "Nullable(Int64)"}, "yes": {typ: "Nullable(Bool)"}, "id128": {typ: "Nullable(UUID)"},
		"money_like": {"Nullable(Decimal(20, 5))", []string{"12345678901234.56789", "-0.00001", "0"}},
		"wide":       {typ: "Nullable(Decimal(76, 10))"}, "free": text,
		"single": {"Nullable(Float32)", []string{"1e-37", "0.1", "nan"}}, "double": {"Nullable(Float64)", []string{"0.1", "-inf", "1.7976931348623157e308", "nan"}},
		"instant": {"Nullable(DateTime64(6, 'UTC'))", []string{"2015-05-17 08:05:03.000001", "1969-12-31 23:59:59.999999", "!infinity", "!-infinity", "!294276", "!BC"}},
		"local":   {"Nullable(DateTime64(6, 'UTC'))", []string{"2015-05-17 10:05:03.100000", "!infinity", "1900-01-01 00:00:00.000000", "!BC"}},
		"day":     {"Nullable(Date32)", []string{"2015-05-17", "!1582", "!infinity", "!5874897", "!BC"}},
		"clock":   text, "clock_tz": text, "span": text, "words": text, "padded": text, "address": text, "feeling": text, "range": text, "bits": text,
		"bytes": {"Nullable(String)", []string{"", "\x00\xff\\"}},
		"doc":   doc, "raw_doc": doc, "ints": doc, "texts": doc, "amounts": doc, "times": doc, "docs": doc, "blobs": doc, "moods": doc,
	}
}

// edges2018 are those on Debian's server: what it has no type for is kept as
// text, so that it takes every case of them.
func edges2018() map[string]edge {
	all := edgesToday()
	text := edge{typ: "Nullable(String)"}
	all["yes"] = edge{"Nullable(UInt8)", []string{"1", "0"}}
	all["money_like"] = edge{"Nullable(Decimal(20, 5))", []string{"12345678901234.56789", "-0.00001", "0.00000"}}
	for _, name := range []string{"wide", "instant", "local", "day"} {
		all[name] = text
	}
	return all
}

// asker runs a statement in a server.
type asker func(query string) (string, error)

// TestEdgesToClickHouse: PostgreSQL → record → ClickHouse, by the query source
// and by CDC in both envelopes, into tables that the sink makes. Each value of
// the table of edge cases is the same afterwards, or its record is refused with
// the column's name; none is changed.
func TestEdgesToClickHouse(t *testing.T) {
	t.Run("18.16", func(t *testing.T) {
		s := conntest.OwnClickHouse(t)
		edgesTo(t, s.Database(t), s.Query, edges2018())
	})
	t.Run("engine of today", func(t *testing.T) {
		s := conntest.OwnClickHouseEngine(t)
		edgesTo(t, s.Database(t), s.Query, edgesToday())
	})
}

func edgesTo(t *testing.T, dsn string, ask asker, columns map[string]edge) {
	pg := conntest.OwnPostgres(t)
	source := pg.Database(t)
	for _, statement := range conntest.EdgeStatements("edges") {
		if _, err := pg.Query(source, statement); err != nil {
			t.Fatal(err)
		}
	}
	cdc := func(slot string, more map[string]any) []connectors.Message {
		fields := map[string]any{"dsn": source, "tables": []string{"public.edges"}, "snapshot": "only", "slot": slot, "publication": slot}
		maps.Copy(fields, more)
		return readAll(t, "postgres-cdc", fields)
	}
	changes := cdc("edges", map[string]any{"meta": []string{"op"}})
	enveloped := cdc("edges_enveloped", map[string]any{"envelope": "debezium", "schema_header": true})
	for _, c := range conntest.Edges() {
		want, ok := columns[c.Name]
		if !ok {
			t.Errorf("there is nothing to compare column %s with", c.Name)
			continue
		}
		table := "edges_" + c.Name
		rows := readAll(t, "postgres", map[string]any{"dsn": source, "table": "public.edges", "columns": []string{"id", c.Name}, "follow": false, "schema_header": true})
		fields := map[string]any{"dsn": dsn, "table": table, "create": true}
		refused := writeGood(t, fields, 0, rows)
		if again := writeGood(t, fields, 1, changes); !slices.Equal(refused, again) {
			t.Errorf("column %s: the query source's records are refused as %q, those of CDC as %q", c.Name, refused, again)
		}
		if typ := query(t, ask, "SELECT type FROM system.columns WHERE table = '"+table+"' AND name = '"+c.Name+"' FORMAT TSVRaw"); typ != want.typ {
			t.Errorf("column %s, %s, became %s, want %s", c.Name, c.Type, typ, want.typ)
		}
		if again := writeGood(t, fields, 2, enveloped); !slices.Equal(refused, again) {
			t.Errorf("column %s: the query source's records are refused as %q, those of CDC in the envelope as %q", c.Name, refused, again)
		}
		for partition := range 3 {
			sameEdges(t, ask, table, partition, c, want, refused)
		}
	}
	edgesEnveloped(t, dsn, ask, columns, enveloped)
}

// edgesEnveloped is one table of all columns, made of what the envelope's
// records say. A row is refused for the first of its columns that cannot be.
func edgesEnveloped(t *testing.T, dsn string, ask asker, columns map[string]edge, changes []connectors.Message) {
	fields := map[string]any{"dsn": dsn, "table": "enveloped", "create": true}
	refused := writeGood(t, fields, 0, changes)
	if again := writeGood(t, fields, 1, changes); !slices.Equal(refused, again) {
		t.Errorf("the envelope's records are refused as %q, with the table there as %q", refused, again)
	}
	good := 0
	for row := range refused {
		wrong := ""
		for _, c := range conntest.Edges() {
			if wrong == "" && strings.HasPrefix(columns[c.Name].text(c, row), "!") {
				wrong = fmt.Sprintf("column %q is", c.Name)
			}
		}
		if (wrong == "") != (refused[row] == "") || !strings.Contains(refused[row], wrong) {
			t.Errorf("row %d: refused as %q, want %q", row, refused[row], wrong)
		}
		if refused[row] != "" {
			continue
		}
		good++
		for _, c := range conntest.Edges() {
			sameEdge(t, ask, "enveloped", row%2, c, columns[c.Name], row)
		}
	}
	for _, c := range conntest.Edges() {
		if typ := query(t, ask, "SELECT type FROM system.columns WHERE table = 'enveloped' AND name = '"+c.Name+"' FORMAT TSVRaw"); typ != columns[c.Name].typ {
			t.Errorf("column %s, %s, became %s, want %s", c.Name, c.Type, typ, columns[c.Name].typ)
		}
	}
	conntest.Figures(t, "%d columns, %d rows in Debezium's envelope: %d in the table as they were, %d refused with the column's name", len(columns), len(refused), good, len(refused)-good)
}

// sameEdges compares one partition's rows of one column.
func sameEdges(t *testing.T, ask asker, table string, partition int, c conntest.EdgeColumn, want edge, refused []string) {
	t.Helper()
	for i := range len(conntest.EdgeRecords()) {
		if part, no := strings.CutPrefix(want.text(c, i), "!"); no {
			if !strings.Contains(refused[i], part) || !strings.Contains(refused[i], fmt.Sprintf("column %q is", c.Name)) {
				t.Errorf("column %s, %s: refused as %q, want %q in it", c.Name, c.Cases[i].SQL, refused[i], part)
			}
			continue
		}
		if refused[i] != "" {
			t.Errorf("column %s, row %d: refused: %s", c.Name, i, refused[i])
			continue
		}
		sameEdge(t, ask, table, partition, c, want, i)
	}
}

// text is what ClickHouse is to print of a case.
func (e edge) text(c conntest.EdgeColumn, i int) string {
	switch {
	case i >= len(c.Cases):
		return "NULL"
	case e.texts != nil:
		return e.texts[i]
	case strings.HasSuffix(c.Type, "[]"), strings.HasPrefix(c.Type, "json"):
		return c.Cases[i].JSON
	}
	return string(format.Text([]byte(c.Cases[i].JSON)))
}

// sameEdge compares one cell.
func sameEdge(t *testing.T, ask asker, table string, partition int, c conntest.EdgeColumn, want edge, i int) {
	t.Helper()
	got := query(t, ask, fmt.Sprintf("SELECT groupArray(ifNull(hex(toString(%s)), 'NULL'))[1] FROM test1.%s WHERE id = %d AND _partition = %d FORMAT TSVRaw", c.Name, table, i, partition))
	text := want.text(c, i)
	if text != "NULL" || got != "NULL" {
		text = fmt.Sprintf("%X", text)
	}
	if got != text {
		t.Errorf("column %s, row %d of %s: the table has %s, want %s", c.Name, i, table, got, text)
	}
}

func query(t *testing.T, ask asker, q string) string {
	t.Helper()
	text, err := ask(q)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// readAll reads a source to its end.
func readAll(t *testing.T, typ string, fields map[string]any) []connectors.Message {
	t.Helper()
	src, err := all.Builtin().Source(typ)
	if err != nil {
		t.Fatal(err)
	}
	cfg := conntest.Config(t, src.Spec(), fields)
	lists, err := src.Splits(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := src.Open(t.Context(), conntest.Task(cfg), (<-lists)[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []connectors.Message
	for {
		b, err := r.Read(t.Context(), connectors.Limits{Wait: time.Second})
		for _, m := range b.Messages {
			if m.Err != nil {
				t.Fatalf("%s: %v", m.Original, m.Err)
			}
			if !m.Mark {
				out = append(out, m)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(b.Messages); n > 0 {
			if err := r.Committed(t.Context(), b.Messages[n-1].Position); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

// writeGood writes messages as one plan of a partition, without those that are
// refused, as the runtime does. It returns why each is refused; "" is not.
func writeGood(t *testing.T, fields map[string]any, partition int32, messages []connectors.Message) []string {
	t.Helper()
	sink, err := all.Builtin().Sink("clickhouse")
	if err != nil {
		t.Fatal(err)
	}
	tp := record.TopicPartition{Topic: "edges", Partition: partition}
	w, err := sink.Open(t.Context(), conntest.Task(conntest.Config(t, sink.Spec(), fields)), []record.TopicPartition{tp})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close(t.Context()) }()
	n := int64(len(messages))
	plan := connectors.Plan{Partition: tp, To: n, Epoch: 1, ID: fmt.Sprintf("edges-%d-0-%d", partition, n)}
	refused := make([]string, n)
	var batch connectors.Batch
	for i, m := range messages {
		m.Partition, m.Offset = tp, int64(i)
		batch.Messages = append(batch.Messages, m)
	}
	wrong, err := w.Write(t.Context(), plan, batch)
	if err == nil && len(wrong) > 0 {
		for _, r := range wrong {
			refused[r.Offset] = r.Err.Error()
		}
		batch.Messages = slices.DeleteFunc(batch.Messages, func(m connectors.Message) bool { return refused[m.Offset] != "" })
		wrong, err = w.Write(t.Context(), plan, batch)
	}
	if err != nil || len(wrong) > 0 {
		t.Fatalf("write: %v, %v", wrong, err)
	}
	return refused
}
