package hubtest

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestKilledSiteHandsItsLoadingOver runs configs/failover: the site that loads a
// mirrored topic into PostgreSQL and into Parquet files is killed, or stopped
// in the middle of what it does (SIGSTOP), the other one takes both jobs over, the
// first one comes back and they stand against each other, again and again. In the end each row is there once.
func TestKilledSiteHandsItsLoadingOver(t *testing.T) {
	rows, dsn, dir := fullRows(60_000), conntest.Postgres(t), t.TempDir()
	input := inputFile(t, rows, func(i int) string {
		at := time.UnixMilli(1431857103000 + int64(i)*3600_000*4/int64(rows)).UTC() // over four hours
		return fmt.Sprintf(`{"id":%d,"customer":"c%d","at":%q}`, i, i%997, at.Format(time.RFC3339))
	})
	l := fileLake(t)
	env := []string{"WAREHOUSE_DSN=" + dsn, "LAKE_DIR=" + strings.TrimPrefix(strings.Trim(strings.TrimPrefix(l.sink, "url: "), `"`), "file://"), "ORDERS_FILE=" + input}
	east := NewNode(t, "east", dir, nil, []string{filepath.Join(Root(t), "configs/failover/topic.yaml")}, env)
	west := NewNode(t, "west", dir, []string{east.WAN}, nil, env)
	east.Start()
	west.Start()
	jobs, names := filepath.Join(Root(t), "configs/failover/load.yaml"), []string{"orders-warehouse", "orders-lake"}
	run(t, Build(t), "connector", "apply", "-f", jobs, "--connect", "http://"+east.Connect)

	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	loaded := func() (n int) {
		_ = db.QueryRowContext(t.Context(), "SELECT count(*) FROM orders").Scan(&n) // none before the table is there
		return n
	}
	total, here, there := kills(t, 4), east, west
	applied, freezes, amid := false, 0, 0
	for i := range total {
		at := rows * i / (total + 1)
		Until(t, time.Minute, "rows are loaded", func() error {
			if got := loaded(); got < at {
				return fmt.Errorf("%d of %d", got, at)
			}
			return nil
		})
		if loaded() < rows {
			amid++
		}
		frozen := rand.IntN(3) == 0
		if frozen {
			freezes++
			if err := here.Process().Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		} else {
			here.Kill()
		}
		if !applied {
			run(t, Build(t), "connector", "apply", "-f", jobs, "--connect", "http://"+west.Connect)
			applied = true
		} else {
			takeOver(t, there, names)
		}
		pause(t.Context(), 50*time.Millisecond, 700*time.Millisecond)
		if frozen { // it goes on with what it had in hand, and finds that it is too late
			if err := here.Process().Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		} else {
			here.Start() // its jobs begin anew too: who is last has them
		}
		here, there = there, here
	}
	pause(t.Context(), 200*time.Millisecond, time.Second)
	takeOver(t, west, names)
	settled := func() error {
		for _, name := range names {
			if j, err := job(west.Admin, name); err == nil && j.State == "failed" {
				takeOver(t, west, []string{name}) // the other one was later after all
			}
			if err := caughtUp(west, name)(); err != nil {
				return fmt.Errorf("%w (%v)", err, state(west, name))
			}
		}
		if got := loaded(); got < rows {
			return fmt.Errorf("%d of %d rows; warehouse: %v, lake: %v", got, rows, state(west, names[0]), state(west, names[1]))
		}
		return nil
	}
	Until(t, 3*time.Minute, "everything is loaded at west", settled)
	east.Kill()
	west.Kill()
	west.Start() // which sweeps up what east may have had in hand
	Until(t, time.Minute, "west has swept", settled)
	west.Kill()
	var distinct int
	if err := db.QueryRowContext(t.Context(), "SELECT count(DISTINCT id) FROM orders").Scan(&distinct); err != nil {
		t.Fatal(err)
	}
	if got := loaded(); got != rows || distinct != rows {
		t.Errorf("PostgreSQL has %d rows, %d distinct keys, want %d of both", got, distinct, rows)
	}
	l.check(t, rows, total)
	conntest.Figures(t, "%d takeovers, %d of them before all rows were in PostgreSQL, in %d the other site was frozen: source %d = rows %d = distinct keys %d in PostgreSQL", total, amid, freezes, rows, loaded(), distinct)
}

// takeOver starts jobs of a site that had them before, in whatever state.
func takeOver(t *testing.T, n *Node, names []string) {
	t.Helper()
	for _, name := range names {
		resp, err := http.Post("http://"+n.Connect+"/connectors/"+name+"/restart", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Fatalf("restart %s at %s: %s", name, n.Site, resp.Status)
		}
	}
}

func state(n *Node, name string) string {
	j, err := job(n.Admin, name)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %s", j.State, j.Reason)
}
