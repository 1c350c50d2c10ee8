package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// once is a rule for the first chunk that has the text in it.
func once(text string, do conntest.Verb) func([]byte) conntest.Verb {
	var used atomic.Bool
	return func(chunk []byte) conntest.Verb {
		if bytes.Contains(chunk, []byte(text)) && used.CompareAndSwap(false, true) {
			return do
		}
		return conntest.Pass
	}
}

// commitMessage is in no other message: the length of the statement, and it.
const commitMessage = "\x0bCOMMIT\x00"

// through opens a writer whose connections go through a proxy.
func (r *rig) through(fields map[string]any) (connectors.Writer, *conntest.Proxy) {
	r.t.Helper()
	p, dsn := conntest.NewProxy(r.t, r.dsn)
	return r.writer(with(fields, map[string]any{"dsn": dsn})), p
}

// A commit whose answer is lost has an unknown outcome, whether it happened or
// not. The same plan tells, and makes it exact.
func TestTheAnswerToACommitIsLost(t *testing.T) {
	for name, do := range map[string]conntest.Verb{"before the server": conntest.CutHere, "after the server": conntest.CutAfter} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w, p := r.through(with(upsertFields(), map[string]any{"mode": "insert", "key": nil}))
			put(t, w, 0, `{"id":0}`)
			p.Watch(once(commitMessage, do))
			plan, batch := planOf(1, 3, 1), batchOf(1, `{"id":1}`, `{"id":2}`)
			wrong, err := w.Write(t.Context(), plan, batch)
			if wrong != nil {
				t.Fatal(wrong)
			}
			wantClass(t, err, connectors.ClassUnknown, "clicks-3[1,3)")
			if do == conntest.CutAfter {
				await(t, func() bool { return r.text(`SELECT count(*) FROM rows`) == "3" })
			}
			if wrong, err := w.Write(t.Context(), plan, batch); err != nil || wrong != nil {
				t.Fatal(wrong, err)
			}
			r.want(allRows, "0:NULL 1:NULL 2:NULL")
			r.want(`SELECT next_offset FROM entrepot_offsets`, "3")
		})
	}
}

// A connection that breaks before the commit is made again, and nothing of the
// first try is left.
func TestTheConnectionBreaksBeforeTheCommit(t *testing.T) {
	for _, at := range []string{"BEGIN", "CREATE TEMPORARY", "COPY", "\tf\t", "entrepot_offsets", "SAVEPOINT part"} {
		for _, do := range []conntest.Verb{conntest.CutHere, conntest.CutAfter} {
			t.Run(fmt.Sprintf("%q %d", at, do), func(t *testing.T) {
				r := newRig(t)
				w, p := r.through(with(upsertFields(), map[string]any{"mode": "insert", "key": nil}))
				put(t, w, 0, `{"id":0}`)
				p.Watch(once(at, do))
				put(t, w, 1, `{"id":1}`, `{"id":2}`)
				r.want(allRows, "0:NULL 1:NULL 2:NULL")
				r.want(`SELECT next_offset FROM entrepot_offsets`, "3")
			})
		}
	}
}

func TestTheServerEndsTheSession(t *testing.T) {
	r := newRig(t)
	w := r.writer(upsertFields())
	put(t, w, 0, `{"id":1,"name":"a"}`)
	hold, err := r.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold.Exec(`SELECT * FROM entrepot_offsets FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := w.Write(t.Context(), planOf(1, 2, 1), batchOf(1, `{"id":2,"name":"b"}`))
		done <- err
	}()
	const waiting = `SELECT coalesce(min(pid), 0) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'entrepot load'`
	var first string
	await(t, func() bool { first = r.text(waiting); return first != "0" })
	r.exec(`SELECT pg_terminate_backend(` + first + `)`)
	await(t, func() bool { next := r.text(waiting); return next != "0" && next != first })
	if err := hold.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.want(allRows, "1:a 2:b")
}

func TestTheServerGoesAndComesBack(t *testing.T) {
	server := conntest.OwnPostgres(t)
	r := rigAt(t, server.Database(t))
	w := r.writer(upsertFields())
	put(t, w, 0, `{"id":1,"name":"a"}`)
	at := int64(1)
	for _, end := range []func(){server.Stop, server.Crash} {
		end()
		for range 2 {
			_, err := w.Write(t.Context(), planOf(at, at+1, 1), batchOf(at, fmt.Sprintf(`{"id":%d,"name":"b"}`, at+1)))
			wantClass(t, err, connectors.ClassRetry, "connect")
		}
		_, _, err := w.Resume(t.Context(), clicks)
		wantClass(t, err, connectors.ClassRetry)
		_, err = r.open(upsertFields())
		wantClass(t, err, connectors.ClassRetry)
		server.Start(t)
		put(t, w, at, fmt.Sprintf(`{"id":%d,"name":"b"}`, at+1))
		at++
	}
	r.want(allRows, "1:a 2:b 3:b")
}

// Two sessions in each other's way: the transaction is done again.
func TestCollisions(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE SEQUENCE tries`, `CREATE TABLE rows (id bigint PRIMARY KEY, name text)`,
		`CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE n bigint := nextval('tries'); BEGIN
			IF n = 1 THEN RAISE 'in the way' USING ERRCODE = '40001'; ELSIF n = 2 THEN RAISE 'in a circle' USING ERRCODE = '40P01'; END IF; RETURN NEW; END $$`,
		`CREATE TRIGGER collide BEFORE INSERT ON rows FOR EACH STATEMENT EXECUTE FUNCTION collide()`)
	w := r.writer(with(upsertFields(), map[string]any{"columns": nil}))
	put(t, w, 0, `{"id":1,"name":"a"}`)
	r.want(allRows, "1:a")
	r.exec(`ALTER SEQUENCE tries INCREMENT BY -1`, `CREATE OR REPLACE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'always' USING ERRCODE = '40P01'; END $$`)
	_, err := w.Write(t.Context(), planOf(1, 2, 1), batchOf(1, `{"id":2}`))
	wantClass(t, err, connectors.ClassRetry, "always")
}

