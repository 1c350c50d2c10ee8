package hubtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestKilledNodeCopiesExactlyOnce kills the node again and again while clients
// copy a topic in transactions, with the offsets of what they have read: a
// read_committed consumer finds each record exactly once, whatever was decided
// and not carried out when the node died. Half of the clients are older than
// KIP-890.
func TestKilledNodeCopiesExactlyOnce(t *testing.T) {
	n := NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	n.Start()
	const partitions, copiers = 4, 4
	createTopic(t, n.Kafka, "in", partitions)
	createTopic(t, n.Kafka, "out", partitions)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	var sent, copied atomic.Int64
	var work sync.WaitGroup
	feed, stopFeed := context.WithCancel(ctx)
	defer stopFeed()
	work.Go(func() { feedTopic(feed, t, n.Kafka, partitions, &sent) })
	var copying sync.WaitGroup
	for i := range copiers {
		copying.Go(func() {
			for ctx.Err() == nil {
				copyRecords(ctx, t, n.Kafka, i, &copied)
			}
		})
	}
	for range kills(t, 3) {
		before := copied.Load()
		Until(t, time.Minute, "the copy goes on", func() error {
			if now := copied.Load(); now < before+500 {
				return fmt.Errorf("%d records copied since the start", now-before)
			}
			return nil
		})
		pause(ctx, 0, 300*time.Millisecond)
		n.Kill()
		n.Start()
	}
	stopFeed()
	work.Wait()
	total := int(sent.Load())
	got := readCommitted(t, n.Kafka, "out", total)
	stop()
	copying.Wait()
	slices.Sort(got)
	for i, v := range got {
		if want := fmt.Sprintf("%08d", i); v != want {
			t.Fatalf("record %d of %d is %s, want %s: lost or copied twice", i, len(got), v, want)
		}
	}
	if len(got) != total {
		t.Errorf("%d records in the copy, %d were sent", len(got), total)
	}
	t.Logf("%d records, each copied exactly once", total)
}

// feedTopic sends numbered records, each acknowledged, until ctx ends.
func feedTopic(ctx context.Context, t *testing.T, brokers string, partitions int, sent *atomic.Int64) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.DefaultProduceTopic("in"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	for ctx.Err() == nil {
		var rs []*kgo.Record
		for range 50 {
			i := int(sent.Load()) + len(rs)
			rs = append(rs, &kgo.Record{Partition: int32(i % partitions), Value: fmt.Appendf(nil, "%08d", i)})
		}
		if err := cl.ProduceSync(context.WithoutCancel(ctx), rs...).FirstErr(); err != nil {
			t.Errorf("feed: %v", err)
			return
		}
		sent.Add(int64(len(rs)))
		pause(ctx, 10*time.Millisecond, 30*time.Millisecond)
	}
}

// copyRecords copies in transactions until ctx ends or one comes to a bad end:
// then the process would start anew.
func copyRecords(ctx context.Context, t *testing.T, brokers string, i int, copied *atomic.Int64) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(brokers), kgo.TransactionalID(fmt.Sprint("copier-", i)), kgo.TransactionTimeout(10 * time.Second),
		kgo.ConsumerGroup("copiers"), kgo.ConsumeTopics("in"), kgo.RequireStableFetchOffsets(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DefaultProduceTopic("out"), kgo.SessionTimeout(6 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}
	if i%2 == 1 {
		opts = append(opts, kgo.MaxVersions(kversion.V3_6_0()))
	}
	sess, err := kgo.NewGroupTransactSession(opts...)
	if err != nil {
		t.Error(err)
		return
	}
	defer sess.Close()
	for ctx.Err() == nil {
		fs := sess.PollRecords(ctx, 100)
		if fs.Empty() || ctx.Err() != nil {
			continue
		}
		if err := sess.Begin(); err != nil {
			return
		}
		fs.EachRecord(func(r *kgo.Record) { sess.Produce(ctx, &kgo.Record{Value: r.Value}, nil) })
		done, err := sess.End(ctx, kgo.TryCommit)
		if err != nil {
			return
		}
		if done {
			copied.Add(int64(fs.NumRecords()))
		}
	}
}

// readCommitted reads what is committed until there are n records and then
// nothing more for a while.
func readCommitted(t *testing.T, brokers, topic string, n int) (values []string) {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for len(values) < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records are committed", len(values), n)
		}
		fs.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	more, cancelMore := context.WithTimeout(t.Context(), time.Second)
	defer cancelMore()
	cl.PollFetches(more).EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	return values
}
