package hubtest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestKilledCDCIsExact kills the hub again and again while it follows a table
// that is being written to: half of the rows are there before, the others come
// meanwhile, and each tenth transaction changes what it has written before.
// Every row is in the topic once, as one that was there or as an insert, or, if
// it was changed while the reading of rows was cut off, by its changes alone;
// every change is there once, in the order of its key.
func TestKilledCDCIsExact(t *testing.T) {
	killedCDC(t, fullRows(40_000), kills(t, 4))
}

// cdcLoad is a table that is written to while the hub is killed.
type cdcLoad struct {
	db            *sql.DB
	dsn           string
	before, total int // rows that are there at first and at last
	updates       int
}

const (
	cdcBatch = 500 // rows in a transaction
	lastRows = 100 // so many that each partition has some
)

func killedCDC(t *testing.T, rows, times int) {
	dsn := conntest.Postgres(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	l := &cdcLoad{db: db, before: rows / 2, total: rows}
	l.exec(t, "CREATE TABLE things (id bigint PRIMARY KEY, version int NOT NULL, note text NOT NULL)")
	l.exec(t, fmt.Sprintf("INSERT INTO things SELECT i, 0, 'row ' || i FROM generate_series(1, %d) AS i", l.before))
	var slot string
	if err := db.QueryRowContext(t.Context(), "SELECT 'kill_' || current_database()").Scan(&slot); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // runs after the node is killed
		Until(t, time.Minute, "the slot can be dropped", func() error {
			_, err := db.Exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", slot)
			return err
		})
	})
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: things, partitions: 6}
connectors:
  - name: things-in
    source: {type: postgres-cdc, dsn: "${env:TEST_DSN}", tables: [public.things], slot: %s}
    topic: things
