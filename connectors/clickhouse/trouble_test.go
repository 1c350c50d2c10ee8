package clickhouse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func partitioned() map[string]any { return with(rowFields(), map[string]any{"partition_by": "id % 4"}) }

func rowsOf(from, to int64) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf(`{"id":%d,"name":"row %d"}`, i, i))
	}
	return all
}

// TestCutAtEveryStep cuts the connection at each chunk that a writer sends,
// before and after the server has it, and writes the plan again as the next
// owner would: each row is there once.
func TestCutAtEveryStep(t *testing.T) { onServers(t, testCutAtEveryStep) }

func testCutAtEveryStep(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	p, dsn := conntest.NewProxy(t, r.dsn)
	lost, cuts := 0, 0
	from := int64(0)
	for _, do := range []conntest.Verb{conntest.CutHere, conntest.CutAfter} {
		for at := int64(1); ; at++ {
			var seen atomic.Int64
			p.Watch(func([]byte) conntest.Verb {
				if seen.Add(1) == at {
					return do
				}
				return conntest.Pass
			})
			plan, batch := planOf(from, from+100, at), batchOf(from, rowsOf(from, from+100)...)
			w, err := r.open(with(partitioned(), map[string]any{"dsn": dsn}))
			if err == nil {
				var wrong []connectors.RecordError
				if wrong, err = w.Write(t.Context(), plan, batch); len(wrong) > 0 {
					t.Fatal(wrong)
				}
				_ = w.Close(t.Context())
			}
			done := seen.Load() < at
			p.Watch(nil)
			if err != nil {
				cuts++
				if c := connectors.ClassOf(err); c != connectors.ClassRetry && c != connectors.ClassUnknown {
					t.Fatalf("cut %d: class %v: %v", at, c, err)
				}
				if connectors.ClassOf(err) == connectors.ClassUnknown {
					lost++
				}
			}
			again := r.writer(partitioned())
			writeUntilIn(t, again, plan, batch)
			from += 100
			r.want("SELECT toString((count(), uniqExact(id))) FROM rows", fmt.Sprintf("(%d,%d)", from, from))
			if done {
				break
			}
		}
	}
	if lost == 0 {
		t.Error("no answer to an INSERT was lost")
	}
	t.Logf("%d cuts, %d of unknown outcome: %d rows = distinct keys", cuts, lost, from)
}

// writeUntilIn writes a plan until it is in, as the runtime does.
func writeUntilIn(t *testing.T, w connectors.Writer, plan connectors.Plan, batch connectors.Batch) {
	t.Helper()
	await(t, func() bool {
		wrong, err := w.Write(t.Context(), plan, batch)
		if len(wrong) > 0 || connectors.ClassOf(err) == connectors.ClassFatal {
			t.Fatal(wrong, err)
		}
		return err == nil
	})
}

// TestHalfOfAPlan finds a plan of which some parts are in, as when the server
// ends between the values of PARTITION BY.
func TestHalfOfAPlan(t *testing.T) { onServers(t, testHalfOfAPlan) }

func testHalfOfAPlan(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	put(t, r.writer(partitioned()), 0, rowsOf(0, 10)...)
	r.exec("INSERT INTO rows SELECT number, concat('row ', toString(number)), 'clicks', 3, number FROM numbers(10, 10) WHERE number % 4 = 1")
	put(t, r.writer(partitioned()), 10, rowsOf(10, 20)...)
	r.want("SELECT toString((count(), uniqExact(id), min(id), max(id))) FROM rows", "(20,20,0,19)")
}

