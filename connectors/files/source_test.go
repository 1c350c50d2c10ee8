package files

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// lake is a folder with files, made by the sink or put there.
type lake struct {
	*testing.T
	root string
}

func newLake(t *testing.T) lake { return lake{t, t.TempDir()} }

func (l lake) put(name string, text []byte) {
	l.Helper()
	path := filepath.Join(l.root, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644)); err != nil {
		l.Fatal(err)
	}
}

func (l lake) config(more map[string]any) connectors.Config {
	l.Helper()
	values := map[string]any{"url": "file://" + l.root, "follow": false}
	maps.Copy(values, more)
	return conntest.Config(l, Source{}.Spec(), values)
}

// sink loads batches with the sink's settings.
func (l lake) sink(more map[string]any, batches ...connectors.Batch) {
	l.Helper()
	w := openAt(l, l.root, osDisk{}, more)
	at := int64(0)
	for _, b := range batches {
		n := int64(len(b.Messages))
		write(l, w, plan(at, at+n), b)
		at += n
	}
	if err := w.Close(l.Context()); err != nil {
		l.Fatal(err)
	}
}

// splits is the final list.
func (l lake) splits(cfg connectors.Config) (ids []string) {
	l.Helper()
	lists, err := Source{}.Splits(l.Context(), cfg)
	if err != nil {
		l.Fatal(err)
	}
	for list := range lists {
		ids = nil
		for _, s := range list {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (l lake) reader(cfg connectors.Config, id string, from connectors.Position) connectors.Reader {
	l.Helper()
	r, err := Source{}.Open(l.Context(), conntest.Task(cfg), connectors.Split{ID: id}, from)
	if err != nil {
		l.Fatal(err)
	}
	return r
}

// read reads a split to its end or its error.
func (l lake) read(cfg connectors.Config, id string, from connectors.Position) (all []connectors.Message, err error) {
	l.Helper()
	r := l.reader(cfg, id, from)
	defer func() {
		if err := r.Close(context.Background()); err != nil {
			l.Error(err)
		}
	}()
	for {
		b, err := r.Read(l.Context(), connectors.Limits{Records: 7})
		all = append(all, b.Messages...)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// everything is the values of all splits.
func (l lake) everything(cfg connectors.Config) (values []string) {
	l.Helper()
	for _, id := range l.splits(cfg) {
		all, err := l.read(cfg, id, nil)
		if err != nil {
			l.Fatal(err)
		}
		for _, m := range all {
			if m.Err != nil {
				l.Fatal(m.Err)
			}
			values = append(values, string(m.Value))
		}
	}
	return values
}

func zipped(text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text)
	_ = z.Close()
	return b.Bytes()
}

// smallFiles are the files that small makes, on a disk of their own.
func smallFiles(t *testing.T) (files map[string][]byte, want map[string][]string) {
	t.Helper()
	l := newLake(t)
	want = l.small()
	files = map[string][]byte{}
	err := filepath.WalkDir(l.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(l.root, path)
		files[rel] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, want
}

// small makes a file of each format with some rows, one of which is poison
// where the format can have it, and says what a reader has to give.
func (l lake) small() map[string][]string {
	l.Helper()
	s := format.Schema{{Name: "n", Type: format.Type{Kind: format.TypeInt64}}, {Name: "s", Type: format.Type{Kind: format.TypeString}}}
	want := map[string][]string{}
	for _, kind := range []string{"parquet", "avro"} {
		var b bytes.Buffer
		var w format.Table
		if kind == "parquet" {
			w, _ = format.NewParquet(&b, s, "zstd", false)
		} else {
			w, _ = format.NewAvro(&b, s, "deflate", false, "x")
		}
		name := "dt=1/x." + kind
		for i := range 90 {
			m := message(int64(i), fmt.Sprintf(`{"n":%d,"s":"row %d"}`, i, i))
			if err := w.Append(&m); err != nil {
				l.Fatal(err)
			}
			want[name] = append(want[name], string(m.Value))
		}
		if err := w.Close(); err != nil {
			l.Fatal(err)
		}
		l.put(name, b.Bytes())
	}
	lines := []string{`{"a": 1.10}`, `not JSON`, `[1]`, `"x"`}
	l.put("lines.ndjson", []byte(strings.Join(lines, "\n")+"\n"))
	l.put("deep/er/packed.jsonl.gz", zipped([]byte(strings.Join(lines, "\r\n"))))
	want["lines.ndjson"], want["deep/er/packed.jsonl.gz"] = lines, lines
	records := []string{`1,"two` + "\n" + `lines"`, `,""`, `3`}
	l.put("x.csv.gz", zipped([]byte("n,s\n"+strings.Join(records, "\n")+"\n")))
	want["x.csv.gz"] = records
	l.put("_tmp/lake/x.parquet", []byte("half"))
	l.put("_late/x.parquet", []byte("half"))
	l.put("dt=1/_SUCCESS", nil)
	l.put("dt=1/.x.parquet.crc", []byte("crc"))
	l.put("_schema/clicks.000001.json", []byte("{}"))
	return want
}

func TestSourceSuite(t *testing.T) {
	conntest.Source(t, Source{}, func(t *testing.T) conntest.SourceCase {
		l := newLake(t)
		return conntest.SourceCase{Want: l.small(), Config: l.config(nil)}
	})
}

// TestEverythingComesBack: topic → files → topic gives the same records, for
// each format, byte by byte.
func TestEverythingComesBack(t *testing.T) {
	rows := []string{
		`{"id":1,"name":"a,\"b\"\n","price":"12.50","at":"2015-05-17T10:05:03.000001Z","doc":{"n":12345678901234567890123},"tags":["x",null],"ok":true,"f":0.1}`,
		`{"id":9007199254740993,"name":"","price":null,"at":null,"doc":null,"tags":[],"ok":false,"f":-3}`,
		`{"id":null,"name":null,"price":"-0.01","at":"1969-12-31T23:59:59Z","doc":[1.10],"tags":null,"ok":null,"f":"NaN"}`,
	}
	h := header("id bigint", "name text", "price numeric(12,2)", "at timestamp with time zone", "doc jsonb", "tags text[]", "ok boolean", "f double precision")
	for name, fields := range map[string]map[string]any{
		"parquet": {"format": "parquet"}, "avro": {"format": "avro"}, "avro, zstd": {"format": "avro", "compression": "zstd"},
		"csv": {"format": "csv"}, "csv, gzip": {"format": "csv", "compression": "gzip"}, "ndjson": {"format": "ndjson"}, "ndjson, gzip": {"format": "ndjson", "compression": "gzip"},
	} {
		l := newLake(t)
		l.sink(fields, typed(0, h, rows...), typed(3, h, rows...))
		if got, want := l.everything(l.config(nil)), append(slices.Clone(rows), rows...); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestRecordsComeBack: with the columns of the record, and without nulls.
func TestRecordsComeBack(t *testing.T) {
	l := newLake(t)
	b := typed(0, "", `{"id":1}`, `{"name":"x"}`, `{"id":2,"name":"y"}`)
	b.Messages[0].Key, b.Messages[2].Timestamp = []byte("key"), connectors.NoTimestamp
	meta := []string{"topic", "partition", "offset", "key", "timestamp"}
	l.sink(map[string]any{"metadata_columns": meta, "partition_by": ""}, b)
	cfg := l.config(map[string]any{"metadata_columns": meta, "nulls": "omit"})
	got, err := l.read(cfg, l.splits(cfg)[0], nil)
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	for i, m := range got {
		if want := b.Messages[i]; string(m.Value) != string(want.Value) || !bytes.Equal(m.Key, want.Key) || (m.Key == nil) != (want.Key == nil) || m.Timestamp != want.Timestamp {
			t.Errorf("record %d: %s %q %d, want %s %q %d", i, m.Value, m.Key, m.Timestamp, want.Value, want.Key, want.Timestamp)
		}
	}
}

// TestBadRows: each is a dead letter with its bytes and place, and the others
// are read.
func TestBadRows(t *testing.T) {
	l := newLake(t)
	l.put("x.csv", []byte("n,s\n1,a\nx,b\n2,c,d\n3,e\n"))
	cfg := l.config(map[string]any{"columns": []map[string]any{{"name": "n", "type": "int64"}}})
	all, err := l.read(cfg, "x.csv", nil)
	if err != nil || len(all) != 4 {
		t.Fatal(all, err)
	}
	for i, want := range []string{"", `column "n" is int64`, "3 columns, want 2", ""} {
		m := all[i]
		if (m.Err == nil) != (want == "") || m.Err != nil && (!strings.Contains(m.Err.Error(), want) || connectors.ClassOf(m.Err) != connectors.ClassPoison) {
			t.Errorf("row %d: %v, want %s", i, m.Err, want)
		}
		if want := fmt.Sprintf("file://%s/x.csv:%d", l.root, i+1); m.Origin.String() != want {
			t.Errorf("row %d is at %s, want %s", i, m.Origin, want)
		}
	}
	if string(all[1].Original) != "x,b" || all[1].Value != nil {
		t.Errorf("the dead letter is %q, %q", all[1].Original, all[1].Value)
	}
}

// TestBadFiles: a file that is cut off, damaged or something else is named, with
// the place; the rows before that are read, and the job can go on with others.
func TestBadFiles(t *testing.T) {
	l := newLake(t)
	want := l.small()
	cut := func(name string, n int) {
		text, err := os.ReadFile(filepath.Join(l.root, name))
		if err != nil {
			t.Fatal(err)
		}
		l.put(name, text[:len(text)-n])
	}
	cut("dt=1/x.avro", 5)
	cut("dt=1/x.parquet", 5)
	cut("x.csv.gz", 12)
	l.put("other.parquet", []byte("PAR1 this is not Parquet PAR1"))
	l.put("other.avro", []byte("Obj\x02"))
	l.put("none.parquet", nil)
	for name, part := range map[string]string{
		"dt=1/x.avro": "cut off at byte", "dt=1/x.parquet": "no whole Parquet file", "x.csv.gz": "unexpected EOF", "other.parquet": "Parquet", "other.avro": "no Avro file", "none.parquet": "0 bytes",
	} {
		got, err := l.read(l.config(nil), name, nil)
		if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), l.root+"/"+name) || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "after row") {
			t.Errorf("%s: %v (class %v)", name, err, connectors.ClassOf(err))
		}
		again, err := l.read(l.config(map[string]any{"bad_files": "dead_letter"}), name, nil)
		if err != nil || len(again) != len(got)+1 {
			t.Errorf("%s: %d messages, %v, want %d", name, len(again), err, len(got)+1)
			continue
		}
		last := again[len(got)]
		if connectors.ClassOf(last.Err) != connectors.ClassPoison || !strings.HasSuffix(string(last.Original), name) {
			t.Errorf("%s: the dead letter is %v, %s", name, last.Err, last.Original)
		}
		if rest, err := l.read(l.config(map[string]any{"bad_files": "dead_letter"}), name, last.Position); err != nil || len(rest) != 0 {
			t.Errorf("%s: %d more behind its dead letter, %v", name, len(rest), err)
		}
		for i, m := range got {
			if string(m.Original) != want[name][i] {
				t.Errorf("%s: row %d is %q, want %q", name, i, m.Original, want[name][i])
			}
		}
	}
}

// TestChangedFiles: a file that is not what it was is refused at every stage.
func TestChangedFiles(t *testing.T) {
	l := newLake(t)
	l.small()
	cfg := l.config(nil)
	for _, name := range []string{"lines.ndjson", "dt=1/x.parquet", "dt=1/x.avro"} {
		r := l.reader(cfg, name, nil)
		b, err := r.Read(t.Context(), connectors.Limits{Records: 2})
		if err != nil || len(b.Messages) != 2 {
			t.Fatal(b, err)
		}
		text, _ := os.ReadFile(filepath.Join(l.root, name))
		l.put(name, append(text, '\n'))
		for err == nil {
			_, err = r.Read(t.Context(), connectors.Limits{})
		}
		if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "must not change") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s changes while it is read: %v", name, err)
		}
		_ = r.Close(t.Context())
		if _, err := l.read(cfg, name, b.Messages[1].Position); connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "must not change") {
			t.Errorf("%s has changed before it is opened again: %v", name, err)
		}
	}
}

// TestNewFilesAreFound: and those that change afterwards are told.
func TestNewFilesAreFound(t *testing.T) {
	l := newLake(t)
	l.put("a.ndjson", []byte("1\n"))
	cfg := l.config(map[string]any{"follow": true, "discover_interval": time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	lists, err := Source{}.Splits(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	next := func(n int) []connectors.Split {
		t.Helper()
		for list := range lists {
			if len(list) == n {
				return list
			}
		}
		t.Fatalf("no list of %d splits", n)
		return nil
	}
	next(1)
	l.put("deep/b.ndjson", []byte("2\n"))
	l.put("deep/_c.ndjson", []byte("3\n"))
	if list := next(2); list[1].ID != "deep/b.ndjson" {
		t.Errorf("the new one is %s", list[1].ID)
	}
	l.put("a.ndjson", []byte("1\n2\n"))
	changed := next(3)[2]
	if _, err := (Source{}).Open(t.Context(), conntest.Task(cfg), changed, nil); connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "a.ndjson was 2 bytes") {
		t.Errorf("the split of a changed file: %v", err)
	}
	l.put("what.txt", []byte("x"))
	strange := next(4)[3]
	if _, err := (Source{}).Open(t.Context(), conntest.Task(cfg), strange, nil); connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "what.txt tells no format") {
		t.Errorf("the split of a file without a format: %v", err)
	}
	stop()
	for range lists {
	}
}

func TestWhichFiles(t *testing.T) {
	l := newLake(t)
	for _, name := range []string{"a.ndjson", "dt=1/a.ndjson", "dt=1/_SUCCESS", "dt=2/a.ndjson", "dt=2/hr=1/b.csv", "_dt=3/a.ndjson", "dt=__HIVE_DEFAULT_PARTITION__/a.ndjson", "__HIVE_DEFAULT_PARTITION__/a.ndjson", ".git/a.ndjson", "_late/a.ndjson"} {
		l.put(name, []byte("1\n"))
	}
	for _, c := range []struct {
		more map[string]any
		want string
	}{
		{nil, "__HIVE_DEFAULT_PARTITION__/a.ndjson _dt=3/a.ndjson a.ndjson dt=1/a.ndjson dt=2/a.ndjson dt=2/hr=1/b.csv dt=__HIVE_DEFAULT_PARTITION__/a.ndjson"},
		{map[string]any{"glob": "*"}, "a.ndjson"},
		{map[string]any{"glob": "dt=[12]/**"}, "dt=1/a.ndjson dt=2/a.ndjson dt=2/hr=1/b.csv"},
		{map[string]any{"glob": "**/*.csv"}, "dt=2/hr=1/b.csv"},
		{map[string]any{"glob": "dt=2/**/?.*"}, "dt=2/a.ndjson dt=2/hr=1/b.csv"},
		{map[string]any{"require_success": true}, "dt=1/a.ndjson"},
		{map[string]any{"min_age": time.Hour}, ""},
	} {
		if got := strings.Join(l.splits(l.config(c.more)), " "); got != c.want {
			t.Errorf("%v: %s\nwant %s", c.more, got, c.want)
		}
	}
	for _, bad := range []string{"", "/a", "a//b", "a**", "[a"} {
		if checkGlob(bad) == nil {
			t.Errorf("%q is a glob", bad)
		}
	}
	l.put("x.txt", nil)
	if _, err := (Source{}).Splits(t.Context(), l.config(nil)); connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "x.txt") {
		t.Errorf("a file of no format: %v", err)
	}
}

// TestLargeRowGroups: reading a row group holds a page of each column, however
// many rows it has.
func TestLargeRowGroups(t *testing.T) {
	const rows, size, most = 80_000, 1000, 40 << 20
	l := newLake(t)
	f, err := os.Create(filepath.Join(l.root, "x.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := format.NewParquet(f, format.Schema{{Name: "s", Type: format.Type{Kind: format.TypeString}}}, "none", false)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range rows {
		text := make([]byte, size)
		for i := range text {
			text[i] = 'a' + byte(random.IntN(26))
		}
		if err := w.Append(&connectors.Message{Value: fmt.Appendf(nil, `{"s":%q}`, text)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	held := func() uint64 {
		var m runtime.MemStats
		for range 3 { // pools give back what they have after the second
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	_ = held()
	worst, n := uint64(0), 0
	r := l.reader(l.config(nil), "x.parquet", nil)
	for {
		b, err := r.Read(t.Context(), connectors.Limits{Records: 1000})
		if n += len(b.Messages); n%10_000 == 0 {
			worst = max(worst, held())
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = r.Close(t.Context())
	used := int64(worst) - int64(held())
	if n != rows || used > most {
		t.Errorf("%d rows, %d bytes held of a row group of %d, at most %d should be", n, used, rows*size, most)
	}
	t.Logf("%d bytes held of a row group of %d", used, rows*size)
}

// TestMergedFiles: what compact has made of files that this job knows is left
// out; what was merged before is refused, or read in place of its parts.
func TestMergedFiles(t *testing.T) {
	l := newLake(t)
	l.put("a/t+0+0+10.ndjson", []byte("1\n"))
	l.put("a/t+0+10+20.ndjson", []byte("2\n"))
	l.put("a/t+0+30+40.ndjson", []byte("4\n"))
	l.put("b/t+0+0+10.ndjson", []byte("5\n"))
	look := func(w *watch) string {
		t.Helper()
		_, err := w.look(t.Context())
		if err != nil {
			return err.Error()
		}
		var ids []string
		for _, s := range w.splits {
			ids = append(ids, s.ID)
		}
		return strings.Join(ids, " ")
	}
	watching := func(more map[string]any) *watch {
		s, err := sourceSettingsOf(l.config(more))
		if err != nil {
			t.Fatal(err)
		}
		lib, err := openLibrary(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return newWatch(s, lib)
	}
	running := watching(nil)
	all := "a/t+0+0+10.ndjson a/t+0+10+20.ndjson a/t+0+30+40.ndjson b/t+0+0+10.ndjson"
	if got := look(running); got != all {
		t.Errorf("at first %s", got)
	}
	hasty := watching(map[string]any{"glob": "a/t+0+0+?0.ndjson"}) // who has seen one of the parts alone
	if got, want := look(hasty), "a/t+0+0+10.ndjson"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	l.put("a/t+0+0+20.ndjson", []byte("1\n2\n"))
	m := manifest{Format: 1, Version: 1, Reason: reasonCompacted, Job: "j", Topic: "t", Folder: "a", Files: []listed{
		{fileInfo: fileInfo{Name: "t+0+0+20.ndjson", Rows: 2}, Topic: "t", To: 20, Since: 1, Merged: 2},
		{fileInfo: fileInfo{Name: "t+0+30+40.ndjson", Rows: 1}, Topic: "t", From: 30, To: 40, Since: 1},
	}}
	m.Partitions = []share{{Topic: "t", Last: 39, Accounted: 40, counts: counts{Records: 3, Rows: 3}}}
	m.sum()
	text, err := encodeLedger(m)
	if err != nil {
		t.Fatal(err)
	}
	l.put("a/"+versionName(1), text)
	for range 2 { // with the parts there, and when they are gone
		if got := look(running); got != all {
			t.Errorf("a job that knows the parts reads %s", got)
		}
		if got := look(hasty); !strings.Contains(got, "a/t+0+0+20.ndjson was merged from 2 files, says the manifest of its folder, and this job has listed 1 of them") {
			t.Errorf("a job that knows one part: %s", got)
		}
		if got := look(watching(nil)); !strings.Contains(got, "a/t+0+0+20.ndjson was merged from smaller files") {
			t.Errorf("a job that begins: %s", got)
		}
		if got, want := look(watching(map[string]any{"merged": "read"})), "a/t+0+0+20.ndjson a/t+0+30+40.ndjson b/t+0+0+10.ndjson"; got != want {
			t.Errorf("merged: read reads %s, want %s", got, want)
		}
		_ = os.Remove(filepath.Join(l.root, "a/t+0+0+10.ndjson"))
		_ = os.Remove(filepath.Join(l.root, "a/t+0+10+20.ndjson"))
	}
	l.put("a/"+versionName(1), []byte("it is read once"))
	if got := look(running); got != all {
		t.Errorf("a manifest that is known: %s", got)
	}
	// What was merged is merged again, with one more.
	l.put("a/t+0+0+40.ndjson", []byte("1\n2\n4\n"))
	m.Version, m.Files = 2, []listed{{fileInfo: fileInfo{Name: "t+0+0+40.ndjson", Rows: 3}, Topic: "t", To: 40, Since: 2, Merged: 3}}
	m.sum()
	if text, err = encodeLedger(m); err != nil {
		t.Fatal(err)
	}
	l.put("a/"+versionName(2), text)
	if got := look(running); got != all {
		t.Errorf("a job that knows all that was merged twice reads %s", got)
	}
}
