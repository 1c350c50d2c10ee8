package mirror

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// offer makes a reference broker say that all of its topics are to be mirrored
// everywhere; it does not know the setting.
func offer(c *kfake.Cluster) {
	c.ControlKey(32, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := kmsg.NewPtrDescribeConfigsResponse()
		resp.Version = kreq.GetVersion()
		for _, r := range kreq.(*kmsg.DescribeConfigsRequest).Resources {
			out := kmsg.NewDescribeConfigsResponseResource()
			out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
			to := kmsg.NewDescribeConfigsResponseResourceConfig()
			to.Name, to.Value, to.Source = settingTo, kmsg.StringPtr("*"), kmsg.ConfigSourceDynamicTopicConfig
			out.Configs = append(out.Configs, to)
			resp.Resources = append(resp.Resources, out)
		}
		return resp, nil, true
	})
}

// kept is a record as a client sees it.
type kept struct {
	offset     int64
	epoch      int32
	time       int64
	key, value string
}

// consume reads a whole topic of the reference broker with an ordinary client.
func consume(t *testing.T, addrs []string, topic string, want int) map[int32][]kept {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all := map[int32][]kept{}
	for n := 0; n < want; {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("consumed %d of %d", n, want)
		}
		fs.EachRecord(func(r *kgo.Record) {
			all[r.Partition] = append(all[r.Partition], kept{r.Offset, r.LeaderEpoch, r.Timestamp.UnixMilli(), string(r.Key), string(r.Value)})
			n++
		})
	}
	return all
}

// decode reads the mirror's batches.
func decode(t *testing.T, l *memLog) (all []kept) {
	t.Helper()
	for _, b := range l.batches {
		for r, err := range b.All(64 << 20) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, kept{r.Offset, b.LeaderEpoch(), r.Timestamp, string(r.Key), string(r.Value)})
		}
	}
	return all
}

// A reference broker, with clients of every codec and a transaction, against
// real sockets; leaders move meanwhile.
func TestAgainstReferenceBroker(t *testing.T) {
	const partitions = 3
	c, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(partitions, "clicks"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	offer(c)
	dst := newMemSite()
	m, err := New(Config{Site: "west", Poll: 100 * time.Millisecond, Wait: 100 * time.Millisecond}, dst)
	if err != nil {
		t.Fatal(err)
	}
	m.SetSources([]Source{{Site: "east", Brokers: c.ListenAddrs()}})
	ctx, cancel := context.WithCancel(context.Background())
	var ran sync.WaitGroup
	ran.Go(func() { _ = m.Run(ctx) })
	defer ran.Wait()
	defer cancel()

	total := 0
	for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		total += produce(t, c.ListenAddrs(), codec, 1000)
		if err := c.MoveTopicPartition("clicks", int32(i)%partitions, int32(i)%3); err != nil {
			t.Fatal(err)
		}
	}
	total += transact(t, c.ListenAddrs(), 100)

	want := consume(t, c.ListenAddrs(), "clicks", total)
	ends := func() (n int) {
		dst.mu.Lock()
		defer dst.mu.Unlock()
		if dst.topics["clicks"] == nil {
			return 0
		}
		for _, l := range dst.topics["clicks"].logs {
			n += int(l.next)
		}
		return n
	}
	until(t, "all is mirrored", func() bool { return ends() >= total })
	for p := range int32(partitions) {
		got := decode(t, dst.topics["clicks"].logs[p])
		if fmt.Sprint(got) != fmt.Sprint(want[p]) {
			t.Errorf("partition %d: %d records here, %d there, or other ones", p, len(got), len(want[p]))
		}
		if len(want[p]) == 0 {
			t.Errorf("partition %d is empty: nothing is shown", p)
		}
	}
	until(t, "the link is level", func() bool {
		s := m.Status()[0]
		return s.State == StateStreaming && s.Lag == lagKnown && *s.LagRecords == 0
	})
}

func produce(t *testing.T, addrs []string, codec kgo.CompressionCodec, n int) int {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.DefaultProduceTopic("clicks"), kgo.ProducerBatchCompression(codec))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range n {
		r := kgo.KeySliceRecord(fmt.Appendf(nil, "k%d", i%50), fmt.Appendf(nil, "value %d of many that compress well", i))
		cl.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	return n
}

// transact writes a committed transaction to one partition and an aborted one
// to another; the two markers are records of their own.
func transact(t *testing.T, addrs []string, n int) int {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.DefaultProduceTopic("clicks"),
		kgo.TransactionalID("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := context.Background()
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range n {
			r := kgo.StringRecord("in a transaction")
			r.Partition = int32(i)
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	return 2*n + 2
}

// until waits for a condition in real time.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
