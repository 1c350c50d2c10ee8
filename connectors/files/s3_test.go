package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

// bucket is a store for one test, with a look into it.
type bucket struct {
	t      *testing.T
	values map[string]any // of the config
	store  *s3Store
	fault  atomic.Pointer[func(w http.ResponseWriter, r *http.Request, serve http.Handler)]
}

// fakeBucket is in this process, by gofakes3: it knows If-None-Match on single
// objects, and not when an upload is completed.
func fakeBucket(t *testing.T) *bucket {
	return newBucket(t, gofakes3.New(s3mem.New()).Server())
}

// motoBucket is in another process, by moto, which knows it for both.
func motoBucket(t *testing.T) *bucket {
	return newBucket(t, conntest.Forward(t, conntest.Moto(t)))
}

func newBucket(t *testing.T, serve http.Handler) *bucket {
	b := &bucket{t: t}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := b.fault.Load(); f != nil {
			(*f)(w, r, serve)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	name := fmt.Sprintf("lake-%d", rand.Int64())
	b.values = map[string]any{
		"url": "s3://" + name + "/deep/lake", "partition_by": "dt={date(ts)}/hr={hour(ts)}", "format": "ndjson",
		"s3": map[string]any{"endpoint": server.URL, "path_style": true, "access_key": "key", "secret_key": "hunter2", "part": 5 << 20},
	}
	b.store = b.open()
	if _, err := b.store.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bucket) config(more map[string]any) connectors.Config {
	values := maps.Clone(b.values)
	maps.Copy(values, more)
	return conntest.Config(b.t, Sink{}.Spec(), values)
}

func (b *bucket) open() *s3Store {
	cfg := b.config(nil)
	s, err := settingsOf(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	st, err := openS3(b.t.Context(), s.location, cfg.Object("s3"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = st.Close("") })
	return st
}

func (b *bucket) writer(more map[string]any) connectors.Writer {
	b.t.Helper()
	w, err := Sink{}.Open(b.t.Context(), conntest.Task(b.config(more)), []record.TopicPartition{tp})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = w.Close(context.Background()) })
	return w
}

