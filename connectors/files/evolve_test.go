package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/record"
)

// typed is a batch of records with a schema header.
func typed(from int64, header string, values ...string) connectors.Batch {
	var b connectors.Batch
	for i, v := range values {
		m := message(from+int64(i), v)
		if header != "" {
			m.Headers = []record.Header{{Key: format.SchemaHeader, Value: []byte(header)}}
		}
		b.Messages = append(b.Messages, m)
	}
	return b
}

func header(columns ...string) string {
	var all []string
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, " ")
		all = append(all, fmt.Sprintf(`{"name":%q,"type":%q}`, name, typ))
	}
	return `{"table":"public.t","columns":[` + strings.Join(all, ",") + "]}"
}

// pinnedAs is the newest version of the columns.
func pinnedAs(t *testing.T, root string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, schemaFolder, "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	text, err := os.ReadFile(slices.Max(names))
	if err != nil {
		t.Fatal(err)
	}
	s, err := format.DecodeSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, c := range s {
		words = append(words, c.Name+" "+c.Type.String())
	}
	return fmt.Sprintf("%d: %s", len(names), strings.Join(words, ", "))
}

// values are the rows of all files as JSON, by name of the file.
func values(t *testing.T, root string) (rows []string) {
	t.Helper()
	all := tree(t, root)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r, err := format.NewParquetReader(bytes.NewReader(all[name]), int64(len(all[name])))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for {
			row, err := r.Next(nil)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			rows = append(rows, string(row.JSON))
		}
		_ = r.Close()
	}
	return rows
}

// TestColumnsEvolve: columns become wider when the table did, new ones are
// added, and what cannot be is a dead letter that names the column. Files of
// all versions are read as one table by others.
func TestColumnsEvolve(t *testing.T) {
	root := t.TempDir()
	fields := map[string]any{"partition_by": ""}
	w := openAt(t, root, osDisk{}, fields)
	write(t, w, plan(0, 2), typed(0, header("id integer", "price numeric(6,2)", "f real", "at timestamp without time zone"),
		`{"id":1,"price":"1234.50","f":0.1,"at":"2015-05-17T10:05:03"}`, `{"id":2,"price":null,"f":null,"at":null}`))
	if got, want := pinnedAs(t, root), "1: id int32, price decimal(6,2), f float, at local_timestamp"; got != want {
		t.Errorf("pinned %s, want %s", got, want)
	}
	wide := header("id bigint", "price numeric(12,2)", "f double precision", "at timestamp without time zone", "tags text[]")
	write(t, w, plan(2, 3), typed(2, wide, `{"id":9007199254740993,"price":"1234567890.12","f":0.30000000000000004,"at":null,"tags":["a",null]}`))
	if got, want := pinnedAs(t, root), "2: id int64, price decimal(12,2), f double, at local_timestamp, tags list(string)"; got != want {
		t.Errorf("pinned %s, want %s", got, want)
	}
	// A type that is narrower, or another one, changes nothing; values that do not fit are refused.
	other := header("id text", "price numeric(12,4)", "f double precision", "at timestamp with time zone", "tags text[]")
	bad, err := w.Write(t.Context(), plan(3, 6), typed(3, other, `{"id":"5"}`, `{"id":5,"price":"1.2345"}`, `{"at":"2015-05-17T10:05:03Z"}`))
	if err != nil || len(bad) != 3 {
		t.Fatalf("refused %v, %v", bad, err)
	}
	for i, column := range []string{"id", "price", "at"} {
		if !strings.Contains(bad[i].Err.Error(), fmt.Sprintf("column %q", column)) || connectors.ClassOf(bad[i].Err) != connectors.ClassPoison {
			t.Errorf("%v does not name column %s", bad[i].Err, column)
		}
	}
	if got := pinnedAs(t, root); !strings.HasPrefix(got, "2: ") {
		t.Errorf("pinned %s by records that do not fit", got)
	}
	got := conntest.DuckDB(t, fmt.Sprintf("SELECT id, price, f, \"at\", tags FROM read_parquet('%s/*.parquet', union_by_name=true) ORDER BY id", root))
	if want := "1|1234.50|0.10000000149011612|2015-05-17 10:05:03|None\n2|None|None|None|None\n9007199254740993|1234567890.12|0.30000000000000004|None|['a', None]"; got != want {
		t.Errorf("DuckDB reads\n%s\nwant\n%s", got, want)
	}
}

