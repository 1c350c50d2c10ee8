package hubtest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// guarded is a destination that can take no login for a while.
type guarded struct {
	env   string                     // what TEST_DSN is in the sink's fields
	sink  string                     // the sink's fields
	bar   func(shut bool)            // shuts the others out, or lets them in
	rows  func() (all, distinct int) // what is there
	twice bool                       // at least once: rows may be there twice
}

// TestRefusedLoginLosesNothing loads a topic into a destination that, in the
// midst of it, answers 401 or 403 for a while, five minutes in the full form:
// the offset does not move past what is there, no row becomes a dead letter,
// and all are there in the end.
func TestRefusedLoginLosesNothing(t *testing.T) {
	besides(t)
	for name, make := range map[string]func(*testing.T) guarded{"postgres": guardedPostgres, "webhook 401": hookOf(401), "webhook 403": hookOf(403), "s3 403": guardedS3} {
		t.Run(name, func(t *testing.T) {
			besides(t)
			refusedLogin(t, make(t))
		})
	}
}

func refusedLogin(t *testing.T, d guarded) {
	rows, length := conntest.Size(20_000, 400_000), time.Duration(conntest.Size(3, 300))*time.Second
	dir := t.TempDir()
	text := fmt.Sprintf(`
topics:
  - {name: rows, partitions: 4}
connectors:
  - name: rows-out
    topic: rows
    sink: {%s}
`, d.sink)
	n := NewNode(t, "solo", dir, nil, []string{writeJobs(t, dir, text)}, []string{"TEST_DSN=" + d.env})
	n.Start()
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic("rows"), kgo.UnknownTopicRetries(-1), kgo.MaxBufferedRecords(20_000))
	send := func(from, to int) {
		for i := from; i < to; i++ {
			r := kgo.StringRecord(fmt.Sprintf(`{"id":%d}`, i))
			r.Key = fmt.Appendf(nil, "%d", i)
			cl.Produce(t.Context(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	send(0, rows/2)
	written := counter(n, "rows-out", "written")
	Until(t, time.Minute, "rows are loaded", func() error {
		if got, err := written(); err != nil || got == 0 {
			return fmt.Errorf("%d rows, %w", got, err)
		}
		return nil
	})
	d.bar(true)
	send(rows/2, rows)
	Until(t, time.Minute, "the job tells of the login", func() error { return tells(n) })
	before, looks, moved := "", 0, -1 // the first look is none that moved
	for end := time.Now().Add(length); time.Now().Before(end); looks++ {
		pause(t.Context(), 50*time.Millisecond, 150*time.Millisecond)
		now, upTo := groupAt(t, n, "connect-rows-out")
		if now == before {
			continue
		}
		// A write that was on its way when the door shut may be committed yet.
		if _, distinct := d.rows(); upTo > int64(distinct) {
			t.Fatalf("the offsets moved from %s to %s, %d rows, and %d are at the destination", before, now, upTo, distinct)
		}
		before, moved = now, moved+1
	}
	d.bar(false)
	began := time.Now()
	if j, err := job(n.Admin, "rows-out"); err == nil && j.State == "failed" { // it waits for somebody
		res, err := http.Post("http://"+n.Admin+"/v1/jobs/rows-out/resume", "", nil)
		if err != nil || res.Body.Close() != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
	}
	l := load{what: "rows are loaded", total: rows, count: func() (int, error) { _, distinct := d.rows(); return distinct, nil }}
	l.done(t, 10*time.Minute, caughtUp(n, "rows-out")) // beside the other destinations, on two cores
	back := time.Since(began)
	j, err := job(n.Admin, "rows-out")
	all, distinct := d.rows()
	if err != nil || distinct != rows || all != rows && !d.twice || j.Counters["dead"] != 0 {
		t.Errorf("%d rows, %d distinct, %d dead letters, %v; want %d rows", all, distinct, j.Counters["dead"], err, rows)
	}
	conntest.Figures(t, "no login for %s: %d looks at the offsets, which moved %d times, to what was there; %d of %d rows at the destination %s after it took logins again, %d twice, 0 dead letters",
		length, looks, moved, distinct, rows, back.Round(100*time.Millisecond), all-distinct)
}

// tells says whether the job says that it may not log in.
func tells(n *Node) error {
	j, err := job(n.Admin, "rows-out")
	if err != nil {
		return err
	}
	reason := j.Reason
	for _, task := range j.Tasks {
		reason += " " + task.Reason
	}
	for _, word := range []string{"401", "403", "password", "denied", "Forbidden", "authentication"} {
		if strings.Contains(reason, word) {
			return nil
		}
	}
	return fmt.Errorf("it is %s: %q", j.State, reason)
}

// groupAt are the offsets of a group as text, and their sum.
func groupAt(t *testing.T, n *Node, group string) (string, int64) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	offsets, err := kadm.NewClient(cl).FetchOffsets(ctx, group)
	if err != nil {
		t.Fatal(err)
	}
	var (
		text strings.Builder
		sum  int64
	)
	for _, o := range offsets.Sorted() {
		fmt.Fprintf(&text, "%s-%d@%d ", o.Topic, o.Partition, o.At)
		sum += max(o.At, 0)
	}
	return text.String(), sum
}

// guardedPostgres changes the password, and ends the sessions that there are.
func guardedPostgres(t *testing.T) guarded {
	server := conntest.OwnPostgres(t)
	dsn := server.Database(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	exec := func(statements ...string) {
		for _, s := range statements {
			if _, err := db.ExecContext(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	// Members of the role guarded need a password.
	exec("CREATE ROLE guarded", "CREATE ROLE loader LOGIN PASSWORD 'right' IN ROLE guarded", "CREATE TABLE rows (id bigint)", "GRANT ALL ON SCHEMA public TO loader", "GRANT ALL ON rows TO loader")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("loader", "right")
	g := guarded{env: u.String(), sink: `type: postgres, dsn: "${env:TEST_DSN}", table: rows, mode: insert, batch: {rows: 500}`}
	g.bar = func(shut bool) {
		if !shut {
			exec("ALTER ROLE loader PASSWORD 'right'")
			return
		}
		exec("ALTER ROLE loader PASSWORD 'another'", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'loader'")
	}
	g.rows = func() (all, distinct int) {
		if err := db.QueryRowContext(t.Context(), "SELECT count(*), count(DISTINCT id) FROM rows").Scan(&all, &distinct); err != nil {
			t.Fatal(err)
		}
		return all, distinct
	}
	return g
}

// hookOf is an endpoint that answers with a status while it is shut.
func hookOf(status int) func(t *testing.T) guarded {
	return func(t *testing.T) guarded {
		var (
			shut atomic.Bool
			mu   sync.Mutex
			all  int
		)
		seen := map[string]bool{}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || shut.Load() {
				w.WriteHeader(status)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[string(body)] = true
			all++
		}))
		t.Cleanup(server.Close)
		return guarded{
			sink: fmt.Sprintf("type: webhook, url: %q, allow_networks: [127.0.0.0/8], concurrency: 16, batch: {rows: 500}", server.URL),
			bar:  shut.Store, twice: true,
			rows: func() (int, int) {
				mu.Lock()
				defer mu.Unlock()
				return all, len(seen)
			},
		}
	}
}

// guardedS3 is moto behind a door that answers as S3 does when it denies.
func guardedS3(t *testing.T) guarded {
	l := s3Lake(t)
	_, rest, _ := strings.Cut(l.sink, `endpoint: "`)
	endpoint, _, _ := strings.Cut(rest, `"`)
	moto, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var shut atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(moto)
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !shut.Load() {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
	}))
	t.Cleanup(door.Close)
	sink := strings.Replace(strings.Replace(l.sink, endpoint, door.URL, 1), "${env:LAKE_KEY}", "${env:TEST_DSN}", 1)
	return guarded{
		env: "hunter2", bar: shut.Store,
		sink: "type: files, " + sink + ", columns: [{name: id, type: int64}], roll: {rows: 500, every: 1s}",
		rows: func() (all, distinct int) {
			ids, _, err := l.ids("")
			if err != nil {
				t.Fatal(err)
			}
			return len(ids), len(slices.Compact(ids))
		},
	}
}
