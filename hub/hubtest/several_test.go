package hubtest

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestThreeNodes is a site of three processes from its beginning: they find
// each other, a topic with three replicas is written and read through any of
// them, the leader of a partition is killed under load, and nothing that was
// acknowledged is lost; the killed node comes back and catches up.
func TestThreeNodes(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "trio", 3)
	adm := s.begin(t, 3, 3)
	for _, n := range s.Nodes {
		Until(t, time.Minute, n.ID+" knows the site", func() error { return knows(t, n, "t", 3) })
	}
	kcat := Tool(t, "kcat")
	for i, n := range s.Nodes {
		send(t, kcat, n.Kafka, fmt.Sprintf("kcat-%d\n", i))
	}

	w := writeTo(t, s, "t", 3)
	w.until(t, 300)
	leader := s.Leader(adm, "t", 0)
	begin := time.Now()
	leader.Kill()
	after := w.count()
	w.until(t, after+2000)
	took := time.Since(begin).Round(time.Millisecond)
	acked := w.stop(t)
	t.Logf("2000 more records after %s, the longest time without one was %s", took, w.gap().Round(time.Millisecond))

	allThere(t, s.without(leader), acked)
	t.Logf("back after %s", leader.Start().Round(time.Millisecond))
	for _, n := range s.Nodes {
		Until(t, time.Minute, n.ID+" knows the site", func() error { return knows(t, n, "t", 3) })
		out := run(t, kcat, "-C", "-q", "-e", "-b", n.Kafka, "-t", "t", "-o", "beginning", "-X", "topic.metadata.refresh.interval.ms=1000")
		for i := range s.Nodes {
			if !strings.Contains(out, fmt.Sprintf("kcat-%d\n", i)) {
				t.Errorf("what kcat wrote through node %d is not read through %s", i+1, n.ID)
			}
		}
	}
	// The one that came back has what was written meanwhile: without the
	// others' leaders it serves all of it.
	for _, n := range s.Nodes {
		if n != leader {
			allThere(t, s.Brokers(), acked)
			n.Kill()
			w := writeTo(t, s, "t", 3)
			w.until(t, 100)
			allThere(t, s.Brokers(), append(acked, w.stop(t)...))
			break
		}
	}
}

// begin starts all nodes of a site and makes the topic t.
func (s *Site) begin(t *testing.T, partitions int32, replicas int16) *kadm.Client {
	t.Helper()
	Build(t) // not part of the time
	begin := time.Now()
	s.Start()
	t.Logf("%d nodes serve after %s", len(s.Nodes), time.Since(begin).Round(time.Millisecond))
	adm := kadm.NewClient(client(t, kgo.SeedBrokers(s.Brokers()...)))
	if _, err := adm.CreateTopic(t.Context(), partitions, replicas, nil, "t"); err != nil {
		t.Fatal(err)
	}
	return adm
}

// without are the addresses of all other nodes for clients.
func (s *Site) without(n *Node) []string {
	return slices.DeleteFunc(s.Brokers(), func(addr string) bool { return addr == n.Kafka })
}

// knows asks one node whether it knows three brokers and the leader of each of
// a topic's partitions.
func knows(t *testing.T, n *Node, topic string, brokers int) error {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := kadm.NewClient(cl).Metadata(ctx, topic)
	if err != nil {
		return err
	}
	if len(m.Brokers) != brokers {
		return fmt.Errorf("%d brokers: %+v", len(m.Brokers), m.Brokers)
	}
	for _, p := range m.Topics[topic].Partitions.Sorted() {
		if p.Err != nil || p.Leader < 1 || len(p.Replicas) != 3 {
			return fmt.Errorf("partition %d: %+v", p.Partition, p)
		}
	}
	if m.Topics[topic].Err != nil || len(m.Topics[topic].Partitions) == 0 {
		return fmt.Errorf("topic: %+v", m.Topics[topic])
	}
	return nil
}

func send(t *testing.T, kcat, broker, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), kcat, "-P", "-b", broker, "-t", "t", "-X", "acks=all")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kcat: %v\n%s", err, out)
	}
}

