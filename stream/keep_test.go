package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors"
)

// keptSink is a fakeSink with a Keeper, which notes what it is told.
type keptSink struct {
	*fakeSink
	told   [][]connectors.Standing
	answer func(call int) error
	open   int
	fates  map[int64]connectors.Fate // by offset, of the last write that went through
}

func (s *keptSink) OpenKeeper(context.Context, connectors.TaskContext) (connectors.Keeper, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return &fakeKeeper{s}, nil
}

func (s *keptSink) Open(ctx context.Context, task connectors.TaskContext, tps []topicPartition) (connectors.Writer, error) {
	w, err := s.fakeSink.Open(ctx, task, tps)
	return &fateWriter{w, s}, err
}

type fateWriter struct {
	connectors.Writer
	sink *keptSink
}

func (w *fateWriter) Write(ctx context.Context, p connectors.Plan, b connectors.Batch) ([]connectors.RecordError, error) {
	refused, err := w.Writer.Write(ctx, p, b)
	if err == nil && len(refused) == 0 {
		kept := 0
		for i, m := range b.Records {
			w.sink.fates[m.Offset] = b.Fates[i]
			if b.Fates[i] == connectors.Kept {
				kept++
			}
		}
		if kept != len(b.Messages) || len(b.Fates) != len(b.Records) {
			w.sink.faults = append(w.sink.faults, fmt.Sprintf("%d records are kept, %d came", kept, len(b.Messages)))
		}
	}
	return refused, err
}

type fakeKeeper struct{ sink *keptSink }

func (k *fakeKeeper) Keep(_ context.Context, at []connectors.Standing) error {
	k.sink.mu.Lock()
	defer k.sink.mu.Unlock()
	k.sink.told = append(k.sink.told, at)
	if k.sink.answer != nil {
		return k.sink.answer(len(k.sink.told))
	}
	return nil
}

func (k *fakeKeeper) Close(context.Context) error {
	k.sink.mu.Lock()
	defer k.sink.mu.Unlock()
	k.sink.open--
	return nil
}

func (s *keptSink) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.told)
}

func newKeptSink(l connectors.Limits) *keptSink {
	return &keptSink{fakeSink: newFakeSink(false, l), fates: map[int64]connectors.Fate{}}
}

// TestKeeperIsToldWhereThePartitionsStand: what waits in a buffer is not
// loaded; the marker of a transaction at the end is nothing that is missing.
func TestKeeperIsToldWhereThePartitionsStand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("in", 6)
		w.produce("in", 4, lines(0, 3)...)
		snk := newKeptSink(connectors.Limits{Wait: 10 * time.Second})
		reg := connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": snk}}
		l := w.start(0, parseOne(t, reg, plainSink))
		l.await("shelve", time.Minute, read(3))
		w.produce("in", 4, "3", "4")
		pass(5 * time.Second)
		snk.mu.Lock()
		early := snk.told[len(snk.told)-1]
		snk.mu.Unlock()
		if len(early) != 6 || early[4] != (connectors.Standing{Partition: tp("in", 4), Loaded: 3, End: 5}) {
			t.Errorf("while two records wait the keeper is told %+v", early)
		}
		tx, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.net.over(w.wire)), kgo.DisableClientMetrics(),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("tx"))
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Close()
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Partition: 5, Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := tx.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		pass(30 * time.Second)
		l.end()
		for _, s := range snk.told[len(snk.told)-1] {
			want := map[int32]int64{4: 5, 5: 2}[s.Partition.Partition]
			if s.Loaded != want || s.End != want {
				t.Errorf("at the end the keeper is told %+v, want %d for both", s, want)
			}
		}
		if snk.open != 0 || len(snk.faults) > 0 {
			t.Errorf("%d keepers are open; faults %v", snk.open, snk.faults)
		}
	})
}

// TestKeeperThatFails: loading goes on, the keeper is asked again and later
// each time; an error for good parks the job.
func TestKeeperThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		snk := newKeptSink(connectors.Limits{Wait: time.Second})
		snk.answer = func(call int) error {
			if call < 6 {
				return connectors.Retry(0, errors.New("the store is away"))
			}
			return connectors.Fatalf("the manifest is another job's")
		}
		reg := connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": snk}}
		l := w.start(0, parseOne(t, reg, plainSink))
		l.await("shelve", time.Minute, read(5))
		pass(10 * time.Second)
		if n := snk.calls(); n < 2 || n > 4 {
			t.Errorf("%d calls in ten seconds, want fewer and fewer", n)
		}
		s := l.await("shelve", 5*time.Minute, inState(Failed))
		l.end()
		if snk.open != 0 || s.LastError != "the manifest is another job's" {
			t.Errorf("%d keepers are open, the error is %q", snk.open, s.LastError)
		}
	})
}

// TestFates: each record of a plan has one, also when the plan is executed
// again after its dead letters were sent.
func TestFates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 10)
		defer w.close()
		snk := newKeptSink(connectors.Limits{Wait: time.Second})
		snk.refuse = func(m connectors.Message) bool { return string(m.Value) == "4" }
		lost := false
		snk.before = func(connectors.Plan) error {
			if snk.writes == 2 && !lost {
				lost = true
				return connectors.Unknown(errors.New("no answer"))
			}
			return nil
		}
		reg := connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": snk}}
		l := w.start(0, parseOne(t, reg, plainSink+"    transforms: [{filter: 'value != 7'}]\n"))
		l.await("shelve", time.Minute, read(10))
		l.end()
		for o := range int64(10) {
			want := map[int64]connectors.Fate{4: connectors.DeadLettered, 7: connectors.Filtered}[o]
			if got, ok := snk.fates[o]; !ok || got != want {
				t.Errorf("offset %d has the fate %v, %t, want %v", o, got, ok, want)
			}
		}
		if !lost || len(snk.faults) > 0 {
			t.Errorf("faults %v", snk.faults)
		}
	})
}
