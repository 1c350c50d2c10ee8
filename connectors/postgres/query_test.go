package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func (r *rig) queryConfig(more map[string]any) connectors.Config {
	r.t.Helper()
	return conntest.Config(r.t, Query{}.Spec(), with(map[string]any{"dsn": r.dsn, "table": "public.rows", "timestamp": "at", "delay": 0 * ms, "poll": 10 * ms}, more))
}

func (r *rig) poll(from connectors.Position, more map[string]any) connectors.Reader {
	r.t.Helper()
	reader, err := Query{}.Open(r.t.Context(), conntest.Task(r.queryConfig(more)), connectors.Split{ID: "public.rows"}, from)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = reader.Close(context.Background()) })
	return reader
}

func TestQuerySuite(t *testing.T) {
	for _, test := range []struct{ name, timestamp, ddl string }{
		{"instant", "at", "CREATE TABLE rows (id int, u uuid, at timestamptz, PRIMARY KEY (u, id))"},
		{"local", "at", "CREATE TABLE rows (id int, u uuid, at timestamp, PRIMARY KEY (u, id))"},
		{"key", "", "CREATE TABLE rows (id int PRIMARY KEY, u uuid, at timestamptz)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conntest.Source(t, Query{}, func(t *testing.T) conntest.SourceCase {
				r := newRig(t)
				r.exec(test.ddl, "INSERT INTO rows SELECT i, md5(i::text)::uuid, '1969-12-31 23:59:57Z'::timestamptz + i / 10 * interval '1.000001 second' FROM generate_series(1, 60) AS i")
				order := "at, u, id"
				more := map[string]any{"follow": false, "columns": []string{"id"}}
				if test.timestamp == "" {
					more["timestamp"], order = nil, "id"
				}
				want := strings.Split(r.text(`SELECT string_agg('{"id":' || id || '}', ' ' ORDER BY `+order+`) FROM rows`), " ")
				c := conntest.SourceCase{Config: r.queryConfig(more), Want: map[string][]string{"public.rows": want}}
				more["follow"] = true
				waiting := r.queryConfig(more)
				c.Waiting = &waiting
				return c
			})
		})
	}
}

// TestQuerySlowTransaction: a transaction that began early and commits late
// has older rows than what others have committed meanwhile. None is missed,
// and no row comes before it.
func TestQuerySlowTransaction(t *testing.T) {
	for _, test := range []struct {
		name string
		more map[string]any
	}{{"timestamp", nil}, {"key", map[string]any{"timestamp": nil}}} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.exec("CREATE TABLE rows (id bigserial PRIMARY KEY, n int, at timestamptz DEFAULT now())")
			reader := r.poll(nil, test.more)
			missed := 0
			for round := range 20 {
				slow, err := r.db.Begin()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := slow.Exec("INSERT INTO rows (n) VALUES ($1)", 2*round); err != nil {
					t.Fatal(err)
				}
				r.exec(fmt.Sprintf("INSERT INTO rows (n) VALUES (%d)", 2*round+1))
				for range 3 { // it polls while the slow one runs
					b, err := reader.Read(t.Context(), connectors.Limits{Wait: 20 * ms})
					if err != nil || len(b.Messages) > 0 {
						t.Fatalf("while a transaction runs that began earlier: %q, %v", texts(b.Messages), err)
					}
				}
				if err := slow.Commit(); err != nil {
					t.Fatal(err)
				}
				for i, m := range next(t, reader, 2) {
					if !strings.Contains(string(m.Value), fmt.Sprintf(`"n":%d,`, 2*round+i)) {
						missed++
					}
				}
			}
			if missed > 0 {
				t.Errorf("MISSED=%d", missed)
			}
		})
	}
}

