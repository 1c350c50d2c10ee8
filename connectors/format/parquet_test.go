package format_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/record"
)

func message(value string) *connectors.Message {
	return &connectors.Message{
		Value: []byte(value), Timestamp: 1431857103000, Key: []byte("k"), Offset: 7,
		Partition: record.TopicPartition{Topic: "clicks", Partition: 3},
	}
}

func columns(t testing.TB, defs ...string) format.Schema {
	t.Helper()
	var s format.Schema
	for _, d := range defs {
		name, typ, _ := strings.Cut(d, " ")
		parsed, err := format.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, format.Column{Name: name, Type: parsed})
	}
	return s
}

func writeParquet(t testing.TB, s format.Schema, values ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	p, err := format.NewParquet(&buf, s, "zstd", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := p.Append(message(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// readParquet gives each row as column=value words, through parquet-go.
func readParquet(t testing.TB, file []byte) (rows []string) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	names := f.Schema().Columns()
	for _, g := range f.RowGroups() {
		r := g.Rows()
		buf := make([]parquet.Row, 100)
		for {
			n, err := r.ReadRows(buf)
			for _, row := range buf[:n] {
				var b strings.Builder
				for _, v := range row {
					b.WriteString(names[v.Column()][0] + "=" + v.String() + " ")
				}
				rows = append(rows, strings.TrimSpace(b.String()))
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		_ = r.Close()
	}
	return rows
}

func TestParquetTypes(t *testing.T) {
	s := columns(t, "zebra string", "i int64", "d double", "b bool", "ts timestamp", "day date", "dec decimal(9,2)", "big decimal(38,3)", "j json")
	s = append(s, format.Column{Name: "deep", From: []string{"nest", "x", "y"}, Type: format.Type{Kind: format.TypeInt64}},
		format.Column{Name: "_offset", Meta: format.MetaOffset, Type: format.Type{Kind: format.TypeInt64}},
		format.Column{Name: "_key", Meta: format.MetaKey, Type: format.Type{Kind: format.TypeString}},
		format.Column{Name: "a name, with \"odd\" letters.é", Type: format.Type{Kind: format.TypeString}})
	file := writeParquet(t, s,
		`{"zebra":"q\"\u00fc","i":9223372036854775807,"d":0.1,"b":true,"ts":"2015-05-17T12:05:03.000001+02:00","day":"1969-12-31","dec":"-12.50","big":-12345678901234567890123456789012345.678,"j":{"a": [1,2]},"nest":{"x":{"y":-5}}}`,
		`{}`,
		`{"zebra":"","i":null,"d":-3,"b":false,"ts":"1969-12-31T23:59:59Z","dec":1e3,"big":"5","j":"text","nest":{"x":null},"a name, with \"odd\" letters.é":"v"}`)
	rows := readParquet(t, file)
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, want := range []string{`zebra=q"ü i=9223372036854775807 d=0.1 b=true ts=1431857103000001 day=-1 dec=-1250 `, `j={"a": [1,2]} deep=-5 _offset=7 _key=k`} {
		if !strings.Contains(rows[0], want) {
			t.Errorf("row 0: %s\nwants %s", rows[0], want)
		}
	}
	if !strings.HasPrefix(rows[1], "zebra=<null> i=<null> d=<null> b=<null>") {
		t.Errorf("row 1: %s", rows[1])
	}
	if !strings.HasPrefix(rows[2], "zebra= i=<null> d=-3 b=false ts=-1000000 day=<null> dec=100000 ") || !strings.Contains(rows[2], "letters.é=v") {
		t.Errorf("row 2: %s", rows[2])
	}
}

// TestParquetRefuses: a value that does not fit names column, type and text,
// and leaves the table as it was.
func TestParquetRefuses(t *testing.T) {
	s := columns(t, "s string", "i int64", "d double", "b bool", "ts timestamp", "day date", "dec decimal(4,2)")
	var buf bytes.Buffer
	p, err := format.NewParquet(&buf, s, "none", false)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		`{"s":5}`:                      `column "s" is string: want a string, got 5`,
		`{"i":"5"}`:                    `column "i" is int64: want a whole number of 64 bits, got "5"`,
		`{"i":1.5}`:                    `got 1.5`,
		`{"i":9223372036854775808}`:    `got 9223372036854775808`,
		`{"d":9007199254740993}`:       `rounds), got 9007199254740993`,
		`{"d":0.12345678901234567890}`: `without loss`,
		`{"d":1e999}`:                  `without loss`,
		`{"d":"1"}`:                    `column "d" is double: want a number`,
		`{"b":1}`:                      `want true or false, got 1`,
		`{"ts":"2015-05-17"}`:          `want a time such as`,
		`{"ts":1431857103}`:            `want a time such as`,
		`{"ts":"2015-05-17T10:00:00.000000001Z"}`: `at most microseconds`,
		`{"day":"17.5.2015"}`:                     `want a date such as`,
		`{"dec":123.45}`:                          `column "dec" is decimal(4,2)`,
		`{"dec":1.005}`:                           `column "dec" is decimal(4,2)`,
		`{"dec":"Inf"}`:                           `column "dec" is decimal(4,2)`,
		`{"dec":"0x1"}`:                           `column "dec" is decimal(4,2)`,
		`{"dec":1e-99999999}`:                     `column "dec" is decimal(4,2)`,
		`[1]`:                                     `not a JSON object`,
		`{"s":"a"`:                                `not JSON`,
		`{"s":"a","s":"b"}`:                       `not JSON: duplicate`,
		`{"s":"a"} x`:                             `not JSON`,
		``:                                        `not JSON: the value is empty`,
	} {
		err := p.Append(message(in))
		if err == nil || !strings.Contains(err.Error(), want) || connectors.ClassOf(err) != connectors.ClassPoison {
			t.Errorf("%s: %v\nwants %s", in, err, want)
		}
	}
	var unknown *format.UnknownFieldError
	if err := p.Append(message(`{"s":"a","new":1}`)); !errors.As(err, &unknown) || unknown.Name != "new" {
		t.Errorf("a new field: %v", err)
	}
	if err := p.Append(&connectors.Message{}); connectors.ClassOf(err) != connectors.ClassPoison {
		t.Errorf("a tombstone: %v", err)
	}
	if err := p.Append(message(`{"s":"ok"}`)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if rows := readParquet(t, buf.Bytes()); len(rows) != 1 {
		t.Errorf("%d rows, want the one good", len(rows))
	}
}

func TestParquetIsDeterministic(t *testing.T) {
	lines := realLog(t)
	p := parser(t, map[string]any{"format": "combined"})
	s, _ := format.KnownSchema("combined")
	var values []string
	for _, l := range lines {
		m, err := parse(t, p, l)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, string(m.Value))
	}
	for _, codec := range format.ParquetCodecs {
		one := parquetFile(t, s, codec, values)
		for range 3 {
			if again := parquetFile(t, s, codec, values); !bytes.Equal(one, again) {
				t.Errorf("%s: two files of the same rows differ", codec)
			}
		}
		if rows := readParquet(t, one); len(rows) != 10000 {
			t.Errorf("%s: %d rows", codec, len(rows))
		}
	}
}

func parquetFile(t testing.TB, s format.Schema, codec string, values []string) []byte {
	t.Helper()
	var buf bytes.Buffer
	p, err := format.NewParquet(&buf, s, codec, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := p.Append(message(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// duckdb runs a query with the file's name for FILE.
func duckdb(t *testing.T, file []byte, query string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return conntest.DuckDB(t, strings.ReplaceAll(query, "FILE", "'"+path+"'"))
}

// TestParquetInDuckDB reads types and values with a program that is not ours.
func TestParquetInDuckDB(t *testing.T) {
	s := columns(t, "s string", "i int64", "d double", "b bool", "ts timestamp", "day date", "dec decimal(9,2)", "big decimal(38,3)", "j json")
	file := writeParquet(t, s,
		`{"s":"ü\"","i":-9223372036854775808,"d":0.1,"b":true,"ts":"2015-05-17T12:05:03.000001+02:00","day":"1969-12-31","dec":"-12.50","big":-12345678901234567890123456789012345.678,"j":{"a":[1,2]}}`,
		`{}`)
	got := duckdb(t, file, "SELECT COLUMNS(*)::VARCHAR FROM read_parquet(FILE)")
	want := "ü\"|-9223372036854775808|0.1|true|2015-05-17 10:05:03.000001+00|1969-12-31|-12.50|-12345678901234567890123456789012345.678|{\"a\":[1,2]}\n" +
		"None|None|None|None|None|None|None|None|None"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	got = duckdb(t, file, "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(FILE))")
	want = "s|VARCHAR\ni|BIGINT\nd|DOUBLE\nb|BOOLEAN\nts|TIMESTAMP WITH TIME ZONE\nday|DATE\ndec|DECIMAL(9,2)\nbig|DECIMAL(38,3)\nj|JSON"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestInference(t *testing.T) {
	in := format.NewInference(columns(t, "kept string"))
	for _, v := range []string{
		`{"n":null,"i":1,"d":1,"s":"x","ts":"2015-05-17T10:05:03Z","o":{"a":1},"mixed":1,"kept":5}`,
		`{"n":null,"i":2,"d":1.5,"s":"2015-05-17T10:05:03Z","ts":"2015-05-17T10:05:03.5Z","o":null,"mixed":"x","big":123456789012345678901234567890}`,
		`{"late":true,"local":"2015-05-17T10:05:03+02:00","tsx":"2015-05-17T10:05:03Z"}`,
		`{"tsx":"later"}`,
	} {
		if err := in.Add(message(v)); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{`[]`, `{"a":1`, `{"":1}`} {
		if err := in.Add(message(bad)); connectors.ClassOf(err) != connectors.ClassPoison {
			t.Errorf("%s: %v", bad, err)
		}
	}
	var got []string
	for _, c := range in.Schema() {
		got = append(got, c.Name+" "+c.Type.String())
	}
	if want := "kept string,i int64,d double,s string,ts timestamp,o json,mixed json,big json,late bool,local string,tsx string"; strings.Join(got, ",") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
	}
}

func TestSchemaEncoding(t *testing.T) {
	s := append(columns(t, "a string", "d decimal(38,38)"), format.Column{Name: "p", From: []string{"x", "y"}, Type: format.Type{Kind: format.TypeBool}})
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := format.DecodeSchema(b)
	if err != nil || len(back) != 3 || back[1].Type != s[1].Type || back[2].From[1] != "y" {
		t.Errorf("got %+v, %v", back, err)
	}
	for _, bad := range []string{`{}`, `[]`, `[{"name":"a","type":"text"}]`, `[{"name":"a","type":"bool"},{"name":"a","type":"bool"}]`, `[{"name":"","type":"bool"}]`, `[{"name":"a"}]`, `[{"nam":"a","type":"bool"}]`} {
		if s, err := format.DecodeSchema([]byte(bad)); err == nil {
			t.Errorf("%s gives %v", bad, s)
		}
	}
	for _, bad := range []string{"", "int", "decimal", "decimal(0,0)", "decimal(39,1)", "decimal(5,6)", "decimal(5)", "decimal(a,b)"} {
		if typ, err := format.ParseType(bad); err == nil {
			t.Errorf("%q gives %v", bad, typ)
		}
	}
}

func TestCSVWriter(t *testing.T) {
	var buf bytes.Buffer
	s := append(columns(t, "s string", "n int64", "j json"), format.Column{Name: "_ts", Meta: format.MetaTimestamp, Type: format.Type{Kind: format.TypeTimestamp}})
	w, err := format.NewCSV(&buf, s, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{`{"s":"a,b","n":1,"j":{"x":"y"}}`, `{"s":"","other":1}`, `{"s":"q\"\n","n":-5}`, `{"s":" pad"}`} {
		if err := w.Append(message(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Append(message(`{"n":"x"}`)); connectors.ClassOf(err) != connectors.ClassPoison {
		t.Errorf("a bad type: %v", err)
	}
	want := "s,n,j,_ts\n\"a,b\",1,\"{\"\"x\"\":\"\"y\"\"}\",2015-05-17T10:05:03.000Z\n\"\",,,2015-05-17T10:05:03.000Z\n\"q\"\"\n\",-5,,2015-05-17T10:05:03.000Z\n\" pad\",,,2015-05-17T10:05:03.000Z\n"
	if buf.String() != want {
		t.Errorf("got  %q\nwant %q", buf.String(), want)
	}
}

func TestNDJSONWriter(t *testing.T) {
	var buf bytes.Buffer
	w := format.NewNDJSON(&buf)
	for _, v := range []string{"{\"b\": 1.10,\n \"a\":123456789012345678901}", `"x"`} {
		if err := w.Append(message(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Append(message(`{"a":}`)); connectors.ClassOf(err) != connectors.ClassPoison {
		t.Errorf("not JSON: %v", err)
	}
	if want := "{\"b\":1.10,\"a\":123456789012345678901}\n\"x\"\n"; buf.String() != want {
		t.Errorf("got %q", buf.String())
	}
}

func BenchmarkParquet(b *testing.B) {
	lines := realLog(b)
	p := parser(b, map[string]any{"format": "combined"})
	s, _ := format.KnownSchema("combined")
	var all []*connectors.Message
	for _, l := range lines {
		m, err := parse(b, p, l)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, &m)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		w, err := format.NewParquet(io.Discard, s, "zstd", false)
		if err != nil {
			b.Fatal(err)
		}
		for range 10 {
			for _, m := range all {
				if err := w.Append(m); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		n += 10 * len(all)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}
