package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// headerSource is the header by which a record at the destination tells which
// of ours it is: job / topic / partition / offset. The hub's own records may
// have a header of this name, which tells where they came from into the hub;
// it stays there.
const headerSource = "entrepot-src"

// writer executes plans, each for one partition of the hub.
type writer struct {
	sinkSettings
	task    connectors.TaskContext
	cluster *cluster
	choose  partitioner

	partitions int32 // of the remote topic
	limit      int   // bytes that the remote topic takes in a batch
	lanes      map[record.TopicPartition]*lane

	// shared is the producer of all plans that are no transactions.
	shared *producer
	// tails is what was searched of the remote partitions so far.
	tails map[int32]*tail
}

// lane is what the writer knows of one partition of the hub.
type lane struct {
	// next is the offset below which everything is at the destination; -1 is
	// not known, and has to be found out before anything is written.
	next int64
	// there holds the offsets at or above next that are at the destination
	// too: of a plan that was cut off.
	there map[int64]bool
	// producer writes this lane's transactions; nil has to be made. epoch is
	// that of the newest plan which was written.
	producer *producer
	epoch    int64
}

// done moves the lane over a plan. What is there beyond it stays known: the
// plan may be the first part of one that was written in part.
func (l *lane) done(plan connectors.Plan) {
	l.next = max(l.next, plan.To)
	maps.DeleteFunc(l.there, func(offset int64, _ bool) bool { return offset < l.next })
}

func (w *writer) lane(tp record.TopicPartition) *lane {
	l := w.lanes[tp]
	if l == nil {
		l = &lane{next: -1}
		w.lanes[tp] = l
	}
	return l
}

// look asks for what has to be known of the topic.
func (w *writer) look(ctx context.Context) error {
	t, err := w.cluster.topic(ctx, w.topic)
	if err != nil {
		return err
	}
	w.partitions = int32(len(t.partitions))
	if w.partitions == 0 {
		return fmt.Errorf("topic %s: %w", w.topic, kafkago.LeaderNotAvailable)
	}
	if w.limit = w.maxRecord; w.limit == 0 {
		w.limit, err = w.cluster.maxMessageBytes(ctx, w.topic)
	}
	return err
}

func errTooFew(tp record.TopicPartition, n int32) error {
	return fmt.Errorf("%s belongs into partition %d, but the remote topic has %d: add partitions, or choose the partition by the key", tp, tp.Partition, n)
}

// Resume implements connectors.Writer. Only transactions keep an offset at the
// destination.
func (w *writer) Resume(ctx context.Context, tp record.TopicPartition) (int64, bool, error) {
	if !w.transaction {
		return 0, false, nil
	}
	l := w.lane(tp)
	if err := w.take(ctx, tp, l); err != nil {
		return 0, false, err
	}
	return max(l.next, 0), l.next >= 0, nil
}

// Last implements connectors.Remembering: what Resume has asked for.
func (w *writer) Last(_ context.Context, tp record.TopicPartition) (connectors.Plan, bool, error) {
	l := w.lane(tp)
	known := w.transaction && l.next >= 0
	return connectors.Plan{Partition: tp, From: l.next, To: l.next, Epoch: l.epoch}, known, nil
}

// Write implements connectors.Writer.
func (w *writer) Write(ctx context.Context, plan connectors.Plan, batch connectors.Batch) ([]connectors.RecordError, error) {
	refused, err := w.refuse(batch)
	if err != nil || len(refused) > 0 {
		return refused, err
	}
	l := w.lane(plan.Partition)
	if w.transaction {
		return nil, w.transact(ctx, plan, l, batch)
	}
	return nil, w.append(ctx, plan, l, batch)
}

// refuse names the records that the topic cannot take, before any is written.
func (w *writer) refuse(batch connectors.Batch) ([]connectors.RecordError, error) {
	var refused []connectors.RecordError
	for i := range batch.Messages {
		m := &batch.Messages[i]
		if err := w.fits(w.record(m)); err != nil {
			refused = append(refused, connectors.RecordError{Index: i, Offset: m.Offset, Err: err})
		}
		if _, err := w.choose(m, w.partitions); err != nil {
			return nil, err
		}
	}
	return refused, nil
}

