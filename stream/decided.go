package stream

import (
	"context"
	"encoding/binary"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

// scanDecided is scan without the records of aborted transactions, and without
// waiting: a consumer that reads committed records stands before any
// transaction that is open, also a stranger's. fn is called for what is
// outside of transactions or committed, of each transaction in order. Records
// whose transaction is still open are left out; undecided says where the
// first one of each partition is.
func (c *cluster) scanDecided(ctx context.Context, id string, ranges map[record.TopicPartition]span, fn func(*kgo.Record)) (undecided map[record.TopicPartition]int64, err error) {
	d := &decider{fn: fn, open: map[owner][]*kgo.Record{}}
	if err := c.read(ctx, id, ranges, kgo.ReadUncommitted(), d.take); err != nil {
		return nil, err
	}
	return d.undecided(), nil
}

// owner is a producer in a partition.
type owner struct {
	record.TopicPartition
	producer int64
}

// decider sorts records by what became of their transaction. It is a pure
// value.
type decider struct {
	fn   func(*kgo.Record)
	open map[owner][]*kgo.Record
}

func (d *decider) take(r *kgo.Record) {
	o := owner{record.TopicPartition{Topic: r.Topic, Partition: r.Partition}, r.ProducerID}
	switch {
	case r.Attrs.IsControl():
		if isCommit(r.Key) {
			for _, held := range d.open[o] {
				d.fn(held)
			}
		}
		delete(d.open, o)
	case r.Attrs.IsTransactional():
		d.open[o] = append(d.open[o], r)
	default:
		d.fn(r)
	}
}

// isCommit reads the key of a marker: a version and a type, two bytes each.
func isCommit(key []byte) bool {
	return len(key) >= 4 && binary.BigEndian.Uint16(key[2:]) == 1
}

func (d *decider) undecided() map[record.TopicPartition]int64 {
	first := map[record.TopicPartition]int64{}
	for o, held := range d.open {
		if at, ok := first[o.TopicPartition]; len(held) > 0 && (!ok || held[0].Offset < at) {
			first[o.TopicPartition] = held[0].Offset
		}
	}
	return first
}
