package hubtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kills is how often a kill test kills: few in `make test`, the number in
// ENTREPOT_KILLS (20 in `make kill`) otherwise.
func kills(t *testing.T, short int) int {
	if s := os.Getenv("ENTREPOT_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("ENTREPOT_KILLS=%q: want a number", s)
		}
		return n
	}
	return short
}

// pause waits for a random time, or until ctx ends.
func pause(ctx context.Context, low, high time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(low + rand.N(high-low)):
	}
}

// TestKilledNodeLosesNothing kills the node again and again under an
// idempotent acks=all load: every acknowledged record is there, exactly once,
// in the order of its producer. ENTREPOT_PRELOAD is the data in MiB that the
// node has from the start.
func TestKilledNodeLosesNothing(t *testing.T) {
	n := NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	n.Start()
	const topic, partitions = "load", 6
	createTopic(t, n.Kafka, topic, partitions)
	preload(t, n.Kafka)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var acked [partitions]sync.Map // partition → value → offset
	var total atomic.Int64
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.MaxBufferedRecords(2000))
	var sender sync.WaitGroup
	sender.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			r := &kgo.Record{Partition: int32(i % partitions), Value: fmt.Appendf(nil, "%010d", i)}
			cl.Produce(context.Background(), r, func(r *kgo.Record, err error) {
				if err != nil {
					t.Errorf("record %s was refused: %v", r.Value, err)
					return
				}
				acked[r.Partition].Store(string(r.Value), r.Offset)
				total.Add(1)
			})
		}
	})
	var starts []time.Duration
	for range kills(t, 4) {
		before := total.Load()
		Until(t, time.Minute, "the load goes on", func() error {
			if now := total.Load(); now < before+1000 {
				return fmt.Errorf("%d records acknowledged since the start", now-before)
			}
			return nil
		})
		pause(ctx, 50*time.Millisecond, 500*time.Millisecond)
		n.Kill()
		starts = append(starts, n.Start())
	}
	stop()
	sender.Wait()
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(starts)
	checkLoad(t, n.Kafka, topic, &acked)
	t.Logf("%d kills, %d records acknowledged; from start to serving: median %s, worst %s",
		len(starts), total.Load(), starts[len(starts)/2].Round(time.Millisecond), starts[len(starts)-1].Round(time.Millisecond))
}

// checkLoad reads every partition and compares it with what was acknowledged.
func checkLoad(t *testing.T, brokers, topic string, acked *[6]sync.Map) {
	t.Helper()
	lost, duplicated, moved := 0, 0, 0
	for p := range acked {
		found := map[string]int64{}
		last := ""
		for _, r := range readAll(t, brokers, topic, int32(p)) {
			v := string(r.Value)
			if _, twice := found[v]; twice {
				duplicated++
			}
			if v <= last {
				t.Errorf("partition %d: %s at offset %d after %s", p, v, r.Offset, last)
			}
			found[v], last = r.Offset, v
		}
		acked[p].Range(func(v, offset any) bool {
			at, ok := found[v.(string)]
			if !ok {
				lost++
			} else if at != offset.(int64) {
				moved++
			}
			return true
		})
	}
	if lost+duplicated+moved > 0 {
		t.Errorf("%d acknowledged records lost, %d duplicated, %d at another offset than acknowledged", lost, duplicated, moved)
	}
	t.Logf("%d acknowledged records lost, %d duplicated", lost, duplicated)
}

// preload writes ENTREPOT_PRELOAD MiB so that a restart has something to
// recover.
func preload(t *testing.T, brokers string) {
	t.Helper()
	mib, _ := strconv.Atoi(os.Getenv("ENTREPOT_PRELOAD"))
	if mib == 0 {
		mib = 64
	}
	createTopic(t, brokers, "old", 6)
	cl := client(t, kgo.SeedBrokers(brokers), kgo.DefaultProduceTopic("old"), kgo.MaxBufferedRecords(20000), kgo.ProducerLinger(5*time.Millisecond))
	value := []byte(strings.Repeat("entrepot", 128))
	var failed atomic.Pointer[error]
	for range mib << 10 {
		cl.Produce(t.Context(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	t.Logf("%d MiB of old data", mib)
}

func client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func createTopic(t testing.TB, brokers, topic string, partitions int32) {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(brokers))
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}
