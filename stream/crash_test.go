package stream

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	seeds = flag.Int("seeds", 60, "how many seeds the crash simulations try")
	seed  = flag.Uint64("seed", 0, "try this seed alone")
)

// eachSeed runs a simulation for many seeds; a failure prints its seed.
func eachSeed(t *testing.T, fn func(t *testing.T, rng *rand.Rand)) {
	from, to := uint64(1), uint64(*seeds)
	if *seed != 0 {
		from, to = *seed, *seed
	}
	for s := from; s <= to; s++ {
		ok := t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { fn(t, rand.New(rand.NewPCG(s, 1))) })
		})
		if !ok {
			t.Logf("again with: go test ./stream -run '%s' -seed %d", strings.Split(t.Name(), "/")[0], s)
		}
	}
}

// child is a generator of its own for another goroutine.
func child(rng *rand.Rand) *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), 2)) }

// arm cuts the network at some write from now, before or after it.
func (l *life) arm(rng *rand.Rand, most int) (cut chan struct{}) {
	cut = make(chan struct{})
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.wire.left, l.wire.after, l.wire.cut = rng.IntN(most), rng.IntN(2) == 0, func() { close(cut) }
	return cut
}

// trouble lets the hub refuse some requests, and apply some whose answer is
// an error; the clients have to try again.
func (w *world) trouble(rng *rand.Rand, topics ...string) {
	for _, topic := range topics {
		w.cluster.Fault(
			kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: 1 + rng.IntN(3)},
			kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.RequestTimedOut, Count: 1 + rng.IntN(3)},
		)
	}
}

// TestSourceIsExactThroughCrashes kills the runner at random writes, with the
// last one lost or done, and starts it again until everything is read. Each
// line has to be in the topic once, in order for its key, or in the dead
// letters once, or filtered; and the totals have to say so.
func TestSourceIsExactThroughCrashes(t *testing.T) {
	eachSeed(t, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		splits, want := randomLines(rng)
		src := newFakeSource(true, splits)
		src.rng = child(rng)
		job := parseOne(t, registry(src, nil), linesJob)
		crashes := 0
		for ; ; crashes++ {
			w.trouble(rng, "out", "pairs.dlq", CheckpointTopic)
			l := w.start(time.Nanosecond, job)
			if crashes < 12 {
				cut := l.arm(rng, 120)
				if !l.survives(cut) {
					l.crash()
					continue
				}
			} else {
				l.await("pairs", time.Hour, inState(Completed))
			}
			s := l.Status()[0]
			l.end()
			if s.Counters != want {
				t.Errorf("after %d crashes: counted %+v, want %+v", crashes, s.Counters, want)
			}
			break
		}
		checkLines(t, w, splits)
	})
}

// survives waits for the cut or for the end of the job, and reports the end.
func (l *life) survives(cut chan struct{}) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if l.Status()[0].State == Completed {
			return true
		}
		select {
		case <-cut:
			return false
		case <-tick.C:
		}
	}
}

const linesJob = `
connectors:
  - name: pairs
    source: {type: lines}
    transforms:
      - parse: {format: json}
      - filter: value.n % 10 != 9
      - map: {twice: value.n * 2}
    topic: out
    key: value.k
`

func randomLines(rng *rand.Rand) (map[string][]string, Counters) {
	splits, want := map[string][]string{}, Counters{}
	for s := range 1 + rng.IntN(3) {
		id := fmt.Sprintf("dir/file %d", s)
		splits[id] = []string{}
		for n := range rng.IntN(1500) {
			want.Read++
			switch {
			case rng.IntN(50) == 0:
				splits[id] = append(splits[id], fmt.Sprintf("broken %d of %d", n, s))
				want.DeadLetters++
				continue
			case n%10 == 9:
				want.Filtered++
			default:
				want.Produced++
			}
			splits[id] = append(splits[id], fmt.Sprintf(`{"k":"%d/%d","n":%d}`, s, rng.IntN(20), n))
		}
	}
	return splits, want
}

