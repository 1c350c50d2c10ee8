package hubtest

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readEach hands fn a topic from its start to the end it has now, each
// partition in order, with the markers of transactions.
func readEach(t testing.TB, within time.Duration, brokers, topic string, fn func(*kgo.Record), opts ...kgo.Opt) {
	t.Helper()
	readEnds(t, within, topic, client(t, append(opts, kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic), kgo.KeepControlRecords())...),
		func(int32) bool { return true }, fn)
}

// readAll reads a partition from its start to the end it has now, without
// markers.
func readAll(t testing.TB, brokers, topic string, partition int32) (all []*kgo.Record) {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(brokers), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	readEnds(t, time.Minute, topic, cl, func(p int32) bool { return p == partition }, func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			all = append(all, r)
		}
	})
	return all
}

func readEnds(t testing.TB, within time.Duration, topic string, cl *kgo.Client, want func(partition int32) bool, fn func(*kgo.Record)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	maps.DeleteFunc(ends[topic], func(p int32, _ kadm.ListedOffset) bool { return !want(p) })
	if err == nil {
		err = ReadTo(ctx, cl, ends, fn)
	}
	if err != nil {
		t.Fatalf("read %s: %v", topic, err)
	}
}
