package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/record"
)

var tp = record.TopicPartition{Topic: "clicks", Partition: 3}

func openAt(t testing.TB, root string, d disk, more map[string]any) *writer {
	t.Helper()
	values := map[string]any{"url": "file://" + root, "partition_by": "dt={date(ts)}/hr={hour(ts)}"}
	maps.Copy(values, more)
	w, err := openDisk(conntest.Task(conntest.Config(t, Sink{}.Spec(), values)), tp, d)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// openDisk opens a writer for one partition on a disk that is not quite real.
func openDisk(task connectors.TaskContext, tp record.TopicPartition, d disk) (*writer, error) {
	s, err := settingsOf(task.Config)
	if err != nil {
		return nil, err
	}
	w, err := openOn(context.Background(), task, []record.TopicPartition{tp}, s, &localStore{root: s.location.dir, disk: d})
	if err != nil {
		return nil, err
	}
	return w.(*writer), nil
}

func plan(from, to int64) connectors.Plan {
	return connectors.Plan{Partition: tp, From: from, To: to, Epoch: 1, ID: fmt.Sprintf("lake-%d-%d", from, to)}
}

func message(offset int64, value string) connectors.Message {
	m := connectors.Message{Partition: tp, Offset: offset, Timestamp: 1431857103000 + offset*600_000}
	if value != "" {
		m.Value = []byte(value)
	}
	return m
}

// hours makes one message for each offset, ten minutes of event time apart.
func hours(from, to int64) connectors.Batch {
	var b connectors.Batch
	for o := from; o < to; o++ {
		b.Messages = append(b.Messages, message(o, fmt.Sprintf(`{"n":%d,"name":"row %d"}`, o, o)))
	}
	return b
}

func write(t testing.TB, w *writer, p connectors.Plan, b connectors.Batch) {
	t.Helper()
	bad, err := w.Write(t.Context(), p, b)
	if err != nil || len(bad) > 0 {
		t.Fatalf("%s: %v %v", p, bad, err)
	}
}

// tree is every visible file below root with its content.
func tree(t testing.TB, root string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), "_") && !strings.HasPrefix(d.Name(), "__") {
				return fs.SkipDir
			}
			return nil
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path)
		all[rel] = text
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

func rows(t testing.TB, root string) (n int64) {
	t.Helper()
	for name, text := range tree(t, root) {
		got, err := format.ParquetRows(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n += got
	}
	return n
}

func equal(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

// TestSuite runs the suite of all connectors for each format.
func TestSuite(t *testing.T) {
	for name, more := range map[string]map[string]any{
		"ndjson":          {"format": "ndjson"},
		"ndjson, gzip":    {"format": "ndjson", "compression": "gzip", "partition_by": ""},
		"csv, inferred":   {"format": "csv"},
		"parquet, listed": {"columns": []map[string]any{{"name": "id", "type": "int64"}, {"name": "name", "type": "string"}}},
		"parquet":         {"format": "parquet"},
		"avro":            {"format": "avro"},
		"avro, snappy":    {"format": "avro", "compression": "snappy"},
	} {
		t.Run(name, func(t *testing.T) {
			conntest.Sink(t, Sink{}, func(t *testing.T) conntest.SinkCase {
				root := t.TempDir()
				values := map[string]any{"url": "file://" + root, "partition_by": "dt={date(ts)}/hr={hour(ts)}"}
				maps.Copy(values, more)
				return conntest.SinkCase{
					Config: conntest.Config(t, Sink{}.Spec(), values),
					Rows:   func(t *testing.T) []int64 { return suiteIDs(t, root) },
					State:  func(t *testing.T) string { return state(t, root) },
				}
			})
		})
	}
}

// state is a line for each visible file, with the hash of its bytes.
func state(t *testing.T, root string) string { return stateOf(tree(t, root)) }

func stateOf(all map[string][]byte) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s %x\n", name, sha256.Sum256(all[name]))
	}
	return b.String()
}

// suiteIDs reads the ids back.
func suiteIDs(t *testing.T, root string) []int64 { return idsIn(t, tree(t, root)) }

