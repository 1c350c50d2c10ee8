package stream

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const tailJob = `
connectors:
  - name: tail
    source: {type: lines}
    topic: out
`

func produced2(n int64) func(JobStatus) bool {
	return func(s JobStatus) bool { return s.Produced == n }
}

func TestSourceFollowsPausesAndResumes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 2)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 10)})
		l := w.start(0, parseOne(t, registry(src, nil), tailJob))
		l.await("tail", time.Minute, produced2(10))
		if err := l.Pause("tail"); err != nil {
			t.Error(err)
		}
		l.await("tail", time.Minute, inState(Paused))
		if src.openNow != 0 {
			t.Errorf("%d readers are open in a paused job", src.openNow)
		}
		src.append("a", lines(10, 20)...)
		src.append("b", "x")
		pass(time.Minute)
		if s := l.Status()[0]; s.Produced != 10 {
			t.Errorf("a paused job went on to %d", s.Produced)
		}
		if err := l.Resume("tail"); err != nil {
			t.Error(err)
		}
		l.await("tail", time.Minute, produced2(21))
		if err := l.SetDesired("tail", WantStopped); err != nil {
			t.Error(err)
		}
		l.await("tail", time.Minute, inState(Stopped))
		for _, err := range []error{l.Pause("nobody"), l.Resume("nobody"), l.Restart("nobody")} {
			if !errors.Is(err, ErrUnknownJob) {
				t.Errorf("got %v", err)
			}
		}
		if err := l.SetDesired("tail", "asleep"); err == nil {
			t.Error("any wish is taken")
		}
		l.end()
		if n := len(w.records("out")); n != 21 {
			t.Errorf("%d records, want 21", n)
		}
	})
}

func TestApplyStartsStopsAndChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 10)})
		one := parseOne(t, registry(src, nil), tailJob)
		l := w.start(0, one)
		l.await("tail", time.Minute, produced2(10))
		opened := len(src.opened["a"])

		if err := l.Apply([]ConnectorSpec{one}, nil); err != nil {
			t.Fatal(err)
		}
		src.append("a", "same")
		l.await("tail", time.Minute, produced2(11))
		if len(src.opened["a"]) != opened {
			t.Error("a job that did not change was started again")
		}

		changed := parseOne(t, registry(src, nil), tailJob+"    key: text\n")
		if err := l.Apply([]ConnectorSpec{changed}, nil); err != nil {
			t.Fatal(err)
		}
		src.append("a", "changed")
		l.await("tail", time.Minute, produced2(12))

		if err := l.Apply([]ConnectorSpec{changed, changed}, nil); err == nil || !strings.Contains(err.Error(), `"tail"`) {
			t.Errorf("two jobs of one name: %v", err)
		}
		if err := l.Apply([]ConnectorSpec{{Name: "x"}}, nil); err == nil {
			t.Error("an empty job is taken")
		}
		if err := l.Apply(nil, nil); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if n := len(l.Status()); n != 0 || src.openNow != 0 {
			t.Errorf("%d jobs, %d readers", n, src.openNow)
		}
		if err := l.Apply([]ConnectorSpec{changed}, map[string]Desired{"tail": WantPaused}); err != nil {
			t.Fatal(err)
		}
		l.await("tail", time.Minute, inState(Paused))
		l.end()
		got := w.records("out")
		if len(got) != 12 || string(got[11].Key) != "changed" || got[10].Key != nil {
			t.Errorf("%d records", len(got))
		}
	})
}

func TestBadSplitDoesNotHoldUpOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"bad": lines(0, 5), "good": lines(5, 10)})
		tries := 0
		src.failOpen = func(split string) error {
			if split == "bad" && tries < 3 {
				tries++
				return connectors.Retry(0, errors.New("permission denied"))
			}
			return nil
		}
		l := w.start(0, parseOne(t, registry(src, nil), tailJob))
		s := l.await("tail", time.Second, produced2(5))
		if s.State != Running || s.Parts[0].Error == "" || !strings.Contains(s.LastError, "permission denied") {
			t.Errorf("%+v", s)
		}
		s = l.await("tail", time.Minute, produced2(10))
		if s.Parts[0].Error != "" {
			t.Errorf("the split is well again but shows %q", s.Parts[0].Error)
		}
		l.end()
	})
}

func TestFatalReaderParksTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 5)})
		src.failOpen = func(string) error { return connectors.Fatalf("slot mismatch") }
		l := w.start(0, parseOne(t, registry(src, nil), tailJob))
		s := l.await("tail", time.Minute, inState(Failed))
		if s.LastError != "open a: slot mismatch" {
			t.Errorf("last error %q", s.LastError)
		}
		src.mu.Lock()
		src.failOpen = nil
		src.mu.Unlock()
		if err := l.Resume("tail"); err != nil {
			t.Error(err)
		}
		l.await("tail", time.Minute, produced2(5))
		l.end()
	})
}

