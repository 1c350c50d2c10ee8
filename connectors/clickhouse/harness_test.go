package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

var clicks = record.TopicPartition{Topic: "clicks", Partition: 3}

// rig is a database and a way to look into it.
type rig struct {
	t    testing.TB
	dsn  string
	link *link
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return rigAt(t, conntest.ClickHouse(t))
}

// newEngineRig is a database of ClickHouse's present engine, over HTTP.
func newEngineRig(t testing.TB) *rig {
	t.Helper()
	return rigAt(t, conntest.ClickHouseEngine(t))
}

func rigAt(t testing.TB, dsn string) *rig {
	t.Helper()
	opts, err := ch.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := ch.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &rig{t: t, dsn: dsn, link: &link{conn}}
}

// tokens reports whether the server knows deduplication tokens.
func (r *rig) tokens() bool {
	r.t.Helper()
	known, err := r.link.hasTokens(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return known
}

func (r *rig) exec(statements ...string) {
	r.t.Helper()
	for _, s := range statements {
		if err := r.link.Exec(context.Background(), s); err != nil {
			r.t.Fatalf("%s: %v", s, err)
		}
	}
}

// text is the single value of a query, or nothing when the table is not there.
func (r *rig) text(query string) string {
	r.t.Helper()
	rows, err := r.link.texts(context.Background(), query)
	if err != nil && strings.Contains(err.Error(), "UNKNOWN_TABLE") || err != nil && strings.Contains(err.Error(), "doesn't exist") {
		return ""
	}
	if err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
	if len(rows) == 0 {
		return ""
	}
	return rows[0][0]
}

func (r *rig) numbers(query string) []int64 {
	r.t.Helper()
	var all []int64
	for _, s := range strings.Fields(strings.Trim(strings.ReplaceAll(r.text("SELECT toString(groupArray(toInt64(x))) FROM ("+strings.Replace(query, "SELECT id", "SELECT id AS x", 1)+")"), ",", " "), "[]")) {
		var n int64
		if _, err := fmt.Sscan(s, &n); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

func (r *rig) want(query, want string) {
	r.t.Helper()
	if got := r.text(query); got != want {
		r.t.Fatalf("%s:\n got %s\nwant %s", query, got, want)
	}
}

// rowFields is the config that most tests begin with.
func rowFields() map[string]any {
	return map[string]any{
		"table": "rows", "create": true,
		"columns": []map[string]any{{"name": "id", "type": "Int64"}, {"name": "name", "type": "Nullable(String)"}},
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
	return conntest.Config(r.t, Sink{}.Spec(), fields)
}

func (r *rig) open(fields map[string]any) (connectors.Writer, error) {
	r.t.Helper()
	w, err := Sink{}.Open(r.t.Context(), conntest.Task(r.config(fields)), []record.TopicPartition{clicks})
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
	return connectors.Plan{Partition: clicks, From: from, To: to, Epoch: epoch, ID: fmt.Sprintf("load-%d-%d", from, to)}
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

// await waits for a condition outside of this process.
func await(t testing.TB, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
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
