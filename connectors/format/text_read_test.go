package format_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

func opener(text string) format.OpenText {
	return func(at int64) (io.Reader, error) { return strings.NewReader(text[min(at, int64(len(text))):]), nil }
}

// read gives each row, or its error and original in ! !.
func read(t testing.TB, r format.RowReader, err error) (rows []string) {
	t.Helper()
	for err == nil {
		var row format.Row
		row, err = r.Next(nil)
		switch {
		case errors.Is(err, io.EOF):
			return rows
		case connectors.ClassOf(err) == connectors.ClassPoison:
			rows = append(rows, fmt.Sprintf("!%v: %s!", err, row.Original))
			err = nil
		case err == nil:
			rows = append(rows, string(row.JSON))
		}
	}
	return append(rows, "error: "+err.Error())
}

func sameLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\n got %q\nwant %q", what, got, want)
	}
}

func TestNDJSONReader(t *testing.T) {
	text := "\xef\xbb\xbf{\"a\": 1.10}\r\n\n  \n[12345678901234567890123]\n{\"a\":}\n{\"a\":1,\"a\":2}\n\"" + strings.Repeat("x", 100) + "\"\nnull"
	r, err := format.NewNDJSONReader(opener(text), 40)
	sameLines(t, "lines", read(t, r, err), `{"a": 1.10}`, `[12345678901234567890123]`,
		`!not JSON: invalid character '}' at start of value within "/a" after offset 5: {"a":}!`,
		`!not JSON: duplicate object member name "a": {"a":1,"a":2}!`,
		`!the line has more than 40 bytes, which max_record allows: "`+strings.Repeat("x", 41)+`!`, "null")
}

