package hubtest

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ReadTo hands fn each record that the client reads before the ends, in the
// order of its partition. The client consumes those partitions from their
// starts and keeps control records: the last record before an end may be the
// marker of a transaction. Markers are handed over, too.
func ReadTo(ctx context.Context, cl *kgo.Client, ends kadm.ListedOffsets, fn func(*kgo.Record)) error {
	type partition struct {
		topic string
		n     int32
	}
	left := map[partition]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[partition{o.Topic, o.Partition}] = o.Offset
		}
	})
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%w; not read to these ends: %v", err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at := partition{r.Topic, r.Partition}
			end, ok := left[at]
			if !ok {
				return
			}
			if fn(r); r.Offset >= end-1 {
				delete(left, at)
			}
		})
	}
	return nil
}
