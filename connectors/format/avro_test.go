package format_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// inFastAvro is what fastavro reads of some columns; the others are as in the
// record.
var inFastAvro = []string{
	`"money_like": "Decimal 12345678901234.56789"`, `"money_like": "Decimal -0.00001"`, `"money_like": "Decimal 0.00000"`,
	`"instant": "datetime 2015-05-17 08:05:03.000001+00:00"`, `"instant": "datetime 1969-12-31 23:59:59.999999+00:00"`,
	`"local": "datetime 2015-05-17 10:05:03.100000"`, `"local": "datetime 1900-01-01 00:00:00"`,
	`"day": "date 2015-05-17"`, `"day": "date 1582-10-15"`, `"clock": "time 00:00:00"`, `"clock": "time 23:59:59.999999"`,
	`"id128": "UUID 0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"`, `"bytes": ""`, `"bytes": "AP9c"`, `"single": 0.10000000149011612`,
	`"double": -Infinity`, `"double": NaN`, `"big": 9007199254740993`, `"small": -32768`, `"yes": true`,
	`"ints": [1, null, 3]`, `"ints": []`, `"texts": ["a,b", "NULL", null, "", "q\"\\"]`, `"blobs": ["XCI=", ""]`,
	`"doc": "{\"f\": 1.10, \"n\": 12345678901234567890123}"`, `"words": "żółć 🦥"`, `"feeling": "happy"`,
}

// TestEdgeCasesInFastAvro reads the table of edge cases with a program that is
// not ours, through each codec. Python has no years before 1 nor after 9999: the
// test has no such there.
func TestEdgeCasesInFastAvro(t *testing.T) {
	for _, codec := range format.AvroCodecs {
		file := avroFile(t, codec, "edges+0+0+7.avro", true)
		if again := avroFile(t, codec, "edges+0+0+7.avro", true); !bytes.Equal(file, again) {
			t.Errorf("%s: two files of the same rows and name differ", codec)
		}
		if other := avroFile(t, codec, "edges+0+7+14.avro", true); bytes.Equal(file, other) {
			t.Errorf("%s: files of other names have the same marker", codec)
		}
		path := filepath.Join(t.TempDir(), "edges.avro")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		lines := conntest.FastAvro(t, path)
		if len(lines) != len(conntest.EdgeRecords()) {
			t.Fatalf("%s: %d rows, want %d", codec, len(lines), len(conntest.EdgeRecords()))
		}
		all := strings.Join(lines, "\n")
		for _, want := range inFastAvro {
			if !strings.Contains(all, want) {
				t.Errorf("%s: %s is missing", codec, want)
			}
		}
	}
}

// avroFile is the table of edge cases, without the years that Python does not
// have if modern.
func avroFile(t *testing.T, codec, name string, modern bool) []byte {
	t.Helper()
	_, file, _ := edgeFile(t, func(w io.Writer, s format.Schema) (format.Table, error) {
		a, err := format.NewAvro(w, s, codec, false, name)
		return modernTable{a, modern}, err
	})
	return file
}

// modernTable makes null of what some readers cannot show.
type modernTable struct {
	format.Table
	modern bool
}

func (m modernTable) Append(row *connectors.Message) error {
	if !m.modern {
		return m.Table.Append(row)
	}
	one := *row
	for _, far := range []string{`"0044-03-15T12:00:00Z BC"`, `"0044-03-15T12:00:00 BC"`, `"5874897-12-31"`, `"0044-03-15 BC"`} {
		one.Value = bytes.ReplaceAll(one.Value, []byte(far), []byte("null"))
	}
	return m.Table.Append(&one)
}

func TestAvroRefuses(t *testing.T) {
	for _, name := range []string{"", "a-b", "1a", "a.b", "é"} {
		if err := format.CheckAvroName(name); connectors.ClassOf(err) != connectors.ClassPoison {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := format.NewAvro(io.Discard, format.Schema{{Name: name, Type: format.Type{Kind: format.TypeBool}}}, "none", false, "x"); err == nil {
			t.Errorf("%q is a column", name)
		}
	}
	if _, err := format.NewAvro(io.Discard, columns(t, "a bool"), "gzip", false, "x"); err == nil || !strings.Contains(err.Error(), "want one of") {
		t.Errorf("gzip: %v", err)
	}
}

// TestEdgeCasesComeBackFromAvro: whole rows, through each codec, byte by byte.
func TestEdgeCasesComeBackFromAvro(t *testing.T) {
	for _, codec := range format.AvroCodecs {
		_, file, want := edgeFile(t, func(w io.Writer, s format.Schema) (format.Table, error) {
			return format.NewAvro(w, s, codec, false, "x")
		})
		r, err := format.NewAvroReader(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		sameRows(t, allRows(t, r), edgeRows(want))
	}
}

// allRows reads to the end, and then again from each row's place.
func allRows(t *testing.T, r format.RowReader) (rows []string) {
	t.Helper()
	var places []format.Place
	for {
		row, err := r.Next(nil)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		rows, places = append(rows, string(row.JSON)), append(places, row.Place)
	}
	for i, p := range places {
		if err := r.Seek(p); err != nil {
			t.Fatalf("row %d, %+v: %v", i, p, err)
		}
		if row, err := r.Next(nil); err != nil || row.Place != p || string(row.JSON) != rows[i] {
			t.Fatalf("row %d at %+v is %s at %+v, %v; was %s", i, p, row.JSON, row.Place, err, rows[i])
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestAvroOfNothing: a record without a byte, whose schema makes more values of
// it than there is memory for, ends the file and not the program.
func TestAvroOfNothing(t *testing.T) {
	schema := `{"type":"record","name":"r0","fields":[{"name":"a","type":"null"}]}`
	for i := 1; i < 50; i++ { // twice as many values each time
		schema = fmt.Sprintf(`{"type":"record","name":"r%d","fields":[{"name":"a","type":%s},{"name":"b","type":"r%d"}]}`, i, schema, i-1)
	}
	file := append([]byte("Obj\x01"), 2) // one entry
	for _, text := range []string{"avro.schema", schema} {
		file = append(binary.AppendVarint(file, int64(len(text))), text...)
	}
	marker := "0123456789abcdef"
	file = append(append(file, 0), marker...)
	file = append(append(file, 2, 0), marker...) // a block of one record in no bytes
	r, err := format.NewAvroReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if row, err := r.Next(nil); err == nil || !strings.Contains(err.Error(), "its JSON has more than") {
		t.Errorf("%d bytes, %v; want an error about its size", len(row.JSON), err)
	}
}