func TestCSVReader(t *testing.T) {
	types := map[string]format.Type{"n": {Kind: format.TypeInt64}, "d": {Kind: format.TypeDouble}, "at": {Kind: format.TypeTimestamp}, "j": {Kind: format.TypeJSON}, "l": {Kind: format.TypeString, List: true}, "p": {Kind: format.TypeDecimal, Precision: 6, Scale: 2}}
	text := "s,n,d,at,j,l,p\n" +
		"a,1,NaN,2015-05-17T10:05:03Z,\"{\"\"x\"\": 1.10}\",\"[\"\"a\"\",null]\",12.50\n" +
		"\"\",,,,,,\n" +
		"\"q\"\"\n,\",-5,1e-7,,null,[],\r\n\n" +
		"x,1.5,,,,,\n" + "x,,,yesterday,,,\n" + "x,,,,{,,\n" + "x,,,,,7,\n" + "x,1\n" + "5\" pipe,,,,,,\n" + "\"a\"b,,,,,,\n" + "\xff,,,,,,\n" +
		"last,7,,,,,\"open"
	r, err := format.NewCSVReader(opener(text), 1000, ',', types)
	sameLines(t, "records", read(t, r, err),
		`{"s":"a","n":1,"d":"NaN","at":"2015-05-17T10:05:03Z","j":{"x": 1.10},"l":["a",null],"p":"12.50"}`,
		`{"s":"","n":null,"d":null,"at":null,"j":null,"l":null,"p":null}`,
		`{"s":"q\"\n,","n":-5,"d":1e-7,"at":null,"j":null,"l":[],"p":null}`,
		`!column "n" is int64: want a whole number of 64 bits, got 1.5: x,1.5,,,,,!`,
		`!column "at" is timestamp: want a time such as 2015-05-17T10:05:03.000001Z, got "yesterday": x,,,yesterday,,,!`,
		`!column "j" is json: want JSON of that, got {: x,,,,{,,!`,
		`!column "l" is list(string): want a list, got 7: x,,,,,7,!`,
		`!2 columns, want 7: x,1!`,
		`!column 1 has a quote in the middle, want all of it in quotes and "" for a quote: 5" pipe,,,,,,!`,
		`!column 1 goes on after its closing quote: "a"b,,,,,,!`,
		"!column \"s\": it is not UTF-8: \"\\xff\": \xff,,,,,,!",
		`!the record has a quote that is not closed: last,7,,,,,"open!`)
	for text, want := range map[string]string{"": "it is empty", "a,a\n": "twice", "a,\n": "column 2 has the name", "\"a\nb\n": "not closed", "a\n\"" + strings.Repeat("x\n", 30): "not closed within 20 bytes"} {
		r, err := format.NewCSVReader(opener(text), 20, ',', nil)
		if got := strings.Join(read(t, r, err), " "); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestCSVComesBack: what the CSV writer makes of the edge cases is read again,
// byte by byte.
func TestCSVComesBack(t *testing.T) {
	s, file, want := edgeFile(t, func(w io.Writer, s format.Schema) (format.Table, error) { return format.NewCSV(w, s, false) })
	types := map[string]format.Type{}
	for _, c := range s {
		types[c.Name] = c.Type
	}
	r, err := format.NewCSVReader(opener(string(file)), 1<<20, ',', types)
	if err != nil {
		t.Fatal(err)
	}
	sameRows(t, allRows(t, r), edgeRows(want))
}

// FuzzRows: no bytes make a reader panic or go on for ever, and each row that
// it gives is one JSON value that comes again from its place.
func FuzzRows(f *testing.F) {
	for _, name := range []string{"avro", "csv", "ndjson"} {
		f.Add(name, []byte("a,b\n1,\"x\ny\"\n"))
		f.Add(name, []byte("{\"a\":1}\n"))
	}
	var buf bytes.Buffer
	s := format.Schema{{Name: "n", Type: format.Type{Kind: format.TypeInt64}}, {Name: "l", Type: format.Type{Kind: format.TypeDecimal, Precision: 20, Scale: 2, List: true}}}
	for _, codec := range format.AvroCodecs {
		buf.Reset()
		a, _ := format.NewAvro(&buf, s, codec, false, "x")
		_ = a.Append(message(`{"n":5,"l":["1.5",null]}`))
		_ = a.Close()
		f.Add("avro", bytes.Clone(buf.Bytes()))
	}
	buf.Reset()
	p, _ := format.NewParquet(&buf, s, "none", false)
	_ = p.Append(message(`{"n":5,"l":["1.5",null]}`))
	_ = p.Close()
	f.Add("parquet", bytes.Clone(buf.Bytes()))
	f.Fuzz(func(t *testing.T, kind string, file []byte) {
		r, err := openRows(kind, file)
		if err != nil {
			return
		}
		defer func() { _ = r.Close() }()
		var last format.Row
		for n := 0; ; n++ {
			row, err := r.Next(nil)
			if err != nil && connectors.ClassOf(err) != connectors.ClassPoison {
				break
			}
			if n > len(file)*100+5000 {
				t.Fatalf("%d rows of %d bytes", n, len(file))
			}
			if err != nil {
				continue
			}
			if _, err := format.Compact(row.JSON); err != nil && kind != "parquet" {
				t.Fatalf("row %d: %s: %v", n, row.JSON, err)
			}
			last = row
		}
		if last.JSON == nil {
			return
		}
		if err := r.Seek(last.Place); err != nil {
			t.Fatal(err)
		}
		if again, err := r.Next(nil); err != nil || string(again.JSON) != string(last.JSON) {
			t.Fatalf("%s, %v; was %s", again.JSON, err, last.JSON)
		}
	})
}

func openRows(kind string, file []byte) (format.RowReader, error) {
	switch kind {
	case "parquet":
		return format.NewParquetReader(bytes.NewReader(file), int64(len(file)))
	case "avro":
		return format.NewAvroReader(bytes.NewReader(file), int64(len(file)))
	case "csv":
		return format.NewCSVReader(opener(string(file)), 1000, ',', nil)
	}
	return format.NewNDJSONReader(opener(string(file)), 1000)
}
