package record

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// samples are records that differ in what a codec of records can get wrong.
func samples() []Record {
	rs := []Record{
		{Timestamp: 1_700_000_000_000, Key: []byte("k"), Value: []byte("v")},
		{Timestamp: 1_700_000_000_900, Key: []byte{}, Value: nil},
		{Timestamp: 1_600_000_000_000, Key: nil, Value: []byte{}, Headers: []Header{{"a", nil}, {"", []byte{}}, {"a", []byte("z")}}},
	}
	for i := range 200 {
		rs = append(rs, Record{Timestamp: 1_700_000_001_000 + int64(i), Key: fmt.Append(nil, i), Value: text(i * 10)})
	}
	for i := range rs {
		rs[i].Offset = int64(i)
	}
	return rs
}

func fromClient(r *kgo.Record) Record {
	out := Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, Header{h.Key, h.Value})
	}
	return out
}

func toClient(r Record) *kgo.Record {
	out := &kgo.Record{Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return out
}

// TestClientReadsBuilder: franz-go's fetch path, which checks the checksum,
// reads what Builder makes.
func TestClientReadsBuilder(t *testing.T) {
	for _, c := range codecs {
		n := NewBuilder(c)
		n.BaseOffset, n.KeepOffsets = 5000, true
		want := samples()
		for i := range want {
			want[i].Offset = 5000 + int64(3*i)
		}
		mustAppend(t, n, want...)
		in := kmsg.NewFetchResponseTopicPartition()
		in.RecordBatches = mustBuild(t, n)
		in.HighWatermark = 1 << 20
		out, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{}, &in, kgo.DefaultDecompressor(), nil)
		if out.Err != nil {
			t.Fatalf("%v: %v", c, out.Err)
		}
		got := make([]Record, 0, len(want))
		for _, r := range out.Records {
			got = append(got, fromClient(r))
		}
		if !slices.EqualFunc(got, want, equalRecords) {
			t.Errorf("%v: the client reads %d records otherwise than the %d written", c, len(got), len(want))
		}
		if last := want[len(want)-1].Offset; next != last+1 {
			t.Errorf("%v: the client goes on at %d, want %d", c, next, last+1)
		}
	}
}

// TestClientReadsMarker: franz-go takes a marker for a control record.
func TestClientReadsMarker(t *testing.T) {
	in := kmsg.NewFetchResponseTopicPartition()
	in.RecordBatches = NewMarker(7, 2, true, 3, 99)
	out, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{KeepControlRecords: true}, &in, kgo.DefaultDecompressor(), nil)
	if out.Err != nil || len(out.Records) != 1 {
		t.Fatalf("%d records, %v", len(out.Records), out.Err)
	}
	r := out.Records[0]
	var key kmsg.ControlRecordKey
	var value kmsg.EndTxnMarker
	if err := key.ReadFrom(r.Key); err != nil {
		t.Fatal(err)
	}
	if err := value.ReadFrom(r.Value); err != nil {
		t.Fatal(err)
	}
	if !r.Attrs.IsControl() || !r.Attrs.IsTransactional() || key.Type != kmsg.ControlRecordKeyTypeCommit || value.CoordinatorEpoch != 3 || r.ProducerID != 7 {
		t.Errorf("the client reads %+v, key %+v, value %+v", r, key, value)
	}
}

// TestReadsClient: what franz-go's producer sends is read, with all codecs.
func TestReadsClient(t *testing.T) {
	options := map[Codec]kgo.CompressionCodec{
		None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
	}
	for _, c := range codecs {
		t.Run(c.String(), func(t *testing.T) {
			want := samples()
			got := make([]Record, 0, len(want))
			for _, b := range produce(t, options[c], want) {
				if err := b.CheckProduced(); err != nil {
					t.Error(err)
				}
				if b.Codec() != c {
					t.Errorf("codec %v", b.Codec())
				}
				for _, r := range records(t, b) {
					r.Offset = int64(len(got)) // the client counts from 0 in each batch
					got = append(got, r)
				}
			}
			if !slices.EqualFunc(got, want, equalRecords) {
				t.Errorf("read %d records otherwise than the %d produced", len(got), len(want))
			}
		})
	}
}

// produce sends rs through a real client and returns the batches as they
// arrived.
func produce(t *testing.T, codec kgo.CompressionCodec, rs []Record) []Batch {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	arrived := make(chan []byte, len(rs))
	cluster.ControlKey(int16(kmsg.Produce), func(q kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range q.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				arrived <- slices.Clone(p.Records)
			}
		}
		return nil, nil, false
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic("t"),
		kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	send := make([]*kgo.Record, 0, len(rs))
	for _, r := range rs {
		send = append(send, toClient(r))
	}
	if err := client.ProduceSync(context.Background(), send...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var all []Batch
	for range len(arrived) {
		some, err := SplitBatches(<-arrived)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}
