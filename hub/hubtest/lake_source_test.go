package hubtest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// TestKilledLakeSourceIsExact kills the hub again and again while it reads files
// of each format into a topic; half of them come while it does. Every row is in
// the topic once, or in the dead letters once: rows that are none, and a file
// that is cut off.
func TestKilledLakeSourceIsExact(t *testing.T) {
	total, files := kills(t, 4), 24
	rows := fullRows(240_000) / files
	root := t.TempDir()
	want := map[string]bool{}
	dead := 0
	put := func(i int) {
		kind := []string{"parquet", "avro", "ndjson.gz", "csv"}[i%4]
		text, bad := lakeFile(t, kind, i*rows, rows, want)
		dead += bad
		if i == 1 { // cut off within its last block: what is whole before is read
			text = lastBlockCut(t, text, want)
			dead++
		}
		name := filepath.Join(root, fmt.Sprintf("part=%d", i%3), fmt.Sprintf("_%d.%s", i, kind))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name, filepath.Join(filepath.Dir(name), filepath.Base(name)[1:])); err != nil {
			t.Fatal(err)
		}
	}
	for i := range files / 2 {
		put(i)
	}
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: rows, partitions: 6}
connectors:
  - name: rows-in
    source: {type: files, url: %q, discover_interval: 50ms, bad_files: dead_letter, columns: [{name: id, type: int64}]}
    topic: rows
    key: string(value.id)
    errors: {max_failures: 100/1000}
`, "file://"+root))
	for i := files / 2; i < files; i++ {
		put(i)
	}
	l := load{n: n, what: "rows are read", total: len(want) + dead, count: counter(n, "rows-in", "read"), limit: time.Minute, late: 60 * time.Millisecond}
	l.kill(t, total)
	l.done(t, 2*time.Minute)
	checkLines(t, n, "rows", len(want), want)
	letters := map[string]bool{}
	for _, r := range readAll(t, n.Kafka, "rows-in.dlq", 0) {
		letters[string(r.Value)] = true
	}
	if len(letters) != dead {
		t.Errorf("%d dead letters, want %d: %.300s", len(letters), dead, fmt.Sprint(letters))
	}
	conntest.Figures(t, "%d kills, %d files of 4 formats: rows %d = records %d = distinct %d, and %d dead letters", total, files, len(want), len(want), len(want), dead)
}

// lakeFile is a file with rows of these ids, and adds the records that they
// make. One row of a CSV file is none.
func lakeFile(t *testing.T, kind string, from, rows int, want map[string]bool) (text []byte, dead int) {
	t.Helper()
	var b bytes.Buffer
	schema := format.Schema{{Name: "id", Type: format.Type{Kind: format.TypeInt64}}}
	var (
		w   format.Table
		err error
		z   *gzip.Writer
	)
	switch kind {
	case "parquet":
		w, err = format.NewParquet(&b, schema, "zstd", false)
	case "avro":
		w, err = format.NewAvro(&b, schema, "none", false, "x")
	case "csv":
		w, err = format.NewCSV(&b, schema, false)
	default:
		z = gzip.NewWriter(&b)
		w = format.NewNDJSON(z)
	}
	if err != nil {
		t.Fatal(err)
	}
	for id := from; id < from+rows; id++ {
		if kind == "csv" && id == from+rows/2 {
			fmt.Fprintf(&b, "no number %d\n", id)
			dead++
			continue
		}
		m := connectors.Message{Value: fmt.Appendf(nil, `{"id":%d}`, id)}
		if err := w.Append(&m); err != nil {
			t.Fatal(err)
		}
		want[string(m.Value)] = true
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if z != nil {
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes(), dead
}

// lastBlockCut cuts the end off an Avro file, and takes the rows of its last
// block out of those that are wanted.
func lastBlockCut(t *testing.T, text []byte, want map[string]bool) []byte {
	t.Helper()
	cut := text[:len(text)-3]
	whole := map[string]bool{}
	each := func(b []byte, fn func(string)) {
		r, err := format.NewAvroReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		for {
			row, err := r.Next(nil)
			if err != nil {
				return
			}
			fn(string(row.JSON))
		}
	}
	each(cut, func(s string) { whole[s] = true })
	each(text, func(s string) {
		if !whole[s] {
			delete(want, s)
		}
	})
	return cut
}
