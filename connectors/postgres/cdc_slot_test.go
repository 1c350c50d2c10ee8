package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

const ms = time.Millisecond

func wantMismatch(t *testing.T, err error, texts ...string) {
	t.Helper()
	wantClass(t, err, connectors.ClassFatal, append(texts, "SLOT_MISMATCH")...)
	if !errors.Is(err, ErrSlotMismatch) {
		t.Errorf("%v is not ErrSlotMismatch", err)
	}
}

// stopped is a source that has read one change, committed it and stopped.
func stopped(t *testing.T, c *cdcRig) connectors.Position {
	t.Helper()
	r := c.reader(nil)
	c.exec("INSERT INTO things VALUES (1)")
	at := next(t, r, 1)[0].Position
	if err := r.Committed(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		return c.text("SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()") == "0"
	})
	return at
}

// TestCDCSlotMismatch: a slot that is gone, was made anew, or was read from by
// someone else has lost changes. The source says so and does not go on.
func TestCDCSlotMismatch(t *testing.T) {
	c := newCDC(t, map[string]any{"snapshot": "never"}, "CREATE TABLE things (id int PRIMARY KEY)")
	slot := fmt.Sprint(c.fields["slot"])
	at := stopped(t, c)
	if r, err := c.open(at); err != nil {
		t.Fatalf("the slot is as it was: %v", err)
	} else if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		return c.text("SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()") == "0"
	})

	c.exec("INSERT INTO things VALUES (2)", "SELECT pg_replication_slot_advance('"+slot+"', pg_current_wal_lsn())")
	_, err := c.open(at)
	wantMismatch(t, err, "beyond the checkpoint")

	c.exec("SELECT pg_drop_replication_slot('" + slot + "')")
	_, err = c.open(at)
	wantMismatch(t, err, "is gone")

	c.exec("INSERT INTO things VALUES (3)", "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
	_, err = c.open(at)
	wantMismatch(t, err, "made it anew")

	p, err := placeOf(at)
	if err != nil {
		t.Fatal(err)
	}
	p.system++
	elsewhere, _ := p.position()
	_, err = c.open(elsewhere)
	wantMismatch(t, err, "server")
}

func TestCDCForeignSlot(t *testing.T) {
	c := newCDC(t, nil, "CREATE TABLE things (id int PRIMARY KEY)")
	slot := fmt.Sprint(c.fields["slot"])
	c.exec("SELECT pg_create_logical_replication_slot('" + slot + "', 'test_decoding')")
	_, err := c.open(nil)
	wantClass(t, err, connectors.ClassFatal, "test_decoding")
	_, err = c.open(connectors.Position("\x00no position"))
	wantClass(t, err, connectors.ClassFatal, "not of this source")
}

// TestCDCSlotFollowsTheCheckpoint: what was read moves nothing, what is
// committed does.
func TestCDCSlotFollowsTheCheckpoint(t *testing.T) {
	c := newCDC(t, map[string]any{"snapshot": "never", "heartbeat": 0 * ms}, "CREATE TABLE things (id int PRIMARY KEY)")
	confirmed := func() string {
		return c.text("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()")
	}
	r := c.reader(nil)
	begin := confirmed()
	c.exec("INSERT INTO things VALUES (1)", "INSERT INTO things VALUES (2)")
	got := next(t, r, 2)
	if now := confirmed(); now != begin {
		t.Errorf("the slot went from %s to %s, and nothing is committed", begin, now)
	}
	if err := r.Committed(t.Context(), got[0].Position); err != nil {
		t.Fatal(err)
	}
	p, err := placeOf(got[0].Position)
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return confirmed() == p.lsn.String() })
}

// TestCDCIdleSlot: a table that is not followed is written to, 48 MiB of log;
// the slot of the one that is idle goes on, without a record.
func TestCDCIdleSlot(t *testing.T) {
	c := newCDC(t, map[string]any{"tables": []string{"public.watched"}, "heartbeat": 250 * ms}, "CREATE TABLE watched (id int PRIMARY KEY)", "CREATE TABLE other (id int, filler text)")
	r := c.reader(nil)
	c.exec("INSERT INTO other SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 45000) AS i")
	deadline := 0
	for {
		b, err := r.Read(t.Context(), connectors.Limits{Wait: 100 * ms})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range b.Messages {
			if !m.Mark {
				t.Fatalf("a record came: %s", m.Value)
			}
			if err := r.Committed(t.Context(), m.Position); err != nil {
				t.Fatal(err)
			}
		}
		if c.text("SELECT pg_current_wal_lsn() - confirmed_flush_lsn < 1048576 FROM pg_replication_slots WHERE database = current_database()") == "true" {
			return
		}
		if deadline++; deadline > 600 {
			t.Fatal("the slot of an idle table does not go on within a minute")
		}
	}
}

