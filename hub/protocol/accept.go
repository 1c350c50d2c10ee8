package protocol

import (
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// accept applies a topic's settings to a batch that is produced to it, and
// returns it as it goes to the log: recompressed, if the topic wants another
// codec (compression.type). What it refuses names the records at fault
// (KIP-467). By default nothing is decoded: records are looked at only when the
// topic is compacted, which needs keys, or limits how old they may be.
func (s *Server) accept(t *catalog.Topic, b record.Batch, slot *kmsg.ProduceResponseTopicPartition) (record.Batch, error) {
	set := t.Settings()
	if err := checkSize(b, &set); err != nil {
		return nil, err
	}
	c := acceptance{slot: slot, least: math.MinInt64, most: math.MaxInt64, keys: set.Compact}
	c.limitTime(&set, s.cfg.Clock().UnixMilli())
	if c.keys || c.least > math.MinInt64 || b.MaxTime() > c.most {
		if err := b.Each(unpacked(b, &set), c.record); err != nil {
			return nil, err
		}
		if err := c.verdict(); err != nil {
			return nil, err
		}
	}
	if !set.Recompress || b.Codec() == set.Codec {
		return b, nil
	}
	b, err := b.Recompress(set.Codec, unpacked(b, &set))
	if err != nil {
		return nil, err
	}
	return b, checkSize(b, &set)
}

func checkSize(b record.Batch, set *catalog.Settings) error {
	if len(b) > set.MaxMessageBytes {
		return fmt.Errorf("%w: %d bytes, %s is %d", record.ErrBatchTooLarge, len(b), catalog.KeyMaxMessage, set.MaxMessageBytes)
	}
	return nil
}

// decompressed bounds what a batch that is looked into may unpack to, as a
// multiple of the topic's largest message.
const decompressed = 64

func unpacked(b record.Batch, set *catalog.Settings) int {
	return max(set.MaxMessageBytes, len(b)) * decompressed
}

// acceptance judges records one by one.
type acceptance struct {
	slot        *kmsg.ProduceResponseTopicPartition
	least, most int64 // timestamps in ms
	keys        bool  // a record needs one

	i        int32
	keyless  bool
	untimely int64
	late     bool
}

// limitTime takes the topic's bounds of timestamps, which hold for those of
// producers alone. A bound that no clock reaches is none.
func (c *acceptance) limitTime(set *catalog.Settings, now int64) {
	if set.LogAppendTime {
		return
	}
	if ms := set.MaxPast.Milliseconds(); ms <= now {
		c.least = now - ms
	}
	if ms := set.MaxFuture.Milliseconds(); ms <= math.MaxInt64-now {
		c.most = now + ms
	}
}

// record takes one record; a timestamp of -1 is none.
func (c *acceptance) record(r record.Record) error {
	switch {
	case c.keys && r.Key == nil:
		c.keyless = true
		c.fault("a record of a compacted topic needs a key")
	case r.Timestamp != -1 && (r.Timestamp < c.least || r.Timestamp > c.most):
		c.late, c.untimely = true, r.Timestamp
		c.fault(fmt.Sprintf("timestamp %d is not from %d to %d", r.Timestamp, c.least, c.most))
	}
	c.i++
	return nil
}

// mostFaults bounds how many records an answer names.
const mostFaults = 100

func (c *acceptance) fault(why string) {
	if len(c.slot.ErrorRecords) < mostFaults {
		e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
		e.RelativeOffset, e.ErrorMessage = c.i, &why
		c.slot.ErrorRecords = append(c.slot.ErrorRecords, e)
	}
}

func (c *acceptance) verdict() error {
	switch {
	case c.keyless:
		return fmt.Errorf("%w: the topic is compacted and a record has no key", record.ErrInvalidBatch)
	case c.late:
		return fmt.Errorf("%w: %d, want %d to %d by %s and %s", errTimestamp, c.untimely, c.least, c.most, catalog.KeyMaxPast, catalog.KeyMaxFuture)
	}
	return nil
}
