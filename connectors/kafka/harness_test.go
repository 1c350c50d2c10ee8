package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

var topicsMade atomic.Int64

// newTopic makes a topic of its own name. settings are name=value.
func newTopic(t testing.TB, broker string, partitions int32, settings ...string) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", topicsMade.Add(1))
	createTopic(t, broker, name, partitions, settings...)
	return name
}

func createTopic(t testing.TB, broker, name string, partitions int32, settings ...string) {
	t.Helper()
	configs := map[string]*string{}
	for _, s := range settings {
		k, v, _ := strings.Cut(s, "=")
		configs[k] = &v
	}
	r, err := kadm.NewClient(client(t, broker)).CreateTopic(t.Context(), partitions, 1, configs, name)
	if err != nil {
		t.Fatal(err)
	}
	awaitTopic(t, broker, r, partitions)
}

// awaitTopic waits until the broker takes records for a topic that was made.
func awaitTopic(t testing.TB, broker string, made kadm.CreateTopicResponse, partitions int32) {
	t.Helper()
	l, err := linkOf(sourceConfig(t, broker, nil))
	if err != nil {
		t.Fatal(err)
	}
	c := l.cluster()
	defer c.close()
	until(t, "topic "+made.Topic+" is known", func() bool {
		topic, err := c.topic(t.Context(), made.Topic)
		ready := err == nil && topic.id == record.TopicID(made.ID) && len(topic.partitions) == int(partitions)
		for p := range partitions {
			ready = ready && topic.partitions[p].leader >= 0 && topic.partitions[p].code == 0
		}
		if !ready {
			c.forget(made.Topic)
		}
		return ready
	})
}

// until asks until ready is true, for half a minute at most.
func until(t testing.TB, what string, ready func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !ready(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not so after half a minute: %s", what)
		}
	}
}

// client is a client of another make that ends with the test.
func client(t testing.TB, broker string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(20 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// write sends values to a partition, each in a batch of its own.
func write(t testing.TB, cl *kgo.Client, topic string, partition int32, values ...string) {
	t.Helper()
	for _, v := range values {
		r := &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v), Key: []byte("k-" + v)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// transaction writes values in a transaction, and ends it.
func transaction(t testing.TB, cl *kgo.Client, topic string, partition int32, commit bool, values ...string) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	write(t, cl, topic, partition, values...)
	if err := cl.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)); err != nil {
		t.Fatal(err)
	}
}

// committed reads all committed records of a topic, in the order of each
// partition.
func committed(t testing.TB, broker, topic string) []*kgo.Record {
	t.Helper()
	cl := client(t, broker)
	adm := kadm.NewClient(cl)
	var ends kadm.ListedOffsets
	until(t, "no transaction is open in "+topic, func() bool { // a commit is answered before its markers are written
		var err error
		if ends, err = adm.ListCommittedOffsets(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		all, err := adm.ListEndOffsets(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		closed := all.Error() == nil && ends.Error() == nil && len(all[topic]) > 0 // else a partition would be left out
		all.Each(func(o kadm.ListedOffset) {
			stable, known := ends.Lookup(topic, o.Partition)
			closed = closed && known && stable.Offset == o.Offset
		})
		return closed
	})
	starts, err := adm.ListStartOffsets(t.Context(), topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	from := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if start, _ := starts.Lookup(topic, o.Partition); o.Offset > start.Offset {
			from[o.Partition] = kgo.NewOffset().At(start.Offset)
			left[o.Partition] = o.Offset
		}
	})
	if len(from) == 0 {
		return nil
	}
	reader := client(t, broker, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	defer reader.Close()
	var all []*kgo.Record
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s: not read to its end: %v are left", topic, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return all
}

func sourceConfig(t testing.TB, broker string, more map[string]any) connectors.Config {
	return config(t, Source{}.Spec(), broker, more)
}

func sinkConfig(t testing.TB, broker string, more map[string]any) connectors.Config {
	return config(t, Sink{}.Spec(), broker, more)
}

func config(t testing.TB, s connectors.Spec, broker string, more map[string]any) connectors.Config {
	t.Helper()
	values := map[string]any{"brokers": []string{broker}}
	for k, v := range more {
		values[k] = v
	}
	return conntest.Config(t, s, values)
}
