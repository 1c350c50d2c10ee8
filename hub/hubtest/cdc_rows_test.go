package hubtest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestRowsReadThroughKills kills the hub when it has read 10, 50 and 90 % of
// the rows that a table has, while another session changes them, up to 1,000 in a
// second: each row is in the topic once, each change too, and what they come to
// is the table. By the server's own count a kill costs mostUncommitted rows at
// most that are read again.
func TestRowsReadThroughKills(t *testing.T) {
	rows := fullRows(200_000)
	dsn := conntest.OwnPostgres(t).Database(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	l := &cdcLoad{db: db, dsn: dsn, before: rows, total: rows}
	l.exec(t, "CREATE TABLE things (id bigint PRIMARY KEY, version int NOT NULL, note text NOT NULL) WITH (fillfactor = 70)")
	l.exec(t, fmt.Sprintf("INSERT INTO things SELECT i, 0, 'row ' || i FROM generate_series(1, %d) AS i", rows))
	l.exec(t, "ANALYZE things")
	n := NewNode(t, "solo", t.TempDir(), nil, []string{writeJobs(t, t.TempDir(), `
topics:
  - {name: things, partitions: 6}
connectors:
  - name: things-in
    source: {type: postgres-cdc, dsn: "${env:TEST_DSN}", tables: [public.things], slot: kill_rows}
    topic: things
`)}, []string{"TEST_DSN=" + dsn})

	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	var changed atomic.Int64
	began := time.Now()
	writer.Go(func() { l.change(ctx, t, &changed) })
	defer writer.Wait()
	defer stop()
	n.Start()
	topic := collect(t, n.Kafka, "things")
	var at []int
	for _, percent := range []int{10, 50, 90} {
		Until(t, 5*time.Minute, "rows come", func() error {
			if got := topic.distinct(); got < rows*percent/100 {
				return fmt.Errorf("%d of %d rows", got, rows)
			}
			return nil
		})
		n.Kill()
		at = append(at, 100*topic.distinct()/rows)
		n.Start()
	}
	Until(t, 5*time.Minute, "all rows are there", func() error {
		if got := topic.distinct(); got < rows {
			return fmt.Errorf("%d of %d rows", got, rows)
		}
		return nil
	})
	stop()
	writer.Wait()
	again := l.readAgain(t, changed.Load())
	if most := int64(len(at)) * mostUncommitted; again > most {
		t.Errorf("%d rows are read again, want %d at most", again, most)
	}
	if conntest.Full() && at[len(at)-1] == 100 {
		t.Errorf("the last kill came when all rows were read: %d", at)
	}
	rate := float64(changed.Load()) / time.Since(began).Seconds()
	l.settle(t, topic)
	l.checkRows(t, topic)
	conntest.Figures(t, "killed at %d %% of %d rows, under %.0f changes a second, %d in all: 0 missing, 0 twice, %d read again, the topic's last values are the table",
		at, rows, rate, changed.Load(), again)
}

// change changes rows at random, one in a transaction, at most 1,000 a second,
// until ctx ends.
func (l *cdcLoad) change(ctx context.Context, t *testing.T, changed *atomic.Int64) {
	db, err := sql.Open("postgres", l.dsn+"&synchronous_commit=off")
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = db.Close() }() // then the server counts what it has done
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for range 10 {
			_, err := db.Exec("UPDATE things SET version = version + 1 WHERE id = $1", 1+rand.N(l.total))
			if err != nil {
				t.Errorf("change: %v", err)
				return
			}
			changed.Add(1)
		}
	}
}

// mostUncommitted is how many rows a kill may cost: what one transaction into
// the hub holds (100,000 records, or half a second's), a chunk of 10,000 rows
// that the reader is ahead, and what it has handed over of the one before.
const mostUncommitted = 100_000 + 2*10_000

// readAgain is how many rows the server has handed out beyond one for each row
// and each change.
func (l *cdcLoad) readAgain(t *testing.T, changed int64) (again int64) {
	t.Helper()
	Until(t, time.Minute, "the server has counted", func() error {
		err := l.db.QueryRowContext(t.Context(), "SELECT seq_tup_read + idx_tup_fetch - n_tup_upd - $1 FROM pg_stat_user_tables WHERE relname = 'things' AND n_tup_upd = $2", l.total, changed).Scan(&again)
		if err == nil && again < 0 {
			err = fmt.Errorf("%d fewer than there are", -again)
		}
		return err
	})
	return again
}

// checkRows holds the topic against the table. The changes of a row follow
// each other without a gap, from the version that the row was read with, or
// from any where it was changed while nobody read, to the one that it has.
func (l *cdcLoad) checkRows(t *testing.T, topic *collected) {
	t.Helper()
	type row struct {
		ID      int64  `json:"id"`
		Version int    `json:"version"`
		Op      string `json:"__op"`
	}
	last, read := map[int64]int{}, map[int64]int{}
	for _, r := range topic.all() {
		var v row
		if strings.HasPrefix(string(r.Key), `{"id":-`) {
			continue
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		before, seen := last[v.ID]
		if v.Op == "r" {
			read[v.ID]++
		}
		if seen && (v.Op != "u" || v.Version != before+1) {
			t.Fatalf("row %d: %q of version %d after version %d", v.ID, v.Op, v.Version, before)
		}
		last[v.ID] = v.Version
	}
	table, err := l.db.QueryContext(t.Context(), "SELECT id, version FROM things")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.Close() }()
	same := 0
	for table.Next() {
		var v row
		if err := table.Scan(&v.ID, &v.Version); err != nil {
			t.Fatal(err)
		}
		if got, ok := last[v.ID]; !ok || got != v.Version || read[v.ID] > 1 {
			t.Errorf("row %d: the topic's last version is %d (%v), the table's %d; it was read %d times", v.ID, got, ok, v.Version, read[v.ID])
		}
		same++
	}
	if err := table.Err(); err != nil || same != l.total || len(last) != l.total {
		t.Errorf("%d rows in the table, %d in the topic, want %d: %v", same, len(last), l.total, err)
	}
}
