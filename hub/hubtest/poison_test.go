package hubtest

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// shelf is a destination that refuses some rows.
type shelf struct {
	dsn  string                    // what TEST_DSN is in the sink's fields
	sink func(table string) string // the sink's fields
	bad  func(i int) string        // a row that it refuses
	fix  func(t *testing.T)        // what is mended at the destination,
	mend string                    // or the transform that mends the rows
	ids  func(table string) (rows, distinct, sum int, err error)
}

// shelves are destinations that refuse a row in different places: PostgreSQL by
// a constraint, when the rows are in it; the others when a value is turned into
// one of theirs.
var shelves = map[string]func(*testing.T) shelf{"postgres": postgresShelf, "clickhouse": clickHouseShelf, "files": filesShelf}

func postgresShelf(t *testing.T) shelf {
	dsn := conntest.Postgres(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	exec := func(t *testing.T, statement string) {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	s := shelf{dsn: dsn, bad: func(i int) string { return fmt.Sprintf(`{"id":%d,"name":"bad"}`, i) }}
	s.sink = func(table string) string {
		exec(t, "CREATE TABLE IF NOT EXISTS "+table+" (id bigint, name text CONSTRAINT good CHECK (name <> 'bad'))")
		return "type: postgres, dsn: \"${env:TEST_DSN}\", table: " + table + ", mode: insert, batch: {rows: 2000}"
	}
	s.fix = func(t *testing.T) { exec(t, "ALTER TABLE rows DROP CONSTRAINT good") }
	s.ids = func(table string) (rows, distinct, sum int, err error) {
		err = db.QueryRowContext(t.Context(), "SELECT count(*), count(DISTINCT id), coalesce(sum(id), 0) FROM "+table).Scan(&rows, &distinct, &sum)
		return rows, distinct, sum, err
	}
	return s
}

// wrongID is a row whose id has another type; goodID is the transform that
// makes a number of it again.
func wrongID(i int) string { return fmt.Sprintf(`{"id":"no. %d","name":"row %d"}`, i, i) }

const goodID = `{map: {id: 'int(replace(string(value.id), "no. ", ""))'}}`

func clickHouseShelf(t *testing.T) shelf {
	server := conntest.OwnClickHouse(t)
	s := shelf{dsn: server.Database(t), bad: wrongID, mend: goodID, fix: func(*testing.T) {}}
	u, err := url.Parse(s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	s.sink = func(table string) string {
		return "type: clickhouse, dsn: \"${env:TEST_DSN}\", table: " + table + ", create: true, columns: [{name: id, type: Int64}, {name: name, type: String}], batch: {rows: 2000}"
	}
	s.ids = func(table string) (rows, distinct, sum int, err error) {
		text, err := server.Query("SELECT count(), uniqExact(id), sum(id) FROM " + strings.TrimPrefix(u.Path, "/") + "." + table)
		if err == nil {
			_, err = fmt.Sscan(text, &rows, &distinct, &sum)
		}
		return rows, distinct, sum, err
	}
	return s
}

func filesShelf(t *testing.T) shelf {
	l := fileLake(t)
	s := shelf{bad: wrongID, mend: goodID, fix: func(*testing.T) {}}
	s.sink = func(table string) string {
		at := strings.TrimSuffix(l.sink, `"`) + "/" + table + `"`
		return "type: files, " + at + ", columns: [{name: id, type: int64}, {name: name, type: string}], roll: {rows: 2000, every: 1s}"
	}
	s.ids = func(table string) (rows, distinct, sum int, err error) {
		ids, _, err := l.ids("/" + table + "/")
		for _, id := range ids {
			sum += int(id)
		}
		return len(ids), len(slices.Compact(ids)), sum, err
	}
	return s
}

// config is a site with a topic of the file's lines and the sink.
func (s shelf) config(input, sink, transforms string) string {
	return fmt.Sprintf(`
topics:
  - {name: rows, partitions: 6}
connectors:
  - name: rows-in
    source: {type: file, path: %q, follow: false}
    topic: rows
  - name: rows-out
    topic: rows
    transforms: [%s]
    sink: {%s}
`, input, transforms, sink)
}

// TestPoisonRow loads 100,000 rows of which the destination refuses one: all
// others are there once, the one is a dead letter, and after what was wrong is
// mended a replay brings it in, once.
func TestPoisonRow(t *testing.T) {
	for name, make := range shelves {
		t.Run(name, func(t *testing.T) { poisonRow(t, make(t)) })
	}
}

func poisonRow(t *testing.T, s shelf) {
	const rows = 100_000
	bad := rand.N(rows)
	input := inputFile(t, rows, func(i int) string {
		if i == bad {
			return s.bad(i)
		}
		return fmt.Sprintf(`{"id":%d,"name":"row %d"}`, i, i)
	})
	dir, sink := t.TempDir(), s.sink("rows")
	n := NewNode(t, "solo", dir, nil, []string{writeJobs(t, dir, s.config(input, sink, ""))}, []string{"TEST_DSN=" + s.dsn})
	n.Start()
	check := func(rows, missing int) {
		t.Helper()
		got, distinct, sum, err := s.ids("rows")
		if want := rows * (rows - 1) / 2; err != nil || got != rows-missing || distinct != got || missing == 0 && sum != want || missing == 1 && sum != want-bad {
			t.Errorf("%d rows, %d distinct, sum %d, %v; want %d, but %d, and the sum %d", got, distinct, sum, err, rows, missing, want)
		}
	}
	written := counter(n, "rows-out", "written")
	Until(t, 2*time.Minute, "all others are loaded", func() error {
		if got, err := written(); err != nil || got < rows-1 {
			return fmt.Errorf("%d rows, %w", got, err)
		}
		return caughtUp(n, "rows-out")()
	})
	check(rows, 1)
	var letters []string
	readEach(t, time.Minute, n.Kafka, "rows-out.dlq", func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			letters = append(letters, string(r.Value))
		}
	})
	if len(letters) != 1 || letters[0] != s.bad(bad) {
		t.Errorf("dead letters %q, want %q", letters, s.bad(bad))
	}

	s.fix(t)
	n.Kill()
	writeJobs(t, dir, s.config(input, sink, s.mend))
	n.Start()
	Until(t, time.Minute, "the job runs", caughtUp(n, "rows-out"))
	if done := replayLetters(t, n, "rows-out"); done.Written != 1 || done.Left != 0 {
		t.Errorf("replay: %+v, want one written", done)
	}
	if done := replayLetters(t, n, "rows-out"); done.Read != 0 {
		t.Errorf("a second replay: %+v, want nothing", done)
	}
	check(rows, 0)
	conntest.Figures(t, "%d rows, 1 of them poison: %d dead letter, %d rows at the destination after its replay", rows, len(letters), rows)
}

// TestPoisonThroughput loads the same rows with and without one in 100,000 that
// the destination refuses, in turns, and says how much longer that takes.
func TestPoisonThroughput(t *testing.T) {
	if !conntest.Full() {
		t.Skip("only in the full form: it measures")
	}
	for name, make := range shelves {
		t.Run(name, func(t *testing.T) { poisonThroughput(t, make(t)) })
	}
}

func poisonThroughput(t *testing.T, s shelf) {
	const rows, every, rounds = 1_000_000, 100_000, 5
	text := "topics: [{name: good, partitions: 6}, {name: poisoned, partitions: 6}]\nconnectors:\n"
	for _, topic := range []string{"good", "poisoned"} {
		input := inputFile(t, rows, func(i int) string {
			if topic == "poisoned" && i%every == every/2 {
				return s.bad(i)
			}
			return fmt.Sprintf(`{"id":%d,"name":"row %d"}`, i, i)
		})
		text += fmt.Sprintf("  - {name: %[1]s-in, topic: %[1]s, source: {type: file, path: %[2]q, follow: false}}\n", topic, input)
	}
	dir := t.TempDir()
	n := NewNode(t, "solo", dir, nil, []string{writeJobs(t, dir, text)}, []string{"TEST_DSN=" + s.dsn})
	n.Start()
	for _, topic := range []string{"good-in", "poisoned-in"} {
		written := counter(n, topic, "written")
		Until(t, time.Minute, "the topics are filled", func() error {
			if got, err := written(); err != nil || got < rows {
				return fmt.Errorf("%s: %d rows, %w", topic, got, err)
			}
			return nil
		})
	}
	took := map[string][]time.Duration{}
	for round := range rounds {
		for _, topic := range []string{"good", "poisoned"} {
			n.Kill()
			table := fmt.Sprintf("%s_%d", topic, round)
			writeJobs(t, dir, fmt.Sprintf("%s  - {name: %s-out, topic: %s, sink: {%s}}\n", text, table, topic, s.sink(table)))
			n.Start()
			began, want := time.Now(), rows
			if topic == "poisoned" {
				want -= rows / every
			}
			l := load{what: "rows are loaded", total: want, count: counter(n, table+"-out", "written")}
			l.done(t, 15*time.Minute, caughtUp(n, table+"-out"))
			took[topic] = append(took[topic], time.Since(began))
			if got, distinct, _, err := s.ids(table); err != nil || got != want || distinct != want {
				t.Errorf("%s: %d rows, %d distinct, %v, want %d", table, got, distinct, err, want)
			}
		}
	}
	median := func(topic string) time.Duration {
		all := slices.Sorted(slices.Values(took[topic]))
		return all[len(all)/2]
	}
	ratio := float64(median("good")) / float64(median("poisoned"))
	conntest.Figures(t, "%d rows, %d loads each in turns: %.0f rows/s, with one poison row in %d %.0f rows/s (medians), %.1f %%",
		rows, rounds, rows/median("good").Seconds(), every, rows/median("poisoned").Seconds(), 100*ratio)
	if ratio < 0.9 {
		t.Errorf("with poison rows a load has %.0f %% of its throughput, want 90 %%: %v", 100*ratio, took)
	}
}
