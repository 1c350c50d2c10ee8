package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// commitEvery and commitRecords say when a split's transaction is
	// committed, by what comes first, unless its source wants it sooner. Both
	// bound what a later run has to look through, and the first how long a
	// consumer that reads committed records waits.
	commitEvery   = 500 * time.Millisecond
	commitRecords = 100_000
	// readRecords is how many messages a reader is asked for at a time.
	readRecords = 1000
	// maxInFlight is the number of records sent and not yet acknowledged.
	maxInFlight = 20_000
	// longestRead bounds one Read: a split's goroutine also commits.
	longestRead = 100 * time.Millisecond
)

// splitRun reads one split. Its goroutine alone reads, transforms, sends and
// commits; acknowledgements come from the client's goroutine and touch
// nothing but the transaction.
type splitRun struct {
	*sourceRun
	split  connectors.Split
	key    string // of the checkpoint
	prefix string // of the outputs' HeaderSource
	pipe   *run

	known bool // there is a checkpoint
	done  bool // it says that the split is finished
	grows bool // its end is one for now only
	base  progress
	by    *producer // who committed base
	next  progress  // base, and what the open transaction holds

	txn     *transaction      // nil until there is something to write
	seen    map[string]landed // outputs that are in, beyond the checkpoint
	ids     *dedup            // of a connectors.Queue, else nil
	unsaved int               // messages taken up since the last commit
	began   time.Time         // when the first of them came
	saving  time.Time         // when the last commit began
	where   string
}

// run reads until the split ends, ctx ends or something is broken that more
// tries of this split cannot mend. Errors of the reader alone are retried
// here, so that one bad split does not hold up the others.
func (s *splitRun) run(ctx context.Context) error {
	if s.done {
		return nil
	}
	defer func() {
		if s.txn != nil {
			s.txn.closed()
		}
	}()
	var pause backoff
	for {
		began := time.Now()
		err := s.readInTurn(ctx)
		switch class := connectors.ClassOf(err); {
		case err == nil, errors.Is(err, errStopped):
			return nil
		case s.soft.Err() != nil || s.hard.Err() != nil:
			return s.cause(err)
		case errors.Is(err, errMoved):
			if s.done {
				return nil
			}
			continue
		case errors.Is(err, errWrite):
			return err
		case class == connectors.ClassFatal || class == connectors.ClassPoison:
			return connectors.Fatal(err)
		}
		s.monitor.fault(fmt.Errorf("%s: %w", s.split.ID, err))
		s.monitor.trouble(s.split.ID, time.Now(), err)
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

// errStopped says that a split was asked to stop, errMoved that it has to be
// opened again elsewhere, errWrite that the hub does not take its records: the
// session ends, and the next one begins with what is durable.
var (
	errStopped = errors.New("stopped")
	errMoved   = errors.New("the checkpoint has moved")
	errWrite   = errors.New("the hub did not take what was read")
)

// readInTurn is readOnce when there is a slot for it. The wait after an error
// takes none: a few splits that cannot be read do not hold up the others.
func (s *splitRun) readInTurn(ctx context.Context) error {
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-ctx.Done():
			return errStopped
		}
	}
	return s.readOnce(ctx)
}

// readOnce opens a reader where the last one stood and drains before it
// closes it. nil means that the split is finished for good.
func (s *splitRun) readOnce(ctx context.Context) error {
	reader, err := s.spec.Source.Open(ctx, s.task(s.split.ID), s.split, s.next.Position)
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
	} else if ctx.Err() != nil && !errors.Is(err, errWrite) { // whatever the reader says of being cut off
		err = errStopped
	}
	if !errors.Is(err, errMoved) && !errors.Is(err, errWrite) {
		if drained := s.drain(reader, ended && !s.grows); drained != nil && (err == nil || errors.Is(err, errStopped) || errors.Is(drained, errWrite)) {
			err = drained
		}
	}
	if closed := reader.Close(s.hard); closed != nil && err == nil {
		s.logger.Warn("a reader did not close", "task", s.split.ID, "error", closed)
	}
	return err
}

func (s *splitRun) readAll(ctx context.Context, reader connectors.Reader) error {
	limits := connectors.Limits{Records: readRecords, Bytes: 1 << 20, Wait: min(longestRead, s.pace.Wait)}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, err := reader.Read(ctx, limits)
		if len(batch.Messages) > 0 {
			if err := s.attach(); err != nil {
				return err
			}
		}
		for i := range batch.Messages {
			if err := s.handle(&batch.Messages[i]); err != nil {
				return err
			}
			if s.unsaved >= s.pace.Records {
				if err := s.commit(reader, false); err != nil {
					return err
				}
			}
		}
		if err != nil {
			return err
		}
		s.monitor.well(s.split.ID)
		if s.due(len(batch.Messages)) {
			if err := s.commit(reader, false); err != nil {
				return err
			}
		}
	}
}

// due tells whether it is time to commit after a Read of so many messages. Who
// waits for the commit of a Paced source has done so since the last one began,
// unless there was more than the reader could tell in one go; so the pace is
// the time from one commit to the next, and who comes to an idle job does not
// wait for others.
func (s *splitRun) due(read int) bool {
	switch {
	case s.unsaved == 0:
		return false
	case read == 0: // nothing is gained by waiting for more
		return true
	case s.awaited && read < readRecords && time.Since(s.saving) >= s.pace.Wait:
		return true
	}
	return time.Since(s.began) >= s.pace.Wait
}

