package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// maxBatch bounds a batch once it is decompressed, in bytes.
const maxBatch = 64 << 20

// copyOf is what one site holds of a topic, read over its Kafka listener as
// any client would: nothing in it comes from the hub's own counters.
type copyOf struct {
	records    int64
	bytes      int64
	partitions []partitionSum
	hours      map[string]int64 // records by hour of event time, UTC: 2015-05-17/10
}

// partitionSum pins the content of one partition: where it begins and ends and
// the checksum of all its batches as they stand in the log, headers included.
type partitionSum struct {
	start, end int64
	sum        [sha256.Size]byte
}

// readTopic reads the whole topic at one site in raw batches.
func readTopic(ctx context.Context, brokers, topic string, partitions int32) (*copyOf, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	meta := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	meta.Topics = append(meta.Topics, t)
	answer, err := meta.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("ask %s for topic %s: %w", brokers, topic, err)
	}
	if n := len(answer.Topics); n != 1 {
		return nil, fmt.Errorf("ask %s for topic %s: the answer tells of %d topics", brokers, topic, n)
	}
	if err := kerr.ErrorForCode(answer.Topics[0].ErrorCode); err != nil {
		return nil, fmt.Errorf("ask %s for topic %s: %w", brokers, topic, err)
	}
	if n := int32(len(answer.Topics[0].Partitions)); n != partitions {
		return nil, fmt.Errorf("topic %s has %d partitions at %s, want %d", topic, n, brokers, partitions)
	}
	whole := &copyOf{hours: map[string]int64{}, partitions: make([]partitionSum, partitions)}
	for _, p := range answer.Topics[0].Partitions {
		broker := cl.Broker(int(p.Leader))
		if err := whole.readPartition(ctx, broker, topic, answer.Topics[0].TopicID, p.Partition); err != nil {
			return nil, fmt.Errorf("read %s-%d at %s: %w", topic, p.Partition, brokers, err)
		}
	}
	return whole, nil
}

func (c *copyOf) readPartition(ctx context.Context, broker *kgo.Broker, topic string, id [16]byte, partition int32) error {
	hash, at := sha256.New(), int64(0)
	sum := &c.partitions[partition]
	for first := true; ; first = false {
		got, err := fetch(ctx, broker, topic, id, partition, at)
		if err != nil {
			return err
		}
		if first {
			sum.start = got.LogStartOffset
		}
		batches, err := record.SplitBatches(got.RecordBatches)
		if err != nil && len(batches) == 0 {
			return err
		}
		for _, b := range batches {
			if b.LastOffset() < at {
				continue
			}
			if err := c.count(b); err != nil {
				return err
			}
			hash.Write(b)
			c.bytes += int64(len(b))
			at = b.NextOffset()
		}
		if at >= got.HighWatermark {
			sum.end = got.HighWatermark
			hash.Sum(sum.sum[:0])
			return nil
		}
		if len(batches) == 0 {
			return fmt.Errorf("nothing at offset %d although the high watermark is %d", at, got.HighWatermark)
		}
	}
}

// count leaves out the markers that end transactions.
func (c *copyOf) count(b record.Batch) error {
	if b.IsControl() {
		return nil
	}
	return b.Each(maxBatch, func(r record.Record) error {
		c.records++
		c.hours[time.UnixMilli(r.Timestamp).UTC().Format("2006-01-02/15")]++
		return nil
	})
}

func fetch(ctx context.Context, broker *kgo.Broker, topic string, id [16]byte, partition int32, at int64) (*kmsg.FetchResponseTopicPartition, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 0, 32<<20
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic, id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, at, 16<<20
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := broker.Request(ctx, req)
	if err != nil {
		return nil, err
	}
	answer := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, err
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("the answer has no partition %d", partition)
	}
	one := &answer.Topics[0].Partitions[0]
	return one, kerr.ErrorForCode(one.ErrorCode)
}
