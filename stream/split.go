package stream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// checkpointEvery and checkpointRecords say when a split's position is
	// made durable, by what comes first. Both bound what a later run has to
	// look through.
	checkpointEvery   = 500 * time.Millisecond
	checkpointRecords = 20_000
)

// readLimits bounds one Read. The wait is short because a split's goroutine
// also writes its checkpoints.
func readLimits() connectors.Limits {
	return connectors.Limits{Records: 1000, Bytes: 1 << 20, Wait: 100 * time.Millisecond}
}

// splitRun reads one split. Its goroutine alone reads, transforms, sends and
// writes checkpoints; acknowledgements come from the client's goroutine and
// touch nothing but the ledger.
type splitRun struct {
	*sourceRun
	split  connectors.Split
	key    string // of the checkpoint
	prefix string // of the outputs' HeaderSource
	pipe   *run

	known bool // there is a checkpoint
	done  bool // it says that the split is finished
	seen  map[string]landed

	read    connectors.Position // after the last message taken up
	saved   connectors.Position // in the newest durable checkpoint
	savedAt time.Time
	unsaved int // messages taken up since then
	where   string

	mu struct {
		sync.Mutex
		ledger *ledger
	}
}

// rebase makes the offsets from which a later run looks as late as is safe:
// when nothing of this split lies beyond its checkpoint, that is the end of
// every partition.
func (s *splitRun) rebase(bounds map[record.TopicPartition]span) error {
	if s.done || len(s.seen) > 0 {
		return nil
	}
	for tp, b := range bounds {
		s.mu.ledger.prefix.Ends[tp] = max(s.mu.ledger.prefix.Ends[tp], b.end)
	}
	if s.known {
		return nil
	}
	s.known = true
	return s.store.put(s.hard, s.key, s.mu.ledger.snapshot().checkpoint(false))
}

// beyond tells whether a source name is of a message after the checkpoint.
func (s *splitRun) beyond(name string) bool {
	p, err := base64.RawURLEncoding.DecodeString(name[len(s.prefix):])
	return err == nil && connectors.Position(p).Compare(s.saved) > 0
}

