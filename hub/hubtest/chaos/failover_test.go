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
// acknowledged.
type writer struct {
	t       *testing.T
	cl      *kgo.Client
	stop    context.CancelFunc
	sending sync.WaitGroup
	mu      struct {
		sync.Mutex
		acked []ack
	}
}

// ack is one acknowledged record.
type ack struct{ sent, at time.Time }

// loaded is the topic that is under load.
const loaded = "load"

// write sends a record of 1 KiB every millisecond until it is ended.
func write(t *testing.T, site *hubtest.Site) *writer {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &writer{t: t, stop: stop}
	var err error
	w.cl, err = kgo.NewClient(kgo.SeedBrokers(site.Brokers()...), kgo.DefaultProduceTopic(loaded), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.MetadataMinAge(20*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	w.sending.Go(func() {
		tick := time.NewTicker(time.Millisecond)
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
	return w
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

// longest is the longest time without an acknowledgement since begin.
func (w *writer) longest(begin time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest, last := time.Duration(0), begin
	for _, one := range w.mu.acked {
		if one.at.Before(begin) {
			continue
		}
		longest, last = max(longest, one.at.Sub(last)), one.at
	}
	return longest
}

// trio is a site of three nodes, all of which have the one partition that will be
// under load.
func trio(t *testing.T) (*hubtest.Site, *kadm.Client) {
	t.Helper()
	site := hubtest.NewSite(t, "trio", 3)
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
	return site, admin
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
	w := write(t, site)
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
// again and again, and measures the longest time without an acknowledgement.
// ENTREPOT_FAILOVERS is how often.
func TestPlannedMove(t *testing.T) {
	site, admin := trio(t)
	w := write(t, site)
	defer w.end()
	var times []time.Duration
	for range setting(t, "ENTREPOT_FAILOVERS", 2) {
		begin := time.Now()
		n := site.Leader(admin, loaded, 0)
		if err := act(n, "drain"); err != nil {
			t.Fatal(err)
		}
		hubtest.Until(t, time.Minute, "another node leads", func() error {
			if site.Leader(admin, loaded, 0) == n {
				return fmt.Errorf("%s leads still", n.ID)
			}
			return nil
		})
		end := time.Now()
		hubtest.Until(t, time.Minute, "the partition takes writes", func() error {
			if _, ok := w.after(end); !ok {
				return fmt.Errorf("none yet")
			}
			return nil
		})
		times = append(times, w.longest(begin))
		if err := act(n, "undrain"); err != nil {
			t.Fatal(err)
		}
		whole(t, n, time.Minute)
	}
	t.Logf("without an acknowledgement while the leader moves, %d times: %s", len(times), figures(times))
}

// act asks a node to do something with itself.
func act(n *hubtest.Node, action string) error {
	return n.Ask(http.MethodPost, "/v1/site/nodes/"+n.ID+"/"+action, nil)
}