// tree is every visible object with its content.
func (b *bucket) tree() map[string][]byte {
	b.t.Helper()
	all := map[string][]byte{}
	pages := s3.NewListObjectsV2Paginator(b.store.client, &s3.ListObjectsV2Input{Bucket: &b.store.loc.bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		for _, o := range page.Contents {
			name := strings.TrimPrefix(*o.Key, b.store.loc.dir+"/")
			if strings.HasPrefix(name, "_") {
				continue
			}
			out, err := b.store.client.GetObject(b.t.Context(), &s3.GetObjectInput{Bucket: &b.store.loc.bucket, Key: o.Key})
			if err != nil {
				b.t.Fatal(err)
			}
			all[name], err = io.ReadAll(out.Body)
			if err := errors.Join(err, out.Body.Close()); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	return all
}

// uploads is the number of multipart uploads that are open.
func (b *bucket) uploads() int {
	b.t.Helper()
	out, err := b.store.client.ListMultipartUploads(b.t.Context(), &s3.ListMultipartUploadsInput{Bucket: &b.store.loc.bucket})
	if errors.Is(s3Error(err), os.ErrNotExist) {
		return 0 // gofakes3 says that for none
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return len(out.Uploads)
}

// breaks lets requests that match fail, each in the way of how, n times.
func (b *bucket) breaks(n int64, match func(*http.Request) bool, how func(w http.ResponseWriter, r *http.Request, serve http.Handler)) {
	left := new(atomic.Int64)
	left.Store(n)
	f := func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		if match(r) && left.Add(-1) >= 0 {
			how(w, r, serve)
			return
		}
		serve.ServeHTTP(w, r)
	}
	b.fault.Store(&f)
}

func isComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}
func isPart(r *http.Request) bool { return r.Method == http.MethodPut && r.URL.Query().Has("uploadId") }
func isObject(r *http.Request) bool {
	return r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") && strings.Contains(r.URL.Path, "/dt=")
}

// lose carries the request out and cuts the connection instead of answering.
func lose(_ http.ResponseWriter, r *http.Request, serve http.Handler) {
	serve.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func unavailable(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
}

func forbidden(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.WriteHeader(http.StatusForbidden)
	_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
}

// large is a plan whose one file takes three parts and a rest.
func large() (connectors.Plan, connectors.Batch) {
	var b connectors.Batch
	pad := strings.Repeat("x", 1<<20)
	for o := range int64(17) {
		m := message(o, fmt.Sprintf(`{"n":%d,"pad":%q}`, o, pad))
		m.Timestamp = 1431857103000
		b.Messages = append(b.Messages, m)
	}
	return plan(0, 17), b
}

// TestS3Suite runs the suite of all connectors against both stores.
func TestS3Suite(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *bucket{"gofakes3": fakeBucket, "moto": motoBucket} {
		for format, more := range map[string]map[string]any{"ndjson": nil, "parquet": {"format": "parquet"}} {
			t.Run(name+", "+format, func(t *testing.T) {
				conntest.Sink(t, Sink{}, func(t *testing.T) conntest.SinkCase {
					b := make(t)
					return conntest.SinkCase{
						Config: b.config(more),
						Rows:   func(t *testing.T) []int64 { return idsIn(t, b.tree()) },
						State:  func(t *testing.T) string { return stateOf(b.tree()) },
					}
				})
			})
		}
	}
}

// TestS3Large: a file of several parts is one object, the same bytes as on a
// disk, and no upload is left open.
func TestS3Large(t *testing.T) {
	alone := t.TempDir()
	p, rows := large()
	write(t, openAt(t, alone, osDisk{}, map[string]any{"format": "ndjson"}), p, rows)
	for name, make := range map[string]func(*testing.T) *bucket{"gofakes3": fakeBucket, "moto": motoBucket} {
		t.Run(name, func(t *testing.T) {
			b := make(t)
			var parts atomic.Int64
			b.breaks(1<<30, isPart, func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
				parts.Add(1)
				serve.ServeHTTP(w, r)
			})
			for range 2 {
				if bad, err := b.writer(nil).Write(t.Context(), p, rows); err != nil || len(bad) > 0 {
					t.Fatal(bad, err)
				}
			}
			if n := parts.Load(); n != 4 {
				t.Errorf("%d parts, want 4", n)
			}
			if !equal(b.tree(), tree(t, alone)) {
				t.Error("the object is not the file")
			}
			if n := b.uploads(); n != 0 {
				t.Errorf("%d uploads are open", n)
			}
		})
	}
}

// TestS3Trouble: whatever request fails in whatever way, the plan executed
// again makes exactly the objects that an undisturbed run makes; at no time is
// there half of one, and no upload is left open.
func TestS3Trouble(t *testing.T) {
	alone := t.TempDir()
	p, rows := large()
	more := connectors.Batch{Messages: append(slices.Clone(rows.Messages), hours(17, 30).Messages...)}
	p.To = 30
	write(t, openAt(t, alone, osDisk{}, map[string]any{"format": "ndjson"}), p, more)
	want := tree(t, alone)
	for _, c := range []struct {
		name  string
		match func(*http.Request) bool
		how   func(http.ResponseWriter, *http.Request, http.Handler)
		times int64
		class connectors.Class // of the first Write; ClassNone when the client gets over it
	}{
		{"lost answer to complete", isComplete, lose, 1, connectors.ClassUnknown},
		{"lost answers to complete", isComplete, lose, 9, connectors.ClassUnknown},
		{"lost answer to an object", isObject, lose, 1, connectors.ClassNone},
		{"lost answers to objects", isObject, lose, 9, connectors.ClassUnknown},
		{"lost answers to parts", isPart, lose, 5, connectors.ClassRetry},
		{"storm at parts", isPart, unavailable, 30, connectors.ClassRetry},
		{"storm at complete", isComplete, unavailable, 30, connectors.ClassUnknown},
		{"storm at objects", isObject, unavailable, 30, connectors.ClassUnknown},
		{"rights taken away", isObject, forbidden, 1, connectors.ClassFatal},
		{"rights taken away in an upload", isPart, forbidden, 1, connectors.ClassFatal},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := motoBucket(t)
			b.breaks(c.times, c.match, c.how)
			_, err := b.writer(nil).Write(t.Context(), p, more)
			if class := connectors.ClassOf(err); class != c.class && !(class == connectors.ClassNone && c.times == 1) {
				t.Errorf("class %v: %v, want class %v", class, err, c.class)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the secret is in %v", err)
			}
			b.fault.Store(nil)
			for name, text := range b.tree() {
				if !bytes.Equal(text, want[name]) {
					t.Errorf("%s is visible and not whole", name)
				}
			}
			if n := b.uploads(); n != 0 {
				t.Errorf("%d uploads are open", n)
			}
			if bad, err := b.writer(nil).Write(t.Context(), p, more); err != nil || len(bad) > 0 {
				t.Fatal(bad, err)
			}
			if got := b.tree(); !equal(got, want) {
				t.Errorf("the objects are %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
			if n := b.uploads(); n != 0 {
				t.Errorf("%d uploads are open in the end", n)
			}
		})
	}
}

// TestS3Crash: a process that ends in the middle of an upload leaves nothing
// visible, and the next Open aborts what it left. A former owner that wakes up
// then cannot publish.
func TestS3Crash(t *testing.T) {
	b := motoBucket(t)
	p, rows := large()
	file, err := b.store.Create(t.Context(), "", "dt=2015-05-17/hr=10/clicks+3+0+17.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.store.Create(t.Context(), "", "dt=2015-05-17/hr=10/clicks+4+0+17.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	beside := *b.store // of a URL whose text begins like ours
	beside.loc.dir += "-archive"
	elsewhere, err := beside.Create(t.Context(), "", "dt=2015-05-17/hr=10/clicks+3+0+17.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []pending{file, other, elsewhere} {
		for range 12 {
			if _, err := f.Write([]byte(strings.Repeat("half ", 200_000))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := b.uploads(); n != 3 {
		t.Fatalf("%d uploads are open, want 3", n)
	}
	w := b.writer(nil)
	if n := b.uploads(); n != 2 {
		t.Errorf("%d uploads are open after Open, want those of the other partition and of the other URL", n)
	}
	if err := errors.Join(file.Complete(t.Context()), file.Publish(t.Context())); err == nil {
		t.Error("a former owner can still publish") // moto refuses with status 500
	}
	if bad, err := w.Write(t.Context(), p, rows); err != nil || len(bad) > 0 {
		t.Fatal(bad, err)
	}
	if got := idsOf(b.tree()); got != 17 {
		t.Errorf("%d rows, want 17", got)
	}
	if err := errors.Join(other.Discard(t.Context()), elsewhere.Discard(t.Context())); err != nil {
		t.Error(err)
	}
}

// TestS3WriteEnds: a store that does not answer holds up a plan that is given
// up no longer than its context, and a part no longer than its own time.
func TestS3WriteEnds(t *testing.T) {
	b := fakeBucket(t)
	b.breaks(1<<30, isPart, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	f, err := b.store.Create(ctx, "", "x")
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error)
	go func() {
		_, err := f.Write(make([]byte, 6<<20))
		wrote <- err
	}()
	cancel()
	if err := <-wrote; connectors.ClassOf(b.store.fault("write", "x", err)) != connectors.ClassStopped {
		t.Errorf("the end of the context is %v", err)
	}
}

// idsOf counts lines.
func idsOf(tree map[string][]byte) (n int) {
	for _, text := range tree {
		n += bytes.Count(text, []byte("\n"))
	}
	return n
}

// TestS3NeverOverwrites: a name that is taken keeps its content, for small
// objects and for uploads.
func TestS3NeverOverwrites(t *testing.T) {
	b := motoBucket(t)
	putsOnce(t, b.store)
	for _, size := range []int{10, 11 << 20} {
		name := fmt.Sprintf("dt=x/%d", size)
		var sums [2][32]byte
		for i, c := range []byte{'a', 'b'} {
			f, err := b.store.Create(t.Context(), "", name)
			if err != nil {
				t.Fatal(err)
			}
			text := bytes.Repeat([]byte{c}, size)
			sums[i] = sha256.Sum256(text)
			if _, err := f.Write(text); err != nil {
				t.Fatal(err)
			}
			if err := f.Complete(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := f.Publish(t.Context()); (i == 1) != errors.Is(err, os.ErrExist) || i == 0 && err != nil {
				t.Errorf("%d bytes, number %d: %v", size, i, err)
			}
			if err := f.Discard(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if sha256.Sum256(b.tree()[name]) != sums[0] {
			t.Errorf("%d bytes: the first one is gone", size)
		}
	}
	if n := b.uploads(); n != 0 {
		t.Errorf("%d uploads are open", n)
	}
}

// TestS3WithoutConditions: a store that overwrites in spite of If-None-Match
// is refused at Open.
func TestS3WithoutConditions(t *testing.T) {
	b := fakeBucket(t)
	b.breaks(1<<30, func(*http.Request) bool { return true }, func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		r.Header.Del("If-None-Match")
		serve.ServeHTTP(w, r)
	})
	_, err := Sink{}.Open(t.Context(), conntest.Task(b.config(nil)), []record.TopicPartition{tp})
	if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
}