// handle takes up one message: it is skipped when it is in already, else
// transformed and sent.
func (s *splitRun) handle(m *connectors.Message) error {
	if m.Pinned && !m.Mark && m.Partition.Partition >= s.partitions {
		// The next session asks for the number of partitions again.
		return s.write(fmt.Errorf("%s belongs into partition %d of topic %s, which has %d: add partitions, or let the source not keep them",
			m.Origin, m.Partition.Partition, s.spec.Topic, s.partitions))
	}
	if s.unsaved++; s.unsaved == 1 {
		s.began = time.Now()
	}
	if err := s.txn.failed(); err != nil {
		return s.write(err)
	}
	if m.Mark {
		s.next.add(m, moved)
		return nil
	}
	name := s.name(m)
	if o, in := s.isIn(m, name); in {
		s.next.add(m, o)
		return s.window.add(o == dead)
	}
	original := *m
	keep, err := false, m.Err
	if err == nil {
		keep, err = s.pipe.apply(m)
	}
	switch {
	case err == nil && !keep:
		s.next.add(m, filtered)
		return s.window.add(false)
	case err == nil:
		r := s.record(m, name)
		if size := recordSize(r); size <= s.batchLimit {
			s.next.add(m, produced)
			if err := s.txn.send(s.hard, r); err != nil {
				return s.write(err)
			}
			return s.window.add(false)
		}
		err = fmt.Errorf("%w: %d bytes, topic %s takes %d", record.ErrBatchTooLarge, recordSize(r), s.spec.Topic, s.batchLimit)
	}
	s.next.add(m, dead)
	if err := s.txn.send(s.hard, s.letters.record(sourceLetter(m, original, name, err))); err != nil {
		return s.write(err)
	}
	return s.window.add(true)
}

// name is what the message's output is called.
func (s *splitRun) name(m *connectors.Message) []byte {
	if s.ids != nil && m.ID != nil {
		return sourceName(s.prefix+idMark, m.ID)
	}
	return sourceName(s.prefix, m.Identity())
}

// isIn tells whether the message has been written already, and as what. A
// message of a queue is known by its ID alone.
func (s *splitRun) isIn(m *connectors.Message, name []byte) (outcome, bool) {
	if s.ids != nil {
		if m.ID == nil {
			return 0, false
		}
		now := time.Now()
		if s.ids.has(m.ID, now) {
			return duplicate, true
		}
		s.ids.add(m.ID, now)
		return 0, false
	}
	l, ok := s.seen[string(name)]
	if ok {
		delete(s.seen, string(name))
	}
	return l.outcome, ok
}

// record is the output of a message. The partition depends on the message
// alone: on its key, or without one on its name, unless it is pinned.
func (s *splitRun) record(m *connectors.Message, name []byte) *kgo.Record {
	key := m.Key
	if key == nil {
		key = name
	}
	partition := m.Partition.Partition
	if !m.Pinned {
		partition = record.PartitionForKey(key, s.partitions)
	}
	r := &kgo.Record{
		Topic: s.spec.Topic, Partition: partition,
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

// write wraps an error of the hub.
func (s *splitRun) write(err error) error {
	if s.hard.Err() != nil {
		return s.cause(err)
	}
	return fmt.Errorf("%s: %w: %w", s.split.ID, errWrite, err)
}

// commit makes what was read durable, all of it or nothing, and then tells
// the reader. Invariant: the checkpoint covers only what is acknowledged.
func (s *splitRun) commit(reader connectors.Reader, done bool) error {
	if s.unsaved == 0 && !done {
		return nil
	}
	if err := s.save(done); err != nil {
		return err
	}
	if s.base.Position == nil {
		return nil
	}
	if err := reader.Committed(s.hard, s.base.Position); err != nil {
		return fmt.Errorf("%s: tell the source what is committed: %w", s.split.ID, err)
	}
	return nil
}

// save commits the transaction with the checkpoint in it.
func (s *splitRun) save(done bool) error {
	s.saving = time.Now()
	ends := s.next.Ends
	if len(s.seen) > 0 { // outputs after the position lie below what was written since
		ends = map[record.TopicPartition]int64{}
	}
	if err := s.txn.settle(s.hard, ends); err != nil {
		return s.write(err)
	}
	ck := s.next.checkpoint(done)
	var err error
	if len(s.seen) == 0 { // else something lies beyond the checkpoint
		if ck.Producer, err = s.txn.holder(s.hard); err != nil {
			return s.write(err)
		}
	}
	text, err := encodeCheckpoint(ck)
	if err != nil {
		return err
	}
	notes := []*kgo.Record{{Topic: CheckpointTopic, Key: []byte(s.key), Value: text}}
	if s.ids != nil {
		for slot, ck := range s.ids.changed() {
			if text, err = encodeCheckpoint(ck); err != nil {
				return err
			}
			notes = append(notes, &kgo.Record{Topic: CheckpointTopic, Key: []byte(dedupKey(s.spec.Name, s.split.ID, slot)), Value: text})
		}
	}
	if err := s.txn.commit(s.hard, notes); err != nil {
		return s.write(err)
	}
	for _, n := range notes {
		s.store.set(string(n.Key), n.Value, n.Offset)
	}
	if s.ids != nil {
		s.ids.saved()
	}
	s.base, s.known, s.done, s.unsaved = s.next.clone(), true, done, 0
	s.show("")
	return nil
}

// drain commits what was read.
func (s *splitRun) drain(reader connectors.Reader, ended bool) error {
	if s.hard.Err() != nil {
		return s.cause(nil)
	}
	if s.unsaved == 0 && !ended {
		return nil
	}
	if err := s.attach(); err != nil {
		return err
	}
	return s.commit(reader, ended)
}

// show reports where the split stands.
func (s *splitRun) show(waiting string) {
	if s.base.Origin != (connectors.Origin{}) {
		s.where = s.base.Origin.String()
	}
	s.monitor.part(PartStatus{Name: s.split.ID, Position: s.where, Done: s.done, Error: waiting, Counters: s.base.Counters})
}