// TestQueryBlocker names who holds up the reading, and waits for transactions
// that are prepared.
func TestQueryBlocker(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE rows (id int PRIMARY KEY, at timestamptz DEFAULT now())", "INSERT INTO rows VALUES (1)")
	var log strings.Builder
	task := conntest.Task(r.queryConfig(nil))
	task.Logger = slog.New(slog.NewTextHandler(&log, nil))
	now := time.Now()
	task.Clock = func() time.Time { now = now.Add(time.Second); return now }
	reader, err := Query{}.Open(t.Context(), task, connectors.Split{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close(t.Context())
	slow, err := r.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var pid string
	if err := slow.QueryRow("SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	q := reader.(*queryReader)
	await(t, func() bool {
		if err := q.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		q.horizon.lag = 2 * time.Minute
		q.warned = time.Time{}
		q.tell()
		return strings.Contains(log.String(), pid)
	})
	if err := slow.Rollback(); err != nil {
		t.Fatal(err)
	}
}

func TestQueryRefusals(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE rows (a int, at timestamptz, words text)", "CREATE TABLE keyed (id int PRIMARY KEY, at timestamptz)",
		"DO $$ BEGIN CREATE ROLE peeper LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$", "GRANT SELECT ON keyed TO peeper")
	for want, more := range map[string]map[string]any{
		"no primary key":     {},
		`no column "nosuch"`: {"timestamp": "nosuch", "key": []string{"a"}},
		"want a timestamp":   {"timestamp": "words", "key": []string{"a"}},
		"does not exist":     {"table": "public.nosuch"},
		"pg_read_all_stats":  {"table": "public.keyed", "dsn": strings.Replace(r.dsn, "postgres@", "peeper@", 1)},
		"numeric_to_double":  {"table": "public.keyed", "numeric": "double"},
	} {
		_, err := Query{}.Open(t.Context(), conntest.Task(r.queryConfig(more)), connectors.Split{}, nil)
		wantClass(t, err, connectors.ClassFatal, want)
		if f := (Query{}).Validate(t.Context(), r.queryConfig(more), connectors.ProbeLive); len(f) == 0 {
			t.Errorf("the live check does not see: %s", want)
		}
	}
	f := Query{}.Validate(t.Context(), r.queryConfig(map[string]any{"timestamp": nil}), connectors.ProbeNone)
	if len(f) != 1 || !f[0].Warning || f[0].Field != "timestamp" {
		t.Errorf("reading by the key alone: %+v, want a warning", f)
	}
}

// TestQueryCut: a connection that is lost is class Retry, and the next reader
// goes on behind the last row.
func TestQueryCut(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE rows (id int PRIMARY KEY, at timestamptz DEFAULT now())", "INSERT INTO rows VALUES (1)")
	reader := r.poll(nil, nil)
	at := next(t, reader, 1)[0].Position
	r.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'entrepot%'", "INSERT INTO rows VALUES (2)")
	var err error
	for err == nil {
		_, err = reader.Read(t.Context(), connectors.Limits{Wait: 20 * ms})
	}
	wantClass(t, err, connectors.ClassRetry)
	if errors.Is(err, io.EOF) {
		t.Errorf("%v is io.EOF", err)
	}
	wantTexts(t, next(t, r.poll(at, map[string]any{"columns": []string{"id"}}), 1), `{"id":2}={"id":2}`)
}

// TestQueryPrepared: a prepared transaction does not say when it began, so
// nothing newer than what was complete before is read while there is one.
func TestQueryPrepared(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE rows (id int PRIMARY KEY, at timestamptz DEFAULT now())")
	reader := r.poll(nil, map[string]any{"columns": []string{"id"}})
	r.exec("BEGIN; INSERT INTO rows VALUES (1); PREPARE TRANSACTION 'slow'", "INSERT INTO rows VALUES (2)")
	for range 5 {
		if b, err := reader.Read(t.Context(), connectors.Limits{Wait: 20 * ms}); err != nil || len(b.Messages) > 0 {
			t.Fatalf("while a transaction is prepared: %q, %v", texts(b.Messages), err)
		}
	}
	r.exec("COMMIT PREPARED 'slow'")
	wantTexts(t, next(t, reader, 2), `{"id":1}={"id":1}`, `{"id":2}={"id":2}`)
}
