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

// notInColumns are the edge cases that the logical type of a column cannot
// hold, by column and number, with a part of why. Everything else can.
var notInColumns = map[string]map[int]string{
	"money_like": {}, // NaN there is in amounts
	"instant":    {2: "infinity", 3: "infinity", 4: "292,000 years"},
	"local":      {1: "infinity"},
	"day":        {2: "infinity"},
	"clock":      {1: "before 24:00"},
	"ints":       {2: "whole number of 32 bits", 3: "a list"},
	"texts":      {1: "a string"},
	"amounts":    {0: "NaN"},
	"times":      {0: "infinity"},
	"docs":       {2: "a list"},
}

// TestEdgeCasesInColumns: the value of every edge case of PostgreSQL comes
// back from a column of the type that its header says, byte by byte, or is
// refused with its reason, through each format. Columns without types of
// their own take all of them.
func TestEdgeCasesInColumns(t *testing.T) {
	header := edgeHeader()
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
			if part, refused := notInColumns[c.Name][i]; refused {
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
	header := edgeHeader()
	in := format.NewInference(nil)
	in.Typed(nil, nil)
	for i := range conntest.EdgeRecords() {
		fields := []string{fmt.Sprintf(`"id":%d`, i)}
		for _, c := range conntest.Edges() {
			value := "null"
			if _, refused := notInColumns[c.Name][i]; !refused && i < len(c.Cases) {
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

// inDuckDB is what DuckDB reads of each column: its type, and the values that
// are not null as DuckDB prints them.
var inDuckDB = map[string][2]string{
	"small":      {"INTEGER", `["-32768","0","32767"]`},
	"big":        {"BIGINT", `["-9223372036854775808","9007199254740993","9223372036854775807"]`},
	"yes":        {"BOOLEAN", `["true","false"]`},
	"money_like": {"DECIMAL(20,5)", `["12345678901234.56789","-0.00001","0.00000"]`},
	"wide":       {"VARCHAR", `["123456789012345678901234567890123456789012345678901234567890123456.0123456789"]`},
	"free":       {"VARCHAR", `["NaN","Infinity","-Infinity","0.1000","123456789012345678901234567890.000000000000000000001"]`},
	"single":     {"FLOAT", `["1e-37","0.1","nan"]`},
	"double":     {"DOUBLE", `["0.1","-inf","1.7976931348623157e+308","nan"]`},
	"instant":    {"TIMESTAMP WITH TIME ZONE", `["2015-05-17 08:05:03.000001+00","1969-12-31 23:59:59.999999+00","0044-03-15 (BC) 12:00:00+00"]`},
	"local":      {"TIMESTAMP", `["2015-05-17 10:05:03.1","1900-01-01 00:00:00","0044-03-15 (BC) 12:00:00"]`},
	"day":        {"DATE", `["2015-05-17","1582-10-15","5874897-12-31","0044-03-15 (BC)"]`},
	"clock":      {"TIME", `["00:00:00","23:59:59.999999"]`},
	"clock_tz":   {"VARCHAR", `["10:05:03.1+02","24:00:00-15:59"]`},
	"span":       {"VARCHAR", `["1 year 2 mons 3 days 04:05:06.789","-1 mons +2 days","00:00:00"]`},
	"words":      {"VARCHAR", `["","a\"b\\c\nd\te\rf","żółć 🦥","__unchanged","\\N","null"]`},
	"padded":     {"VARCHAR", `["ab   "]`},
	"doc":        {"JSON", `["{\"f\": 1.10, \"n\": 12345678901234567890123}","[]","\"text\"","{\"e\": \"\\\\u0041 \\\" 🦥\"}"]`},
	"raw_doc":    {"JSON", `["{\"z\": 1,  \"a\": 9007199254740993}","1e400"]`},
	"id128":      {"UUID", `["0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"]`},
	"address":    {"VARCHAR", `["10.0.0.1","2001:db8::1","10.0.0.0/8"]`},
	"feeling":    {"VARCHAR", `["happy","sad"]`},
	"bytes":      {"BLOB", `["","\\x00\\xFF\\x5C"]`},
	"ints":       {"INTEGER[]", `["[1, NULL, 3]","[]"]`},
	"texts":      {"VARCHAR[]", `["['a,b', 'NULL', NULL, '', 'q\"\\\\']"]`},
	"docs":       {"JSON[]", `["[{\"a\": [1, \"x,y\"]}, NULL]","[[1], \"x\"]"]`},
	"blobs":      {"BLOB[]", `["[\\x5C\\x22, '']"]`},
	"moods":      {"VARCHAR[]", `["[happy, sad]"]`},
	"range":      {"VARCHAR", `["[1,10)","empty"]`},
	"bits":       {"VARCHAR", `["101"]`},
}

func TestEdgeCasesInDuckDB(t *testing.T) {
	_, file, _ := edgeFile(t, func(w io.Writer, s format.Schema) (format.Table, error) {
		return format.NewParquet(w, s, "zstd", false)
	})
	var query []string
	for _, c := range conntest.Edges() {
		if _, there := inDuckDB[c.Name]; there { // the others hold nothing but what columns cannot
			query = append(query, fmt.Sprintf("SELECT '%[1]s', any_value(typeof(%[1]s)), to_json(list(%[1]s::VARCHAR ORDER BY id) FILTER (%[1]s IS NOT NULL)) FROM read_parquet(FILE)", c.Name))
		}
	}
	lines := strings.Split(duckdb(t, file, strings.Join(query, " UNION ALL ")), "\n")
	for _, line := range lines {
		words := strings.SplitN(line, "|", 3)
		if want := inDuckDB[words[0]]; len(words) != 3 || words[1] != want[0] || words[2] != want[1] {
			t.Errorf("%s: %s %s\nwant %s %s", words[0], words[1], words[2], want[0], want[1])
		}
	}
	if len(lines) != len(inDuckDB) {
		t.Errorf("%d columns, want %d", len(lines), len(inDuckDB))
	}
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
