package hubtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestTimeFlushIsExact writes a record a minute for ten minutes, in short form
// one a second for ten seconds, to a topic that three sinks load, each with a
// batch that only the clock ends. The hub is killed twenty times meanwhile.
// Every row is at each destination within a minute, and once.
func TestTimeFlushIsExact(t *testing.T) {
	besides(t)
	const records = 10
	every, flush, times := time.Second, 500*time.Millisecond, 5
	if conntest.Full() {
		every, flush, times = time.Minute, 30*time.Second, 20
	}
	all := map[string]shelf{}
	text := "topics:\n  - {name: rows, partitions: 1}\nconnectors:\n"
	env := []string{}
	for name, make := range shelves {
		s := make(t)
		all[name] = s
		fields := strings.NewReplacer("TEST_DSN", "DSN_"+name, "batch: {rows: 2000}", fmt.Sprintf("batch: {every: %s}", flush), "roll: {rows: 2000, every: 1s}", fmt.Sprintf("roll: {every: %s}", flush)).Replace(s.sink("rows"))
		text += fmt.Sprintf("  - {name: %s, topic: rows, sink: {%s}}\n", name, fields)
		env = append(env, "DSN_"+name+"="+s.dsn)
	}
	n := jobsNode(t, text, env...)

	w := &watch{seen: map[string][]time.Time{}}
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for name, s := range all {
		others.Go(func() { w.look(ctx, name, s) })
	}
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic("rows"), kgo.UnknownTopicRetries(-1), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	// Before the first kill: kgo takes a hub that ends over this request for one that
	// wants a login, and gives the record up.
	if _, _, err := cl.ProducerID(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := make([]time.Time, records)
	others.Go(func() {
		for i := range records {
			if err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprintf(`{"id":%d,"name":"row"}`, i))).FirstErr(); err != nil {
				t.Errorf("record %d: %v", i, err)
				return
			}
			sent[i] = time.Now()
			pause(ctx, every, every+time.Millisecond)
		}
	})
	for i := range times { // at a random moment of each share of the time
		share := every * records / time.Duration(times)
		early := rand.N(share)
		pause(ctx, early, early+time.Millisecond)
		n.Kill()
		n.Start()
		if i < times-1 {
			pause(ctx, share-early, share-early+time.Millisecond)
		}
	}
	Until(t, 2*time.Minute, "all rows are there", func() error { return w.complete(len(all), records) })
	for name := range all {
		Until(t, time.Minute, name+" has no lag", caughtUp(n, name))
	}
	stop()
	others.Wait()
	for name, s := range all {
		got, distinct, sum, err := s.ids("rows")
		if err != nil || got != records || distinct != records || sum != records*(records-1)/2 {
			t.Errorf("%s: %d rows, %d distinct, sum %d, %v, want %d", name, got, distinct, sum, err, records)
		}
		var worst time.Duration
		for i, at := range w.seen[name][:records] {
			worst = max(worst, at.Sub(sent[i]))
		}
		if worst > time.Minute {
			t.Errorf("%s: a row was there after %s, want a minute at most", name, worst)
		}
		conntest.Figures(t, "%s: %d rows, one each %s, a flush each %s, %d kills: 0 lost, %d twice; the last to be there was so after %s",
			name, records, every, flush, times, got-distinct, worst.Round(10*time.Millisecond))
	}
}

// watch notes when rows are at their destinations. A topic of one partition
// comes in its order.
type watch struct {
	sync.Mutex
	seen map[string][]time.Time // by destination: when there were so many rows
}

func (w *watch) look(ctx context.Context, name string, s shelf) {
	for ctx.Err() == nil {
		_, distinct, _, err := s.ids("rows")
		now := time.Now()
		w.Lock()
		for err == nil && len(w.seen[name]) < distinct {
			w.seen[name] = append(w.seen[name], now)
		}
		w.Unlock()
		pause(ctx, 50*time.Millisecond, 100*time.Millisecond)
	}
}

func (w *watch) complete(destinations, rows int) error {
	w.Lock()
	defer w.Unlock()
	if len(w.seen) < destinations {
		return fmt.Errorf("rows are at %d destinations", len(w.seen))
	}
	for name, seen := range w.seen {
		if len(seen) < rows {
			return fmt.Errorf("%d of %d rows are at %s", len(seen), rows, name)
		}
	}
	return nil
}