// TestSameBytesAfterEvolving: a plan that is executed again by another process
// gives the same bytes, whatever columns were pinned meanwhile.
func TestSameBytesAfterEvolving(t *testing.T) {
	for _, kind := range []string{"parquet", "avro"} {
		fields := map[string]any{"partition_by": "", "format": kind}
		h := header("id integer", "price numeric(6,2)")
		var states []string
		for range 2 {
			root := t.TempDir()
			w := openAt(t, root, osDisk{}, fields)
			write(t, w, plan(0, 1), typed(0, h, `{"id":1,"price":"1.50"}`))
			write(t, openAt(t, root, osDisk{}, fields), plan(1, 3), typed(1, h, `{"id":1,"price":"1.50"}`, `{"id":2}`))
			first := state(t, root)
			write(t, openAt(t, root, osDisk{}, fields), plan(1, 3), typed(1, h, `{"id":1,"price":"1.50"}`, `{"id":2}`))
			if again := state(t, root); again != first {
				t.Errorf("%s: %s became %s", kind, first, again)
			}
			states = append(states, first)
		}
		if states[0] != states[1] {
			t.Errorf("%s: two folders differ:\n%s\n%s", kind, states[0], states[1])
		}
	}
}

// TestLosses: each loss is refused unless it is named, and then does what its
// name says.
func TestLosses(t *testing.T) {
	columns := []map[string]any{
		{"name": "at", "type": "timestamp"}, {"name": "price", "type": "decimal(6,2)"}, {"name": "d", "type": "double"}, {"name": "big", "type": "string"},
	}
	for _, c := range []struct{ loss, value, refused, kept string }{
		{"infinity_to_null", `{"at":"-infinity"}`, `column "at" is timestamp: want a finite time`, `{"at":null,"price":null,"d":null,"big":null}`},
		{"nan_to_null", `{"price":"NaN"}`, `column "price" is decimal(6,2): want a number; NaN`, `{"at":null,"price":null,"d":null,"big":null}`},
		{"numeric_to_double", `{"d":"0.12345678901234567890"}`, `column "d" is double: want a number`, `{"at":null,"price":null,"d":0.12345678901234568,"big":null}`},
		{"numeric_to_double", `{"d":9007199254740993}`, `without loss`, `{"at":null,"price":null,"d":9.007199254740992e+15,"big":null}`},
		{"nanoseconds_to_microseconds", `{"at":"2015-05-17T10:05:03.123456789Z"}`, `at most microseconds`, `{"at":"2015-05-17T10:05:03.123456Z","price":null,"d":null,"big":null}`},
		{"unchanged_to_null", `{"price":"1.00","__unchanged":["big"]}`, `leaves columns as they were`, `{"at":null,"price":"1.00","d":null,"big":null}`},
	} {
		for _, allowed := range []bool{false, true} {
			root := t.TempDir()
			fields := map[string]any{"partition_by": "", "columns": columns}
			if allowed {
				fields["allow_lossy"] = []string{c.loss}
			}
			w := openAt(t, root, osDisk{}, fields)
			bad, err := w.Write(t.Context(), plan(0, 1), typed(0, "", c.value))
			if err != nil {
				t.Fatal(err)
			}
			if allowed {
				if got := values(t, root); len(bad) != 0 || len(got) != 1 || got[0] != c.kept {
					t.Errorf("%s with %s: %v, refused %v, want %s", c.value, c.loss, got, bad, c.kept)
				}
			} else if len(bad) != 1 || !strings.Contains(bad[0].Err.Error(), c.refused) || !strings.Contains(bad[0].Err.Error(), c.loss) {
				t.Errorf("%s: refused %v, want %s and the name %s", c.value, bad, c.refused, c.loss)
			}
		}
	}
}

