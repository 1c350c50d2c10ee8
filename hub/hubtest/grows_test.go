package hubtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestSiteGrows: a site of one node gets two more. Its own topics come to three
// replicas by themselves, a topic of its users when they say so; then the node
// that had everything is killed, and nothing is missing.
func TestSiteGrows(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "grow", 1)
	adm := s.begin(t, 3, 1)
	group := client(t, kgo.SeedBrokers(s.Brokers()...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"))
	w := writeTo(t, s, "t", 2)
	w.until(t, 200)
	if got := group.PollFetches(t.Context()); got.Err() != nil {
		t.Fatal(got.Err())
	}
	if err := group.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Add().Start()
	s.Add().Start()
	first := s.Nodes[0]
	if out := run(t, Build(t), "node", "rebalance", "--dry-run", "--admin", "http://"+first.Admin); out == "" {
		t.Error("a plan that says nothing")
	}
	run(t, Build(t), "topic", "replicas", "t", "3", "--admin", "http://"+first.Admin)
	Until(t, 3*time.Minute, "three replicas of everything", func() error {
		if err := threeReplicas(t.Context(), adm, "t", "__consumer_offsets"); err != nil {
			return err
		}
		return s.whole()
	})
	acked := w.stop(t)
	first.Kill()
	others := s.without(first)
	allThere(t, others, acked)
	rest := kadm.NewClient(client(t, kgo.SeedBrokers(others...)))
	Until(t, time.Minute, "the group's offsets are there", func() error {
		offsets, err := rest.FetchOffsets(t.Context(), "g")
		if err == nil && len(offsets.Offsets()) == 0 {
			err = fmt.Errorf("the group has no offsets")
		}
		return err
	})
}

// threeReplicas says which partition of a topic has another number.
func threeReplicas(ctx context.Context, adm *kadm.Client, topics ...string) error {
	m, err := adm.Metadata(ctx, topics...)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		if len(m.Topics[topic].Partitions) == 0 {
			return fmt.Errorf("%s has no partitions: %v", topic, m.Topics[topic].Err)
		}
		for _, p := range m.Topics[topic].Partitions {
			if len(p.Replicas) != 3 || len(p.ISR) != 3 {
				return fmt.Errorf("%s-%d is on %v, in sync are %v", topic, p.Partition, p.Replicas, p.ISR)
			}
		}
	}
	return nil
}