`, slot), "TEST_DSN="+dsn)
	topic := collect(t, n.Kafka, "things")
	var writer sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer writer.Wait()
	defer stop()
	Until(t, time.Minute, "the slot is there", func() error { return l.hasSlot(slot) })
	if times > 1 { // in the moment after which the slot is there and no checkpoint
		n.Kill()
		n.Start()
	}
	Until(t, time.Minute, "rows come", func() error {
		if topic.count() == 0 {
			return errors.New("no records")
		}
		return nil
	})
	writer.Go(func() { l.write(ctx, t) })
	work := load{n: n, what: "records are in the topic", total: rows, limit: 2 * time.Minute, late: 60 * time.Millisecond}
	work.count = func() (int, error) { return topic.count(), nil }
	work.kill(t, times)
	writer.Wait()
	l.settle(t, topic)
	l.check(t, topic.all(), times)
}

// settle writes a few rows, waits until they are in the topic, and takes them
// away: everything else comes before them, in each partition.
func (l *cdcLoad) settle(t *testing.T, topic *collected) {
	t.Helper()
	l.exec(t, fmt.Sprintf("INSERT INTO things SELECT -i, 0, 'last' FROM generate_series(1, %d) AS i", lastRows))
	Until(t, 5*time.Minute, "all changes are in the topic", func() error {
		for i := range lastRows {
			if !topic.has(fmt.Sprintf(`{"id":-%d}`, i+1)) {
				return fmt.Errorf("%d records, the last are missing", topic.count())
			}
		}
		return nil
	})
	l.exec(t, "DELETE FROM things WHERE id < 0")
}

func (l *cdcLoad) exec(t *testing.T, statement string) {
	t.Helper()
	if _, err := l.db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func (l *cdcLoad) hasSlot(slot string) error {
	var n int
	if err := l.db.QueryRow("SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn IS NOT NULL", slot).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return errors.New("no slot")
	}
	return nil
}

// write adds rows, and changes older ones, in transactions of cdcBatch rows.
func (l *cdcLoad) write(ctx context.Context, t *testing.T) {
	for i := l.before; i < l.total && ctx.Err() == nil; i += cdcBatch {
		_, err := l.db.ExecContext(ctx, fmt.Sprintf("INSERT INTO things SELECT i, 0, 'row ' || i FROM generate_series(%d, %d) AS i", i+1, min(i+cdcBatch, l.total)))
		if err == nil && i/cdcBatch%10 == 0 {
			_, err = l.db.ExecContext(ctx, fmt.Sprintf("UPDATE things SET version = version + 1 WHERE id BETWEEN %d AND %d", i-cdcBatch/2+1, i+cdcBatch/2))
			l.updates += cdcBatch/2 + min(cdcBatch/2, l.total-i)
		}
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("write: %v", err)
			}
			return
		}
	}
}

// collected is what a consumer has read of a topic so far, through all kills.
type collected struct {
	mu struct {
		sync.Mutex
		records []*kgo.Record
		keys    map[string]bool
	}
}

// collect reads committed records until the test ends.
func collect(t *testing.T, brokers, topic string) *collected {
	t.Helper()
	c := &collected{}
	c.mu.keys = map[string]bool{}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.UnknownTopicRetries(-1),
		// Soon back after a kill: else the next one waits for a count that is long out of date.
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.MetadataMinAge(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	reader.Go(func() {
		for ctx.Err() == nil {
			fetches := cl.PollFetches(ctx) // errors are those of a hub that is down
			c.mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) {
				c.mu.records = append(c.mu.records, r)
				c.mu.keys[string(r.Key)] = true
			})
			c.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		stop()
		reader.Wait()
		cl.Close()
	})
	return c
}

func (c *collected) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.records)
}

func (c *collected) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.keys)
}

func (c *collected) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.keys[key]
}

func (c *collected) all() []*kgo.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.records
}

// check compares the topic with what was done, and with the table.
func (l *cdcLoad) check(t *testing.T, topic []*kgo.Record, times int) {
	t.Helper()
	type row struct {
		ID      int64  `json:"id"`
		Version int    `json:"version"`
		Note    string `json:"note"`
		Op      string `json:"__op"`
	}
	last := map[int64]row{}
	seen := map[string]int{}
	count := map[string]int{}
	rows := map[int64]int{} // how often it was there or was inserted
	total, twice := 0, 0
	for _, r := range topic {
		var v row
		if strings.HasPrefix(string(r.Key), `{"id":-`) {
			continue
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		if want := fmt.Sprintf(`{"id":%d}`, v.ID); string(r.Key) != want {
			t.Fatalf("key %s of %s", r.Key, r.Value)
		}
		seen[source(r)]++
		count[v.Op]++
		total++
		if v.Op != "u" {
			rows[v.ID]++
		}
		if before, ok := last[v.ID]; ok && v.Op == "u" && before.Op == "u" && v.Version <= before.Version {
			t.Errorf("row %d: version %d after %d", v.ID, v.Version, before.Version)
		}
		last[v.ID] = v
	}
	for _, n := range rows {
		if n > 1 {
			twice++
		}
	}
	if twice > 0 || count["r"] < l.before-cdcBatch/2 || total != len(seen) || len(last) != l.total || count["r"] > l.before || count["c"] != l.total-l.before || count["u"] != l.updates {
		t.Errorf("%d records, %d distinct, of %d keys, %d of them twice, by op %v; want %d rows that were there, %d inserts, %d updates",
			total, len(seen), len(last), twice, count, l.before, l.total-l.before, l.updates)
	}
	table, err := l.db.QueryContext(t.Context(), "SELECT id, version, note FROM things")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.Close() }()
	same := 0
	for table.Next() {
		var v row
		if err := table.Scan(&v.ID, &v.Version, &v.Note); err != nil {
			t.Fatal(err)
		}
		if got := last[v.ID]; got.Version != v.Version || got.Note != v.Note {
			t.Errorf("row %d is version %d, the topic's last is %+v", v.ID, v.Version, got)
		}
		same++
	}
	if err := table.Err(); err != nil || same != l.total {
		t.Errorf("%d rows in the table, want %d: %v", same, l.total, err)
	}
	conntest.Figures(t, "%d kills: source %d rows = distinct keys %d; %d records = %d distinct (%s); the topic's last values are the table", times, l.total, len(last), total, len(seen), counts(count))
}

func counts(by map[string]int) string {
	var all []string
	for _, op := range []string{"r", "c", "u", "d"} {
		if by[op] > 0 {
			all = append(all, fmt.Sprintf("%s %d", op, by[op]))
		}
	}
	return strings.Join(all, ", ")
}

// source is the name of the message that a record is of.
func source(r *kgo.Record) string {
	for _, h := range r.Headers {
		if h.Key == "entrepot-src" {
			return string(h.Value)
		}
	}
	return ""
}
