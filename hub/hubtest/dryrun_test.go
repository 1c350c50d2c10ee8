package hubtest

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// dryRun calls `entrepot connector dry-run` with a jobs file.
func dryRun(t *testing.T, env []string, jobs string, args ...string) (status int, out string) {
	t.Helper()
	p := Start(t, env, append([]string{"connector", "dry-run", writeJobs(t, t.TempDir(), jobs)}, args...)...)
	status, err := p.Wait(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return status, p.Output()
}

func wantAll(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("there is no %q in\n%s", w, out)
		}
	}
}

// TestDryRunFromPostgresToClickHouse looks at real servers: what a table's rows
// become in a table that is not there yet, statement included, and what is lost
// in one that is. No secret is shown, and neither server is written to.
func TestDryRunFromPostgresToClickHouse(t *testing.T) {
	shop, ch := conntest.OwnPostgres(t), conntest.OwnClickHouse(t)
	dsn, warehouse := shop.Database(t), ch.Database(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range []string{
		"ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()",
		"CREATE TABLE orders (id bigint PRIMARY KEY, customer text, amount numeric(12,2), placed_at timestamptz NOT NULL DEFAULT now())",
		"INSERT INTO orders SELECT n, CASE WHEN n % 7 > 0 THEN 'customer ' || n END, n * 1.25 FROM generate_series(1, 500) n",
	} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(s, err)
		}
	}
	state := func() string {
		var s string
		if err := db.QueryRow("SELECT pg_snapshot_xmax(pg_current_snapshot())::text || ' ' || (SELECT count(*) FROM pg_replication_slots) || ' ' || (SELECT count(*) FROM pg_class)").Scan(&s); err != nil {
			t.Fatal(err)
		}
		tables, err := ch.Query("SELECT count() FROM system.tables WHERE database NOT IN ('system')")
		if err != nil {
			t.Fatal(err)
		}
		return s + " " + tables
	}
	env := []string{"SHOP_DSN=" + dsn + "&application_name=hunter2-dry", "WAREHOUSE_DSN=" + warehouse}
	const jobs = `
connectors:
  - name: orders-in
    topic: orders
    source: {type: postgres-cdc, dsn: "${env:SHOP_DSN}", tables: [public.orders]}
    transforms: [{filter: "value.id > 10"}]
  - name: orders-out
    topic: orders
    sink: {type: clickhouse, dsn: "${env:WAREHOUSE_DSN}", table: orders, create: true, columns: [COLUMNS]}
`
	good := strings.Replace(jobs, "COLUMNS", `{name: id, type: Int64}, {name: customer, type: Nullable(String)}, {name: amount, type: "Nullable(Decimal(12, 2))"}, {name: placed_at, type: DateTime}`, 1)
	before := state()
	status, out := dryRun(t, env, good, "--live", "--sample", "50")
	wantAll(t, out, "sample: 50 records of the source; 10 filtered, 0 failed, 40 came through", "numeric(12,2)", "CREATE PUBLICATION", "CREATE_REPLICATION_SLOT",
		"would run first: CREATE TABLE IF NOT EXISTS `orders`", "time_narrowed, placed_at")
	if status != 2 || !strings.Contains(out, "refused") { // a DateTime keeps no fractions
		t.Errorf("status %d", status)
	}
	exact := strings.Replace(good, "placed_at, type: DateTime", `placed_at, type: String`, 1)
	if status, out = dryRun(t, env, exact, "--live"); status != 0 || !strings.Contains(out, "ok; nothing was written") {
		t.Errorf("status %d of a mapping without loss:\n%s", status, out)
	}
	lossy := strings.Replace(good, "Decimal(12, 2)", "Float64", 1)
	if status, out = dryRun(t, env, lossy, "--live"); status != 2 || !strings.Contains(out, "lossy: numeric_to_double, amount") {
		t.Errorf("status %d of a lossy mapping:\n%s", status, out)
	}
	if status, out = dryRun(t, env, lossy); status != 0 || !strings.Contains(out, "topic orders ──▶ orders-out") {
		t.Errorf("status %d without a look:\n%s", status, out)
	}
	wrong := strings.Replace(good, "public.orders", "public.gone", 1)
	if status, out = dryRun(t, env, wrong, "--live", "--json"); status != 2 || !strings.Contains(out, `"impossible"`) || strings.Contains(out, "hunter2") {
		t.Errorf("status %d without the table:\n%s", status, out)
	}
	if after := state(); after != before {
		t.Errorf("servers are at %s, they were at %s", after, before)
	}
}
