package stream

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// patientSink is a destination whose Write tries again by itself, and says so,
// until a test lets it through.
type patientSink struct {
	*fakeSink
	every   time.Duration // between two tries
	refuses func(p connectors.Plan) error
	steps   int // parts of a plan, each of which takes every
}

func (s *patientSink) Open(ctx context.Context, task connectors.TaskContext, tps []record.TopicPartition) (connectors.Writer, error) {
	w, err := s.fakeSink.Open(ctx, task, tps)
	return &patientWriter{w.(*fakeWriter), s, task}, err
}

type patientWriter struct {
	*fakeWriter
	sink *patientSink
	task connectors.TaskContext
}

func (w *patientWriter) Write(ctx context.Context, p connectors.Plan, b connectors.Batch) ([]connectors.RecordError, error) {
	for n := 0; n < w.sink.steps; n++ {
		if err := connectors.Pause(ctx, w.sink.every); err != nil {
			return nil, connectors.Unknown(err)
		}
		w.task.Note(nil)
	}
	for w.sink.refuses != nil {
		err := w.sink.refuses(p)
		if err == nil {
			break
		}
		w.task.Note(err)
		if err := connectors.Pause(ctx, w.sink.every); err != nil {
			return nil, connectors.Unknown(err)
		}
	}
	return w.fakeWriter.Write(ctx, p, b)
}

// log collects what is logged.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *log) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// TestStuckWithinAWrite: a connector that tries again by itself is left to it
// for as long as it says so, and the job shows that nothing comes of it.
func TestStuckWithinAWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		said := &log{}
		w.logger = slog.New(slog.NewTextHandler(said, nil))
		open := make(chan struct{})
		snk := &patientSink{fakeSink: newFakeSink(true, connectors.Limits{Wait: time.Second}), every: 30 * time.Second}
		snk.refuses = func(connectors.Plan) error {
			select {
			case <-open:
				return nil
			default:
				return errors.New("no confirm")
			}
		}
		l := w.start(0, parseOne(t, connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": snk}}, plainSink))
		s := l.await("shelve", time.Minute, func(s JobStatus) bool { return s.Retrying != nil })
		began := s.Retrying.Since
		if s.State != Running {
			t.Errorf("%s after the first try", s.State)
		}
		s = l.await("shelve", 10*time.Minute, inState(Stuck))
		if took := time.Since(began); took < stuckAfter || took > stuckAfter+time.Second {
			t.Errorf("stuck after %v", took)
		}
		pass(time.Hour)
		s = l.Status()[0]
		if s.State != Stuck || s.Restarts != 0 || s.Retrying.Attempts < 100 || !s.Retrying.Since.Equal(began) || s.LastError != "no confirm" || s.Parts[0].Error != "no confirm" {
			t.Errorf("after an hour: %+v, %+v", s, s.Retrying)
		}
		if n := said.count("a job is stuck"); n != 1 {
			t.Errorf("the log says %d times that the job is stuck", n)
		}
		close(open)
		s = l.await("shelve", time.Minute, read(5))
		if s.State != Running || s.Retrying != nil || s.Parts[0].Error != "" || said.count("no longer stuck") != 1 {
			t.Errorf("after it went on: %+v, %+v", s, s.Retrying)
		}
		l.end()
		if len(snk.faults) > 0 || snk.writes != 1 {
			t.Errorf("faults %v, %d writes", snk.faults, snk.writes)
		}
	})
}

// TestSlowWriteIsNotCutOff: a plan that takes longer than two minutes, parts of
// which are done all the time, is written once and is no trouble.
func TestSlowWriteIsNotCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		snk := &patientSink{fakeSink: newFakeSink(true, connectors.Limits{Wait: time.Second}), every: 100 * time.Second, steps: 20}
		l := w.start(0, parseOne(t, connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": snk}}, plainSink))
		s := l.await("shelve", 2*time.Hour, func(s JobStatus) bool {
			if s.State == Stuck || s.Retrying != nil {
				t.Errorf("%+v", s)
			}
			return read(5)(s)
		})
		l.end()
		if s.Restarts != 0 || snk.writes != 1 {
			t.Errorf("%d restarts, %d writes", s.Restarts, snk.writes)
		}
	})
}

// TestStuckOverManySessions: a job that fails and begins anew all the time is
// stuck, also when a partition beside the one that fails goes on.
func TestStuckOverManySessions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("in", 2)
		w.produce("in", 0, "a")
		snk := newFakeSink(true, connectors.Limits{Wait: time.Second})
		snk.before = func(p connectors.Plan) error {
			if p.Partition.Partition == 0 {
				return errors.New("this table is locked")
			}
			return nil
		}
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		for i := range 40 {
			w.produce("in", 1, lines(i, i+1)...)
			pass(10 * time.Second)
		}
		s := l.Status()[0]
		if s.State != Stuck || s.Retrying.Attempts < 5 || time.Since(s.Retrying.Since) < 5*time.Minute || !strings.Contains(s.Retrying.Reason, "this table is locked") {
			t.Errorf("%+v, %+v", s, s.Retrying)
		}
		if s.Restarts < 5 || s.Read < 20 {
			t.Errorf("%d restarts, %d records read", s.Restarts, s.Read)
		}
		if err := l.Pause("shelve"); err != nil {
			t.Fatal(err)
		}
		if s := l.await("shelve", time.Minute, inState(Paused)); s.Retrying != nil {
			t.Errorf("paused, and still %+v", s.Retrying)
		}
		l.end()
	})
}

