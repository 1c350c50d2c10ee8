package chaos

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// writer keeps one partition under load and knows when its records were
// acknowledged, and by whom.
type writer struct {
	t       *testing.T
	cl      *kgo.Client
	stop    context.CancelFunc
	sending sync.WaitGroup
	mu      struct {
		sync.Mutex
		acked   []ack
		batches []batch
	}
}

// ack is one acknowledged record.
type ack struct{ sent, at time.Time }

// batch is one acknowledged batch.
type batch struct {
	node int32
	at   time.Time
}

// loaded is the topic that is under load.
const loaded = "load"

// impatient is a client that asks again soon: what it measures is the site's
// time rather than its own.
func impatient() []kgo.Opt {
	const soon = 20 * time.Millisecond
	return []kgo.Opt{kgo.MetadataMinAge(soon), kgo.RetryBackoffFn(func(int) time.Duration { return soon })}
}

// write sends a record of 1 KiB every millisecond, or every ENTREPOT_LOAD_US
// microseconds, until it is ended. It returns when the first is acknowledged: a new
// topic has no leader for a moment.
func write(t *testing.T, site *hubtest.Site, opts ...kgo.Opt) *writer {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &writer{t: t, stop: stop}
	every := time.Duration(setting(t, "ENTREPOT_LOAD_US", 1000)) * time.Microsecond
	var err error
	w.cl, err = kgo.NewClient(append(opts, kgo.SeedBrokers(site.Brokers()...), kgo.DefaultProduceTopic(loaded), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.WithHooks(w))...)
	if err != nil {
		t.Fatal(err)
	}
	w.sending.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			sent := time.Now()
			w.cl.Produce(context.Background(), &kgo.Record{Value: make([]byte, 1024)}, func(_ *kgo.Record, err error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.mu.acked = append(w.mu.acked, ack{sent, time.Now()}); err != nil {
					t.Errorf("a record was refused: %v", err)
				}
			})
		}
	})
	hubtest.Until(t, time.Minute, "the first record is acknowledged", func() error {
		if _, ok := w.after(time.Time{}); !ok {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	return w
}

// OnProduceBatchWritten implements kgo.HookProduceBatchWritten.
func (w *writer) OnProduceBatchWritten(by kgo.BrokerMetadata, _ string, _ int32, _ kgo.ProduceBatchMetrics) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.batches = append(w.mu.batches, batch{by.NodeID, time.Now()})
}

// end waits until all records are acknowledged. It is deferred: cleanups would
// kill nodes first that the test has started again.
func (w *writer) end() {
	w.stop()
	w.sending.Wait()
	if err := w.cl.Flush(context.Background()); err != nil {
		w.t.Error(err)
	}
	w.cl.Close()
}

// after is when the first record that was sent after begin was acknowledged.
func (w *writer) after(begin time.Time) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.mu.acked {
		if one.sent.After(begin) {
			return one.at, true
		}
	}
	return time.Time{}, false
}

// pauses are the longest times without an acknowledgement since begin: between
// one of a leader and one of the next, and between two of the same.
func (w *writer) pauses(begin time.Time) (moving, staying time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := batch{at: begin}
	for _, one := range w.mu.batches {
		if one.at.Before(begin) {
			last.node = one.node
			continue
		}
		if pause := one.at.Sub(last.at); one.node != last.node {
			moving = max(moving, pause)
		} else {
			staying = max(staying, pause)
		}
		last = one
	}
	return moving, staying
}

// moved waits until another leader acknowledges than at begin, and returns the
// pauses since.
func (w *writer) moved(begin time.Time) (moving, staying time.Duration) {
	w.t.Helper()
	hubtest.Until(w.t, time.Minute, "another node acknowledges writes", func() error {
		if moving, staying = w.pauses(begin); moving == 0 {
			return fmt.Errorf("the same does still, or none")
		}
		return nil
	})
	return moving, staying
}

// trio is a site of three nodes, all of which have the one partition that will be
// under load.
func trio(t *testing.T) (*hubtest.Site, *kadm.Client) {
	t.Helper()
	site := hubtest.NewSite(t, "trio", 3)
	return site, begin(t, site)
}

