package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// tail is what was read of a remote partition from its end backwards.
type tail struct {
	start, end int64 // of the partition when it was first looked at
	from       int64 // all at or above was read
	// ours holds the hub's offsets of the records of this job, by partition of
	// the hub, in any order.
	ours map[record.TopicPartition][]int64
}

// firstLook is how many offsets from the end are read at first; each further
// look is four times as large.
const firstLook = 1000

// search finds out which records of a plan are at the destination already. In
// each remote partition the records of one partition of the hub are in their
// order, so it reads back to the first that is from before the plan.
func (w *writer) search(ctx context.Context, plan connectors.Plan, l *lane) error {
	there := map[int64]bool{}
	for p := range w.partitions {
		if w.partitioner == "preserve" && p != plan.Partition.Partition {
			continue
		}
		t, err := w.tailOf(ctx, p)
		if err != nil {
			return fmt.Errorf("search the end of %s-%d: %w", w.topic, p, err)
		}
		if err := w.readBack(ctx, p, t, plan); err != nil {
			return fmt.Errorf("search the end of %s-%d: %w", w.topic, p, err)
		}
		for _, offset := range t.ours[plan.Partition] {
			if offset >= plan.From {
				there[offset] = true
			}
		}
	}
	if len(there) > 0 {
		w.task.Logger.Info("records of a plan that was cut off are at the destination already",
			"topic", plan.Partition.Topic, "partition", plan.Partition.Partition, "offset", plan.From, "count", len(there))
	}
	l.next, l.there = plan.From, there
	return nil
}

func (w *writer) tailOf(ctx context.Context, p int32) (*tail, error) {
	if t := w.tails[p]; t != nil {
		return t, nil
	}
	tp := record.TopicPartition{Topic: w.topic, Partition: p}
	t := &tail{ours: map[record.TopicPartition][]int64{}}
	err := w.cluster.insist(ctx, func() (err error) {
		if t.start, err = w.cluster.offset(ctx, tp, atEarliest, false); err != nil {
			return err
		}
		t.end, err = w.cluster.offset(ctx, tp, atLatest, w.transaction)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.from = t.end
	if w.tails == nil {
		w.tails = map[int32]*tail{}
	}
	w.tails[p] = t
	return t, nil
}

// readBack reads as far back as the plan needs and resume_scan allows.
func (w *writer) readBack(ctx context.Context, p int32, t *tail, plan connectors.Plan) error {
	floor := max(t.start, t.end-w.tail)
	for step := int64(firstLook); t.from > floor; step *= 4 {
		if slices.ContainsFunc(t.ours[plan.Partition], func(offset int64) bool { return offset < plan.From }) {
			return nil
		}
		from := max(floor, t.from-step)
		if err := w.read(ctx, record.TopicPartition{Topic: w.topic, Partition: p}, from, t.from, t); err != nil {
			return err
		}
		t.from = from
	}
	return nil
}

// read notes our records in [from, to).
func (w *writer) read(ctx context.Context, tp record.TopicPartition, from, to int64, t *tail) error {
	s := sifter{next: from, committed: w.transaction}
	prefixes := map[string]record.TopicPartition{}
	for hub := range w.lanes {
		prefixes[sourcePrefix(w.task.Job, hub)] = hub
	}
	return w.cluster.insist(ctx, func() error {
		for s.next < to {
			leader, err := w.cluster.leader(ctx, tp)
			if err != nil {
				return err
			}
			f, err := leader.fetch(ctx, fetchRequest{
				tp: tp, id: w.cluster.known.topics[tp.Topic].id, offset: s.next, committed: s.committed, minBytes: 1, maxBytes: 1 << 20, wait: 500 * time.Millisecond,
			})
			if err == nil && code(f.code) == kafkago.OffsetOutOfRange { // deleted meanwhile
				s.next, err = w.cluster.offset(ctx, tp, atEarliest, false)
			} else if err == nil && f.code != 0 {
				err = failed("fetch "+tp.String(), f.code)
			}
			if err != nil {
				w.cluster.forget(tp.Topic)
				return err
			}
			err = s.sift(f, func(r record.Record) {
				if r.Offset >= to {
					return
				}
				if offset, hub, ok := ours(&r, prefixes); ok {
					t.ours[hub] = append(t.ours[hub], offset)
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ours tells which record of the hub a remote record is, if it is one of these
// partitions.
func ours(r *record.Record, prefixes map[string]record.TopicPartition) (int64, record.TopicPartition, bool) {
	name, ok := r.Header(headerSource)
	if !ok {
		return 0, record.TopicPartition{}, false
	}
	cut := len(name)
	for cut > 0 && name[cut-1] != '/' {
		cut--
	}
	hub, ok := prefixes[string(name[:cut])]
	offset, err := strconv.ParseInt(string(name[cut:]), 10, 64)
	return offset, hub, ok && err == nil && offset >= 0
}

// defaultMaxMessage is Kafka's default of max.message.bytes.
const defaultMaxMessage = 1048588

// maxMessageBytes asks for the largest batch that a topic takes. Who has no
// right to ask gets the default.
func (c *cluster) maxMessageBytes(ctx context.Context, topic string) (int, error) {
	one, err := c.any(ctx)
	if err != nil {
		return 0, err
	}
	const ofTopic, setting = 2, "max.message.bytes"
	m, err := one.ask(ctx, &describeconfigs.Request{Resources: []describeconfigs.RequestResource{{ResourceType: ofTopic, ResourceName: topic, ConfigNames: []string{setting}}}})
	if err != nil {
		return 0, err
	}
	for _, r := range m.(*describeconfigs.Response).Resources {
		for _, e := range r.ConfigEntries {
			if n, err := strconv.Atoi(e.ConfigValue); err == nil && e.ConfigName == setting {
				return n, nil
			}
		}
	}
	return defaultMaxMessage, nil
}
