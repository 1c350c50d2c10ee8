package hubtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Over a site of three processes records go through transactions from one topic
// to another, while one node after the other is killed: leaders of partitions,
// the coordinator of the transactions, that of the group. Each record is in each
// topic once: the idempotent producer of the first sends again what a leader has
// not answered, and the one that follows knows it.
func TestTransactionsOverThreeNodes(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "trio", 3)
	Build(t)
	s.Start()
	adm := kadm.NewClient(client(t, kgo.SeedBrokers(s.Brokers()...)))
	for _, topic := range []string{"in", "out"} {
		resp, err := adm.CreateTopic(t.Context(), partitionsMoved, -1, nil, topic)
		if err != nil || resp.ReplicationFactor != 3 {
			t.Fatalf("%s: %d replicas: %v", topic, resp.ReplicationFactor, err)
		}
	}
	const records = 1500
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var moved atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { fillOnce(ctx, t, s, "in", records) })
	wg.Go(func() { moveOnce(ctx, t, s, records, &moved) })
	for i, n := range s.Nodes {
		Until(t, 2*time.Minute, fmt.Sprintf("records are moved before %s is killed", n.ID), func() error {
			if got := moved.Load(); got < int64(i+1)*records/5 {
				return fmt.Errorf("%d are", got)
			}
			return nil
		})
		n.Kill()
		t.Logf("%s is back after %s", n.ID, n.Start().Round(time.Millisecond))
	}
	wg.Wait()
	for _, topic := range []string{"in", "out"} {
		once(ctx, t, s, topic, records)
	}
}

// partitionsMoved is how many partitions each of the topics has.
const partitionsMoved = 6

// fillOnce writes numbered records with an idempotent producer.
func fillOnce(ctx context.Context, t *testing.T, s *Site, topic string, records int) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(20))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	for i := range records {
		cl.Produce(ctx, kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Error(err)
	}
}

// moveOnce copies records from in to out in transactions until it has committed
// as many.
func moveOnce(ctx context.Context, t *testing.T, s *Site, records int64, moved *atomic.Int64) {
	x, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(s.Brokers()...), kgo.TransactionalID("mover"), kgo.ConsumerGroup("movers"), kgo.ConsumeTopics("in"), kgo.DefaultProduceTopic("out"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.SessionTimeout(20*time.Second), kgo.TransactionTimeout(30*time.Second), kgo.FetchMaxBytes(512),
	)
	if err != nil {
		t.Error(err)
		return
	}
	defer x.Close()
	for moved.Load() < records && ctx.Err() == nil {
		fs := x.PollRecords(ctx, 20)
		if err := x.Begin(); err != nil {
			t.Error(err)
			return
		}
		fs.EachRecord(func(r *kgo.Record) { x.Produce(ctx, &kgo.Record{Value: r.Value}, nil) })
		ok, err := x.End(ctx, kgo.TryCommit)
		switch {
		case ok:
			moved.Add(int64(fs.NumRecords()))
		case err != nil && !kerr.IsRetriable(err) && !errors.Is(err, kerr.OperationNotAttempted) && !errors.Is(err, kerr.TransactionAbortable):
			t.Logf("the transaction ends with: %v", err)
		}
	}
}

// once reads a topic to its end, which it marks, and finds each number once.
func once(ctx context.Context, t *testing.T, s *Site, topic string, records int) {
	t.Helper()
	const end = "end"
	marker := client(t, kgo.SeedBrokers(s.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for p := range int32(partitionsMoved) {
		if err := marker.ProduceSync(ctx, &kgo.Record{Partition: p, Value: []byte(end)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cl := client(t, kgo.SeedBrokers(s.Brokers()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer cl.Close()
	seen := map[string]int{}
	for seen[end] < partitionsMoved {
		fs := cl.PollFetches(ctx)
		fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
		if ctx.Err() != nil {
			t.Fatalf("%s: %d of %d records were read", topic, len(seen), records)
		}
	}
	delete(seen, end)
	if len(seen) != records {
		t.Errorf("%s: %d of %d records are there", topic, len(seen), records)
	}
	for v, n := range seen {
		if n != 1 {
			t.Errorf("%s: %s is there %d times", topic, v, n)
		}
	}
}