func idsIn(t *testing.T, all map[string][]byte) (ids []int64) {
	for name, text := range all {
		if strings.HasSuffix(name, ".parquet") {
			ids = append(ids, parquetInts(t, text, "id")...)
			continue
		}
		if strings.HasSuffix(name, ".avro") {
			ids = append(ids, avroInts(t, text)...)
			continue
		}
		if strings.HasSuffix(name, ".gz") {
			text = unzip(t, text)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, `{"id":`), ",")
			if strings.HasSuffix(name, ".csv") && i == 0 {
				continue
			}
			n, err := strconv.ParseInt(id, 10, 64)
			if err != nil {
				t.Fatalf("%s: %v in %q", name, err, line)
			}
			ids = append(ids, n)
		}
	}
	return ids
}

// avroInts are the ids of an Avro file.
func avroInts(t *testing.T, text []byte) (ids []int64) {
	t.Helper()
	r, err := format.NewAvroReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for {
		row, err := r.Next(nil)
		if errors.Is(err, io.EOF) {
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		var one struct{ ID int64 }
		if err := json.Unmarshal(row.JSON, &one); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, one.ID)
	}
}

func TestPlanBecomesNamedFiles(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "lake")
	w := openAt(t, root, osDisk{}, nil)
	write(t, w, plan(0, 13), hours(0, 13))
	want := []string{
		"dt=2015-05-17/hr=10/clicks+3+0+13.parquet",
		"dt=2015-05-17/hr=11/clicks+3+0+13.parquet",
		"dt=2015-05-17/hr=12/clicks+3+0+13.parquet",
	}
	if names := slices.Sorted(maps.Keys(tree(t, root))); !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
	if n := rows(t, root); n != 13 {
		t.Errorf("%d rows, want 13", n)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, tmpFolder)); len(left) != 0 {
		t.Errorf("%v is left in %s", left, tmpFolder)
	}
}

