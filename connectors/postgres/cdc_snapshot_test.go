package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// keyedTables have keys of all the kinds that are ordered in ways of their own.
var keyedTables = []string{
	"CREATE TABLE by_int (a smallint, b bigint, PRIMARY KEY (b, a))", "INSERT INTO by_int SELECT i % 3, (i - 10) * 1000000000000 FROM generate_series(1, 20) AS i",
	`CREATE TABLE by_text (t text COLLATE "en-x-icu" PRIMARY KEY)`, `INSERT INTO by_text VALUES ('b'), ('A'), ('a'), (''), ('ż'), ('a''b'), ('a\b'), ('a b'), ('ab')`,
	"CREATE TABLE by_uuid (u uuid PRIMARY KEY)", "INSERT INTO by_uuid SELECT md5(i::text)::uuid FROM generate_series(1, 10) AS i",
	"CREATE TABLE by_time (t timestamptz, n numeric, PRIMARY KEY (t, n))", "INSERT INTO by_time SELECT '2015-05-17Z'::timestamptz + i * interval '1 hour', i / 7.0 FROM generate_series(-5, 5) AS i",
	"CREATE TABLE by_bool (b bool, c char(3), d date, PRIMARY KEY (b, c, d))", "INSERT INTO by_bool VALUES (true, 'a', '2015-05-17'), (false, 'a', 'infinity'), (true, 'b', '0044-03-15 BC')",
	"CREATE TABLE by_nothing (n int)", "INSERT INTO by_nothing SELECT i / 2 FROM generate_series(1, 12) AS i",
	"CREATE TABLE by_root (n int) PARTITION BY RANGE (n)", "CREATE TABLE by_root_1 PARTITION OF by_root FOR VALUES FROM (0) TO (5)", "CREATE TABLE by_root_2 PARTITION OF by_root FOR VALUES FROM (5) TO (99)",
	"INSERT INTO by_root SELECT generate_series(0, 9)",
}

// TestCDCSuite runs the suite of all connectors on the rows that are there.
// What follows them cannot be read twice from one slot; TestCDCResumesAnywhere
// shows the same of it.
func TestCDCSuite(t *testing.T) {
	conntest.Source(t, CDC{}, func(t *testing.T) conntest.SourceCase {
		c := newCDC(t, map[string]any{"snapshot": "only", "meta": []string{"table"}}, keyedTables...)
		r := c.reader(nil)
		var want []string
		for _, m := range next(t, r, 20+9+10+11+3+12+10) {
			want = append(want, string(m.Original))
		}
		// What the source gives is what the server says there is.
		var there []string
		for _, table := range []string{"by_bool", "by_int", "by_nothing", "by_root", "by_text", "by_time", "by_uuid"} {
			there = append(there, c.text(fmt.Sprintf("SELECT count(*) FROM %s", table))+" "+table)
		}
		if got := strings.Join(tally(want), ", "); got != strings.Join(there, ", ") {
			t.Fatalf("read %s, there are %s", got, there)
		}
		return conntest.SourceCase{Config: c.config(), Want: map[string][]string{fmt.Sprint(c.fields["slot"]): want}}
	})
}

// tally counts records by their tables, in the order in which they come.
func tally(values []string) []string {
	var all []string
	count, before := 0, ""
	for i, v := range append(values, "") {
		_, table, _ := strings.Cut(v, `"__table":"public.`)
		table = strings.TrimSuffix(table, `"}`)
		if i > 0 && table != before {
			all = append(all, fmt.Sprintf("%d %s", count, before))
			count = 0
		}
		before = table
		count++
	}
	return all
}

