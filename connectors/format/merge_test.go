package format_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/twmb/avro/ocf"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

type textPart struct{ *bytes.Reader }

func (textPart) Close() error { return nil }

func mergeAll(t testing.TB, files ...[]byte) ([]byte, int64, error) {
	t.Helper()
	var out bytes.Buffer
	rows, err := format.MergeParquet(&out, "zstd", len(files), func(i int, _ bool) (format.Part, error) {
		return textPart{bytes.NewReader(files[i])}, nil
	})
	return out.Bytes(), rows, err
}

var allTypes = []string{"s string", "i int64", "d double", "b bool", "t timestamp", "day date", "m decimal(12,2)", "wide decimal(38,9)", "j json"}

func allTyped(n int) string {
	return fmt.Sprintf(`{"s":"row \"%d\"","i":%d,"d":%d.5,"b":%t,"t":"2015-05-17T10:05:03.00%d000Z","day":"2015-05-1%d","m":"%d.10","wide":"-12345678901234567890123456789.%09d","j":{"n":[%d,null]}}`,
		n, n, n, n%2 == 0, n%10, n%10, n, n, n)
}

// TestMergeParquet: what is merged is what one file of all rows would be, in
// every column of every type, also when the first files have fewer columns.
func TestMergeParquet(t *testing.T) {
	s := columns(t, allTypes...)
	var parts [][]byte
	var whole, few []string
	for i := range 5 {
		var rows []string
		for n := range 600 {
			rows = append(rows, allTyped(i*600+n))
		}
		if i < 2 {
			for n := range rows {
				rows[n] = fmt.Sprintf(`{"s":"%d","i":null}`, i*600+n)
			}
			few = append(few, rows...)
			parts = append(parts, writeParquet(t, s[:2], rows...))
		} else {
			parts = append(parts, writeParquet(t, s, rows...))
		}
		whole = append(whole, rows...)
	}
	got, rows, err := mergeAll(t, parts...)
	if err != nil || rows != 3000 {
		t.Fatal(rows, err)
	}
	want := writeParquet(t, s, whole...)
	if a, b := readParquet(t, got), readParquet(t, want); strings.Join(a, "\n") != strings.Join(b, "\n") {
		t.Errorf("%d rows that are not those of one file: %.300s", len(a), a[0])
	}
	const query = "SELECT COLUMNS(*)::VARCHAR FROM read_parquet(FILE) ORDER BY s"
	if a, b := duckdb(t, got, query), duckdb(t, want, query); a != b {
		t.Error("DuckDB reads something else")
	}
	const types = "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(FILE))"
	if a, b := duckdb(t, got, types), duckdb(t, want, types); a != b {
		t.Errorf("DuckDB finds the types\n%s\nwant\n%s", a, b)
	}
	if again, _, _ := mergeAll(t, parts...); !bytes.Equal(again, got) {
		t.Error("the same files give other bytes")
	}
	one, rows, err := mergeAll(t, parts[:2]...)
	if err != nil || int(rows) != len(few) || len(readParquet(t, one)) != len(few) {
		t.Error(rows, err)
	}
	other := writeParquet(t, columns(t, "s int64"), `{"s":1}`)
	if _, _, err := mergeAll(t, parts[0], other); !errors.Is(err, format.ErrDifferentColumns) {
		t.Errorf("other columns: %v", err)
	}
	if _, _, err := mergeAll(t, parts[0], parts[1][:len(parts[1])-20]); err == nil || errors.Is(err, format.ErrDifferentColumns) {
		t.Errorf("half a file: %v", err)
	}
}

