package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

const (
	// patience is how long a reader itself looks for a leader that answers,
	// before it gives up and leaves the pause to the runtime.
	patience = 10 * time.Second
	// lookAgain is the pause before it asks again.
	lookAgain = 100 * time.Millisecond
)

// reader reads one partition. It asks for more when all it has was taken.
type reader struct {
	sourceSettings
	task    connectors.TaskContext
	tp      record.TopicPartition
	cluster *cluster
	id      record.TopicID
	checked time.Time // when id was last compared
	sifter
	end int64 // where to stop; -1: never

	queue   []connectors.Message
	told    int64     // offset after the newest position that was given out
	trouble time.Time // since when nothing works; zero when all is well

	owed    int64     // what the remote group has still to hear; 0: nothing
	tried   time.Time // when it was told last
	grumble string    // last trouble with it
}

// begin finds out where to read.
func (r *reader) begin(ctx context.Context, from connectors.Position) error {
	r.sifter.committed = r.sourceSettings.committed
	t, err := r.cluster.topic(ctx, r.tp.Topic)
	if err != nil {
		return err
	}
	r.id, r.checked = t.id, time.Now()
	if from != nil {
		offset, id, err := parsePosition(from)
		if err != nil {
			return err
		}
		if err := r.same(id); err != nil {
			return err
		}
		r.next = offset + 1
		r.owed = r.next // a run that was killed behind its checkpoint has not told the group
	} else if err := r.first(ctx); err != nil {
		return err
	}
	if r.told = r.next; from == nil && r.start != atEarliest {
		r.told = 0 // so that the choice is kept, and not made again
	}
	if !r.follow {
		r.end, err = r.cluster.offset(ctx, r.tp, atLatest, r.sifter.committed)
	}
	return err
}

// first is the offset that the config begins with.
func (r *reader) first(ctx context.Context) (err error) {
	if r.next, err = r.cluster.offset(ctx, r.tp, r.start, r.sifter.committed); err == nil && r.next < 0 {
		r.next, err = r.cluster.offset(ctx, r.tp, atLatest, r.sifter.committed) // nothing is that late
	}
	return err
}

// same refuses a topic that has another id than it had: its offsets have
// nothing to do with those before.
func (r *reader) same(id record.TopicID) error {
	if id != r.id && !id.IsZero() && !r.id.IsZero() {
		return connectors.Fatalf("topic %s was deleted and made anew: its id was %s and is now %s. "+
			"To read the new one from its start, give the connector another name", r.tp.Topic, id, r.id)
	}
	return nil
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	until := time.Now().Add(limits.Wait)
	for len(r.queue) == 0 {
		if r.end >= 0 && r.next >= r.end {
			r.remind(ctx)
			return connectors.Batch{}, io.EOF
		}
		left := time.Until(until)
		if err := r.more(ctx, max(left, 0)); err != nil {
			return connectors.Batch{}, err
		}
		if len(r.queue) == 0 && time.Until(until) <= 0 {
			r.remind(ctx)
			return r.mark(), nil
		}
	}
	var b connectors.Batch
	b.Messages, r.queue = limits.Cut(r.queue)
	r.told = b.Messages[len(b.Messages)-1].Offset + 1
	return b, nil
}

// mark moves the position over what was no record, when no record does: else
// retention could take away what has long been passed over, and that would
// look like a loss.
func (r *reader) mark() connectors.Batch {
	if r.end >= 0 || r.next <= r.told || r.next == 0 {
		return connectors.Batch{}
	}
	r.told = r.next
	return connectors.Batch{Messages: []connectors.Message{{Mark: true, Position: appendPosition(nil, r.next-1, r.id), Origin: r.origin(r.next - 1)}}}
}

func (r *reader) origin(offset int64) connectors.Origin {
	return connectors.Origin{Name: r.tp.String(), Line: offset}
}

