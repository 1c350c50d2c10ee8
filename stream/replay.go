package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Replayed is what one call of Replay has done, and what is left.
type Replayed struct {
	Counters
	Left int64 `json:"left"` // letters, at most, of those that were there at the beginning
}

// letterSplit is the split of a source job's own dead letters. A name with a
// tilde in front is no file, table or queue.
const letterSplit = "~dlq"

// errCut says that a letter does not hold the whole record.
var errCut = errors.New("the record was too large for the dead letters and was cut; it cannot be replayed")

// Replay brings a job's dead letters through its present config: those that
// were not replayed before, up to the newest one now. A letter that fails
// again becomes a new letter behind them. It stops early when ctx ends, and
// goes on from there the next time.
//
// To a source, the letters are one more split, and to a sink, one more
// partition: each is written once, by the same rules as everything else.
func (r *Runner) Replay(ctx context.Context, name string) (out Replayed, err error) {
	err = r.operate(ctx, name, func(ctx context.Context, sh *shared, spec ConnectorSpec) error {
		if !r.claim(name) {
			return fmt.Errorf("%w: the dead letters of %q are being replayed", ErrBusy, name)
		}
		defer r.release(name)
		spec.Errors.Window, spec.Errors.SkipGaps = 0, true // letters that were dropped are no gap
		m := newMonitor(spec, sh.logger)
		out, err = replayOnce(ctx, sh, spec, m)
		if errors.Is(err, errOlder) { // which is above that owner the second time
			out, err = replayOnce(ctx, sh, spec, m)
		}
		return err
	})
	if connectors.ClassOf(err) == connectors.ClassStopped && ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		err = nil // what is left is left for the next time
	}
	return out, err
}

func replayOnce(ctx context.Context, sh *shared, spec ConnectorSpec, m *monitor) (out Replayed, err error) {
	s, err := openSession(ctx, sh, spec, m)
	if err != nil {
		return out, err
	}
	defer s.close()
	replay := replaySink
	if spec.Source != nil {
		replay = replaySource
	}
	err = s.guard(spec.Name, func() error { out, err = replay(s); return err })
	return out, err
}

func (r *Runner) claim(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.replaying[name] {
		return false
	}
	r.mu.replaying[name] = true
	return true
}

func (r *Runner) release(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.replaying, name)
}

// replaySource reads the letters as a split of the job.
func replaySource(s *session) (Replayed, error) {
	bounds, err := spans(s.soft, s.admin, s.letters.tp.Topic)
	if err != nil {
		return Replayed{}, err
	}
	b := bounds[s.letters.tp]
	s.spec.Source = &letterSource{cluster: s.cluster, tp: s.letters.tp, job: s.spec.Name, bounds: b}
	r, err := newSourceRun(s, transactionID(s.spec.Name, letterSplit))
	if err != nil {
		return Replayed{}, err
	}
	split, err := r.openSplit(connectors.Split{ID: letterSplit})
	if err != nil {
		return Replayed{}, err
	}
	split.grows = true
	before := split.base.Counters
	err = split.run(s.soft)
	at := b.start
	if p := split.base.Position; p != nil {
		at = max(at, int64(binary.BigEndian.Uint64(p))+1)
	}
	return Replayed{Counters: split.base.Counters.minus(before), Left: max(0, b.end-at)}, err
}

// letterSource reads dead letters back as the messages that they were made of.
type letterSource struct {
	connectors.Source // never called
	cluster           *cluster
	tp                record.TopicPartition
	job               string
	bounds            span
}

// Open implements connectors.Source. A position is the offset of a letter.
func (l *letterSource) Open(ctx context.Context, _ connectors.TaskContext, _ connectors.Split, from connectors.Position) (connectors.Reader, error) {
	at := l.bounds.start
	if from != nil {
		at = max(at, int64(binary.BigEndian.Uint64(from))+1)
	}
	return &letterReader{letterSource: l, at: at}, nil
}

type letterReader struct {
	*letterSource
	at int64
}

// lettersAtOnce bounds what a replay holds in memory, with a letter's size.
const lettersAtOnce = 500

// Read implements connectors.Reader.
func (l *letterReader) Read(ctx context.Context, _ connectors.Limits) (connectors.Batch, error) {
	var b connectors.Batch
	if l.at >= l.bounds.end {
		return b, io.EOF
	}
	upTo := min(l.at+lettersAtOnce, l.bounds.end)
	err := l.cluster.scanCommitted(ctx, "entrepot-replay-"+l.job, map[record.TopicPartition]span{l.tp: {l.at, upTo}}, func(r *kgo.Record) {
		m, ours := letterMessage(r, l.job)
		m.Position = binary.BigEndian.AppendUint64(nil, uint64(r.Offset))
		m.Origin = connectors.Origin{Name: l.tp.String() + "@" + strconv.FormatInt(r.Offset, 10)}
		m.Mark = !ours
		m.Partition, m.Offset = record.TopicPartition{}, 0
		b.Messages = append(b.Messages, m)
	})
	if err != nil {
		return connectors.Batch{}, err
	}
	last := connectors.Position(binary.BigEndian.AppendUint64(nil, uint64(upTo-1)))
	if n := len(b.Messages); n == 0 || b.Messages[n-1].Position.Compare(last) < 0 { // a marker, or what was aborted
		b.Messages = append(b.Messages, connectors.Message{Position: last, Mark: true})
	}
	l.at = upTo
	return b, nil
}

// Committed implements connectors.Reader: the checkpoint remembers.
func (l *letterReader) Committed(context.Context, connectors.Position) error { return nil }

// Close implements connectors.Reader.
func (l *letterReader) Close(context.Context) error { return nil }

// letterMessage is the record that a letter was made of. ours is false when
// another job has written it, into a topic that they share.
func letterMessage(r *kgo.Record, job string) (m connectors.Message, ours bool) {
	m = message(r)
	headers := m.Headers
	m.Headers = nil
	for _, h := range headers {
		switch {
		case h.Key == HeaderDeadJob:
			ours = string(h.Value) == job
		case h.Key == HeaderDeadTruncated:
			m.Err = connectors.Poison(errCut)
		case h.Key == HeaderDeadTime:
			if t, err := strconv.ParseInt(string(h.Value), 10, 64); err == nil {
				m.Timestamp = t
			}
		case h.Key != HeaderSource && !strings.HasPrefix(h.Key, "entrepot-dlq-"):
			m.Headers = append(m.Headers, h)
		}
	}
	return m, ours
}

// replaySink writes the letters as a partition of the job.
func replaySink(s *session) (out Replayed, err error) {
	s.spec.Topic = s.letters.tp.Topic
	r, err := newSinkRun(s)
	if err != nil {
		return out, err
	}
	r.message = func(rec *kgo.Record) (connectors.Message, bool) { return letterMessage(rec, s.spec.Name) }
	committed, err := r.committed()
	if err != nil {
		return out, err
	}
	for _, t := range r.deal(committed) {
		t.bounded = true
		for _, l := range t.lanes {
			l.until = r.bounds[l.tp].end
		}
		if e := s.guard(t.name, t.run); e != nil && err == nil {
			err = e
		}
		for p, l := range t.lanes {
			done := l.commit.counters.minus(committed[p].counters)
			out.Counters = out.Counters.plus(done)
			out.Left += max(0, l.until-max(l.commit.offset, l.passed))
		}
	}
	return out, s.cause(err)
}