// trickle writes records to all partitions of a topic, each with a value of its
// own, until it is stopped.
type trickle struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	n      atomic.Int64
	mu     struct {
		sync.Mutex
		acked []string
		last  time.Time
		gap   time.Duration // the longest time without an acknowledgement
	}
}

// gap is the longest time in which nothing was acknowledged.
func (w *trickle) gap() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.gap
}

func writeTo(t *testing.T, s *Site, topic string, partitions int) *trickle {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(s.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(time.Minute), kgo.MetadataMinAge(50*time.Millisecond))
	ctx, cancel := context.WithCancel(context.Background())
	w := &trickle{cancel: cancel}
	t.Cleanup(cancel)
	id := fmt.Sprintf("%d", time.Now().UnixNano())
	for p := range 4 * partitions {
		w.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				value := fmt.Sprintf("%s-%d-%d", id, p, i)
				if err := cl.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
					continue
				}
				w.n.Add(1)
				w.mu.Lock()
				w.mu.acked = append(w.mu.acked, value)
				if now := time.Now(); w.mu.last.IsZero() {
					w.mu.last = now
				} else {
					w.mu.gap, w.mu.last = max(w.mu.gap, now.Sub(w.mu.last)), now
				}
				w.mu.Unlock()
			}
		})
	}
	return w
}

func (w *trickle) count() int { return int(w.n.Load()) }

func (w *trickle) until(t *testing.T, n int) {
	t.Helper()
	Until(t, 2*time.Minute, fmt.Sprintf("%d records are acknowledged", n), func() error {
		if got := w.count(); got < n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

func (w *trickle) stop(t *testing.T) []string {
	t.Helper()
	w.cancel()
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.acked
}

// allThere reads a topic from its beginning until every acknowledged value is there.
func allThere(t *testing.T, brokers []string, acked []string) {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	missing := map[string]bool{}
	for _, v := range acked {
		missing[v] = true
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(missing) > 0 {
		fetches := cl.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) { delete(missing, string(r.Value)) })
		if ctx.Err() != nil {
			t.Fatalf("%d of %d acknowledged records are not there", len(missing), len(acked))
		}
	}
}

// TestWipedNode: a node that comes back with nothing becomes a full replica
// again, of the catalog too, while the site is written to; one that joins late
// takes over what another one has, which leaves.
func TestWipedNode(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "wipe", 3)
	s.begin(t, 3, 3)
	w := writeTo(t, s, "t", 3)
	w.until(t, 1000)
	lostAll := s.Nodes[1]
	lostAll.Kill()
	lostAll.Wipe()
	w.until(t, w.count()+1000)
	t.Logf("back after %s", lostAll.Start().Round(time.Millisecond))
	Until(t, 2*time.Minute, "the wiped node has everything", func() error { return s.whole() })
	w.until(t, w.count()+500)
	acked := w.stop(t)
	allThere(t, s.Brokers(), acked)
	// It counts: with another node gone there is a majority with it alone.
	s.Nodes[0].Kill()
	w = writeTo(t, s, "t", 3)
	w.until(t, 100)
	acked = append(acked, w.stop(t)...)
	allThere(t, s.Brokers(), acked)
	s.Nodes[0].Start()

	late := s.Add()
	late.Start()
	Until(t, time.Minute, "the late node knows the site", func() error { return knows(t, late, "t", 4) })
	late.admin(t, "POST", "/v1/site/nodes/"+s.Nodes[2].ID+"/decommission")
	Until(t, 2*time.Minute, "nothing is left on the node that leaves", func() error {
		return s.whole(func(n siteNode) error {
			if n.Name == s.Nodes[2].ID && n.Replicas > 0 {
				return fmt.Errorf("%s has %d replicas", n.Name, n.Replicas)
			}
			return nil
		})
	})
	s.Nodes[2].Kill()
	late.admin(t, "POST", "/v1/site/nodes/"+s.Nodes[2].ID+"/remove")
	allThere(t, []string{late.Kafka}, acked)
}