func TestSourceMaxFailures(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		all := append(lines(0, 100), strings.Fields(strings.Repeat("{ ", 50))...)
		src := newFakeSource(true, map[string][]string{"a": all})
		text := tailJob + "    transforms: [{parse: {format: json}}]\n    errors: {dlq: graveyard, max_failures: 10/1000}\n"
		l := w.start(0, parseOne(t, registry(src, nil), text))
		s := l.await("tail", time.Minute, inState(Failed))
		if !strings.Contains(s.LastError, "more than 10 of the last 1000") || s.DLQ != "graveyard" {
			t.Errorf("%+v", s)
		}
		l.end()
		if n := len(w.records("graveyard")); n != 11 {
			t.Errorf("%d dead letters, want 11", n)
		}
		// The position is after what was decided: a restart does not send the
		// same dead letters again, and stops at the next eleven.
		l = w.start(0, parseOne(t, registry(src, nil), text))
		l.await("tail", time.Minute, inState(Failed))
		l.end()
		if n := len(w.records("graveyard")); n != 22 {
			t.Errorf("%d dead letters after a restart, want 22", n)
		}
	})
}

func TestRecordsThatAreTooLargeAreDeadLetters(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		if err := w.cluster.CreateTopic("out", 1, map[string]string{"max.message.bytes": "2000"}); err != nil {
			t.Fatal(err)
		}
		if err := w.cluster.CreateTopic("tail.dlq", 1, map[string]string{"max.message.bytes": "2000"}); err != nil {
			t.Fatal(err)
		}
		src := newFakeSource(true, map[string][]string{"a": {"small", strings.Repeat("x", 3000), "small too"}})
		l := w.start(0, parseOne(t, registry(src, nil), tailJob))
		s := l.await("tail", time.Minute, inState(Completed))
		l.end()
		letters := w.records("tail.dlq")
		if s.Produced != 2 || len(letters) != 1 || header(letters[0], HeaderDeadTruncated) != "3000" ||
			!strings.Contains(header(letters[0], HeaderDeadReason), "too large") || len(letters[0].Value) < 1000 {
			t.Errorf("%+v; %v", s.Counters, letters)
		}
	})
}

// TestSlowHubHoldsTheSourceBack: while the hub takes no records, the source
// is not read on without end, and nothing is lost when it takes them again.
func TestSlowHubHoldsTheSourceBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		var all []string
		for i := range 5000 {
			all = append(all, fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000)))
		}
		src := newFakeSource(true, map[string][]string{"a": all})
		blocked := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Err: kerr.NotLeaderForPartition, Count: -1})
		l := w.start(0, parseOne(t, registry(src, nil), tailJob+"    memory: 1MiB\n"))
		pass(time.Minute)
		s := l.Status()[0]
		if s.Produced != 0 || s.State != Running {
			t.Errorf("%+v", s)
		}
		// One MiB in the client, and one batch of the reader.
		if n := src.handedOut["a"]; n > 1050+1000 {
			t.Errorf("%d lines were read though only about 1000 fit", n)
		}
		blocked.Remove()
		l.await("tail", time.Minute, inState(Completed))
		l.end()
		if n := len(w.records("out")); n != 5000 {
			t.Errorf("%d records", n)
		}
	})
}

func TestDrainWritesTheLastCheckpoint(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 1000)})
		job := parseOne(t, registry(src, nil), tailJob)
		l := w.start(0, job)
		l.await("tail", time.Minute, inState(Running))
		pass(time.Millisecond)
		l.end()
		if src.committed["a"] != 999 {
			t.Errorf("committed %d, want 999", src.committed["a"])
		}
		l = w.start(0, job)
		l.await("tail", time.Minute, inState(Running))
		l.end()
		if from := src.opened["a"][1]; from != 1000 {
			t.Errorf("the second life began at %d, want 1000", from)
		}
		if n := len(w.records("out")); n != 1000 {
			t.Errorf("%d records", n)
		}
	})
}

// TestDrainIsCutOff: a hub that does not answer cannot hold up the stop.
func TestDrainIsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 100)})
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Err: kerr.NotLeaderForPartition, Count: -1})
		l := w.start(5*time.Second, parseOne(t, registry(src, nil), tailJob))
		l.await("tail", time.Minute, inState(Running))
		pass(time.Second)
		began := time.Now()
		l.end()
		if took := time.Since(began); took < 5*time.Second || took > 8*time.Second {
			t.Errorf("the stop took %v, want about 5 s", took)
		}
	})
}

func TestCheckpointThatCannotBeReadStopsTheJob(t *testing.T) {
	for _, bad := range []string{`{"v":2}`, `{"v":1,"new_field":1}`, `garbage`} {
		t.Run(bad, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.close()
				w.createTopic("out", 1)
				w.createTopic(CheckpointTopic, 1)
				r := &kgo.Record{Topic: CheckpointTopic, Key: []byte("source/tail/a"), Value: []byte(bad)}
				if err := w.client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
					t.Fatal(err)
				}
				src := newFakeSource(false, map[string][]string{"a": lines(0, 100)})
				l := w.start(0, parseOne(t, registry(src, nil), tailJob))
				s := l.await("tail", time.Minute, inState(Failed))
				l.end()
				if !strings.Contains(s.LastError, "checkpoint source/tail/a") || len(w.records("out")) != 0 {
					t.Errorf("last error %q", s.LastError)
				}
			})
		})
	}
}

func TestStatusBeforeRunAndConfigErrors(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no seeds are taken")
	}
	r, err := New(Config{Seeds: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	src := newFakeSource(false, nil)
	if err := r.Apply([]ConnectorSpec{parseOne(t, registry(src, nil), tailJob)}, nil); err != nil {
		t.Fatal(err)
	}
	if s := r.Status(); len(s) != 1 || s[0].State != Starting || s[0].Guarantee != "exactly-once (position)" || s[0].Kind != "source" {
		t.Errorf("%+v", s)
	}
}