// begin starts all nodes of a trio and makes the topic that will be under load.
func begin(t *testing.T, site *hubtest.Site) *kadm.Client {
	t.Helper()
	site.Start()
	cl, err := kgo.NewClient(kgo.SeedBrokers(site.Brokers()...), kgo.MetadataMinAge(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(t.Context(), 1, 3, nil, loaded); err != nil {
		t.Fatal(err)
	}
	return admin
}

// whole waits until every node is up and has all that it shall have.
func whole(t *testing.T, n *hubtest.Node, limit time.Duration) {
	t.Helper()
	hubtest.Until(t, limit, "every node has everything", func() error { return wholeNow(n, loadedBehind) })
}

// loadedBehind is how many bytes a node may lack that has everything: under load
// somebody is always a batch behind.
const loadedBehind = 1 << 20

func wholeNow(n *hubtest.Node, behind float64) error {
	for _, path := range []string{"nodes", "moves"} {
		var all []struct {
			Node      string   `json:"node"`
			State     string   `json:"state"`
			Behind    *float64 `json:"behind_bytes"`
			Topic     string   `json:"topic"`
			Partition int32    `json:"partition"`
		}
		if err := n.Ask(http.MethodGet, "/v1/site/"+path, &all); err != nil {
			return err
		}
		for _, one := range all {
			if path == "moves" || one.State != "up" || one.Behind == nil || *one.Behind > behind {
				return fmt.Errorf("%s: %+v", path, one)
			}
		}
	}
	return nil
}

func figures(times []time.Duration) string {
	at := func(q float64) time.Duration { return figure(times, q).Round(time.Millisecond) }
	return fmt.Sprintf("p50 %s, p95 %s, max %s", at(0.5), at(0.95), at(1))
}

// TestFailover kills the leader of a partition under load, again and again, and
// measures how long it took until a record that was sent after the kill was
// acknowledged. ENTREPOT_FAILOVERS is how often.
func TestFailover(t *testing.T) {
	site, admin := trio(t)
	w := write(t, site, impatient()...)
	defer w.end()
	var times []time.Duration
	for range setting(t, "ENTREPOT_FAILOVERS", 2) {
		n := site.Leader(admin, loaded, 0)
		begin := time.Now()
		n.Kill()
		hubtest.Until(t, time.Minute, "the partition takes writes", func() error {
			at, ok := w.after(begin)
			if !ok {
				return fmt.Errorf("none yet")
			}
			times = append(times, at.Sub(begin))
			return nil
		})
		n.Start()
		whole(t, n, time.Minute)
	}
	t.Logf("writable again after kill -9 of the leader, %d times: %s", len(times), figures(times))
}

// TestPlannedMove moves the leader of a partition under load to another node,
// again and again, and measures how long a client with its usual settings had
// nothing acknowledged between the old leader's last and the new one's first.
// The longest time without an acknowledgement while the leader stayed is what
// the disk and the machine add. ENTREPOT_FAILOVERS is how often.
func TestPlannedMove(t *testing.T) {
	site, admin := trio(t)
	w := write(t, site)
	defer w.end()
	var moving, staying []time.Duration
	for range setting(t, "ENTREPOT_FAILOVERS", 2) {
		begin := time.Now()
		n := site.Leader(admin, loaded, 0)
		if err := act(n, "drain"); err != nil {
			t.Fatal(err)
		}
		moved, stayed := w.moved(begin)
		moving, staying = append(moving, moved), append(staying, stayed)
		if err := act(n, "undrain"); err != nil {
			t.Fatal(err)
		}
		whole(t, n, time.Minute)
	}
	t.Logf("without an acknowledgement while the leader moves, %d times: %s", len(moving), figures(moving))
	t.Logf("without an acknowledgement while it stays, in the second before each: %s", figures(staying))
}

// TestStoppedLeader ends the leader of a partition under load by SIGTERM and
// starts it again, again and again, as a rolling restart does, and measures as
// TestPlannedMove does: of a client that is new each time, and of one that is not.
// The latter may have a connection with the next leader from before that was
// stopped itself: franz-go finds it closed when it writes, and waits before it
// connects again. ENTREPOT_FAILOVERS is how often.
func TestStoppedLeader(t *testing.T) {
	site, admin := trio(t)
	old := write(t, site)
	defer old.end()
	var moving, again []time.Duration
	for range setting(t, "ENTREPOT_FAILOVERS", 2) {
		w := write(t, site)
		begin := time.Now()
		n := site.Leader(admin, loaded, 0)
		n.Terminate()
		moved, _ := w.moved(begin)
		moving = append(moving, moved)
		moved, _ = old.moved(begin)
		again = append(again, moved)
		w.end()
		n.Start()
		whole(t, n, time.Minute)
	}
	t.Logf("without an acknowledgement while the leader is stopped, %d times: %s", len(moving), figures(moving))
	t.Logf("of a client that has seen the others stop: %s", figures(again))
}

// act asks a node to do something with itself.
func act(n *hubtest.Node, action string) error {
	return n.Ask(http.MethodPost, "/v1/site/nodes/"+n.ID+"/"+action, nil)
}