// more asks the leader for records and queues them. Trouble is ridden out
// for a while: a leader that moves is no reason to stop a job.
func (r *reader) more(ctx context.Context, wait time.Duration) error {
	if time.Since(r.checked) > r.discover {
		r.cluster.forget(r.tp.Topic)
	}
	err := r.fetch(ctx, wait)
	switch {
	case err == nil:
		r.trouble = time.Time{}
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case fatal(err):
		return err
	}
	if r.trouble.IsZero() {
		r.trouble = time.Now()
	}
	if time.Since(r.trouble) > patience {
		return fmt.Errorf("read %s: %w", r.tp, err)
	}
	r.cluster.forget(r.tp.Topic)
	pause := time.NewTimer(min(lookAgain, max(wait, time.Millisecond)))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *reader) fetch(ctx context.Context, wait time.Duration) error {
	t, err := r.cluster.topic(ctx, r.tp.Topic)
	if err != nil {
		return err
	}
	was := r.id
	r.id, r.checked = t.id, time.Now()
	if err := r.same(was); err != nil {
		return err
	}
	leader, err := r.cluster.leader(ctx, r.tp)
	if err != nil {
		return err
	}
	f, err := leader.fetch(ctx, fetchRequest{
		tp: r.tp, id: r.id, offset: r.next, committed: r.sifter.committed,
		minBytes: r.minBytes, maxBytes: r.maxBytes, wait: min(wait, r.maxWait),
	})
	if err != nil {
		return err
	}
	switch c := code(f.code); {
	case c == kafkago.OffsetOutOfRange:
		return r.lost(ctx)
	case c != 0:
		return failed(fmt.Sprintf("fetch %s at offset %d", r.tp, r.next), f.code)
	}
	err = r.sift(f, r.take)
	if errors.Is(err, record.ErrInvalidBatch) { // another magic
		return connectors.Fatalf("fetch %s: %w. Records in the formats before Kafka 0.11 are not read", r.tp, err)
	}
	return err
}

// take queues one record.
func (r *reader) take(rec record.Record) {
	p := appendPosition(make([]byte, 0, positionSize), rec.Offset, r.id)
	m := connectors.Message{
		Key: rec.Key, Value: rec.Value, Original: rec.Value, Headers: rec.Headers, Timestamp: rec.Timestamp,
		Position: p, Place: p[:placeSize:placeSize], Origin: r.origin(rec.Offset),
		Partition: r.tp, Offset: rec.Offset, Pinned: r.pinned,
	}
	r.queue = append(r.queue, m)
}

// lost decides what to do where the partition no longer has the offset that
// is next. Past its end there is no way on: what was read is gone from there,
// and what comes will have offsets that were used before.
func (r *reader) lost(ctx context.Context) error {
	start, err := r.cluster.offset(ctx, r.tp, atEarliest, false)
	if err != nil {
		return err
	}
	end, err := r.cluster.offset(ctx, r.tp, atLatest, false)
	if err != nil {
		return err
	}
	switch {
	case r.next > end:
		return connectors.Fatalf("%s ends at offset %d, but %d were read: it was cut, or its topic was made anew. "+
			"To read it from its start, give the connector another name", r.tp, end, r.next)
	case r.next >= start:
		return fmt.Errorf("fetch %s at offset %d: %w, but it has the offsets from %d to %d", r.tp, r.next, kafkago.OffsetOutOfRange, start, end)
	case r.outOfRange == "fail":
		return connectors.Fatalf("offsets %d to %d of %s were deleted before they were read; "+
			"set offset_out_of_range to earliest or latest to go on without them", r.next, start-1, r.tp)
	}
	to := start
	if r.outOfRange == "latest" {
		to = end
	}
	r.task.Logger.Warn("offsets were deleted before they were read; they are skipped",
		"topic", r.tp.Topic, "partition", r.tp.Partition, "offset", r.next, "count", to-r.next)
	r.next = to
	return nil
}

// Close implements connectors.Reader.
func (r *reader) Close(context.Context) error {
	r.cluster.close()
	return nil
}