// run reads until the split ends, ctx ends or something is broken that more
// tries of this split cannot mend. Errors of the reader alone are retried
// here, so that one bad split does not hold up the others.
func (s *splitRun) run(ctx context.Context) error {
	if s.done {
		return nil
	}
	var pause backoff
	for {
		began := time.Now()
		err := s.readOnce(ctx)
		switch class := connectors.ClassOf(err); {
		case err == nil, errors.Is(err, errStopped):
			return nil
		case s.soft.Err() != nil || s.hard.Err() != nil:
			return s.cause(err)
		case class == connectors.ClassFatal || class == connectors.ClassPoison:
			return connectors.Fatal(err)
		}
		s.monitor.fault(fmt.Errorf("%s: %w", s.split.ID, err))
		s.show(err.Error())
		wait := time.NewTimer(pause.next(time.Since(began), connectors.RetryAfter(err)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
	}
}

// readOnce opens a reader where the last one stood and drains before it
// closes it. nil means that the split is finished for good.
func (s *splitRun) readOnce(ctx context.Context) error {
	reader, err := s.spec.Source.Open(ctx, s.task(s.split.ID), s.split, s.read)
	if err != nil {
		if ctx.Err() != nil {
			return errStopped
		}
		return fmt.Errorf("open %s: %w", s.split.ID, err)
	}
	s.show("")
	err = s.readAll(ctx, reader)
	ended := errors.Is(err, io.EOF)
	if ended {
		err = nil
	} else if ctx.Err() != nil { // whatever the reader says of being cut off
		err = errStopped
	}
	if drained := s.drain(reader, ended); drained != nil && (err == nil || errors.Is(err, errStopped)) {
		err = drained
	}
	if closed := reader.Close(s.hard); closed != nil && err == nil {
		s.logger.Warn("a reader did not close", "task", s.split.ID, "error", closed)
	}
	return err
}

func (s *splitRun) readAll(ctx context.Context, reader connectors.Reader) error {
	limits := readLimits()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, err := reader.Read(ctx, limits)
		for i := range batch.Messages {
			if err := s.handle(&batch.Messages[i]); err != nil {
				return err
			}
			if s.unsaved >= checkpointRecords {
				if err := s.checkpoint(reader, false); err != nil {
					return err
				}
			}
		}
		if err != nil {
			return err
		}
		if time.Since(s.savedAt) >= checkpointEvery {
			if err := s.checkpoint(reader, false); err != nil {
				return err
			}
			s.show("")
		}
	}
}

// handle takes up one message: it is skipped when an earlier run has written
// it, else transformed and sent.
func (s *splitRun) handle(m *connectors.Message) error {
	s.mu.Lock()
	seq := s.mu.ledger.add(m.Position, m.Origin)
	s.mu.Unlock()
	s.read = m.Position
	if m.Mark {
		s.settle(seq, landed{outcome: moved, offset: -1})
		return nil
	}
	s.unsaved++
	name := sourceName(s.prefix, m.Identity())
	if l, ok := s.seen[string(name)]; ok {
		delete(s.seen, string(name))
		s.settle(seq, l)
		return s.window.add(l.outcome == dead)
	}
	original := *m
	keep, err := false, m.Err
	if err == nil {
		keep, err = s.pipe.apply(m)
	}
	switch {
	case err == nil && !keep:
		s.settle(seq, landed{outcome: filtered, offset: -1})
		return s.window.add(false)
	case err == nil:
		r := s.record(m, name)
		if size := recordSize(r); size <= s.batchLimit {
			s.client.Produce(s.hard, r, s.promise(seq))
			return s.window.add(false)
		}
		err = fmt.Errorf("%w: %d bytes, topic %s takes %d", record.ErrBatchTooLarge, recordSize(r), s.spec.Topic, s.batchLimit)
	}
	s.letters.send(s.hard, sourceLetter(m, original, name, err), func(offset int64, err error) {
		s.settled(seq, landed{dead, s.letters.tp, offset}, err)
	})
	return s.window.add(true)
}

// record is the output of a message. The partition depends on the message
// alone: on its key, or without one on its position.
func (s *splitRun) record(m *connectors.Message, name []byte) *kgo.Record {
	key := m.Key
	if key == nil {
		key = name
	}
	r := &kgo.Record{
		Topic: s.spec.Topic, Partition: record.PartitionForKey(key, s.partitions),
		Key: m.Key, Value: m.Value, Headers: make([]kgo.RecordHeader, 0, len(m.Headers)+1),
	}
	if m.Timestamp >= 0 {
		r.Timestamp = time.UnixMilli(m.Timestamp)
	}
	for _, h := range m.Headers {
		if h.Key != HeaderSource {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: HeaderSource, Value: name})
	return r
}

func (s *splitRun) promise(seq int64) func(*kgo.Record, error) {
	return func(r *kgo.Record, err error) {
		s.settled(seq, landed{produced, record.TopicPartition{Topic: r.Topic, Partition: r.Partition}, r.Offset}, err)
	}
}

// settled is called when the hub has answered. Invariant: a message counts as
// settled only after the acknowledgement, and a checkpoint covers only what
// is settled.
func (s *splitRun) settled(seq int64, l landed, err error) {
	if err != nil {
		s.fail(fmt.Errorf("write to %s: %w", l.at, err))
		return
	}
	s.acknowledged(l.at, l.offset)
	s.settle(seq, l)
}

func (s *splitRun) settle(seq int64, l landed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.ledger.settle(seq, l.outcome, l.at, l.offset)
}

// checkpoint makes the settled prefix durable and then tells the reader.
func (s *splitRun) checkpoint(reader connectors.Reader, done bool) error {
	p := s.settledPrefix()
	s.savedAt, s.unsaved = time.Now(), 0
	if p.Position.Compare(s.saved) == 0 && !done {
		return nil
	}
	if err := s.store.put(s.hard, s.key, p.checkpoint(done)); err != nil {
		s.fail(err)
		return err
	}
	s.saved, s.done = p.Position, done
	s.show("")
	if p.Position == nil {
		return nil
	}
	if err := reader.Committed(s.hard, p.Position); err != nil {
		return fmt.Errorf("%s: tell the source what is committed: %w", s.split.ID, err)
	}
	return nil
}

// settledPrefix is what a checkpoint may hold now. When nothing is pending,
// everything this split writes from now on comes after all that was
// acknowledged in this session, so a later run need not look before that.
func (s *splitRun) settledPrefix() prefix {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.ledger.snapshot()
	if s.mu.ledger.pending() > 0 || len(s.seen) > 0 {
		return p
	}
	s.sourceRun.mu.Lock()
	defer s.sourceRun.mu.Unlock()
	for tp, end := range s.acked() {
		p.Ends[tp] = max(p.Ends[tp], end)
	}
	return p
}

// acked is the shared map; its lock has to be held.
func (s *splitRun) acked() map[record.TopicPartition]int64 { return s.sourceRun.mu.acked }

// drain waits for what is in flight and writes the last checkpoint.
func (s *splitRun) drain(reader connectors.Reader, ended bool) error {
	if s.hard.Err() != nil {
		return s.cause(nil)
	}
	if err := errors.Join(s.client.Flush(s.hard), s.letters.client.Flush(s.hard)); err != nil {
		return s.cause(err)
	}
	s.mu.Lock()
	left := s.mu.ledger.pending()
	s.mu.Unlock()
	if left > 0 { // only after a failed write, which has ended the session
		return s.cause(fmt.Errorf("%s: %d records were not acknowledged", s.split.ID, left))
	}
	return s.checkpoint(reader, ended)
}

// show reports where the split stands.
func (s *splitRun) show(waiting string) {
	s.mu.Lock()
	p := s.mu.ledger.prefix
	s.mu.Unlock()
	if p.Origin != (connectors.Origin{}) {
		s.where = p.Origin.String()
	}
	s.monitor.part(PartStatus{Name: s.split.ID, Position: s.where, Done: s.done, Error: waiting, Counters: p.Counters})
}
