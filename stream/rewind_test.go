package stream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// remembering is a sink that says what becomes of records that come again.
type remembering struct{ *fakeSink }

func (remembering) Replayed(_ connectors.Config, job string, moves []connectors.Move) string {
	return job + " has " + moves[0].Partition.String()
}

// timed is a source whose lines are of minute 0, 1, 2 …
type timed struct {
	*fakeSource
	began time.Time
	fail  error
}

func (s timed) At(_ context.Context, _ connectors.TaskContext, _ connectors.Split, at time.Time) (connectors.Found, error) {
	n := int(at.Sub(s.began) / time.Minute)
	if n <= 0 {
		return connectors.Found{Where: "the beginning"}, s.fail
	}
	return connectors.Found{Position: position(n - 1), Where: "a"}, s.fail
}

func timedRegistry(s connectors.Timed) connectors.Registry {
	return connectors.Registry{Sources: map[string]connectors.Source{"lines": s}}
}

// TestRewindOfASink goes back to the first record of a time in each partition,
// and forward in none; a look changes nothing.
func TestRewindOfASink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("in", 3)
		w.produce("in", 0, lines(0, 10)...)
		w.produce("in", 1, lines(0, 10)...)
		pass(time.Hour)
		w.produce("in", 1, lines(10, 15)...)
		snk := remembering{newFakeSink(false, connectors.Limits{Records: 4, Wait: time.Second})}
		l := w.start(time.Second, parseOne(t, connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": snk}}, plainSink))
		defer l.end()
		l.await("shelve", time.Minute, func(s JobStatus) bool { return s.Written == 25 })
		half := time.Now().Add(-30 * time.Minute)
		if _, err := l.Rewind(t.Context(), "shelve", half, false); !errors.Is(err, ErrBusy) {
			t.Errorf("rewind of a running job: %v", err)
		}
		look, err := l.Rewind(t.Context(), "shelve", half, true)
		if err != nil || look.Moved || look.Then != "shelve has in-1" {
			t.Errorf("%+v, %v", look, err)
		}
		for _, p := range look.Parts {
			if want := int64(5 * btoi(p.From.Partition == 1)); p.Records != want || p.Stays != (want == 0) || p.From.Offset-p.To.Offset != want {
				t.Errorf("partition %d: %+v, want %d records", p.From.Partition, p, want)
			}
		}
		again := func(want int, to time.Time, moved bool) {
			t.Helper()
			snk.values = nil
			if err := l.Stop("shelve"); err != nil {
				t.Fatal(err)
			}
			l.await("shelve", time.Minute, inState(Stopped))
			done, err := l.Rewind(t.Context(), "shelve", to, false)
			if err != nil || done.Moved != moved {
				t.Fatalf("%+v, %v", done, err)
			}
			if err := l.Resume("shelve"); err != nil {
				t.Fatal(err)
			}
			pass(10 * time.Second)
			if len(snk.values) != want {
				t.Errorf("%d rows came again, want %d", len(snk.values), want)
			}
		}
		again(5, half, true)
		again(0, time.Now().Add(time.Hour), false)
		again(25, half.Add(-24*time.Hour), true)
	})
}

func TestRewindOfASource(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := timed{newFakeSource(false, map[string][]string{"a": lines(0, 100)}), time.Now(), nil}
		l := w.start(time.Second, parseOne(t, timedRegistry(src), tailJob))
		defer l.end()
		l.await("tail", time.Minute, produced2(100))
		step := func(want int, to time.Duration) {
			t.Helper()
			if err := l.Stop("tail"); err != nil {
				t.Fatal(err)
			}
			l.await("tail", time.Minute, inState(Stopped))
			if _, err := l.Rewind(t.Context(), "tail", src.began.Add(to), false); err != nil {
				t.Fatal(err)
			}
			if err := l.Resume("tail"); err != nil {
				t.Fatal(err)
			}
			pass(10 * time.Second)
			if n := len(w.records("out")); n != want {
				t.Errorf("%d records, want %d", n, want)
			}
		}
		step(130, 70*time.Minute)
		step(130, 200*time.Minute)
		step(230, -time.Minute)
		values := w.records("out")
		if n := len(values); n == 230 && string(values[n-1].Value) != "99" {
			t.Errorf("the last one is %s", values[n-1].Value)
		}
	})
}

// TestRewindOfASourceWithoutTimes is refused, with a way out.
func TestRewindOfASourceWithoutTimes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		l := w.start(time.Second, parseOne(t, registry(newFakeSource(false, map[string][]string{"a": lines(0, 1)}), nil), tailJob))
		defer l.end()
		l.await("tail", time.Minute, produced2(1))
		_, err := l.Rewind(t.Context(), "tail", time.Now(), true)
		if !errors.Is(err, record.ErrInvalidRequest) || !strings.Contains(err.Error(), "offsets set") {
			t.Errorf("got %v", err)
		}
		if _, err := l.Rewind(t.Context(), "nobody", time.Now(), true); !errors.Is(err, ErrUnknownJob) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRewindMovesAllOrNothing: a split whose time cannot be found keeps the
// others where they are.
func TestRewindMovesAllOrNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := timed{newFakeSource(false, map[string][]string{"a": lines(0, 10), "b": lines(0, 10)}), time.Now(), nil}
		failing := &failsAt{timed: src, split: "b"}
		l := w.start(time.Second, parseOne(t, timedRegistry(failing), tailJob))
		defer l.end()
		l.await("tail", time.Minute, produced2(20))
		if err := l.Stop("tail"); err != nil {
			t.Fatal(err)
		}
		l.await("tail", time.Minute, inState(Stopped))
		before, _ := l.Offsets(t.Context(), "tail")
		if _, err := l.Rewind(t.Context(), "tail", src.began, false); err == nil {
			t.Fatal("it went through")
		}
		after, _ := l.Offsets(t.Context(), "tail")
		if !slices.EqualFunc(before, after, func(a, b Offset) bool { return a.Position.Compare(b.Position) == 0 && a.Split == b.Split }) {
			t.Errorf("offsets %+v, they were %+v", after, before)
		}
	})
}

type failsAt struct {
	timed
	split string
}

func (s *failsAt) At(ctx context.Context, task connectors.TaskContext, split connectors.Split, at time.Time) (connectors.Found, error) {
	if split.ID == s.split {
		return connectors.Found{}, errors.New("the system does not answer")
	}
	return s.timed.At(ctx, task, split, at)
}
