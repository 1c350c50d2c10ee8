package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

// lakeHDFS is a folder of a real HDFS for one test, looked into over HDFS's
// own protocol, however the sink reaches it.
type lakeHDFS struct {
	t      *testing.T
	look   *hdfs.Client
	scheme string
	host   string
	dir    string
}

func newLakeHDFS(t *testing.T, scheme string) *lakeHDFS {
	rpc, web := conntest.HDFS(t)
	look, err := hdfs.NewClient(hdfs.ClientOptions{Addresses: []string{rpc}, User: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = look.Close() })
	host := rpc
	if scheme == "webhdfs" {
		host = web
	}
	return &lakeHDFS{t, look, scheme, host, fmt.Sprintf("/lakes/%d", rand.Int64())}
}

func (l *lakeHDFS) config(more map[string]any) connectors.Config {
	values := map[string]any{
		"url": l.scheme + "://" + l.host + l.dir, "partition_by": "dt={date(ts)}/hr={hour(ts)}", "format": "ndjson",
		"hdfs": map[string]any{"user": "loader"},
	}
	maps.Copy(values, more)
	return conntest.Config(l.t, Sink{}.Spec(), values)
}

func (l *lakeHDFS) writer(more map[string]any) connectors.Writer {
	l.t.Helper()
	w, err := Sink{}.Open(l.t.Context(), conntest.Task(l.config(more)), []record.TopicPartition{tp})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = w.Close(context.Background()) })
	return w
}

// tree is every visible file with its content.
func (l *lakeHDFS) tree() map[string][]byte {
	l.t.Helper()
	all := map[string][]byte{}
	err := l.look.Walk(l.dir, func(name string, info os.FileInfo, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, l.dir), "/")
		if err != nil || info.IsDir() || strings.HasPrefix(rel, "_") {
			return err
		}
		all[rel], err = l.look.ReadFile(name)
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	return all
}

var hdfsSchemes = []string{"hdfs", "webhdfs"}

// TestHDFSSuite runs the suite of all connectors against Hadoop.
func TestHDFSSuite(t *testing.T) {
	for _, scheme := range hdfsSchemes {
		for format, more := range map[string]map[string]any{"ndjson": nil, "parquet": {"format": "parquet"}} {
			t.Run(scheme+", "+format, func(t *testing.T) {
				conntest.Sink(t, Sink{}, func(t *testing.T) conntest.SinkCase {
					l := newLakeHDFS(t, scheme)
					return conntest.SinkCase{
						Config: l.config(more),
						Rows:   func(t *testing.T) []int64 { return idsIn(t, l.tree()) },
						State:  func(t *testing.T) string { return stateOf(l.tree()) },
					}
				})
			})
		}
	}
}

// TestHDFSNeverOverwrites: a name that is taken keeps its content, also that
// of pinned columns; what a crash left is swept; names are as on a disk.
func TestHDFSNeverOverwrites(t *testing.T) {
	for _, scheme := range hdfsSchemes {
		t.Run(scheme, func(t *testing.T) {
			l := newLakeHDFS(t, scheme)
			w := l.writer(nil).(*writer)
			ctx := t.Context()
			putsOnce(t, w.store)
			for i, text := range []string{"first", "second"} {
				f, err := w.store.Create(ctx, "_tmp/conntest/"+text, "dt=a b%2F/x")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(f.Complete(ctx), w.store.Prepare(ctx, []string{"dt=a b%2F"})); err != nil {
					t.Fatal(err)
				}
				if err := f.Publish(ctx); (i == 1) != errors.Is(err, os.ErrExist) || i == 0 && err != nil {
					t.Errorf("Publish number %d: %v", i, err)
				}
				if err := f.Discard(ctx); err != nil {
					t.Error(err)
				}
			}
			if got := l.tree(); string(got["dt=a b%2F/x"]) != "first" || len(got) != 1 {
				t.Errorf("the files are %q", got)
			}
			half, err := w.store.Create(ctx, "_tmp/conntest/1+0+clicks+3+5+9.ndjson", "x")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := half.Write([]byte("half")); err != nil {
				t.Fatal(err)
			}
			if err := half.Complete(ctx); err != nil {
				t.Fatal(err)
			}
			l.writer(nil)
			if left, err := w.store.List(ctx, "_tmp/conntest"); len(left) != 0 || err != nil {
				t.Errorf("%v is left, %v", left, err)
			}
			_ = half.Discard(ctx)
		})
	}
}

// TestClaims: who has claimed a name in HDFS and died holds the others up for
// a minute, not for ever.
func TestClaims(t *testing.T) {
	l := newLakeHDFS(t, "hdfs")
	s := l.writer(nil).(*writer).store.(*hdfsStore)
	ctx := t.Context()
	if err := errors.Join(s.Prepare(ctx, []string{"_tmp/j"}), s.put(ctx, "_tmp/j/claim+_schema+x.000001.json", nil)); err != nil {
		t.Fatal(err)
	}
	put := func() error { return s.PutNew(ctx, "_tmp/j/t", "_schema/x.000001.json", []byte("text")) }
	if err := put(); err == nil || errors.Is(err, os.ErrExist) {
		t.Errorf("with a fresh claim: %v", err)
	}
	s.clock = func() time.Time { return time.Now().Add(2 * claimAge) }
	if err := put(); err != nil {
		t.Errorf("with an old claim: %v", err)
	}
	if left, err := s.List(ctx, "_tmp/j"); len(left) != 0 || err != nil {
		t.Errorf("%v is left, %v", left, err)
	}
}

