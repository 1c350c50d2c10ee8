package stream

import (
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lane is one partition on its way into the destination: what is committed,
// and what was read since and waits for its plan to be cut.
type lane struct {
	tp     record.TopicPartition
	commit commit
	end    int64 // of the partition, as last heard

	// own is set when the destination keeps the offset itself.
	own bool
	// todo is a plan that an earlier run has made durable and not finished.
	todo *connectors.Plan
	// dead holds the offsets whose dead letters are in already, each with the
	// offset of its letter.
	dead map[int64]int64

	buffer []connectors.Message
	bytes  int64
	since  time.Time // when the first of buffer came
	next   int64     // offset after the last of buffer, and the markers behind it
	passed int64     // offset after the last marker that was read
	until  int64     // of a bounded task: the offset at which it ends
	old    int64     // the end when the session began: what is below has waited before
}

// take adds a message to the buffer.
func (l *lane) take(m connectors.Message, now time.Time) int64 {
	if len(l.buffer) == 0 {
		l.since = now
	}
	l.buffer = append(l.buffer, m)
	l.next = m.Offset + 1
	size := int64(m.Size() + messageOverhead)
	l.bytes += size
	return size
}

// pass goes over the marker of a transaction: there is nothing to write, but
// what stands behind it is not outstanding.
func (l *lane) pass(next int64) {
	l.passed = next
	if len(l.buffer) > 0 {
		l.next = next
	}
}

// due is when the buffer has to be flushed: when its first record has waited so
// long, or at once when all has come that an earlier run may have let wait.
// Without that, a task that is stopped again and again would never flush.
func (l *lane) due(wait time.Duration) time.Time {
	if l.next >= l.old && l.buffer[0].Offset < l.old {
		return l.since
	}
	return l.since.Add(wait)
}

// messageOverhead is about what a message costs beyond its key and value.
const messageOverhead = 400

// cut takes the buffer away and plans it: from what is committed to the
// offset after its last record.
func (l *lane) cut(job string, epoch int64) (connectors.Plan, []connectors.Message) {
	p := plan(job, l.tp, l.commit.offset, l.next, epoch)
	batch := l.buffer
	l.buffer, l.bytes = nil, 0
	return p, batch
}

// plan names a decision. The number of the job's start is part of the name,
// so that a topic that was deleted and made again cannot have the same plan.
func plan(job string, tp record.TopicPartition, from, to, epoch int64) connectors.Plan {
	return connectors.Plan{
		Partition: tp, From: from, To: to, Epoch: epoch,
		ID: fmt.Sprintf("%s-%s-%d-%d-%d", job, tp, from, to, epoch),
	}
}

// floor is an offset of the dead-letter topic below which no letter of a
// record at or after from lies, given that new ones come at or above now.
func (l *lane) floor(from, now int64) int64 {
	for offset, at := range l.dead {
		if offset >= from {
			now = min(now, at)
		}
	}
	return now
}

// done moves the lane over a plan that is finished.
func (l *lane) done(p connectors.Plan, c Counters) {
	l.commit = commit{known: true, offset: p.To, counters: c}
	for offset := range l.dead {
		if offset < p.To {
			delete(l.dead, offset)
		}
	}
}

// lag is how many offsets are not yet committed; -1 when the end is unknown.
func (l *lane) lag() int64 {
	if l.end < 0 {
		return -1
	}
	return max(0, l.end-l.reached())
}

// reached is the offset below which nothing is outstanding.
func (l *lane) reached() int64 {
	if len(l.buffer) == 0 {
		return max(l.commit.offset, l.passed)
	}
	return l.commit.offset
}

func message(r *kgo.Record) connectors.Message {
	m := connectors.Message{
		Key: r.Key, Value: r.Value, Timestamp: connectors.NoTimestamp, Original: r.Value,
		Partition: record.TopicPartition{Topic: r.Topic, Partition: r.Partition}, Offset: r.Offset,
	}
	if !r.Timestamp.IsZero() {
		m.Timestamp = r.Timestamp.UnixMilli()
	}
	if len(r.Headers) > 0 {
		m.Headers = make([]record.Header, len(r.Headers))
		for i, h := range r.Headers {
			m.Headers[i] = record.Header{Key: h.Key, Value: h.Value}
		}
	}
	return m
}
