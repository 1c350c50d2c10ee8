package clickhouse

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestSourceChaos cuts the reader off at random steps while others add rows;
// its successor goes on at the last position. Every row comes once, in order.
func TestSourceChaos(t *testing.T) { onServers(t, testSourceChaos) }

func testSourceChaos(t *testing.T, newRig func(testing.TB) *rig) {
	const total = 600
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	r := newRig(t)
	r.exec("CREATE TABLE events (at DateTime, id Int32) ENGINE = MergeTree ORDER BY (at, id)")
	p, dsn := conntest.NewProxy(t, r.dsn)
	fields := func() map[string]any {
		return map[string]any{"dsn": dsn, "columns": []string{"id"}, "rows": 40, "key": []string{"at", "id"}}
	}
	var at connectors.Position
	var cuts atomic.Int64
	seen, there := 0, 0
	for seen < total {
		if there < total {
			n := min(total-there, 1+rng.IntN(90))
			r.exec(fmt.Sprintf("INSERT INTO events SELECT toDateTime(1431857103 + intDiv(number, 13)), number FROM numbers(%d, %d)", there, n))
			there += n
		}
		var chunks atomic.Int64
		when, way := 1+rng.Int64N(12), []conntest.Verb{conntest.CutHere, conntest.CutAfter}[rng.IntN(2)]
		p.Watch(func([]byte) conntest.Verb {
			if chunks.Add(1) != when {
				return conntest.Pass
			}
			cuts.Add(1)
			return way
		})
		reader, err := Source{}.Open(t.Context(), conntest.Task(r.sourceConfig(fields())), connectors.Split{}, at)
		for err == nil {
			var b connectors.Batch
			b, err = reader.Read(t.Context(), connectors.Limits{Records: 1 + rng.IntN(30)})
			for _, m := range b.Messages {
				if want := fmt.Sprintf(`{"id":%d}`, seen); string(m.Value) != want {
					t.Fatalf("seed %d: got %s, want %s", seed, m.Value, want)
				}
				at = m.Position
				seen++
			}
			if err == nil && len(b.Messages) == 0 {
				break
			}
		}
		p.Watch(nil)
		if err != nil && connectors.ClassOf(err) != connectors.ClassRetry {
			t.Fatalf("seed %d: class %v: %v", seed, connectors.ClassOf(err), err)
		}
		if reader != nil {
			_ = reader.Close(t.Context())
		}
	}
	t.Logf("seed %d: %d rows, each once, %d cuts", seed, seen, cuts.Load())
}

// TestSourceServerEnds: a server that stops or crashes is waited for.
func TestSourceServerEnds(t *testing.T) {
	s := conntest.OwnClickHouse(t)
	r := rigAt(t, s.Database(t))
	r.exec("CREATE TABLE events (at DateTime, id Int32) ENGINE = MergeTree ORDER BY (at, id)", "INSERT INTO events SELECT toDateTime(1431857103), number FROM numbers(100)")
	more := map[string]any{"rows": 10, "columns": []string{"id"}}
	reader := r.reader(nil, more)
	for _, end := range []func(){s.Stop, s.Crash} {
		var at connectors.Position
		b, err := reader.Read(t.Context(), connectors.Limits{Records: 10, Wait: time.Second})
		if err != nil || len(b.Messages) != 10 {
			t.Fatal(len(b.Messages), err)
		}
		at = b.Messages[9].Position
		end()
		for err == nil {
			_, err = reader.Read(t.Context(), connectors.Limits{Wait: 50 * time.Millisecond})
		}
		wantClass(t, err, connectors.ClassRetry)
		s.Start(t)
		reader = r.reader(at, more)
	}
	if got := next(t, reader, 80); string(got[0].Value) != `{"id":20}` || string(got[79].Value) != `{"id":99}` {
		t.Errorf("from %s to %s", got[0].Value, got[79].Value)
	}
}

// FuzzPlace: what is decoded is the same when it is encoded again, and nothing
// ends the process.
func FuzzPlace(f *testing.F) {
	var o keyOrder
	for _, shown := range []string{"DateTime64(3, 'UTC')", "UInt64", "String", "Date32"} {
		typ, err := parseType(shown, time.UTC)
		if err != nil {
			f.Fatal(err)
		}
		kind, _ := orderKind(typ)
		o.add("`c`", kind, typ)
	}
	f.Add([]byte(o.encode([]keyValue{{n: -5}, {u: 1 << 63}, {s: "a\x00b"}, {n: 40000}})))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, pos []byte) {
		key, err := o.decode(pos)
		if err != nil {
			if connectors.ClassOf(err) != connectors.ClassFatal {
				t.Errorf("class %v", connectors.ClassOf(err))
			}
			return
		}
		if again := o.encode(key); again.Compare(pos) != 0 {
			t.Errorf("%x became %x", pos, []byte(again))
		}
		_ = o.beyond(key)
	})
}