// TestDeletesAreNoRows: the key of a deleted row is not a row with nulls.
func TestDeletesAreNoRows(t *testing.T) {
	for value, columns := range map[string][]map[string]any{
		`{"id":1,"__op":"d"}`:                       {{"name": "id", "type": "int64"}, {"name": "name", "type": "string"}},
		`{"before":{"id":1},"after":null,"op":"d"}`: {{"name": "id", "type": "int64", "from": "after.id"}},
	} {
		w := openAt(t, t.TempDir(), osDisk{}, map[string]any{"partition_by": "", "columns": columns})
		bad, err := w.Write(t.Context(), plan(0, 1), typed(0, "", value))
		if err != nil || len(bad) != 1 || !strings.Contains(bad[0].Err.Error(), "deleted") {
			t.Errorf("%s: refused %v, %v", value, bad, err)
		}
	}
	root := t.TempDir()
	write(t, openAt(t, root, osDisk{}, map[string]any{"partition_by": ""}), plan(0, 2), typed(0, "", `{"id":1,"name":"x","__op":"c"}`, `{"id":1,"__op":"d","__unchanged":["name"]}`))
	if got, want := strings.Join(values(t, root), " "), `{"id":1,"name":"x","__op":"c","__unchanged":null} {"id":1,"name":null,"__op":"d","__unchanged":["name"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestTypesOfFields: what the config says of a field is above header and
// values, and cannot change once it is pinned.
func TestTypesOfFields(t *testing.T) {
	root := t.TempDir()
	h := header("at timestamp with time zone", "n bigint")
	fields := map[string]any{"partition_by": "", "types": map[string]string{"at": "string", "price": "decimal(12,2)"}}
	write(t, openAt(t, root, osDisk{}, fields), plan(0, 2), typed(0, h, `{"at":"infinity","n":1,"price":"7.00"}`, `{"at":"2015-05-17T10:05:03Z","price":8}`))
	if got, want := strings.Join(values(t, root), " "), `{"at":"infinity","n":1,"price":"7.00"} {"at":"2015-05-17T10:05:03Z","n":null,"price":"8.00"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	fields["types"] = map[string]string{"at": "timestamp"}
	_, err := openAt(t, root, osDisk{}, fields).Write(t.Context(), plan(2, 3), typed(2, h, `{"n":2}`))
	if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), `"at"`) {
		t.Errorf("a type that is pinned otherwise: %v", err)
	}
}

// TestNamesInAvro: a field that Avro cannot name is refused with what to do.
func TestNamesInAvro(t *testing.T) {
	w := openAt(t, t.TempDir(), osDisk{}, map[string]any{"partition_by": "", "format": "avro"})
	bad, err := w.Write(t.Context(), plan(0, 2), typed(0, "", `{"id":1}`, `{"id":2,"a-b":3}`))
	if err != nil || len(bad) != 1 || bad[0].Index != 1 || !strings.Contains(bad[0].Err.Error(), `"a-b": a name in Avro`) {
		t.Errorf("refused %v, %v", bad, err)
	}
}

// TestTypeAloneEvolves: a column grows with its table's when no field is new.
func TestTypeAloneEvolves(t *testing.T) {
	root := t.TempDir()
	w := openAt(t, root, osDisk{}, map[string]any{"partition_by": ""})
	write(t, w, plan(0, 1), typed(0, header("id integer"), `{"id":1}`))
	write(t, w, plan(1, 2), typed(1, header("id bigint"), `{"id":9007199254740993}`))
	if got, want := pinnedAs(t, root), "2: id int64"; got != want {
		t.Errorf("pinned %s, want %s", got, want)
	}
}