// fits tells whether the topic takes a record in a batch of its own.
func (w *writer) fits(r record.Record) error {
	if recordSize(r)+record.BatchHeaderSize <= w.limit {
		return nil
	}
	b := record.NewBuilder(w.codec)
	if err := b.Append(r); err != nil {
		return connectors.Poison(err)
	}
	batch, err := b.Build()
	if err != nil {
		return connectors.Poison(err)
	}
	if len(batch) <= w.limit {
		return nil // it is compressed
	}
	return connectors.Poisonf("%w: %d bytes in a batch of its own, topic %s takes %d (max.message.bytes)", record.ErrBatchTooLarge, len(batch), w.topic, w.limit)
}

// record is what is written of a message.
func (w *writer) record(m *connectors.Message) record.Record {
	r := record.Record{Key: m.Key, Value: m.Value, Timestamp: m.Timestamp, Headers: make([]record.Header, 0, len(m.Headers)+1)}
	for _, h := range m.Headers {
		if h.Key != headerSource {
			r.Headers = append(r.Headers, h)
		}
	}
	r.Headers = append(r.Headers, record.Header{Key: headerSource, Value: sourceName(w.task.Job, m.Partition, m.Offset)})
	return r
}

func sourceName(job string, tp record.TopicPartition, offset int64) []byte {
	b := make([]byte, 0, len(job)+len(tp.Topic)+32)
	b = append(append(b, sourcePrefix(job, tp)...), strconv.FormatInt(offset, 10)...)
	return b
}

// sourcePrefix begins the names of all records of a partition. Neither jobs
// nor topics have a slash in their names.
func sourcePrefix(job string, tp record.TopicPartition) string {
	return job + "/" + tp.Topic + "/" + strconv.Itoa(int(tp.Partition)) + "/"
}

// recordSize is a bound of what a record takes in a batch, in bytes.
func recordSize(r record.Record) int {
	const numbers = 5 + 1 + 10 + 5 + 5 + 5 + 5 // length, attributes, time, offset, lengths of key and value, headers
	n := numbers + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}

// append writes a plan without a transaction.
func (w *writer) append(ctx context.Context, plan connectors.Plan, l *lane, batch connectors.Batch) error {
	if w.shared == nil {
		p, err := w.cluster.newProducer(ctx)
		if err != nil {
			return err
		}
		w.shared = p
	}
	if l.next < 0 {
		if err := w.search(ctx, plan, l); err != nil {
			return err
		}
	}
	parts, err := w.split(batch, l)
	if err != nil {
		return err
	}
	if err = w.shared.send(ctx, w, parts); err != nil {
		// What is in and what is not is found out before the next try, and
		// that by another producer: the sequence numbers of this one are lost.
		w.shared, w.tails = nil, nil
		for _, other := range w.lanes {
			other.next, other.there = -1, nil
		}
		return unknownIfCut(err)
	}
	l.done(plan)
	return nil
}

// unknownIfCut gives the class to an error after which records may be in.
func unknownIfCut(err error) error {
	switch connectors.ClassOf(err) {
	case connectors.ClassFatal, connectors.ClassPoison, connectors.ClassUnknown:
		return err
	}
	return connectors.Unknown(err)
}

// split deals the messages that are not there yet to the remote partitions.
func (w *writer) split(batch connectors.Batch, l *lane) (map[int32][]record.Record, error) {
	parts := map[int32][]record.Record{}
	for i := range batch.Messages {
		m := &batch.Messages[i]
		if m.Offset < l.next || l.there[m.Offset] {
			continue
		}
		p, err := w.choose(m, w.partitions)
		if err != nil {
			return nil, err
		}
		parts[p] = append(parts[p], w.record(m))
	}
	return parts, nil
}

// Close implements connectors.Writer.
func (w *writer) Close(context.Context) error {
	w.cluster.close()
	return nil
}

var errNoAnswer = errors.New("no answer for the partition")
