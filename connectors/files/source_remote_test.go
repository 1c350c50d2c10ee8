package files

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// sourceConfig takes over what says where a sink loads to.
func sourceConfig(t *testing.T, where map[string]any, more map[string]any) connectors.Config {
	t.Helper()
	values := map[string]any{"follow": false}
	for _, name := range []string{"url", "s3", "hdfs"} {
		if v, ok := where[name]; ok {
			values[name] = v
		}
	}
	maps.Copy(values, more)
	return conntest.Config(t, Source{}.Spec(), values)
}

func (b *bucket) put(name string, text []byte) {
	b.t.Helper()
	_, err := b.store.client.PutObject(b.t.Context(), &s3.PutObjectInput{
		Bucket: &b.store.loc.bucket, Key: aws.String(b.store.key(name)), Body: strings.NewReader(string(text)),
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestS3SourceSuite runs the suite of all connectors against both S3 servers.
func TestS3SourceSuite(t *testing.T) {
	for name, server := range map[string]func(*testing.T) *bucket{"gofakes3": fakeBucket, "moto": motoBucket} {
		t.Run(name, func(t *testing.T) {
			conntest.Source(t, Source{}, func(t *testing.T) conntest.SourceCase {
				b := server(t)
				files, want := smallFiles(t)
				for name, text := range files {
					b.put(name, text)
				}
				return conntest.SourceCase{Want: want, Config: sourceConfig(t, b.values, nil)}
			})
		})
	}
}

// TestHDFSSourceSuite runs the suite of all connectors against Hadoop.
func TestHDFSSourceSuite(t *testing.T) {
	for _, scheme := range hdfsSchemes {
		t.Run(scheme, func(t *testing.T) {
			conntest.Source(t, Source{}, func(t *testing.T) conntest.SourceCase {
				l := newLakeHDFS(t, scheme)
				files, want := smallFiles(t)
				maps.DeleteFunc(files, func(name string, _ []byte) bool {
					return !strings.HasPrefix(name, "dt=1") && !strings.HasPrefix(name, "x.csv")
				})
				maps.DeleteFunc(want, func(name string, _ []string) bool { return files[name] == nil })
				for name, text := range files {
					l.put(name, text)
				}
				return conntest.SourceCase{Want: want, Config: sourceConfig(t, map[string]any{"url": l.scheme + "://" + l.host + l.dir, "hdfs": map[string]any{"user": "loader"}}, nil)}
			})
		})
	}
}

func (l *lakeHDFS) put(name string, text []byte) {
	l.t.Helper()
	full := path.Join(l.dir, name)
	if err := l.look.MkdirAll(path.Dir(full), 0o777); err != nil {
		l.t.Fatal(err)
	}
	w, err := l.look.Create(full)
	if err != nil {
		l.t.Fatal(err)
	}
	if len(text) > 0 {
		_, err = w.Write(text)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	if err := closeHDFS(l.t.Context(), w); err != nil {
		l.t.Fatal(err)
	}
}

// TestS3SourceTrouble: a store that answers with errors, or cuts its answers
// off, costs time and no row; an object that is overwritten meanwhile is told.
func TestS3SourceTrouble(t *testing.T) {
	b := fakeBucket(t)
	files, want := smallFiles(t)
	for name, text := range files {
		b.put(name, text)
	}
	cfg := sourceConfig(t, b.values, nil)
	read := func(name string) ([]string, int, error) { return b.persist(t, cfg, name) }
	var n atomic.Int64
	isGet := func(r *http.Request) bool {
		return r.Method == http.MethodGet && r.Header.Get("Range") != "" && n.Add(1)%3 == 1
	}
	for name, how := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"503": unavailable,
		"cut off": func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
			serve.ServeHTTP(&shortAnswer{ResponseWriter: w, left: 10}, r)
			panic(http.ErrAbortHandler)
		},
	} {
		fault := func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
			if isGet(r) {
				how(w, r, serve)
				return
			}
			serve.ServeHTTP(w, r)
		}
		b.fault.Store(&fault)
		for file, rows := range want {
			if got, _, err := read(file); err != nil || !slices.Equal(got, rows) {
				t.Errorf("%s: %s: %d rows, %v, want %d", name, file, len(got), err, len(rows))
			}
		}
		b.fault.Store(nil)
	}
	denied := func(w http.ResponseWriter, r *http.Request, serve http.Handler) { forbidden(w, r, serve) }
	b.fault.Store(&denied)
	if _, _, err := read("lines.ndjson"); connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("no rights: %v (class %v)", err, connectors.ClassOf(err))
	}
	b.fault.Store(nil)

	r, err := Source{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: "dt=1/x.parquet"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close(context.Background()) }()
	if _, err := r.Read(t.Context(), connectors.Limits{Records: 2}); err != nil {
		t.Fatal(err)
	}
	b.put("dt=1/x.parquet", files["dt=1/x.avro"])
	for err == nil {
		_, err = r.Read(t.Context(), connectors.Limits{})
	}
	if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "must not change") {
		t.Errorf("an object that is overwritten: %v", err)
	}
}

// persist reads a split like the runtime: what is of class Retry is tried again
// from the last place, with a new reader.
func (b *bucket) persist(t *testing.T, cfg connectors.Config, name string) (rows []string, retries int, err error) {
	t.Helper()
	var at connectors.Position
	for {
		r, err := Source{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: name}, at)
		if err != nil {
			return rows, retries, err
		}
		for {
			var batch connectors.Batch
			batch, err = r.Read(t.Context(), connectors.Limits{Records: 20})
			for _, m := range batch.Messages {
				rows, at = append(rows, string(m.Original)), m.Position
			}
			if err != nil {
				break
			}
		}
		_ = r.Close(t.Context())
		if errors.Is(err, io.EOF) {
			return rows, retries, nil
		}
		if connectors.ClassOf(err) != connectors.ClassRetry || retries == 100 {
			return rows, retries, err
		}
		retries++
	}
}

// shortAnswer gives the first bytes of an answer.
type shortAnswer struct {
	http.ResponseWriter
	left int
}

func (s *shortAnswer) Write(b []byte) (int, error) {
	n := min(len(b), s.left)
	s.left -= n
	if _, err := s.ResponseWriter.Write(b[:n]); err != nil {
		return 0, err
	}
	return len(b), nil
}
