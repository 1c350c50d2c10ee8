package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// replayAll replays until nothing is left, over new lives as crashes ask for.
func (w *world) replayAll(rng *rand.Rand, job ConnectorSpec, crashes int) (sum Counters) {
	w.t.Helper()
	for round := 0; ; round++ {
		l := w.start(time.Nanosecond, job)
		l.await(job.Name, time.Hour, func(s JobStatus) bool { return s.State == Completed || s.State == Running && s.Lag == 0 })
		if round < crashes {
			l.arm(rng, 60)
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
		done, err := l.Replay(ctx, job.Name)
		cancel()
		sum = sum.plus(done.Counters)
		if round < crashes {
			l.crash()
			continue
		}
		l.end()
		if err != nil {
			w.t.Fatal(err)
		}
		if done.Left == 0 {
			return sum
		}
	}
}

func TestReplayOfASource(t *testing.T) {
	eachSeed(t, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 2)
		var all []string
		for i := range 300 {
			all = append(all, fmt.Sprintf(`{"n":%d}`, i))
			if i%3 == 0 {
				all[i] = fmt.Sprintf("n=%d", i)
			}
			if i%30 == 0 {
				all[i] = "too long" // the source's own error goes away with the letter
			}
		}
		src := newFakeSource(true, map[string][]string{"a": all})
		job := "connectors: [{name: pairs, source: {type: lines}, topic: out, transforms: [%s]}]"
		l := w.start(0, parseOne(t, registry(src, nil), fmt.Sprintf(job, "{parse: {format: json}}")))
		l.await("pairs", time.Minute, inState(Completed))
		l.end()
		if n := len(w.records("pairs.dlq")); n != 100 {
			t.Fatalf("%d dead letters, want 100", n)
		}
		// Under the same config all fail again, each once.
		same := parseOne(t, registry(src, nil), fmt.Sprintf(job, "{parse: {format: json}}"))
		w.replayAll(rng, same, 0)
		if n := len(w.records("pairs.dlq")); n != 200 {
			t.Errorf("%d dead letters after a replay that failed, want 200", n)
		}
		fixed := parseOne(t, registry(src, nil), fmt.Sprintf(job, "{filter: 'string(offset) != \"\"'}"))
		w.replayAll(rng, fixed, rng.IntN(4))
		if again := w.replayAll(rng, fixed, 0); again.Read != 0 {
			t.Errorf("a second replay took up %+v", again)
		}
		seen := map[string]int{}
		for _, r := range w.committed("out") {
			seen[string(r.Value)]++
		}
		for _, v := range all {
			if want := 1 + 9*strings.Count(v, "too long"); seen[v] != want {
				t.Errorf("%s is here %d times, want %d", v, seen[v], want)
			}
		}
		if n := len(w.committed("out")); n != 300 {
			t.Errorf("%d records are committed, want 300", n)
		}
	})
}

func TestReplayOfASink(t *testing.T) {
	eachSeed(t, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("in", 1)
		for i := range 60 {
			w.produce("in", 0, fmt.Sprintf(`{"n":%d}`, i))
		}
		snk := newFakeSink(rng.IntN(2) == 0, connectors.Limits{Records: 1 + rng.IntN(20), Wait: time.Second})
		snk.refuse = func(m connectors.Message) bool { return m.Key == nil || strings.HasSuffix(string(m.Value), "5}") }
		job := parseOne(t, registry(nil, snk), "connectors: [{name: shelve, sink: {type: shelf, path: /s}, topic: in}]")
		l := w.start(0, job)
		l.await("shelve", time.Minute, func(s JobStatus) bool { return s.Read == 60 && s.Lag == 0 })
		l.end()
		if n := len(w.records("shelve.dlq")); n != 6 {
			t.Fatalf("%d dead letters, want 6", n)
		}
		snk.refuse = nil
		w.replayAll(rng, job, rng.IntN(4))
		if again := w.replayAll(rng, job, 0); again.Read != 0 {
			t.Errorf("a second replay took up %+v", again)
		}
		seen := map[string]int{}
		for _, v := range snk.values {
			seen[v]++
		}
		for i := range 60 {
			if v := fmt.Sprintf(`{"n":%d}`, i); seen[v] != 1 {
				t.Errorf("%s is at the destination %d times", v, seen[v])
			}
		}
		for _, f := range snk.faults {
			t.Error(f)
		}
	})
}

func TestOffsetsOfASource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 100)})
		l := w.start(time.Second, parseOne(t, registry(src, nil), tailJob))
		defer l.end()
		l.await("tail", time.Minute, produced2(100))
		if err := l.ResetOffsets(t.Context(), "tail"); !errors.Is(err, ErrBusy) {
			t.Errorf("reset of a running job: %v", err)
		}
		step := func(want int, change func() error) {
			t.Helper()
			if err := l.SetDesired("tail", WantStopped); err != nil {
				t.Fatal(err)
			}
			l.await("tail", time.Minute, inState(Stopped))
			if err := change(); err != nil {
				t.Fatal(err)
			}
			if err := l.Resume("tail"); err != nil {
				t.Fatal(err)
			}
			l.await("tail", time.Minute, inState(Running))
			pass(10 * time.Second)
			if n := len(w.records("out")); n != want {
				t.Errorf("%d records, want %d", n, want)
			}
		}
		step(130, func() error {
			return l.SetOffsets(t.Context(), "tail", []Offset{{Split: "a", Position: position(69), Where: "a:70"}})
		})
		got, err := l.Offsets(t.Context(), "tail")
		if err != nil || len(got) != 1 || got[0].Split != "a" || got[0].Where != "a:100" {
			t.Errorf("offsets %+v, %v", got, err)
		}
		step(230, func() error { return l.ResetOffsets(t.Context(), "tail") })
		step(230, func() error { return nil })
		if err := l.SetOffsets(t.Context(), "nobody", nil); !errors.Is(err, ErrUnknownJob) {
			t.Errorf("offsets of a job that is not there: %v", err)
		}
	})
}