// TestLateFailureIsNotStuck: a job that was well for hours and fails is not
// stuck at once; a source is stuck as a sink is.
func TestLateFailureIsNotStuck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": nil})
		l := w.start(0, parseOne(t, registry(src, nil), "connectors:\n  - name: tail\n    source: {type: lines, path: /x}\n    topic: out\n"))
		l.await("tail", time.Minute, inState(Running))
		pass(3 * time.Hour)
		if s := l.Status()[0]; s.State != Running || s.Retrying != nil {
			t.Errorf("with nothing to do: %+v", s)
		}
		fail := func(err error) {
			src.mu.Lock()
			defer src.mu.Unlock()
			src.failRead = err
		}
		fail(errors.New("the share is gone"))
		s := l.await("tail", time.Minute, func(s JobStatus) bool { return s.Retrying != nil })
		if s.State != Running || time.Since(s.Retrying.Since) > 10*time.Second {
			t.Errorf("at first: %+v, %+v", s, s.Retrying)
		}
		l.await("tail", 5*time.Minute, inState(Stuck))
		fail(nil)
		if s := l.await("tail", 5*time.Minute, inState(Running)); s.Retrying != nil {
			t.Errorf("at last: %+v", s.Retrying)
		}
		l.end()
	})
}

// inTurns is a source of which one split is read at a time.
type inTurns struct{ *fakeSource }

func (inTurns) Parallel(connectors.Config) int { return 1 }

// TestBrokenSplitTakesNoTurn: a split that cannot be read does not hold up the
// others of a source that reads one at a time, and when it is gone nobody is
// told any more that the job is stuck.
func TestBrokenSplitTakesNoTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 1)})
		src.failOpen = func(split string) error {
			if split == "a" {
				return errors.New("permission denied")
			}
			return nil
		}
		reg := connectors.Registry{Sources: map[string]connectors.Source{"lines": inTurns{src}}}
		l := w.start(0, parseOne(t, reg, tailJob))
		l.await("tail", 10*time.Minute, inState(Stuck))
		src.append("b", "0", "1", "2")
		l.await("tail", 10*time.Minute, produced2(3))
		src.mu.Lock()
		delete(src.splits, "a")
		src.mu.Unlock()
		src.changed <- struct{}{}
		if s := l.await("tail", time.Minute, inState(Running)); s.Retrying != nil {
			t.Errorf("its split is gone, and still %+v", s.Retrying)
		}
		l.end()
	})
}

// forgetfulSink is a destination that opens, and does not say where it is.
type forgetfulSink struct{ *fakeSink }

func (s forgetfulSink) Open(ctx context.Context, task connectors.TaskContext, tps []record.TopicPartition) (connectors.Writer, error) {
	w, err := s.fakeSink.Open(ctx, task, tps)
	return forgetfulWriter{w}, err
}

type forgetfulWriter struct{ connectors.Writer }

func (forgetfulWriter) Resume(_ context.Context, tp record.TopicPartition) (int64, bool, error) {
	if tp.Partition == 0 {
		return 0, false, errors.New("the offsets are locked")
	}
	return 0, false, nil
}

// TestStuckBeforeTheFirstRecord: a job whose destination opens each time, and
// then does not say where it is, is stuck, also when another task goes on.
func TestStuckBeforeTheFirstRecord(t *testing.T) {
	for _, partitions := range []int32{1, 2} {
		inBubble(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.close()
			w.createTopic("in", partitions)
			w.produce("in", 0, "a")
			snk := forgetfulSink{newFakeSink(true, connectors.Limits{Wait: time.Second})}
			l := w.start(0, parseOne(t, connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": snk}}, plainSink))
			defer l.end()
			s := l.await("shelve", 10*time.Minute, inState(Stuck))
			if s.Retrying.Attempts < 5 || !strings.Contains(s.Retrying.Reason, "the offsets are locked") {
				t.Errorf("%d partitions: %+v, %+v", partitions, s, s.Retrying)
			}
		})
	}
}

// TestSplitThatWentBetweenSessions: nobody is told that a job is stuck with a
// split that is no longer there when the job begins anew.
func TestSplitThatWentBetweenSessions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 1), "b": lines(0, 1)})
		src.failOpen = func(split string) error {
			if split == "a" {
				return errors.New("permission denied")
			}
			return nil
		}
		l := w.start(0, parseOne(t, registry(src, nil), tailJob))
		defer l.end()
		l.await("tail", 10*time.Minute, inState(Stuck))
		src.mu.Lock()
		delete(src.splits, "a")
		src.mu.Unlock()
		if err := l.Restart("tail"); err != nil { // before it has asked for the list again
			t.Fatal(err)
		}
		if s := l.await("tail", time.Minute, inState(Running)); s.Retrying != nil {
			t.Errorf("its split is gone, and still %+v", s.Retrying)
		}
	})
}
