package protocol

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/record"
)

// The benchmarks go through TCP on loopback to logs in memory: they measure
// this package, and for the first two the client too.

func benchSite(b *testing.B, partitions int32) *site {
	b.Helper()
	s := startSite(b, quick())
	s.topic(b, "t", partitions, "max.message.bytes", "8388608")
	for p := range partitions {
		s.memLog(b, "t", p).keepOnly(64 << 20)
	}
	return s
}

func BenchmarkProduceClient(b *testing.B) {
	for _, size := range []int{1024, 100} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			s := benchSite(b, 6)
			cl := s.client(b, kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()),
				kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<18), kgo.ProducerBatchMaxBytes(1<<20))
			value := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				cl.Produce(context.Background(), &kgo.Record{Value: value}, nil)
			}
			if err := cl.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// rawBatch is a batch of some size from a producer without idempotence.
func rawBatch(b *testing.B, size int) record.Batch {
	bu := record.NewBuilder(record.None)
	for bu.Size() < size {
		if err := bu.Append(record.Record{Value: make([]byte, min(1000, size))}); err != nil {
			b.Fatal(err)
		}
	}
	out, err := bu.Build()
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// BenchmarkProduceServer sends requests that were made before, five at a time
// as clients do: nearly all of the time is the server's.
func BenchmarkProduceServer(b *testing.B) {
	for _, size := range []int{1 << 20, 64 << 10, 1 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			s := benchSite(b, 1)
			c := s.dial(b)
			r := produceRequest(9, "t", record.TopicID{}, rawBatch(b, size))
			req := requestBytes(r)
			req = append(binary.BigEndian.AppendUint32(nil, uint32(len(req))), req...)
			b.SetBytes(int64(len(req)))
			b.ReportAllocs()
			b.ResetTimer()
			pump(b, c.nc, req)
		})
	}
}

// pump sends b.N requests with at most five unanswered, and reads the answers.
func pump(b *testing.B, nc net.Conn, req []byte) {
	tokens := make(chan struct{}, 5)
	var wg sync.WaitGroup
	wg.Go(func() {
		br := bufio.NewReaderSize(nc, 1<<20)
		var head [4]byte
		for range b.N {
			if _, err := io.ReadFull(br, head[:]); err != nil {
				b.Error(err)
				return
			}
			if _, err := br.Discard(int(binary.BigEndian.Uint32(head[:]))); err != nil {
				b.Error(err)
				return
			}
			<-tokens
		}
	})
	for range b.N {
		tokens <- struct{}{}
		if _, err := nc.Write(req); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
}

// BenchmarkFetchServer fetches the same range again and again.
func BenchmarkFetchServer(b *testing.B) {
	for _, size := range []int{1 << 20, 64 << 10, 500} {
		b.Run(fmt.Sprintf("%dB-batches", size), func(b *testing.B) {
			s := benchSite(b, 1)
			c := s.dial(b)
			batch := rawBatch(b, size)
			for range max(1, 1<<20/len(batch)) {
				produced(c, produceRequest(9, "t", record.TopicID{}, batch))
			}
			f := fetchRequest(12, "t", record.TopicID{}, 0)
			n := len(fetched(c, f).RecordBatches)
			req := requestBytes(f)
			req = append(binary.BigEndian.AppendUint32(nil, uint32(len(req))), req...)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			b.ResetTimer()
			pump(b, c.nc, req)
		})
	}
}

// BenchmarkFetchIdlePartitions fetches from the ends of many partitions, of
// which one has a small batch: what a consumer of a wide topic costs for each
// answer, without a session (KIP-227).
func BenchmarkFetchIdlePartitions(b *testing.B) {
	for _, n := range []int32{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchSite(b, n)
			c := s.dial(b)
			produced(c, produceRequest(9, "t", record.TopicID{}, rawBatch(b, 100)))
			f := fetchRequest(12, "t", record.TopicID{}, 0)
			for p := int32(1); p < n; p++ {
				one := f.Topics[0].Partitions[0]
				one.Partition = p
				f.Topics[0].Partitions = append(f.Topics[0].Partitions, one)
			}
			req := requestBytes(f)
			req = append(binary.BigEndian.AppendUint32(nil, uint32(len(req))), req...)
			b.ReportAllocs()
			b.ResetTimer()
			pump(b, c.nc, req)
			b.ReportMetric(float64(len(req)), "request-B")
		})
		b.Run(fmt.Sprintf("%d-session", n), func(b *testing.B) {
			s := benchSite(b, n)
			c := s.dial(b)
			produced(c, produceRequest(9, "t", record.TopicID{}, rawBatch(b, 100)))
			ft := &fetcher{c: c}
			offsets := map[int32]int64{}
			for p := range n {
				offsets[p] = 0
			}
			ft.fetch("t", offsets)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if r := ft.fetch("", nil); len(r.Topics) != 1 {
					b.Fatalf("%+v", r)
				}
			}
		})
	}
}