// TestAnEarlierTryStillRuns: while a query of the plan's ID runs in the server,
// the question what is in has no answer that lasts.
func TestAnEarlierTryStillRuns(t *testing.T) {
	r := newRig(t)
	w := r.writer(rowFields())
	plan, batch := planOf(0, 10, 1), batchOf(0, rowsOf(0, 10)...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	earlier := rigAt(t, r.dsn)
	go func() {
		defer close(ended)
		_ = earlier.link.Exec(ch.Context(ctx, ch.WithQueryID(plan.ID)), "SELECT count() FROM (SELECT sleepEachRow(1) FROM numbers(3))")
	}()
	await(t, func() bool {
		return r.text("SELECT toString(count()) FROM system.processes WHERE query_id = "+quoteText(plan.ID)) == "1"
	})
	_, err := w.Write(t.Context(), plan, batch)
	wantClass(t, err, connectors.ClassRetry, "still runs in the server")
	r.want("SELECT toString(count()) FROM rows", "0")
	cancel()
	<-ended
	writeUntilIn(t, w, plan, batch)
	r.want("SELECT toString((count(), uniqExact(id))) FROM rows", "(10,10)")
}

// insertSent cuts once an INSERT is with the server whole. Over the native
// protocol its block comes after it in a chunk of its own; over HTTP the INSERT
// is in the URL, and the body ends with an empty chunk, which may come apart from
// the block.
func (r *rig) insertSent() func(chunk []byte) conntest.Verb {
	const end = "\r\n0\r\n\r\n"
	tail := "" // of what was sent
	return func(chunk []byte) conntest.Verb {
		text := string(chunk)
		tail += text
		tail = tail[max(0, len(tail)-len(end)):]
		if r.overHTTP() && tail != end || !r.overHTTP() && strings.Contains(text, "INSERT") {
			return conntest.Pass
		}
		return conntest.CutAfter
	}
}

func (r *rig) overHTTP() bool { return strings.HasPrefix(r.dsn, "http") }

// TestBeyondAnyWindow is failure test 13: the server has taken a plan, the
// answer is lost, and many other inserts come before the plan is tried again.
func TestBeyondAnyWindow(t *testing.T) { onServers(t, testBeyondAnyWindow) }

func testBeyondAnyWindow(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	p, dsn := conntest.NewProxy(t, r.dsn)
	w := r.writer(with(rowFields(), map[string]any{"dsn": dsn}))
	put(t, w, 0, rowsOf(0, 10)...)
	p.Watch(r.insertSent())
	plan, batch := planOf(10, 20, 1), batchOf(10, rowsOf(10, 20)...)
	_, err := w.Write(t.Context(), plan, batch)
	wantClass(t, err, connectors.ClassUnknown)
	p.Watch(nil)
	await(t, func() bool { return r.text("SELECT toString(count()) FROM rows") == "20" })
	others := conntest.Size(50, 1001) // in the full form more than any window of a test server
	for i := range others {
		r.exec(fmt.Sprintf("INSERT INTO rows SELECT %d, 'other', 'other', 0, %d", 1000+i, i))
	}
	writeUntilIn(t, r.writer(rowFields()), plan, batch)
	r.want("SELECT toString((count(), uniqExact(id))) FROM rows WHERE _topic = 'clicks'", "(20,20)")
	conntest.Figures(t, "%d other inserts between a lost answer and the next try: 20 rows = distinct keys", others)
}

// TestTheSameOwnerTriesAgain: after a lost answer the writer itself asks before
// it writes the plan once more, and its INSERT has the plan's ID, by which an
// earlier try is found while it runs.
func TestTheSameOwnerTriesAgain(t *testing.T) { onServers(t, testTheSameOwnerTriesAgain) }

func testTheSameOwnerTriesAgain(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	p, dsn := conntest.NewProxy(t, r.dsn)
	w := r.writer(with(rowFields(), map[string]any{"dsn": dsn, "exactly_once": "offsets"}))
	put(t, w, 0, rowsOf(0, 10)...)
	var named atomic.Bool
	sent := r.insertSent()
	p.Watch(func(chunk []byte) conntest.Verb {
		if strings.Contains(string(chunk), "INSERT") {
			named.Store(strings.Contains(string(chunk), "\x0aload-10-20") || strings.Contains(string(chunk), "query_id=load-10-20&") || strings.Contains(string(chunk), "query_id=load-10-20 "))
		}
		return sent(chunk)
	})
	plan, batch := planOf(10, 20, 1), batchOf(10, rowsOf(10, 20)...)
	_, err := w.Write(t.Context(), plan, batch)
	wantClass(t, err, connectors.ClassUnknown)
	p.Watch(nil)
	await(t, func() bool { return r.text("SELECT toString(count()) FROM rows") == "20" })
	if !named.Load() {
		t.Error("the INSERT does not have the plan's ID")
	}
	writeUntilIn(t, w, plan, batch)
	r.want("SELECT toString((count(), uniqExact(id))) FROM rows", "(20,20)")
}

// TestServerEnds crashes and restarts the server between and during plans.
func TestServerEnds(t *testing.T) {
	t.Run("18.16", func(t *testing.T) { testServerEnds(t, conntest.OwnClickHouse(t)) })
	t.Run("engine of today", func(t *testing.T) { testServerEnds(t, conntest.OwnClickHouseEngine(t)) })
}

func testServerEnds(t *testing.T, s interface {
	Database(t testing.TB) string
	Query(query string) (string, error)
	Stop()
	Crash()
	Start(t testing.TB)
},
) {
	r := rigAt(t, s.Database(t))
	w := r.writer(partitioned())
	put(t, w, 0, rowsOf(0, 100)...)
	for i, end := range []func(){s.Stop, s.Crash} {
		end()
		from := int64(100 * (i + 1))
		plan, batch := planOf(from, from+100, 1), batchOf(from, rowsOf(from, from+100)...)
		_, err := w.Write(t.Context(), plan, batch)
		if c := connectors.ClassOf(err); c != connectors.ClassRetry && c != connectors.ClassUnknown {
			t.Fatalf("class %v: %v", c, err)
		}
		s.Start(t)
		writeUntilIn(t, w, plan, batch)
	}
	await(t, func() bool {
		n, err := s.Query("SELECT count(), uniqExact(id) FROM test1.rows")
		return err == nil && strings.Join(strings.Fields(n), " ") == "300 300"
	})
}

// TestTooManyParts: the server refuses for a while, and takes the plan later.
func TestTooManyParts(t *testing.T) { onServers(t, testTooManyParts) }

func testTooManyParts(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	r.exec("CREATE TABLE rows (id Int64, name String, _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY id SETTINGS parts_to_throw_insert = 1, parts_to_delay_insert = 1")
	r.exec("SYSTEM STOP MERGES")
	defer r.exec("SYSTEM START MERGES")
	fields := with(rowFields(), map[string]any{"columns": []map[string]any{{"name": "id"}, {"name": "name"}}})
	w := r.writer(fields)
	put(t, w, 0, rowsOf(0, 10)...)
	_, err := w.Write(t.Context(), planOf(10, 20, 1), batchOf(10, rowsOf(10, 20)...))
	wantClass(t, err, connectors.ClassRetry, "252")
	if connectors.RetryAfter(err) != partsWait {
		t.Errorf("to be tried after %v", connectors.RetryAfter(err))
	}
	r.want("SELECT toString(count()) FROM rows", "10")
}

// TestChaos loads a topic while its writer is cut off at random steps and
// replaced by successors that do its plan again.
func TestChaos(t *testing.T) { onServers(t, testChaos) }

func testChaos(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	p, dsn := conntest.NewProxy(t, r.dsn)
	const records = 1500
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	fields := func() map[string]any { return with(partitioned(), map[string]any{"dsn": dsn}) }
	w := r.writer(fields())
	cuts, unknown := 0, 0
	for at := int64(0); at < records; {
		to := min(records, at+1+rng.Int64N(60))
		plan, batch := planOf(at, to, 1), batchOf(at, rowsOf(at, to)...)
		ctx, cancel := context.WithCancel(t.Context())
		if rng.IntN(4) > 0 {
			cuts++
			var seen atomic.Int64
			when, way := 1+rng.Int64N(5), rng.IntN(3)
			p.Watch(func([]byte) conntest.Verb {
				if seen.Add(1) != when {
					return conntest.Pass
				}
				if way == 2 {
					cancel()
					return conntest.Pass
				}
				return conntest.Verb(way + 1)
			})
		}
		_, err := w.Write(ctx, plan, batch)
		cancel()
		p.Watch(nil)
		if connectors.ClassOf(err) == connectors.ClassUnknown {
			unknown++
		}
		if connectors.ClassOf(err) == connectors.ClassFatal {
			t.Fatal(err)
		}
		if err != nil || rng.IntN(8) == 0 { // another process, the same plan
			_ = w.Close(t.Context())
			w = r.writer(fields())
			writeUntilIn(t, w, plan, batch)
		}
		at = to
	}
	t.Logf("seed %d: %d records, %d cuts, %d unknown outcomes", seed, records, cuts, unknown)
	r.want("SELECT toString((count(), uniqExact(id), max(id))) FROM rows", fmt.Sprintf("(%d,%d,%d)", records, records, records-1))
}