func TestPoisonOfEveryKind(t *testing.T) {
	root := t.TempDir()
	w := openAt(t, root, osDisk{}, map[string]any{"columns": []map[string]any{{"name": "n", "type": "int64"}}, "extra": "fail", "partition_by": "dt={date(ts)}/c={value.n}"})
	b := connectors.Batch{Messages: []connectors.Message{
		message(0, `{"n":1}`), message(1, `{"n":"x"}`), message(2, `not json`), message(3, `{"n":2,"more":1}`), message(4, ""), message(5, `{"n":{"x":1}}`),
		message(6, `{"n":3,"more":null}`), message(20, `{"n":3}`),
	}}
	bad, err := w.Write(t.Context(), plan(0, 21), b)
	if err != nil {
		t.Fatal(err)
	}
	var at []int
	for _, e := range bad {
		at = append(at, e.Index)
		if connectors.ClassOf(e) != connectors.ClassPoison || e.Offset != b.Messages[e.Index].Offset {
			t.Errorf("%+v", e)
		}
	}
	if !slices.Equal(at, []int{1, 2, 3, 4, 5}) {
		t.Errorf("refused %v, want 1 to 5: %v", at, bad)
	}
	if n := len(tree(t, root)); n != 0 {
		t.Errorf("%d files are visible", n)
	}
	write(t, w, plan(0, 21), connectors.Batch{Messages: []connectors.Message{b.Messages[0], b.Messages[6], b.Messages[7]}})
	if n := rows(t, root); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

func TestTombstonesCanBeSkipped(t *testing.T) {
	root := t.TempDir()
	w := openAt(t, root, osDisk{}, map[string]any{"tombstones": "skip"})
	write(t, w, plan(0, 2), connectors.Batch{Messages: []connectors.Message{message(0, `{"a":1}`), message(1, "")}})
	if n := rows(t, root); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// TestColumnsArePinned: what was inferred once holds, a new field adds a
// column, a value that does not fit is refused by name.
func TestColumnsArePinned(t *testing.T) {
	root := t.TempDir()
	more := map[string]any{"format": "csv", "metadata_columns": []string{"offset"}}
	w := openAt(t, root, osDisk{}, more)
	put := func(from int64, values ...string) []connectors.RecordError {
		var b connectors.Batch
		for i, v := range values {
			m := message(from+int64(i), v)
			m.Timestamp = 1431857103000
			b.Messages = append(b.Messages, m)
		}
		bad, err := w.Write(t.Context(), plan(from, from+int64(len(values))), b)
		if err != nil {
			t.Fatal(err)
		}
		return bad
	}
	if bad := put(0, `{"nothing":null}`); len(bad) != 1 {
		t.Errorf("refused %v, want the record without any field", bad)
	}
	put(1, `{"a":1,"nothing":null}`)
	put(10, `{"b":"x","a":2}`)
	w = openAt(t, root, osDisk{}, more)
	put(20, `{"b":"y"}`)
	if bad := put(30, `{"a":"one"}`, `{"a":3}`, `{"new":1,"":1}`); len(bad) != 2 || !strings.Contains(bad[0].Error(), `column "a"`) || bad[1].Index != 2 {
		t.Errorf("refused %v, want the one that does not fit, and the one without a name", bad)
	}
	for name, want := range map[string]string{"1+2": "_offset,a\n1,1\n", "10+11": "_offset,a,b\n10,2,x\n", "20+21": "_offset,a,b\n20,,y\n"} {
		path := "dt=2015-05-17/hr=10/clicks+3+" + name + ".csv"
		if got := string(tree(t, root)[path]); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// TestTwoTasksAgreeOnColumns lets two writers meet new fields at the same time.
func TestTwoTasksAgreeOnColumns(t *testing.T) {
	root := t.TempDir()
	done := make(chan error, 2)
	for n := range 2 {
		task := conntest.Task(conntest.Config(t, Sink{}.Spec(), map[string]any{"url": "file://" + root}))
		task.Task = fmt.Sprint("lake/", n)
		go func() {
			own := record.TopicPartition{Topic: "clicks", Partition: int32(n)}
			w, err := openDisk(task, own, osDisk{})
			for i := range int64(40) {
				if err != nil {
					break
				}
				m := message(i, fmt.Sprintf(`{"f%d":1}`, (i*7+int64(n)*13)%40))
				_, err = w.Write(context.Background(), connectors.Plan{Partition: own, From: i, To: i + 1}, connectors.Batch{Messages: []connectors.Message{m}})
			}
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	p := pinned{store: &localStore{root: root, disk: osDisk{}}, topic: "clicks"}
	if err := p.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(p.schema) != 40 || p.schema.Check() != nil {
		t.Errorf("%d columns, want 40: %v", len(p.schema), p.schema.Check())
	}
	if n := rows(t, root); n != 80 {
		t.Errorf("%d rows, want 80", n)
	}
}

// TestZombie: a former owner wakes up in the middle of its plan, after a new
// one has taken the partition over. Whatever it does, each file is whole.
func TestZombie(t *testing.T) {
	root, alone := t.TempDir(), t.TempDir()
	write(t, openAt(t, alone, osDisk{}, nil), plan(0, 30), hours(0, 30))
	zombie := openAt(t, root, &hookDisk{before: map[string]func(){}}, nil)
	hooks := zombie.store.(*localStore).disk.(*hookDisk).before
	hooks["link"] = func() {
		delete(hooks, "link")
		p := plan(0, 30)
		p.Epoch = 2
		write(t, openAt(t, root, osDisk{}, nil), p, hours(0, 30))
	}
	if _, err := zombie.Write(t.Context(), plan(0, 30), hours(0, 30)); err != nil && connectors.ClassOf(err) != connectors.ClassRetry {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
	if !equal(tree(t, root), tree(t, alone)) {
		t.Error("the files are not those of one owner")
	}
}

// TestZombieInTheMiddle: a former owner stands in the middle of writing a file
// while the new one publishes. What is published is the new one's.
func TestZombieInTheMiddle(t *testing.T) {
	root, alone := t.TempDir(), t.TempDir()
	write(t, openAt(t, alone, osDisk{}, nil), plan(0, 30), hours(0, 30))
	reached, release, ended := make(chan bool), make(chan bool), make(chan error)
	zombie := openAt(t, root, &hookDisk{before: map[string]func(){}}, nil)
	hooks := zombie.store.(*localStore).disk.(*hookDisk).before
	hooks["write"] = func() {
		delete(hooks, "write")
		close(reached)
		<-release
	}
	owner := openAt(t, root, &hookDisk{before: map[string]func(){}}, nil)
	if more, err := owner.pin(tp.Topic).extend(t.Context(), hours(100, 101).Messages); !more || err != nil {
		t.Fatal(more, err)
	}
	owns := owner.store.(*localStore).disk.(*hookDisk).before
	owns["link"] = func() {
		delete(owns, "link")
		go func() {
			_, err := zombie.Write(context.Background(), plan(0, 30), hours(0, 30))
			ended <- err
		}()
		<-reached
	}
	p := plan(0, 30)
	p.Epoch = 2
	write(t, owner, p, hours(0, 30))
	got := tree(t, root)
	if !equal(got, tree(t, alone)) {
		t.Error("the files are not those of the owner")
	}
	close(release)
	if err := <-ended; err != nil && connectors.ClassOf(err) != connectors.ClassUnknown {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
}

func TestConfigErrors(t *testing.T) {
	for want, values := range map[string]map[string]any{
		"url: gs:// is not supported, want file:///absolute/path, s3://": {"url": "gs://bucket/x"},
		"the namenode \"nn\" has no port, want host:port":                {"url": "hdfs://nn/x"},
		"has no bucket, want s3://bucket/prefix":                         {"url": "s3:///x"},
		"access_key and secret_key belong together":                      {"url": "s3://b/x", "s3": map[string]any{"access_key": "x"}},
		"s3: url is a file:// URL: leave this out":                       {"url": "file:///x", "s3": map[string]any{"part": 5 << 20}},
		`url: "/lake" is not a URL`:                                      {"url": "/lake"},
		`names the host "lake", want three slashes: file:///lake/x`:      {"url": "file://lake/x"},
		"is the root of the file system":                                 {"url": "file:///"},
		"a percent sign is not followed":                                 {"url": "file:///a%zz"},
		"partition_by: character 4: the { is not closed":                 {"url": "file:///x", "partition_by": "dt={date(ts)"},
		"columns: type:":                                                  {"url": "file:///x", "columns": []map[string]any{{"name": "a", "type": "text"}}},
		`columns: column "a" is there twice`:                              {"url": "file:///x", "columns": []map[string]any{{"name": "a", "type": "bool"}, {"name": "a", "type": "bool"}}},
		"schema: there are columns already":                               {"url": "file:///x", "schema": "combined", "columns": []map[string]any{{"name": "a", "type": "bool"}}},
		"columns: format ndjson writes records as they are":               {"url": "file:///x", "format": "ndjson", "columns": []map[string]any{{"name": "a", "type": "bool"}}},
		"compression: csv files cannot be compressed with zstd":           {"url": "file:///x", "format": "csv", "compression": "zstd"},
		`metadata_columns: "size" is not one of topic, partition, offset`: {"url": "file:///x", "metadata_columns": []string{"size"}},
	} {
		cfg, err := connectors.NewConfig(Sink{}.Spec().Fields, values)
		message := ""
		if err != nil {
			message = err.Error()
		} else if found := (Sink{}).Validate(t.Context(), cfg, connectors.ProbeNone); len(found) == 1 && found[0].Field != "" && !found[0].Warning {
			message = found[0].Message
		}
		if !strings.Contains(strings.ReplaceAll(message, "columns[0]: ", "columns: "), want) {
			t.Errorf("%v: %q, want %q", values, message, want)
		}
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := conntest.Config(t, Sink{}.Spec(), map[string]any{"url": "file://" + path})
	if found := (Sink{}).Validate(t.Context(), cfg, connectors.ProbeLive); len(found) != 1 || found[0].Field != "url" {
		t.Errorf("a file for a folder: %+v", found)
	}
}

func BenchmarkPlan(b *testing.B) {
	batch := hours(0, 50_000)
	for i := range batch.Messages {
		batch.Messages[i].Timestamp = 1431857103000
	}
	w := openAt(b, b.TempDir(), osDisk{}, nil)
	for i := int64(0); b.Loop(); i++ {
		write(b, w, plan(i*50_000, (i+1)*50_000), batch)
	}
	b.ReportMetric(float64(b.N)*50_000/b.Elapsed().Seconds(), "rows/s")
}