// webProxy stands between the sink and HDFS, namenode and datanodes alike.
func (l *lakeHDFS) proxy(fail func(w http.ResponseWriter, r *http.Request, serve http.Handler) bool) {
	base, host := "", l.host
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := "http://" + host
		if node, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/datanode/"), "/"); strings.HasPrefix(r.URL.Path, "/datanode/") && ok {
			to = "http://" + node
			r.URL.Path, r.URL.RawPath = "/"+rest, ""
		}
		serve := conntest.Forward(l.t, to)
		if fail(w, r, serve) {
			return
		}
		serve.ServeHTTP(&detour{w, base}, r)
	}))
	l.t.Cleanup(server.Close)
	base = server.URL
	l.host = strings.TrimPrefix(base, "http://")
}

// detour sends a redirect to a datanode through the proxy at base.
type detour struct {
	http.ResponseWriter
	base string
}

func (d *detour) WriteHeader(status int) {
	if at := d.Header().Get("Location"); at != "" {
		d.Header().Set("Location", strings.Replace(at, "http://", d.base+"/datanode/", 1))
	}
	d.ResponseWriter.WriteHeader(status)
}

// TestWebHDFSTrouble: whatever request fails in whatever way, the plan executed
// again makes the files that an undisturbed run makes, and at no time is half
// of one visible.
func TestWebHDFSTrouble(t *testing.T) {
	alone := t.TempDir()
	write(t, openAt(t, alone, osDisk{}, map[string]any{"format": "ndjson"}), plan(0, 30), hours(0, 30))
	want := tree(t, alone)
	isData := func(r *http.Request) bool {
		return r.URL.Query().Has("namenoderpcaddress") && r.Method == http.MethodPut
	}
	isOp := func(op string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.URL.Query().Get("op") == op && !isData(r) }
	}
	isRename := func(of string) func(*http.Request) bool {
		return func(r *http.Request) bool {
			return isOp("RENAME")(r) && strings.Contains(r.URL.Query().Get("destination"), of)
		}
	}
	lost := func(w http.ResponseWriter, r *http.Request, serve http.Handler) { lose(w, r, serve) }
	standby := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"RemoteException":{"exception":"StandbyException","message":"Operation category WRITE is not supported in state standby"}}`)
	}
	denied := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"RemoteException":{"exception":"AccessControlException","message":"Permission denied"}}`)
	}
	for _, c := range []struct {
		name  string
		match func(*http.Request) bool
		how   func(http.ResponseWriter, *http.Request, http.Handler)
		class connectors.Class
	}{
		{"lost answer to rename", isRename("/dt="), lost, connectors.ClassUnknown},
		{"lost answer to the rename of a note", isRename("/_plans/"), lost, connectors.ClassRetry},
		{"lost answer of a datanode", isData, lost, connectors.ClassRetry},
		{"lost answer to create", isOp("CREATE"), lost, connectors.ClassRetry},
		{"lost answer to mkdirs", isOp("MKDIRS"), lost, connectors.ClassRetry},
		{"standby", isOp("CREATE"), standby, connectors.ClassRetry},
		{"no rights", isRename("/dt="), denied, connectors.ClassFatal},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLakeHDFS(t, "webhdfs")
			left := 1
			l.proxy(func(w http.ResponseWriter, r *http.Request, serve http.Handler) bool {
				if left == 0 || !c.match(r) {
					return false
				}
				left--
				c.how(w, r, serve)
				return true
			})
			_, err := l.writer(nil).Write(t.Context(), plan(0, 30), hours(0, 30))
			if class := connectors.ClassOf(err); class != c.class && err != nil || err == nil && c.class == connectors.ClassFatal {
				t.Errorf("class %v: %v, want class %v", class, err, c.class)
			}
			for name, text := range l.tree() {
				if !bytes.Equal(text, want[name]) {
					t.Errorf("%s is visible and not whole", name)
				}
			}
			if bad, err := l.writer(nil).Write(t.Context(), plan(0, 30), hours(0, 30)); err != nil || len(bad) > 0 {
				t.Fatal(bad, err)
			}
			if got := l.tree(); !equal(got, want) {
				t.Errorf("the files are %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
		})
	}
}

// TestWebHDFSWriteEnds: a datanode that takes nothing holds up a plan that is
// given up no longer than its context.
func TestWebHDFSWriteEnds(t *testing.T) {
	asked, release := make(chan bool), make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/datanode":
			close(asked)
			<-release
		case r.URL.Query().Get("op") == "CREATE":
			w.Header().Set("Location", "http://"+r.Host+"/datanode")
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			_, _ = io.WriteString(w, `{"boolean":true}`)
		}
	}))
	defer server.Close()
	defer close(release)
	s := openWeb(location{scheme: "webhdfs", hosts: []string{strings.TrimPrefix(server.URL, "http://")}, dir: "/x"}, "u", "")
	defer s.Close("")
	ctx, cancel := context.WithCancel(t.Context())
	f, err := s.Create(ctx, "_tmp/j/x", "x")
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error)
	go func() {
		_, err := f.Write(make([]byte, 64<<20)) // more than sockets hold
		wrote <- err
	}()
	<-asked
	cancel()
	if err := <-wrote; err == nil {
		t.Error("all was written")
	}
	if err := f.Discard(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestWebHDFSKeepsItsToken: a delegation token goes into every request, and
// into no error.
func TestWebHDFSKeepsItsToken(t *testing.T) {
	seen := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.URL.Query().Get("delegation")
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	s := openWeb(location{scheme: "webhdfs", hosts: []string{strings.TrimPrefix(server.URL, "http://")}, dir: "/x"}, "u", "hunter2")
	defer s.Close("")
	_, err := s.Exists(t.Context(), path.Join("a", "b"))
	if err = s.fault("look for", "a/b", err); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error is %v", err)
	}
	if token := <-seen; token != "hunter2" {
		t.Errorf("the token is %q", token)
	}
}
