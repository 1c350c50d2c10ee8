package chaos

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest/history"
)

// changeTopics creates, changes and deletes a few topics, each operation once:
// a client that asks again by itself would hide what became of the first try.
// Names are used for a while only, so that there are never many operations
// with unknown ends on one of them.
func (r *run) changeTopics(i int) {
	rng := r.random(fmt.Sprint("topics", i))
	admin := kadm.NewClient(r.client(kgo.RequestRetries(0)))
	for r.feed.Err() == nil {
		age := r.rec.Now() / (15 * time.Second)
		c := history.Change{Client: i, Topic: fmt.Sprintf("changing-%d-%d", age, rng.IntN(2)), Value: strconv.Itoa(3600_000 + rng.IntN(1_000_000))}
		c.Verb = []history.Verb{history.Create, history.Delete, history.Set}[rng.IntN(3)]
		r.change(admin, c)
		r.pause(time.Duration(100+rng.IntN(400)) * time.Millisecond)
	}
}

func (r *run) change(admin *kadm.Client, c history.Change) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c.Begin = r.rec.Now()
	err := applyChange(ctx, admin, &c, int16(min(3, len(r.nodes))))
	c.End = r.rec.Now()
	switch c.Outcome = history.OK; {
	case err == nil:
		c.Found = c.Verb != history.Create
	case errors.Is(err, kerr.TopicAlreadyExists):
		c.Found = true
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		c.Found = false
	case errors.Is(err, kerr.NotController):
		c.Outcome = history.Failed
	default:
		c.Outcome = history.Unknown
	}
	r.rec.Add(func(h *history.History) { h.Changes = append(h.Changes, c) })
}

func applyChange(ctx context.Context, admin *kadm.Client, c *history.Change, replicas int16) error {
	switch c.Verb {
	case history.Create:
		_, err := admin.CreateTopic(ctx, 1, replicas, map[string]*string{"retention.ms": &c.Value}, c.Topic)
		return err
	case history.Delete:
		got, err := admin.DeleteTopic(ctx, c.Topic)
		return errors.Join(err, got.Err)
	}
	got, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &c.Value}}, c.Topic)
	if err == nil {
		_, err = got.On(c.Topic, func(one *kadm.AlterConfigsResponse) error { return one.Err })
	}
	return err
}

// readTopics asks each node for each topic that was changed, in the end, when
// all of them have to know.
func (r *run) readTopics() {
	r.t.Helper()
	names := map[string]bool{}
	r.rec.Add(func(h *history.History) {
		for _, c := range h.Changes {
			names[c.Topic] = true
		}
	})
	for i, n := range r.nodes {
		admin := kadm.NewClient(r.client(kgo.SeedBrokers(n.Kafka)))
		for name := range names {
			c := history.Change{Client: 100 + i, Topic: name, Verb: history.Get, Outcome: history.OK}
			c.Begin = r.rec.Now()
			got, err := admin.DescribeTopicConfigs(r.t.Context(), name)
			if err == nil {
				_, err = got.On(name, func(one *kadm.ResourceConfig) error {
					for _, config := range one.Configs {
						if config.Key == "retention.ms" && one.Err == nil {
							c.Found, c.Value = true, config.MaybeValue()
						}
					}
					return one.Err
				})
			}
			c.End = r.rec.Now()
			if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
				r.t.Errorf("topic %s at %s: %v", name, n.Kafka, err)
				continue
			}
			r.rec.Add(func(h *history.History) { h.Changes = append(h.Changes, c) })
		}
	}
}