// A real deadlock with a session that takes the rows in another order: the server
// ends the writer's transaction, and it is done again. The server looks for a
// deadlock once in a wait, so the writer's is to begin last: a third session keeps
// it until then.
func TestDeadlock(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE rows (id bigint PRIMARY KEY, name text)`, `INSERT INTO rows VALUES (1, 'x'), (2, 'x'), (3, 'x')`)
	w := r.writer(upsertFields())
	begin := func(statement string) *sql.Tx {
		t.Helper()
		in, err := r.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Rollback() })
		if _, err := in.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		return in
	}
	waiting := func(sessions string) {
		t.Helper()
		await(t, func() bool {
			return r.text(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == sessions
		})
	}
	third := begin(`UPDATE rows SET name = 't' WHERE id = 2`)
	other := begin(`SET LOCAL deadlock_timeout = '1min'; UPDATE rows SET name = 'o' WHERE id = 3`)
	done, updated := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.Write(t.Context(), planOf(0, 3, 1), batchOf(0, `{"id":3,"name":"w"}`, `{"id":2,"name":"w"}`, `{"id":1,"name":"w"}`))
		done <- err
	}()
	waiting("1") // the writer has 1 and wants 2
	go func() {
		_, err := other.ExecContext(t.Context(), `UPDATE rows SET name = 'o' WHERE id = 1`)
		updated <- err
	}()
	waiting("2")
	if err := third.Rollback(); err != nil { // the writer wants 3
		t.Fatal(err)
	}
	if err := <-updated; err != nil {
		t.Fatal(err)
	}
	if err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.want(allRows, "1:w 2:w 3:w")
	await(t, func() bool {
		return r.text(`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`) == "1"
	})
}

// Writers that update the same rows, each in the order of its own batch, do
// not deadlock, for the sink brings them into one order.
func TestWritersOfTheSameRows(t *testing.T) {
	r := newRig(t)
	r.exec(`CREATE TABLE rows (id bigint PRIMARY KEY, name text)`)
	const writers, plans = 4, 15
	done := make(chan error)
	for n := range writers {
		w := r.writer(with(upsertFields(), map[string]any{"offsets_table": fmt.Sprintf("o%d", n)}))
		go func() {
			var err error
			for i := int64(0); i < plans && err == nil; i++ {
				var values []string
				for k := range 300 {
					values = append(values, fmt.Sprintf(`{"id":%d,"name":"%d"}`, k*(7+2*n)%300, n))
				}
				_, err = w.Write(t.Context(), planOf(i*300, i*300+300, 1), batchOf(i*300, values...))
			}
			done <- err
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	r.want(`SELECT count(*) FROM rows`, "300")
	r.want(`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`, "0")
}

// A peer that is silent does not hold the writer longer than its context.
func TestSilence(t *testing.T) {
	for at, class := range map[string]connectors.Class{"SAVEPOINT part": connectors.ClassStopped, commitMessage: connectors.ClassUnknown, "\tf\t": connectors.ClassStopped, "BEGIN": connectors.ClassStopped} {
		t.Run(fmt.Sprintf("%q", at), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			w, p := r.through(upsertFields())
			ctx, cancel := context.WithCancel(t.Context())
			rule := once(at, conntest.Swallow)
			p.Watch(func(chunk []byte) conntest.Verb {
				do := rule(chunk)
				if do == conntest.Swallow {
					p.Watch(func([]byte) conntest.Verb { return conntest.Swallow })
					cancel()
				}
				return do
			})
			_, err := w.Write(ctx, planOf(0, 1, 1), batchOf(0, `{"id":1,"name":"a"}`))
			wantClass(t, err, class)
			if class == connectors.ClassStopped && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			r.want(allRows, "")
			p.Watch(nil)
			put(t, w, 0, `{"id":1,"name":"a"}`)
		})
	}
}

func TestAServerThatNeverAnswers(t *testing.T) {
	r := newRig(t)
	p, dsn := conntest.NewProxy(t, r.dsn)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	p.Watch(func([]byte) conntest.Verb { return conntest.Swallow })
	task := connectors.TaskContext{Job: "load", Config: r.config(with(upsertFields(), map[string]any{"dsn": dsn}))}
	_, err := Sink{}.Open(ctx, task, nil)
	wantClass(t, err, connectors.ClassStopped)
}
