package format_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/record"
)

// readBack gives the rows of a Parquet file as JSON.
func readBack(t *testing.T, file []byte) (rows []string) {
	t.Helper()
	r, err := format.NewParquetReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return allRows(t, r)
}

// edgeHeader is what the PostgreSQL sources say of the table of edge cases.
func edgeHeader() []record.Header {
	shown := map[string]string{
		"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone", "time": "time without time zone",
		"timetz": "time with time zone", "char(5)": "character(5)", "int[]": "integer[]", "timestamptz[]": "timestamp with time zone[]",
	}
	var b strings.Builder
	b.WriteString(`{"table":"public.edges","columns":[{"name":"id","type":"integer","key":true}`)
	for _, c := range conntest.Edges() {
		typ := c.Type
		if s, ok := shown[typ]; ok {
			typ = s
		}
		fmt.Fprintf(&b, `,{"name":%q,"type":%q}`, c.Name, typ)
	}
	return []record.Header{{Key: format.SchemaHeader, Value: []byte(b.String() + "]}")}}
}

// TestEdgeCasesInColumns: the value of every edge case of PostgreSQL comes
// back from a column of the type that its header says, byte by byte, or is
// refused with its reason, through each format. Columns without types of
// their own take all of them.
func TestEdgeCasesInColumns(t *testing.T) {
	header, beyond := edgeHeader(), conntest.BeyondColumns()
	for _, c := range conntest.Edges() {
		for i, one := range c.Cases {
			m := message(fmt.Sprintf(`{%q:%s}`, c.Name, one.JSON))
			m.Headers = header
			in := format.NewInference(nil)
			in.Typed(nil, nil)
			if err := in.Add(m); err != nil {
				t.Fatal(err)
			}
			s := in.Schema()
			err := tryParquet(t, s, m)
			if part, refused := beyond[c.Name][i]; refused {
				if connectors.ClassOf(err) != connectors.ClassPoison || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), c.Name) {
					t.Errorf("%s %s as %s: %v, want it refused: %s", c.Name, one.JSON, s[0].Type, err, part)
				}
			} else if err != nil {
				t.Errorf("%s %s as %s: %v", c.Name, one.JSON, s[0].Type, err)
			}
			anything := format.Schema{{Name: c.Name, Type: format.Type{Kind: format.TypeJSON}}}
			if err := tryParquet(t, anything, m); err != nil {
				t.Errorf("%s %s as json: %v", c.Name, one.JSON, err)
			}
		}
	}
}

func tryParquet(t *testing.T, s format.Schema, m *connectors.Message) error {
	t.Helper()
	var buf bytes.Buffer
	p, err := format.NewParquet(&buf, s, "none", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Append(m); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readBack(t, buf.Bytes()); len(got) != 1 || got[0] != string(m.Value) {
		return fmt.Errorf("came back as %v, was %s", got, m.Value)
	}
	return nil
}

// edgeFile is a table of all edge cases that columns can hold; the others are
// null in it.
func edgeFile(t *testing.T, write func(w io.Writer, s format.Schema) (format.Table, error)) (format.Schema, []byte, []string) {
	t.Helper()
	var rows []*connectors.Message
	header, beyond := edgeHeader(), conntest.BeyondColumns()
	in := format.NewInference(nil)
	in.Typed(nil, nil)
	for i := range conntest.EdgeRecords() {
		fields := []string{fmt.Sprintf(`"id":%d`, i)}
		for _, c := range conntest.Edges() {
			value := "null"
			if _, refused := beyond[c.Name][i]; !refused && i < len(c.Cases) {
				value = c.Cases[i].JSON
			}
			fields = append(fields, fmt.Sprintf("%q:%s", c.Name, value))
		}
		m := message("{" + strings.Join(fields, ",") + "}")
		m.Headers = header
		if err := in.Add(m); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, m)
	}
	var buf bytes.Buffer
	w, err := write(&buf, in.Schema())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range rows {
		if err := w.Append(m); err != nil {
			t.Fatal(err)
		}
		want = append(want, string(m.Value))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return in.Schema(), buf.Bytes(), want
}

func TestEdgeCasesInDuckDB(t *testing.T) {
	_, file, _ := edgeFile(t, func(w io.Writer, s format.Schema) (format.Table, error) {
		return format.NewParquet(w, s, "zstd", false)
	})
	conntest.SameInDuckDB(t, func(query string) string { return duckdb(t, file, query) })
}

// TestEdgeCasesComeBack: whole rows, through each codec.
func TestEdgeCasesComeBack(t *testing.T) {
	for _, codec := range format.ParquetCodecs {
		_, file, want := edgeFile(t, func(w io.Writer, s format.Schema) (format.Table, error) { return format.NewParquet(w, s, codec, false) })
		sameRows(t, readBack(t, file), edgeRows(want))
	}
}

// edgeRows are rows without the columns that are null in all of them.
func edgeRows(want []string) []string {
	for i := range want {
		want[i] = strings.ReplaceAll(strings.ReplaceAll(want[i], `,"amounts":null`, ""), `,"times":null`, "")
	}
	return want
}

func sameRows(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("row %d\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}
