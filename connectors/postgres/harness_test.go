package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var clicks = record.TopicPartition{Topic: "clicks", Partition: 3}

// rig is a database and a way to look into it.
type rig struct {
	t   testing.TB
	dsn string
	db  *sql.DB
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return rigAt(t, conntest.Postgres(t))
}

func rigAt(t testing.TB, dsn string) *rig {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &rig{t: t, dsn: dsn, db: db}
}

func (r *rig) exec(statements ...string) {
	r.t.Helper()
	for _, s := range statements {
		if _, err := r.db.Exec(s); err != nil {
			r.t.Fatalf("%s: %v", s, err)
		}
	}
}

// text is the single value of a query.
func (r *rig) text(query string) string {
	r.t.Helper()
	var s sql.NullString
	if err := r.db.QueryRow(query).Scan(&s); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
	return s.String
}

func (r *rig) want(query, want string) {
	r.t.Helper()
	if got := r.text(query); got != want {
		r.t.Fatalf("%s:\n got %s\nwant %s", query, got, want)
	}
}

// upsertFields is the config that most tests begin with.
func upsertFields() map[string]any {
	return map[string]any{
		"table": "rows", "mode": "upsert", "key": []string{"id"}, "create": true,
		"columns": []map[string]any{{"name": "id", "type": "bigint"}, {"name": "name", "type": "text"}},
		"batch":   map[string]any{"rows": 2000},
	}
}

func with(fields map[string]any, more map[string]any) map[string]any {
	for k, v := range more {
		if v == nil {
			delete(fields, k)
		} else {
			fields[k] = v
		}
	}
	return fields
}

func (r *rig) config(fields map[string]any) connectors.Config {
	r.t.Helper()
	if fields["dsn"] == nil {
		fields["dsn"] = r.dsn
	}
	cfg, err := connectors.NewConfig(Sink{}.Spec().Fields, fields)
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

func (r *rig) open(fields map[string]any) (connectors.Writer, error) {
	r.t.Helper()
	task := connectors.TaskContext{Job: "load", Task: "0", Site: "here", Config: r.config(fields), Logger: slog.New(slog.DiscardHandler), Clock: time.Now}
	w, err := Sink{}.Open(r.t.Context(), task, []record.TopicPartition{clicks})
	if err == nil {
		r.t.Cleanup(func() { _ = w.Close(context.Background()) })
	}
	return w, err
}

func (r *rig) writer(fields map[string]any) connectors.Writer {
	r.t.Helper()
	w, err := r.open(fields)
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

func planOf(from, to, epoch int64) connectors.Plan {
	return connectors.Plan{Partition: clicks, From: from, To: to, Epoch: epoch, ID: fmt.Sprintf("load-%d-%d-%d", from, to, epoch)}
}

// batchOf makes messages at offsets from on. "key=" is a tombstone.
func batchOf(from int64, values ...string) connectors.Batch {
	var b connectors.Batch
	for i, v := range values {
		m := connectors.Message{Partition: clicks, Offset: from + int64(i), Timestamp: 1_431_857_103_000}
		if key, ok := strings.CutSuffix(v, "="); ok {
			m.Key = []byte(key)
		} else {
			m.Value = []byte(v)
		}
		b.Messages = append(b.Messages, m)
	}
	return b
}

// put writes values at from, which have to go in.
func put(t testing.TB, w connectors.Writer, from int64, values ...string) {
	t.Helper()
	wrong, err := w.Write(t.Context(), planOf(from, from+int64(len(values)), 1), batchOf(from, values...))
	if err != nil || len(wrong) > 0 {
		t.Fatalf("write: %v, %v", wrong, err)
	}
}

// refusals writes values at from and returns why each that is refused is.
func refusals(t testing.TB, w connectors.Writer, from int64, values ...string) map[int64]string {
	t.Helper()
	wrong, err := w.Write(t.Context(), planOf(from, from+int64(len(values)), 1), batchOf(from, values...))
	if err != nil {
		t.Fatal(err)
	}
	out := map[int64]string{}
	for _, r := range wrong {
		if connectors.ClassOf(r.Err) != connectors.ClassPoison {
			t.Errorf("%v is of class %v", r, connectors.ClassOf(r.Err))
		}
		if want := batchOf(from, values...).Messages[r.Index].Offset; r.Offset != want {
			t.Errorf("index %d comes with offset %d", r.Index, r.Offset)
		}
		out[r.Offset] = r.Err.Error()
	}
	return out
}

func wantClass(t testing.TB, err error, class connectors.Class, texts ...string) {
	t.Helper()
	if connectors.ClassOf(err) != class {
		t.Fatalf("got class %v of %v, want %v", connectors.ClassOf(err), err, class)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Fatalf("got %q, want %q in it", err, text)
		}
	}
}

func wantFenced(t testing.TB, err error) {
	t.Helper()
	wantClass(t, err, connectors.ClassFatal)
	if !errors.Is(err, connectors.ErrFenced) {
		t.Fatalf("got %v, want it to be ErrFenced", err)
	}
}

// await waits for a condition outside of this process.
func await(t testing.TB, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come about within a minute")
		}
	}
}
