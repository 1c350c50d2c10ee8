package protocol

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consume reads n records of a topic from its start.
func consume(t testing.TB, s *site, topic string, n int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	ctx := testContext(t)
	cl := s.client(t, append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, opts...)...)
	defer cl.Close()
	var got []*kgo.Record
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("after %d records: %v", len(got), err)
		}
		got = append(got, fs.Records()...)
	}
	return got
}

func TestProduceAndConsumeWithEveryCodec(t *testing.T) {
	s := startSite(t, quick())
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		for _, idempotent := range []bool{true, false} {
			topic := fmt.Sprintf("%s-%v", name, idempotent)
			t.Run(topic, func(t *testing.T) {
				s.topic(t, topic, 3)
				opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(500)}
				if !idempotent {
					opts = append(opts, kgo.DisableIdempotentWrite())
				}
				cl := s.client(t, opts...)
				const n = 2000
				for i := range n {
					cl.Produce(t.Context(), &kgo.Record{
						Key: fmt.Appendf(nil, "k%d", i), Value: bytes.Repeat([]byte("v"), i%300),
						Headers: []kgo.RecordHeader{{Key: "h", Value: []byte{1}}},
					}, func(_ *kgo.Record, err error) {
						if err != nil {
							t.Error(err)
						}
					})
				}
				if err := cl.Flush(testContext(t)); err != nil {
					t.Fatal(err)
				}
				seen := map[string]bool{}
				for _, r := range consume(t, s, topic, n, kgo.FetchIsolationLevel(kgo.ReadCommitted())) {
					seen[string(r.Key)] = true
				}
				if len(seen) != n {
					t.Fatalf("%d different records, want %d", len(seen), n)
				}
			})
		}
	}
}
