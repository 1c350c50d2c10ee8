package hubtest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestKilledQueryIsExact kills the hub again and again while it polls a table
// into which several sessions write: half of the rows are there before, the
// others come in transactions that overlap, and commit in another order than
// the one that their times tell of. Each row is in the topic once.
func TestKilledQueryIsExact(t *testing.T) {
	rows, times := fullRows(60_000), kills(t, 4)
	dsn := conntest.Postgres(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, s := range []string{
		"CREATE TABLE things (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), note text NOT NULL)", "CREATE INDEX ON things (at, id)",
		fmt.Sprintf("INSERT INTO things SELECT i, now() - (%[1]d - i) * interval '1 ms', 'row ' || i FROM generate_series(0, %[1]d - 1) AS i", rows/2),
	} {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	n := jobsNode(t, `
topics:
  - {name: things, partitions: 6}
connectors:
  - name: things-in
    source: {type: postgres, dsn: "${env:TEST_DSN}", table: public.things, timestamp: at, delay: 0s, poll: 50ms}
    topic: things
`, "TEST_DSN="+dsn)
	topic := collect(t, n.Kafka, "things")
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	const sessions = 4
	for w := range sessions {
		writers.Go(func() { writeThings(ctx, t, db, topic, rows/2, rows, w, sessions) })
	}
	l := load{n: n, what: "records are in the topic", total: rows, count: func() (int, error) { return topic.count(), nil }, limit: 3 * time.Minute, late: 60 * time.Millisecond}
	l.kill(t, times)
	writers.Wait()
	l.done(t, 3*time.Minute)
	seen, changed := map[int]int{}, 0
	for _, r := range topic.all() {
		var v struct {
			ID   int    `json:"id"`
			Note string `json:"note"`
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		if v.ID < 0 || v.ID >= rows || v.Note != fmt.Sprint("row ", v.ID) {
			changed++
		}
		seen[v.ID]++
	}
	if topic.count() != rows || len(seen) != rows || changed > 0 {
		t.Errorf("%d records, %d distinct, want %d of both; %d changed", topic.count(), len(seen), rows, changed)
	}
	conntest.Figures(t, "%d kills, source %d = records %d = distinct keys %d, with %d sessions that commit out of order: MISSED=%d, %d twice", times, rows, topic.count(), len(seen), sessions, rows-len(seen), topic.count()-len(seen))
}

// writeThings inserts the rows of its turns, in transactions of up to 500, not
// far ahead of what is read, so that the reading meets transactions that run;
// one in ten is left open for a while before it commits.
func writeThings(ctx context.Context, t *testing.T, db *sql.DB, topic *collected, from, to, turn, of int) {
	const most, ahead = 500, 5000
	for i := from + turn*most; i < to && ctx.Err() == nil; i += of * most {
		for topic.count() < i-ahead && ctx.Err() == nil {
			pause(ctx, 5*time.Millisecond, 15*time.Millisecond)
		}
		tx, err := db.BeginTx(ctx, nil)
		if err == nil {
			_, err = tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO things SELECT i, now(), 'row ' || i FROM generate_series(%d, %d) AS i", i, min(i+most, to)-1))
		}
		if rand.N(10) == 0 {
			pause(ctx, 10*time.Millisecond, 300*time.Millisecond)
		}
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("write: %v", err)
			}
			return
		}
	}
}
