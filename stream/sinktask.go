package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// sinkTask writes some partitions. One goroutine does everything in turn:
// poll, buffer, cut, write, commit. While it writes it does not poll, so a
// slow destination holds the consumer back and memory stays flat.
type sinkTask struct {
	*sinkRun
	name   string
	pipe   *run
	memory int64 // bytes that all buffers of the task may hold
	lanes  map[int32]*lane
	held   int64
	buried int // dead letters sent
	writer connectors.Writer
	now    atomic.Pointer[writing] // nil between two

	bounded bool // it ends when every lane is at its until
}

func (t *sinkTask) run() (err error) {
	partitions := make([]record.TopicPartition, 0, len(t.lanes))
	for _, l := range t.sorted() {
		partitions = append(partitions, l.tp)
	}
	began, task := time.Now(), t.task(t.name)
	task.Noted = t.heard
	if t.writer, err = t.spec.Sink.Open(t.soft, task, partitions); err != nil {
		return t.notBegun(began, fmt.Errorf("open the destination: %w", err))
	}
	defer func() {
		if closed := t.writer.Close(t.hard); closed != nil && err == nil {
			t.logger.Warn("a writer did not close", "task", t.name, "error", closed)
		}
	}()
	for _, l := range t.sorted() {
		if err := t.recoverLane(l); err != nil {
			return t.notBegun(began, err)
		}
		t.show(l)
	}
	t.monitor.well(t.name)
	t.monitor.state(Running)
	return t.consume()
}

// notBegun notes that the task has come to no record yet. What other tasks do
// does not end that.
func (t *sinkTask) notBegun(began time.Time, err error) error {
	if t.soft.Err() == nil {
		t.monitor.trouble(t.name, began, err)
	}
	return err
}

func (t *sinkTask) sorted() []*lane {
	all := make([]*lane, 0, len(t.lanes))
	for _, l := range t.lanes {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *lane) int { return int(a.tp.Partition - b.tp.Partition) })
	return all
}

// consume reads on from what is committed until the session stops. What is
// buffered then was not planned and is read again next time.
func (t *sinkTask) consume() error {
	from := map[int32]kgo.Offset{}
	for p, l := range t.lanes {
		from[p] = kgo.NewOffset().At(l.commit.offset)
	}
	cl, closed, err := t.cluster.client(t.hard, "entrepot-sink-"+t.name,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.spec.Topic: from}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes/4),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer closed()
	for t.soft.Err() == nil {
		if t.bounded && t.arrived() {
			return t.flushDue(time.Now().Add(t.limits.Wait))
		}
		if err := t.poll(cl); err != nil {
			return err
		}
		if err := t.flushDue(time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// arrived reports whether all that the task is to write was read.
func (t *sinkTask) arrived() bool {
	for _, l := range t.lanes {
		if max(l.commit.offset, l.next, l.passed) < l.until {
			return false
		}
	}
	return true
}

// statusEvery is the longest a task waits for records before it looks at the
// clock and reports.
const statusEvery = time.Second

// pollRecords bounds what is taken over at once.
const pollRecords = 5000

// poll waits for records until the next flush is due and buffers them.
func (t *sinkTask) poll(cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(t.soft, t.wait(time.Now()))
	defer cancel()
	fetches := cl.PollRecords(ctx, pollRecords)
	if t.soft.Err() != nil {
		return nil
	}
	if ctx.Err() == nil {
		if err := t.fetchError(fetches); err != nil {
			return err
		}
	}
	t.monitor.well("")
	var err error
	now := time.Now()
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		l := t.lanes[p.Partition]
		if p.Topic == "" || l == nil { // how the client says that time is up
			return
		}
		l.end = max(l.end, p.HighWatermark)
		for _, r := range p.Records {
			switch {
			case r.Attrs.IsControl():
				l.pass(r.Offset + 1)
			case err == nil:
				err = t.buffer(l, r, now)
			}
		}
		t.show(l)
	})
	return err
}

// fetchError names the records that are gone when the topic no longer has
// what the job wants next.
func (t *sinkTask) fetchError(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, kerr.OffsetOutOfRange) {
			return connectors.Retry(0, fmt.Errorf("fetch %s-%d: %w", e.Topic, e.Partition, e.Err))
		}
	}
	return fetchError(fetches)
}

// wait is the time until the oldest buffer has to be flushed.
func (t *sinkTask) wait(now time.Time) time.Duration {
	wait := statusEvery
	for _, l := range t.lanes {
		if len(l.buffer) > 0 {
			wait = min(wait, l.due(t.limits.Wait).Sub(now))
		}
	}
	return max(wait, time.Millisecond)
}

// buffer takes one record and writes what is full.
func (t *sinkTask) buffer(l *lane, r *kgo.Record, now time.Time) error {
	if t.bounded && r.Offset >= l.until {
		return nil
	}
	m, ours := t.message(r)
	if !ours {
		m.Mark = true
	}
	t.held += l.take(m, now)
	if len(l.buffer) >= t.limitRecords() || l.bytes >= t.limitBytes() {
		return t.flush(l)
	}
	if t.held < t.memory {
		return nil
	}
	largest := l
	for _, other := range t.sorted() {
		if other.bytes > largest.bytes {
			largest = other
		}
	}
	return t.flush(largest)
}

// flushDue writes the buffers whose time has come.
func (t *sinkTask) flushDue(now time.Time) error {
	for _, l := range t.sorted() {
		if len(l.buffer) > 0 && !now.Before(l.due(t.limits.Wait)) {
			if err := t.flush(l); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *sinkTask) flush(l *lane) error {
	t.held -= l.bytes
	p, batch := l.cut(t.spec.Name, t.epoch)
	return t.execute(l, p, batch)
}

func (t *sinkTask) show(l *lane) {
	t.standings.set(l)
	t.report(l)
}

// report shows a lane to people. The keeper is told by show alone: before its
// recovery a lane may be said to be further than its destination is.
func (t *sinkTask) report(l *lane) {
	t.monitor.part(PartStatus{
		Name: l.tp.String(), Position: fmt.Sprintf("offset %d", l.commit.offset), Lag: l.lag(), Counters: l.commit.counters, reached: l.reached(),
	})
}