func TestMergeLines(t *testing.T) {
	var out bytes.Buffer
	long := strings.Repeat("x", 700<<10)
	rows, err := format.MergeLines(&out, strings.NewReader("{}\n\""+long+"\"\n"))
	if err != nil || rows != 2 || out.Len() != len(long)+6 {
		t.Error(rows, out.Len(), err)
	}
	if _, err := format.CountLines(strings.NewReader("{}\n{")); err == nil {
		t.Error("a line without an end counts")
	}
	out.Reset()
	header, n, err := format.MergeCSV(&out, strings.NewReader("a,\"b\nb\"\n1,\"x\n\"\"y\"\n2,\n"), "")
	if err != nil || n != 2 || header != "a,\"b\nb\"\n" {
		t.Errorf("%q %d %v", header, n, err)
	}
	if _, n, err = format.MergeCSV(&out, strings.NewReader(header+"3,z\n"), header); err != nil || n != 1 {
		t.Error(n, err)
	}
	if got := out.String(); got != "a,\"b\nb\"\n1,\"x\n\"\"y\"\n2,\n3,z\n" {
		t.Errorf("%q", got)
	}
	if _, _, err := format.MergeCSV(&out, strings.NewReader("a,c\n3,z\n"), header); !errors.Is(err, format.ErrDifferentColumns) {
		t.Error(err)
	}
	if _, _, err := format.CountCSV(strings.NewReader("a\n\"x\n")); err == nil {
		t.Error("a quote without an end counts")
	}
}

func writeAvro(t testing.TB, s format.Schema, codec, name string, values ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	a, err := format.NewAvro(&buf, s, codec, false, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := a.Append(message(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestMergeAvro: the rows of the parts in their order, read by the library.
func TestMergeAvro(t *testing.T) {
	s := columns(t, "s string", "i int64")
	for _, codec := range format.AvroCodecs {
		var out bytes.Buffer
		header, total := "", int64(0)
		var want strings.Builder
		for i := range 3 {
			var values []string
			for n := range 20_000 {
				values = append(values, fmt.Sprintf(`{"s":"row %d of %d","i":%d}`, n, i, n))
				fmt.Fprintf(&want, "map[i:%d s:row %d of %d]\n", n, n, i)
			}
			part := writeAvro(t, s, codec, fmt.Sprint("part", i), values...)
			if n, err := format.CountAvro(bytes.NewReader(part)); err != nil || n != 20_000 {
				t.Fatal(n, err)
			}
			var rows int64
			var err error
			if header, rows, err = format.MergeAvro(&out, bytes.NewReader(part), header); err != nil {
				t.Fatal(err)
			}
			total += rows
			if _, err := format.CountAvro(bytes.NewReader(part[:len(part)-9])); err == nil {
				t.Error("half a file counts")
			}
		}
		if got := readAvro(t, out.Bytes()); got != want.String() || total != 60_000 {
			t.Errorf("%s: %d rows, %.200s", codec, total, got)
		}
	}
	first := writeAvro(t, s, "none", "a", `{"s":"x","i":1}`)
	other := writeAvro(t, columns(t, "s string"), "none", "b", `{"s":"x"}`)
	header, _, err := format.MergeAvro(&bytes.Buffer{}, bytes.NewReader(first), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := format.MergeAvro(&bytes.Buffer{}, bytes.NewReader(other), header); !errors.Is(err, format.ErrDifferentColumns) {
		t.Error(err)
	}
}

// readAvro gives the rows as text.
func readAvro(t testing.TB, file []byte) string {
	t.Helper()
	r, err := ocf.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for {
		var row map[string]any
		err := r.Decode(&row)
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, row)
	}
}

// FuzzMerge: files from outside are merged or refused.
func FuzzMerge(f *testing.F) {
	f.Add([]byte("a,b\n1,\"2\n3\"\n"))
	f.Add(writeParquet(f, columns(f, "s string", "i int64"), `{"s":"x","i":1}`))
	f.Add(writeAvro(f, columns(f, "s string", "i int64"), "none", "x", `{"s":"x","i":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		if _, n, err := format.MergeCSV(&out, bytes.NewReader(b), ""); err == nil {
			if !bytes.Equal(out.Bytes(), b) || n > int64(len(b)) {
				t.Errorf("%q became %q", b, out.Bytes())
			}
		}
		out.Reset()
		if _, n, err := format.MergeAvro(&out, bytes.NewReader(b), ""); err == nil {
			if again, err := format.CountAvro(&out); err != nil || again != n {
				t.Errorf("%q has %d rows, and then %d, %v", b, n, again, err)
			}
		}
		out.Reset()
		if _, err := format.MergeLines(&out, bytes.NewReader(b)); err == nil && !bytes.Equal(out.Bytes(), b) {
			t.Errorf("%q became %q", b, out.Bytes())
		}
	})
}
