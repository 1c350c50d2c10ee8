package hubtest

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

const mebi = 1 << 20

// followed is a server with a table that is followed, and one that is not.
type followed struct {
	db   *sql.DB
	t    *testing.T
	n    *Node
	rows int // written to the table that is not followed
}

func (f *followed) exec(statement string) {
	f.t.Helper()
	if _, err := f.db.ExecContext(f.t.Context(), statement); err != nil {
		f.t.Fatalf("%s: %v", statement, err)
	}
}

func (f *followed) number(query string) (n int64) {
	f.t.Helper()
	if err := f.db.QueryRowContext(f.t.Context(), query).Scan(&n); err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// kept is how many bytes of its log the server keeps for the slot.
func (f *followed) kept() int64 {
	f.t.Helper()
	return f.number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint FROM pg_replication_slots WHERE slot_name = 'idle'")
}

// fill writes so many bytes of log, none of it about the followed table.
func (f *followed) fill(bytes int64) {
	f.t.Helper()
	begin := f.number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
	for f.number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")-begin < bytes {
		f.exec("INSERT INTO other SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 5000) AS i")
		f.rows += 5000
	}
}

// TestIdleSlot writes 1 GiB, in short form 100 MiB, to a table that nobody
// follows, and nothing to the one that is followed: a minute later the server
// keeps no more than 64 MiB of it, and no record has come. Then the slot is
// dropped and made anew while the hub is down: the job stops and says so.
func TestIdleSlot(t *testing.T) {
	dsn := conntest.OwnPostgres(t).Database(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f := &followed{db: db, t: t}
	f.exec("CREATE TABLE watched (id int PRIMARY KEY)")
	f.exec("CREATE TABLE other (id int, filler text)")
	f.exec("INSERT INTO watched VALUES (1)")
	f.n = jobsNode(t, `
topics:
  - {name: watched, partitions: 1}
connectors:
  - name: watched-in
    source: {type: postgres-cdc, dsn: "${env:TEST_DSN}", tables: [public.watched], slot: idle}
    topic: watched
`, "TEST_DSN="+dsn)
	written := counter(f.n, "watched-in", "written")
	Until(t, time.Minute, "the row that was there comes", func() error {
		if got, err := written(); err != nil || got != 1 {
			return fmt.Errorf("%d records, %w", got, err)
		}
		return nil
	})

	size := int64(conntest.Size(100, 1024)) * mebi
	f.fill(size)
	ended, most := time.Now(), f.kept()
	Until(t, time.Minute, "the slot of the idle table goes on", func() error {
		if kept := f.kept(); kept > 64*mebi || kept > size/4 {
			return fmt.Errorf("%d MiB are kept", kept/mebi)
		}
		return nil
	})
	after, kept := time.Since(ended), f.kept()
	if got, err := written(); err != nil || got != 1 {
		t.Errorf("%d records are written, %v, want the one that was there", got, err)
	}
	f.n.Kill()
	f.slotMadeAnew()
	conntest.Figures(t, "%d MiB of log in %d rows of another table: %d MiB were kept when the writing ended, %d MiB %s later (want at most 64 MiB after a minute); SLOT_MISMATCH for the slot that was made anew",
		size/mebi, f.rows, most/mebi, kept/mebi, after.Round(100*time.Millisecond))
}

// slotMadeAnew takes the slot away, and with it what it would have kept.
func (f *followed) slotMadeAnew() {
	Until(f.t, time.Minute, "the slot can be dropped", func() error {
		_, err := f.db.Exec("SELECT pg_drop_replication_slot('idle')")
		return err
	})
	f.exec("INSERT INTO watched VALUES (2)") // no slot sees it
	f.exec("SELECT pg_create_logical_replication_slot('idle', 'pgoutput')")
	f.exec("INSERT INTO watched VALUES (3)")
	f.n.Start()
	Until(f.t, time.Minute, "the job stops", func() error {
		j, err := job(f.n.Admin, "watched-in")
		if err == nil && (j.State != "failed" || !strings.Contains(j.Reason, "SLOT_MISMATCH")) {
			err = fmt.Errorf("it is %s: %s", j.State, j.Reason)
		}
		return err
	})
	records := 0
	readEach(f.t, time.Minute, f.n.Kafka, "watched", func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			records++
		}
	})
	if records != 1 {
		f.t.Errorf("%d records, want 1: the job went on behind what it has missed", records)
	}
}