func TestOffsetsOfASink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("in", 2)
		w.produce("in", 0, lines(0, 10)...)
		w.produce("in", 1, lines(0, 10)...)
		snk := newFakeSink(false, connectors.Limits{Records: 4, Wait: time.Second})
		l := w.start(time.Second, parseOne(t, registry(nil, snk), "connectors: [{name: shelve, sink: {type: shelf, path: /s}, topic: in}]"))
		defer l.end()
		l.await("shelve", time.Minute, func(s JobStatus) bool { return s.Written == 20 })
		again := func(want int, change func() error) {
			t.Helper()
			snk.plans, snk.values = map[topicPartition][]connectors.Plan{}, nil
			if err := errors.Join(l.Pause("shelve")); err != nil {
				t.Fatal(err)
			}
			l.await("shelve", time.Minute, inState(Paused))
			if err := change(); err != nil {
				t.Fatal(err)
			}
			if err := l.Resume("shelve"); err != nil {
				t.Fatal(err)
			}
			pass(10 * time.Second)
			if len(snk.values) != want {
				t.Errorf("%d rows came again, want %d", len(snk.values), want)
			}
		}
		again(3, func() error {
			return l.SetOffsets(t.Context(), "shelve", []Offset{{Topic: "in", Partition: 1, Offset: 7}})
		})
		again(20, func() error { return l.ResetOffsets(t.Context(), "shelve") })
		again(0, func() error { return nil })
		got, err := l.Offsets(t.Context(), "shelve")
		if err != nil || len(got) != 2 || got[1].Partition != 1 || got[1].Offset != 10 {
			t.Errorf("offsets %+v, %v", got, err)
		}
	})
}

// TestOffsetSetBackTriesDeadLettersAgain: who moves a sink back to where its
// last plan began wants all of its records tried, also those that were given up.
func TestOffsetSetBackTriesDeadLettersAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 20)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
		snk.refuse = func(m connectors.Message) bool { return m.Offset == 15 }
		l := w.start(time.Second, parseOne(t, registry(nil, snk), plainSink))
		defer l.end()
		l.await("shelve", time.Minute, read(20))
		if err := l.Stop("shelve"); err != nil {
			t.Fatal(err)
		}
		l.await("shelve", time.Minute, inState(Stopped))
		snk.refuse, snk.plans, snk.values = nil, map[topicPartition][]connectors.Plan{}, nil
		back := Offset{Topic: "in", Offset: 10}
		if err := l.SetOffsets(t.Context(), "shelve", []Offset{back, {Topic: "another"}}); !errors.Is(err, record.ErrInvalidRequest) {
			t.Errorf("an offset of another topic: %v", err)
		}
		if got, err := l.Offsets(t.Context(), "shelve"); err != nil || len(got) != 1 || got[0].Offset != 20 {
			t.Errorf("offsets %+v, %v; what was refused has moved a part", got, err)
		}
		if err := l.SetOffsets(t.Context(), "shelve", []Offset{back}); err != nil {
			t.Fatal(err)
		}
		if err := l.Resume("shelve"); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		if joined(snk.values) != joined(lines(10, 20)) || len(snk.faults) > 0 {
			t.Errorf("loaded %v, faults %v", snk.values, snk.faults)
		}
	})
}

// TestResetThatCannotAskIsNoReset: what the hub does not answer is an error,
// not a reset.
func TestResetThatCannotAskIsNoReset(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 20)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
		l := w.start(time.Second, parseOne(t, registry(nil, snk), plainSink))
		defer l.end()
		l.await("shelve", time.Minute, read(20))
		if err := l.Stop("shelve"); err != nil {
			t.Fatal(err)
		}
		l.await("shelve", time.Minute, inState(Stopped))
		for _, fault := range []kfake.Fault{
			{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.GroupAuthorizationFailed},
			{Keys: []kmsg.Key{kmsg.OffsetDelete}, Err: kerr.GroupAuthorizationFailed},
			{Keys: []kmsg.Key{kmsg.OffsetDelete}, Err: kerr.GroupSubscribedToTopic, Topic: "in"}, // of the partition
		} {
			fault.Count = -1
			refused := w.cluster.Fault(fault)
			if err := l.ResetOffsets(t.Context(), "shelve"); !errors.Is(err, fault.Err) {
				t.Errorf("a reset refused with %v: %v", fault.Err, err)
			}
			refused.Remove()
		}
	})
}
