package hubtest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The topics that the hub keeps its own state in stop growing, and what they
// hold is what was written last, also after kill -9 and a start. Segments are
// made small for it; by default they have 16 MiB.
func TestInternalTopicsStopGrowing(t *testing.T) {
	n := NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	n.Start()
	ctx := context.Background()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	const partitions, commits = 100, 500
	createTopic(t, n.Kafka, "t", partitions)
	commit := func(offset int64) {
		t.Helper()
		var os kadm.Offsets
		for p := range int32(partitions) {
			os.AddOffset("t", p, offset, -1)
		}
		if err := admin.CommitAllOffsets(ctx, "g", os); err != nil {
			t.Fatal(err)
		}
	}
	commit(0)
	small, compact := "1048576", "compact"
	if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &compact, "segment.bytes": &small}, "__connect_checkpoints"); err != nil && !strings.Contains(err.Error(), "EXISTS") {
		t.Fatal(err)
	}
	for _, topic := range []string{"__consumer_offsets", "__connect_checkpoints"} {
		if _, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "segment.bytes", Value: &small}}, topic); err != nil {
			t.Fatal(err)
		}
	}
	size := func(topic string) int64 { return topicBytes(t, n.Kafka, topic) }
	most := map[string]int64{}
	value := strings.Repeat("x", 900)
	for i := 1; i <= commits; i++ {
		commit(int64(i))
		for split := range 12 {
			r := &kgo.Record{Topic: "__connect_checkpoints", Key: fmt.Appendf(nil, "split-%d", split), Value: fmt.Appendf(nil, "%d %s", i, value)}
			cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if i%50 == 0 {
			if err := cl.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			for _, topic := range []string{"__consumer_offsets", "__connect_checkpoints"} {
				most[topic] = max(most[topic], size(topic))
			}
		}
	}
	left := map[string]int64{}
	for topic, written := range most {
		Until(t, time.Minute, topic+" is compacted", func() error {
			if left[topic] = size(topic); left[topic] > written/2 || left[topic] > 2_200_000 {
				return fmt.Errorf("%d bytes on disk, there were %d", left[topic], written)
			}
			return nil
		})
		t.Logf("%s: %d bytes before it was first compacted, %d after", topic, written, left[topic])
	}
	cl.Close()
	n.Kill()
	n.Start()
	checkInternal(t, n.Kafka, partitions, commits)
}

// checkInternal looks for the last commit and the last checkpoints.
func checkInternal(t *testing.T, addr string, partitions int, want int64) {
	t.Helper()
	ctx := context.Background()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("__connect_checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	got, err := admin.FetchOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Offsets()["t"]); n != partitions {
		t.Errorf("offsets of %d partitions, want %d", n, partitions)
	}
	got.Each(func(o kadm.OffsetResponse) {
		if o.At != want {
			t.Errorf("%s-%d: offset %d, want %d", o.Topic, o.Partition, o.At, want)
		}
	})
	ends, err := admin.ListEndOffsets(ctx, "__connect_checkpoints")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("__connect_checkpoints", 0)
	last := map[string]string{}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for next := int64(0); next < end.Offset && ctx.Err() == nil; {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			last[string(r.Key)], _, _ = strings.Cut(string(r.Value), " ")
			next = r.Offset + 1
		})
	}
	if len(last) != 12 {
		t.Errorf("checkpoints %v", last)
	}
	for key, v := range last {
		if v != fmt.Sprint(want) {
			t.Errorf("%s ends as %s, want %d", key, v, want)
		}
	}
}

// A mirror takes a log with holes, compacts by itself what comes after, and
// ends with the same: every record at the offset that the source gave it, of
// each key the last one.
func TestMirrorOfCompactedTopic(t *testing.T) {
	dir := t.TempDir()
	east := NewNode(t, "east", dir, nil, nil, nil)
	west := NewNode(t, "west", dir, []string{east.WAN}, nil, nil)
	east.Start()
	west.Start()
	ctx := t.Context()
	cl := client(t, kgo.SeedBrokers(east.Kafka), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(20_000))
	adm := kadm.NewClient(cl)
	compact, segment, all := "compact", "1048576", "*"
	if _, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &compact, "segment.bytes": &segment}, "prices"); err != nil {
		t.Fatal(err)
	}
	written, last := map[int64]string{}, map[string]string{}
	fill := strings.Repeat("x", 900)
	write := func(n int) {
		t.Helper()
		for range n {
			i := len(written)
			r := &kgo.Record{Topic: "prices", Key: fmt.Append(nil, "k", i%40), Value: fmt.Append(nil, i, " ", fill)}
			if i%40 == 7 && i%3 == 0 {
				r.Value = nil
			}
			written[int64(i)], last[string(r.Key)] = string(r.Value), string(r.Value)
			cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	shrinks := func(n *Node) {
		t.Helper()
		Until(t, time.Minute, n.Site+" compacts", func() error {
			if b := topicBytes(t, n.Kafka, "prices"); b > 1_400_000 {
				return fmt.Errorf("%d bytes on disk of %d records", b, len(written))
			}
			return nil
		})
	}
	same := func(n *Node) {
		t.Helper()
		got := map[string]string{}
		records := readAll(t, n.Kafka, "prices", 0)
		for _, r := range records {
			if written[r.Offset] != string(r.Value) {
				t.Fatalf("%s: offset %d is not what was written there", n.Site, r.Offset)
			}
			got[string(r.Key)] = string(r.Value)
		}
		if !maps.Equal(got, last) {
			t.Errorf("%s ends with other values than were written", n.Site)
		}
		t.Logf("%s: %d of %d records are left", n.Site, len(records), len(written))
	}
	write(4000)
	shrinks(east)
	if _, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "mirror.to", Value: &all}}, "prices"); err != nil {
		t.Fatal(err)
	}
	follows := func() {
		t.Helper()
		Until(t, time.Minute, "west has what east has", func() error {
			ends, err := kadm.NewClient(client(t, kgo.SeedBrokers(west.Kafka))).ListEndOffsets(ctx, "prices")
			if err != nil {
				return err
			}
			if end, _ := ends.Lookup("prices", 0); end.Err != nil || end.Offset != int64(len(written)) {
				return fmt.Errorf("west ends at %d, east at %d: %w", end.Offset, len(written), end.Err)
			}
			return nil
		})
	}
	follows()
	same(west)
	write(3000)
	follows()
	shrinks(west)
	same(west)
	west.Kill()
	west.Start()
	write(100)
	follows()
	same(west)
	same(east)
}

// topicBytes is what a topic takes on a node's disk.
func topicBytes(t testing.TB, addr, topic string) (bytes int64) {
	t.Helper()
	dirs, err := kadm.NewClient(client(t, kgo.SeedBrokers(addr))).DescribeAllLogDirs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == topic {
				bytes += p.Size
			}
		})
	})
	return bytes
}