// TestCDCBudget: a slot that keeps more than it may is told, and what the
// config asks for is done.
func TestCDCBudget(t *testing.T) {
	for _, action := range []string{"stop", "drop"} {
		c := newCDC(t, map[string]any{"snapshot": "never", "max_retained_wal": 1 << 20, "over_budget": action, "heartbeat": 10 * ms}, "CREATE TABLE things (id int PRIMARY KEY, filler text)")
		r := c.reader(nil)
		c.exec("INSERT INTO things SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 5000) AS i")
		var err error
		for err == nil {
			_, err = r.Read(t.Context(), connectors.Limits{Wait: 50 * ms})
		}
		wantClass(t, err, connectors.ClassFatal, "max_retained_wal")
		left := c.text("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
		if want := map[string]string{"stop": "1", "drop": "0"}[action]; left != want {
			t.Errorf("%s leaves %s slots, want %s", action, left, want)
		}
	}
}

// TestCDCBudgetWhileRowsAreRead: the slot keeps all of the log while the rows
// are read, and is looked at then too.
func TestCDCBudgetWhileRowsAreRead(t *testing.T) {
	for _, action := range []string{"stop", "drop"} {
		c := newCDC(t, map[string]any{"max_retained_wal": 1 << 20, "over_budget": action, "heartbeat": time.Microsecond}, "CREATE TABLE things (id int PRIMARY KEY, filler text)",
			"INSERT INTO things SELECT i, 'x' FROM generate_series(1, 5000) AS i")
		r := c.reader(nil)
		next(t, r, 100) // as many as the first chunk has
		c.exec("UPDATE things SET filler = repeat(md5(id::text), 30)")
		_, err := r.Read(t.Context(), connectors.Limits{Wait: 50 * ms})
		wantClass(t, err, connectors.ClassFatal, "max_retained_wal")
		left := c.text("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
		if want := map[string]string{"stop": "1", "drop": "0"}[action]; left != want {
			t.Errorf("%s leaves %s slots, want %s", action, left, want)
		}
	}
}

// TestCDCConnectionsCut: a server that goes, or ends our connections, is class
// Retry; the next reader goes on where the last was.
func TestCDCConnectionsCut(t *testing.T) {
	server := conntest.OwnPostgres(t)
	c := cdcAt(rigAt(t, server.Database(t)), map[string]any{"snapshot": "never"}, "CREATE TABLE things (id int PRIMARY KEY)")
	r := c.reader(nil)
	n := 0
	var at connectors.Position
	for i, cut := range []func(){
		func() { c.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active") },
		server.Stop,
		server.Crash,
	} {
		n++
		c.exec(fmt.Sprintf("INSERT INTO things VALUES (%d)", n))
		got := next(t, r, 1)
		wantTexts(t, got, fmt.Sprintf(`{"id":%d}={"id":%d,"__op":"c"}`, n, n))
		at = got[0].Position
		cut()
		err := error(nil)
		for err == nil {
			_, err = r.Read(t.Context(), connectors.Limits{Wait: 50 * ms})
		}
		wantClass(t, err, connectors.ClassRetry)
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			server.Start(t)
			await(t, func() bool { return c.db.Ping() == nil })
		}
		r = c.reader(at)
	}
}

// TestSourcesKeepThePassword: no error of a source has it.
func TestSourcesKeepThePassword(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:hunter2@127.0.0.1:1/x?sslmode=disable", "postgres://u:hunter2@[bad", "host=127.0.0.1 port=1 password=hunter2 sslmode=nonsense", "password='hunter2",
	} {
		for _, s := range []connectors.Source{CDC{}, Query{}} {
			fields := map[string]any{"dsn": dsn}
			if s.Spec().Type == "postgres" {
				fields["table"] = "public.rows"
			}
			cfg := conntest.Config(t, s.Spec(), fields)
			_, err := s.Open(t.Context(), conntest.Task(cfg), connectors.Split{}, nil)
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", s.Spec().Type, err)
			}
			for _, f := range s.Validate(t.Context(), cfg, connectors.ProbeLive) {
				if strings.Contains(f.Message+f.Hint, "hunter2") {
					t.Errorf("%s: %s", s.Spec().Type, f.Message)
				}
			}
		}
	}
}
