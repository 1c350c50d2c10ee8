package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// lookAgain is how often a topic that does not exist is looked for: it may
	// be mirrored in at any time.
	lookAgain = 2 * time.Second
	// quiet is how long a topic gives nothing until it counts as read to its
	// end, though its last offsets have no records (compaction took them).
	quiet = 3 * time.Second
)

// Run reads the topic until ctx ends: from its start, and then whatever comes.
// While there is no topic, there is no schema.
func (r *Registry) Run(ctx context.Context) error {
	defer r.end()
	for {
		r.forget()
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.logger.Warn("read the schemas again from the start", "topic", Topic, "error", err)
		if err := r.pause(ctx, lookAgain); err != nil {
			return err
		}
	}
}

// pause waits, but no longer than until the topic is made.
func (r *Registry) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.made:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// follow reads the topic until something is wrong with it.
func (r *Registry) follow(ctx context.Context) error {
	end, err := r.find(ctx)
	if err != nil {
		return err
	}
	if end > 0 {
		r.forget() // it was known to be empty until now
	}
	cl, err := r.client(kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{Topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		within, cancel := ctx, context.CancelFunc(func() {})
		if r.offset() >= end {
			r.setCaughtUp()
		} else {
			within, cancel = context.WithTimeout(ctx, quiet)
		}
		fetches := cl.PollFetches(within)
		silent := within.Err() != nil
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		if silent {
			if _, err := committedEnd(ctx, kadm.NewClient(cl)); err == nil {
				end = 0 // whoever leads the topic answers, and has nothing more
			}
			continue
		}
		for _, e := range fetches.Errors() {
			if !kerr.IsRetriable(e.Err) || errors.Is(e.Err, kerr.UnknownTopicOrPartition) || errors.Is(e.Err, kerr.UnknownTopicID) {
				return fmt.Errorf("fetch: %w", e.Err)
			}
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Attrs.IsControl() {
				r.update(func() { r.mu.next = rec.Offset + 1 })
				return
			}
			r.take(rec.Offset, rec.Key, rec.Value)
		})
	}
}

// find waits for the topic and returns its end. Until it is there the state is
// known: empty.
func (r *Registry) find(ctx context.Context) (end int64, err error) {
	cl, err := r.client()
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for {
		topics, err := adm.ListTopics(ctx, Topic)
		if err == nil {
			t := topics[Topic]
			if errors.Is(t.Err, kerr.UnknownTopicOrPartition) || t.Err == nil && len(t.Partitions) == 0 {
				r.setCaughtUp()
			} else if end, err := committedEnd(ctx, adm); t.Err == nil && err == nil {
				return end, nil
			}
		}
		if err := r.pause(ctx, lookAgain); err != nil {
			return 0, err
		}
	}
}

// committedEnd asks the leader where the topic ends.
func committedEnd(ctx context.Context, adm *kadm.Client) (int64, error) {
	ends, err := adm.ListCommittedOffsets(ctx, Topic)
	if err != nil {
		return 0, err
	}
	o, ok := ends.Lookup(Topic, 0)
	if !ok {
		return 0, kerr.UnknownTopicOrPartition
	}
	return o.Offset, o.Err
}

func (r *Registry) makeTopic(ctx context.Context, cl *kgo.Client) error {
	compact := "compact"
	adm := kadm.NewClient(cl)
	switch _, err := adm.CreateTopic(ctx, 1, -1, map[string]*string{"cleanup.policy": &compact}, Topic); {
	case errors.Is(err, kerr.TopicAlreadyExists):
		return nil
	case err != nil:
		return fmt.Errorf("create the topic: %w", err)
	}
	select {
	case r.made <- struct{}{}:
	default:
	}
	return nil
}

// client is an ordinary client of the hub.
func (r *Registry) client(opts ...kgo.Opt) (*kgo.Client, error) {
	base := []kgo.Opt{
		kgo.SeedBrokers(r.cfg.Seeds...), kgo.ClientID("schema-registry"), kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.RetryTimeout(10 * time.Second),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(50*time.Millisecond<<min(tries, 6), 2*time.Second) }),
	}
	if r.cfg.Dial != nil {
		base = append(base, kgo.Dialer(r.cfg.Dial))
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("Kafka client: %w", err)
	}
	return cl, nil
}