// TestCDCRowsResumed: reading is cut off after each row in turn, the tables are
// changed, and the next reader goes on under another snapshot. After the
// changes have come, every table is what the records make of it.
func TestCDCRowsResumed(t *testing.T) {
	for cut := range 16 { // the first message is a mark

		c := newCDC(t, map[string]any{"meta": []string{"op", "table"}},
			"CREATE TABLE keyed (id int PRIMARY KEY, n int, doc text)", "ALTER TABLE keyed ALTER doc SET STORAGE EXTERNAL",
			"INSERT INTO keyed SELECT i, 0, "+big+" FROM generate_series(1, 10) AS i",
			"CREATE TABLE logged (n int)", "INSERT INTO logged SELECT generate_series(1, 5)")
		r := c.reader(nil)
		var all []connectors.Message
		var at connectors.Position
		for len(all) < cut {
			b, err := r.Read(t.Context(), connectors.Limits{Records: 1})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range b.Messages {
				if err := r.Committed(t.Context(), m.Position); err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, b.Messages...)
		}
		if cut > 0 {
			at = slices.Clone(all[cut-1].Position)
		}
		all = slices.DeleteFunc(all, func(m connectors.Message) bool { return m.Mark })
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.exec("INSERT INTO keyed VALUES (11, 1, 'new'), (0, 1, 'new')", "UPDATE keyed SET n = n + 1 WHERE id IN (2, 9)", "UPDATE keyed SET n = n + 1 WHERE id IN (2, 9)",
			"DELETE FROM keyed WHERE id IN (3, 8)", "UPDATE keyed SET id = 20 WHERE id = 4", "INSERT INTO logged VALUES (6)")
		r = c.reader(at)
		told := false
		for len(all) == 0 || !strings.Contains(string(all[len(all)-1].Value), `"end"`) {
			b, err := r.Read(t.Context(), connectors.Limits{Wait: 100 * ms})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range b.Messages {
				if err := r.Committed(t.Context(), m.Position); err != nil {
					t.Fatal(err)
				}
				if p, err := placeOf(m.Position); m.Mark && err == nil && p.streaming && !told {
					c.exec("INSERT INTO keyed VALUES (99, 0, 'end')")
					told = true
				} else if !m.Mark {
					all = append(all, m)
				}
			}
		}
		sameAsTables(t, c, all, cut)
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// sameAsTables applies records as a consumer would and compares.
func sameAsTables(t *testing.T, c *cdcRig, all []connectors.Message, cut int) {
	t.Helper()
	c.exec("DROP TABLE IF EXISTS replay, replay_log", "CREATE TABLE replay (id int PRIMARY KEY, n int, doc text)", "CREATE TABLE replay_log (n int)")
	for _, m := range all {
		v := string(m.Value)
		switch {
		case strings.Contains(v, "public.replay"), strings.Contains(string(m.Key), "public.replay"):
		case strings.Contains(v, "public.logged"):
			c.exec("INSERT INTO replay_log SELECT n FROM json_populate_record(NULL::replay_log, '" + v + "')")
		case m.Value == nil:
			c.exec("DELETE FROM replay USING json_populate_record(NULL::replay, '" + string(m.Key) + "') AS k WHERE replay.id = k.id")
		case strings.Contains(v, `"__unchanged"`):
			c.exec("UPDATE replay SET n = k.n FROM json_populate_record(NULL::replay, '" + v + "') AS k WHERE replay.id = k.id")
			if !strings.Contains(v, `"id":20,`) { // the key has changed: nobody has the old value
				continue
			}
			c.exec("INSERT INTO replay SELECT k.id, k.n, old.doc FROM json_populate_record(NULL::replay, '" + v + "') AS k, keyed AS old WHERE old.id = 20 ON CONFLICT DO NOTHING")
		default:
			c.exec("INSERT INTO replay SELECT * FROM json_populate_record(NULL::replay, '" + v + "') ON CONFLICT (id) DO UPDATE SET n = excluded.n, doc = excluded.doc")
		}
	}
	const differ = "SELECT (SELECT count(*) FROM (SELECT * FROM %[1]s EXCEPT ALL SELECT * FROM %[2]s) AS x) + (SELECT count(*) FROM (SELECT * FROM %[2]s EXCEPT ALL SELECT * FROM %[1]s) AS x)"
	for a, b := range map[string]string{"keyed": "replay", "logged": "replay_log"} {
		if n := c.text(fmt.Sprintf(differ, a, b)); n != "0" {
			t.Errorf("cut off after %d rows: %s rows differ between %s and what the records make of it", cut, n, a)
		}
	}
}

// TestCDCRewrite: a table that is to be rewritten while it waits to be read
// would be empty for the snapshot. The rewriting has to wait.
func TestCDCRewrite(t *testing.T) {
	c := newCDC(t, nil, "CREATE TABLE things (id int PRIMARY KEY, n int)", "INSERT INTO things SELECT i, i FROM generate_series(1, 10) AS i")
	r := c.reader(nil)
	done := make(chan error, 1)
	go func() {
		_, err := c.db.Exec("ALTER TABLE things ALTER n TYPE bigint")
		done <- err
	}()
	await(t, func() bool {
		return c.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'things'::regclass") == "1"
	})
	rowsThere(t, r, 10)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
