package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	t  *testing.T
	cl *kgo.Client
	mu struct {
		sync.Mutex
		acked []ack
	}
}

// ack is one acknowledged record.
type ack struct{ sent, at time.Time }

// write sends a record of 1 KiB every millisecond until ctx ends.
func write(ctx context.Context, t *testing.T, brokers []string, topic string) (w *writer, wait func()) {
	t.Helper()
	w = &writer{t: t}
	var err error
	w.cl, err = kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.MetadataMinAge(20*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	sending.Go(func() {
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
	return w, func() {
		sending.Wait()
		if err := w.cl.Flush(context.Background()); err != nil {
			t.Error(err)
		}
		w.cl.Close()
	}
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

// trio is a site of three nodes with a topic of one partition on all of them.
func trio(t *testing.T, topic string, partitions int32) (*hubtest.Site, *kadm.Client) {
	t.Helper()
	site := hubtest.NewSite(t, "trio", 3)
	site.Start()
	cl, err := kgo.NewClient(kgo.SeedBrokers(site.Brokers()...), kgo.MetadataMinAge(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(t.Context(), partitions, 3, nil, topic); err != nil {
		t.Fatal(err)
	}
	return site, admin
}

// leader is the node that leads a partition.
func leader(t *testing.T, site *hubtest.Site, admin *kadm.Client, topic string, partition int32) (found *hubtest.Node, id int32) {
	t.Helper()
	hubtest.Until(t, time.Minute, topic+" has a leader", func() error {
		m, err := admin.Metadata(t.Context(), topic)
		if err != nil {
			return err
		}
		p := m.Topics[topic].Partitions[partition]
		for _, b := range m.Brokers {
			for _, n := range site.Nodes {
				if b.NodeID == p.Leader && n.Kafka == fmt.Sprintf("%s:%d", b.Host, b.Port) {
					found, id = n, p.Leader
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", p)
	})
	return found, id
}

// whole waits until every node is up and has all that it shall have.
func whole(t *testing.T, n *hubtest.Node, limit time.Duration) {
	t.Helper()
	hubtest.Until(t, limit, "every node has everything", func() error { return wholeNow(n) })
}

func wholeNow(n *hubtest.Node) error {
	client := http.Client{Timeout: 5 * time.Second}
	for _, path := range []string{"nodes", "moves"} {
		resp, err := client.Get("http://" + n.Admin + "/v1/site/" + path)
		if err != nil {
			return err
		}
		var all []struct {
			Node      string   `json:"node"`
			State     string   `json:"state"`
			Behind    *float64 `json:"behind_bytes"`
			Topic     string   `json:"topic"`
			Partition int32    `json:"partition"`
		}
		err = json.NewDecoder(resp.Body).Decode(&all)
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, one := range all {
			// Under load somebody is always a batch behind.
			if path == "moves" || one.State != "up" || one.Behind == nil || *one.Behind > 1<<20 {
				return fmt.Errorf("%s: %+v", path, one)
			}
		}
	}
	return nil
}

func figures(times []time.Duration) string {
	slices.Sort(times)
	at := func(q float64) time.Duration {
		return times[min(len(times)-1, int(q*float64(len(times))))].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %s, p95 %s, max %s", at(0.5), at(0.95), at(1))
}

// TestFailover kills the leader of a partition under load, again and again, and
// measures how long it took until a record that was sent after the kill was
// acknowledged. ENTREPOT_FAILOVERS is how often.
func TestFailover(t *testing.T) {
	site, admin := trio(t, "load", 1)
	ctx, stop := context.WithCancel(t.Context())
	w, wait := write(ctx, t, site.Brokers(), "load")
	defer wait()
	defer stop()
	var times []time.Duration
	for range setting(t, "ENTREPOT_FAILOVERS", 2) {
		n, _ := leader(t, site, admin, "load", 0)
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
	site, admin := trio(t, "load", 1)
	ctx, stop := context.WithCancel(t.Context())
	w, wait := write(ctx, t, site.Brokers(), "load")
	defer wait()
	defer stop()
	var times []time.Duration
	for range setting(t, "ENTREPOT_FAILOVERS", 2) {
		begin := time.Now()
		n, _ := leader(t, site, admin, "load", 0)
		if err := act(n, "drain"); err != nil {
			t.Fatal(err)
		}
		hubtest.Until(t, time.Minute, "another node leads", func() error {
			now, _ := leader(t, site, admin, "load", 0)
			if now == n {
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
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Post("http://"+n.Admin+"/v1/site/nodes/"+n.ID+"/"+action, "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", action, n.ID, resp.Status, text)
	}
	return nil
}