// checkLines compares the topics with the lines.
func checkLines(t *testing.T, w *world, splits map[string][]string) {
	t.Helper()
	want := map[string][]string{} // by key
	var broken []string
	for _, all := range splits {
		for _, line := range all {
			var k, n int
			var s int
			if c, _ := fmt.Sscanf(line, `{"k":"%d/%d","n":%d}`, &s, &k, &n); c < 3 {
				broken = append(broken, line)
			} else if n%10 != 9 {
				key := fmt.Sprintf("%d/%d", s, k)
				want[key] = append(want[key], strings.TrimSuffix(line, "}")+fmt.Sprintf(`,"twice":%d}`, 2*n))
			}
		}
	}
	// All readers see each line once, those that read uncommitted too.
	if all, committed := len(w.records("out")), len(w.committed("out")); all != committed {
		t.Errorf("%d records, %d of them committed", all, committed)
	}
	got := map[string][]string{}
	for _, r := range w.records("out") {
		got[string(r.Key)] = append(got[string(r.Key)], string(r.Value))
	}
	for key := range want {
		if !slices.Equal(got[key], want[key]) {
			t.Errorf("key %s: %d records, want %d, or in another order", key, len(got[key]), len(want[key]))
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("keys that nobody wrote: %v", sortedNames(got))
	}
	var letters []string
	for _, r := range w.records("pairs.dlq") {
		letters = append(letters, string(r.Value))
	}
	slices.Sort(letters)
	slices.Sort(broken)
	if !slices.Equal(letters, broken) {
		t.Errorf("%d dead letters, want %d: %v", len(letters), len(broken), letters)
	}
}

// TestSinkIsExactThroughCrashes does the same with a destination that names
// its files after plans, and with one that keeps the offset itself.
func TestSinkIsExactThroughCrashes(t *testing.T) {
	eachSeed(t, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("in", 2)
		total := [2]int{rng.IntN(400), rng.IntN(400)}
		want := Counters{}
		for p, n := range total {
			var all []string
			for i := range n {
				want.Read++
				switch {
				case i%17 == 16:
					want.Filtered++
				case i%29 == 28 || i%23 == 22 || i%41 == 40:
					want.DeadLetters++
				default:
					want.Written++
				}
				all = append(all, fmt.Sprintf(`{"n":%d}`, i))
				if i%23 == 22 && i%17 != 16 {
					all[i] = fmt.Sprintf(`{"n":"odd","i":%d}`, i)
				}
				if i%29 == 28 {
					all[i] = "not JSON"
				}
			}
			w.produce("in", int32(p), all...)
		}
		snk := newFakeSink(rng.IntN(2) == 0, connectors.Limits{Records: 1 + rng.IntN(60), Wait: time.Duration(rng.IntN(3000)) * time.Millisecond})
		bad := func(m connectors.Message) bool { return strings.Contains(string(m.Value), "odd") || m.Offset%41 == 40 }
		if rng.IntN(2) == 0 {
			snk.refuse = bad
		} else {
			snk.poison = bad
		}
		job := parseOne(t, registry(nil, snk), sinkJob)
		for crashes := 0; ; crashes++ {
			w.trouble(rng, "shelve.dlq", CheckpointTopic)
			l := w.start(time.Nanosecond, job)
			done := func(s JobStatus) bool { return s.Read == want.Read && s.Lag == 0 }
			if crashes < 15 {
				cut := l.arm(rng, 150)
				snk.stumble(rng, l)
				if !l.sinkSurvives(cut, done) {
					l.crash()
					continue
				}
			}
			snk.stumble(nil, nil)
			s := l.await("shelve", time.Hour, done)
			l.end()
			if s.Counters != want {
				t.Errorf("after %d crashes: counted %+v, want %+v", crashes, s.Counters, want)
			}
			break
		}
		checkShelf(t, w, snk, total, want)
	})
}

const sinkJob = `
connectors:
  - name: shelve
    sink: {type: shelf, path: /shelf}
    transforms:
      - filter: offset % 17 != 16
      - filter: value.n == "odd" or value.n >= 0
    topic: in
`

// stumble lets writes fail before or after they are done, and the runner die
// there.
func (s *fakeSink) stumble(rng *rand.Rand, l *life) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = nil, nil
	if rng == nil {
		return
	}
	rng = child(rng) // writers use it, under the lock, while the test uses its own
	s.before = func(connectors.Plan) error {
		switch rng.IntN(40) {
		case 0:
			go l.wire.kill()
			return connectors.Unknown(fmt.Errorf("cut off before"))
		case 1:
			return connectors.Retry(0, fmt.Errorf("busy"))
		}
		return nil
	}
	s.after = func(connectors.Plan) error {
		switch rng.IntN(40) {
		case 0:
			go l.wire.kill()
			return connectors.Unknown(fmt.Errorf("cut off after"))
		case 1:
			return connectors.Unknown(fmt.Errorf("no answer"))
		}
		return nil
	}
}

func (l *life) sinkSurvives(cut chan struct{}, done func(JobStatus) bool) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if done(l.Status()[0]) {
			return true
		}
		select {
		case <-cut:
			return false
		case <-tick.C:
		}
	}
}

func checkShelf(t *testing.T, w *world, snk *fakeSink, total [2]int, want Counters) {
	t.Helper()
	for _, f := range snk.faults {
		t.Error(f)
	}
	letters := map[string]bool{}
	for _, r := range w.records("shelve.dlq") {
		where := header(r, HeaderDeadWhere)
		if letters[where] {
			t.Errorf("two dead letters of %s", where)
		}
		letters[where] = true
	}
	if len(letters) != int(want.DeadLetters) {
		t.Errorf("%d dead letters, want %d", len(letters), want.DeadLetters)
	}
	for p, n := range total {
		rows := snk.rows[tp("in", int32(p))]
		at := 0
		for i := range int64(n) {
			written := i%17 != 16 && i%29 != 28 && i%23 != 22 && i%41 != 40
			if !written {
				continue
			}
			if at >= len(rows) || rows[at] != i {
				t.Fatalf("partition %d: row %d is not offset %d: %v", p, at, i, rows)
			}
			at++
		}
		if at != len(rows) {
			t.Errorf("partition %d has %d rows, want %d", p, len(rows), at)
		}
	}
}
