package chaos

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// TestWipedUnderLoad wipes a node of a site that has ENTREPOT_WIPED_MIB of data
// and is written to, and measures how long it takes until it has everything
// again, and what a write takes before and meanwhile.
func TestWipedUnderLoad(t *testing.T) {
	site, admin := trio(t)
	mib := setting(t, "ENTREPOT_WIPED_MIB", 32)
	if _, err := admin.CreateTopic(t.Context(), 6, 3, nil, "old"); err != nil {
		t.Fatal(err)
	}
	fill(t, site, int(mib))
	w := write(t, site)
	defer w.end()
	begin := time.Now()
	hubtest.Until(t, time.Minute, "there is load", func() error {
		if n := len(w.since(begin)); n < 2000 {
			return fmt.Errorf("%d records", n)
		}
		return nil
	})
	before := figure(w.since(begin), 0.99)
	n := site.Nodes[2]
	n.Kill()
	n.Wipe()
	begin = time.Now()
	n.Start()
	whole(t, n, 30*time.Minute)
	took := time.Since(begin)
	during := figure(w.since(begin), 0.99)
	t.Logf("a wiped node has its %d MiB again after %s; p99 of a write %s before, %s meanwhile", mib, took.Round(10*time.Millisecond), before, during)
}

// fill writes so many MiB.
func fill(t *testing.T, site *hubtest.Site, mib int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(site.Brokers()...), kgo.DefaultProduceTopic("old"),
		kgo.MaxBufferedRecords(20_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var failed kgo.FirstErrPromise
	for range mib << 10 {
		cl.Produce(t.Context(), &kgo.Record{Value: make([]byte, 1024)}, failed.Promise())
	}
	if err := failed.Err(); err != nil {
		t.Fatal(err)
	}
}

// since is how long each record took that was sent since begin.
func (w *writer) since(begin time.Time) (took []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.mu.acked {
		if one.sent.After(begin) {
			took = append(took, one.at.Sub(one.sent))
		}
	}
	return took
}

func figure(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(len(times)-1, int(q*float64(len(times))))].Round(10 * time.Microsecond)
}
