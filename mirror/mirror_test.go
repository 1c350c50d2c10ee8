package mirror

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a source site and a mirror of it, in a bubble of fake time.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	src  *fakeSite
	dst  *memSite
	m    *Manager
	cfg  Config
	logs *logBuffer
	stop func()
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// inWorld runs a test with a source and a running mirror.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(1, 2)), src: newFakeSite(), dst: newMemSite(), logs: new(logBuffer)}
		w.cfg = Config{Site: "west", Dial: w.src.dial, Logger: slog.New(slog.NewTextHandler(w.logs, nil))}
		w.start()
		test(w)
		w.stop()
		w.src.stop()
		w.src.done.Wait()
	})
}

// start runs a mirror over what the destination has.
func (w *world) start() {
	w.t.Helper()
	m, err := New(w.cfg, w.dst)
	if err != nil {
		w.t.Fatal(err)
	}
	m.SetSources([]Source{{Site: "east", Brokers: []string{"source:9092"}}})
	ctx, cancel := context.WithCancel(context.Background())
	var ran sync.WaitGroup
	ran.Go(func() {
		if err := m.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.m, w.stop = m, func() { cancel(); ran.Wait() }
}

// wait lets fake time pass.
func (w *world) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// part is the status of one partition.
func (w *world) part(topic string, n int) PartitionStatus {
	w.t.Helper()
	for _, l := range w.m.Status() {
		for _, t := range l.Topics {
			if t.Name == topic {
				return t.Partitions[n]
			}
		}
	}
	w.t.Fatalf("no topic %q in %+v", topic, w.m.Status())
	panic("unreachable")
}

// topicState is the state of a topic.
func (w *world) topicState(topic string) (State, string) {
	for _, t := range w.m.Status()[0].Topics {
		if t.Name == topic {
			return t.State, t.Reason
		}
	}
	return "", ""
}

// level fails the test unless the topic is the same at both sites.
func (w *world) level(topic string) {
	w.t.Helper()
	w.src.mu.Lock()
	defer w.src.mu.Unlock()
	w.dst.mu.Lock()
	defer w.dst.mu.Unlock()
	dst := w.dst.topics[topic]
	if dst == nil {
		w.t.Fatalf("topic %q is not at the destination", topic)
	}
	for i, l := range w.src.topics[topic].logs {
		if err := same(l, dst.logs[i]); err != nil {
			w.t.Errorf("%s-%d: %v", topic, i, err)
		}
	}
}

func (w *world) log(topic string, n int) *fakeLog { return w.src.topics[topic].logs[n] }

func TestSameBytesAtTheSameOffsets(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := w.src.create("clicks", 1, 3)
		w.src.create("private", 2, 1).config = map[string]string{}
		w.src.create("elsewhere", 3, 1).config = map[string]string{settingTo: "north, south"}
		w.src.create("copy", 4, 1).config = map[string]string{settingTo: "west", settingSource: "north"}
		topic.config = map[string]string{settingTo: "north, west", "retention.ms": "1000", "segment.ms": "7", "min.insync.replicas": "2"}
		w.src.with(func() {
			for i, l := range topic.logs {
				for n := range 40 {
					codec := record.Codec(n % 5)
					hole := int64(0)
					if i == 1 && n%3 == 0 {
						hole = w.rng.Int64N(50)
					}
					l.epoch = int32(n / 10)
					l.add(w.rng, codec, 1+w.rng.IntN(20), hole)
				}
			}
		})
		w.wait(10 * time.Second)
		w.level("clicks")
		if len(w.dst.topics) != 1 {
			t.Errorf("topics at the destination: %v", w.dst.Mirrors())
		}
		want := MirroredTopic{Name: "clicks", ID: topic.id, Partitions: 3, SourceSite: "east", Link: "east",
			Config: map[string]string{"retention.ms": "1000"}}
		if got := w.dst.topics["clicks"].MirroredTopic; !got.equal(want) {
			t.Errorf("made %+v\nwant %+v", got, want)
		}
		s := w.m.Status()[0]
		if s.State != StateStreaming || s.Name != "east→west" || s.Lag != lagKnown || *s.LagRecords != 0 || *s.LagSeconds != 0 || s.Batches != 120 {
			t.Errorf("status %+v", s)
		}
		// It goes on as records come, with a new partition and a new setting.
		w.src.with(func() {
			topic.logs = append(topic.logs, newFakeLog())
			topic.config["retention.ms"] = "2000"
			for _, l := range topic.logs {
				l.add(w.rng, record.Zstd, 5, 0)
			}
		})
		w.wait(5 * time.Second)
		w.level("clicks")
		if got := w.dst.topics["clicks"]; got.Partitions != 4 || got.Config["retention.ms"] != "2000" {
			t.Errorf("the source's changes did not arrive: %+v", got.MirroredTopic)
		}
		if text := w.logs.String(); text != "" {
			t.Errorf("not quiet in normal operation:\n%s", text)
		}
	})
}

func TestNewRecordsArriveWithoutDelay(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 2)
		w.wait(3 * time.Second)
		for n := range 20 {
			w.src.with(func() { w.log("clicks", n%2).add(w.rng, record.None, 3, 0) })
			w.wait(10 * time.Millisecond) // far less than the source's wait
			w.level("clicks")
		}
	})
}

// The log start is followed with no new record at the source.
func TestTrimIsFollowed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 1)
		w.src.with(func() {
			for range 10 {
				w.log("clicks", 0).add(w.rng, record.None, 10, 0)
			}
		})
		w.wait(3 * time.Second)
		w.src.with(func() { w.log("clicks", 0).trim(45) }) // inside of a batch
		w.wait(1100 * time.Millisecond)
		w.level("clicks")
		if got := w.dst.topics["clicks"].logs[0].start; got != 45 {
			t.Errorf("log start %d, want 45", got)
		}
		w.src.with(func() { w.log("clicks", 0).trim(100) }) // all of it
		w.wait(1100 * time.Millisecond)
		if got := w.dst.topics["clicks"].logs[0]; got.start != 100 || got.next != 100 {
			t.Errorf("log %d to %d, want 100 to 100", got.start, got.next)
		}
		w.src.with(func() { w.log("clicks", 0).add(w.rng, record.None, 10, 0) })
		w.wait(time.Second)
		w.level("clicks")
		if n := w.dst.topics["clicks"].logs[0].trims; n != 2 {
			t.Errorf("the log start was set %d times, want twice", n)
		}
	})
}

// A mirror of a topic whose head is gone begins where the source does, in the
// middle of a batch if need be.
func TestBeginsAtTheSourcesStart(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := w.src.create("clicks", 1, 2)
		w.src.with(func() {
			for range 10 {
				topic.logs[0].add(w.rng, record.None, 10, 0)
				topic.logs[1].add(w.rng, record.None, 10, 0)
			}
			topic.logs[0].trim(33)
			topic.logs[1].trim(100) // nothing is left
		})
		w.wait(4 * time.Second)
		w.level("clicks")
		if got := w.dst.topics["clicks"].logs[0]; got.start != 33 || got.batches[0].BaseOffset() != 30 {
			t.Errorf("log start %d, first batch at %d, want 33 and 30", got.start, got.batches[0].BaseOffset())
		}
		if s := w.part("clicks", 1); s.Lag != lagKnown || *s.LagRecords != 0 {
			t.Errorf("the empty one: %+v", s)
		}
		w.src.with(func() { topic.logs[1].add(w.rng, record.None, 10, 0) })
		w.wait(2 * time.Second)
		w.level("clicks")
		if got := w.dst.topics["clicks"].logs[1]; got.start != 100 || got.next != 110 {
			t.Errorf("log %d to %d, want 100 to 110", got.start, got.next)
		}
	})
}

func TestSourceRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 1)
		w.src.with(func() { w.log("clicks", 0).add(w.rng, record.None, 10, 0) })
		w.wait(3 * time.Second)
		w.src.stop()
		w.wait(2 * time.Second)
		if s := w.part("clicks", 0); s.State != StateUnreachable || !strings.Contains(s.Reason, "broker 1 of the source does not answer") {
			t.Errorf("after 2 s without the source: %+v", s)
		}
		w.wait(5 * time.Second)
		s, l := w.part("clicks", 0), w.m.Status()[0]
		if s.Lag != lagUnknown || s.LagRecords != nil || s.LagSeconds != nil || l.Lag != lagUnknown || l.LagRecords != nil {
			t.Errorf("after 7 s without the source the lag is told: %+v\n%+v", s, l)
		}
		if *s.Heard < 6 || *s.Heard > 8 {
			t.Errorf("heard %v s ago, want 7", *s.Heard)
		}
		w.src.with(func() { w.log("clicks", 0).add(w.rng, record.None, 10, 0) })
		w.src.resume()
		w.wait(2 * time.Second) // a healed source goes on within 2 s
		w.level("clicks")
		if s := w.part("clicks", 0); s.State != StateStreaming || s.Lag != lagKnown {
			t.Errorf("after the source is back: %+v", s)
		}
		if n := strings.Count(w.logs.String(), "\n"); n != 2 {
			t.Errorf("%d lines for one outage, want 2:\n%s", n, w.logs)
		}
	})
}

func TestDestinationRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 2)
		for range 20 {
			w.src.with(func() {
				w.log("clicks", w.rng.IntN(2)).add(w.rng, record.None, 10, 0)
			})
			w.wait(time.Duration(w.rng.IntN(300)) * time.Millisecond)
			w.stop()
			w.start()
		}
		w.wait(3 * time.Second)
		w.level("clicks")
	})
}

// With its source down from the start, a mirror is shown, and not as level.
func TestUnheardSinceTheStart(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 1)
		w.src.with(func() { w.log("clicks", 0).add(w.rng, record.None, 10, 0) })
		w.wait(3 * time.Second)
		w.stop()
		w.src.stop()
		w.start()
		w.wait(3 * time.Second)
		s, l := w.part("clicks", 0), w.m.Status()[0]
		if s.State != StateUnreachable || s.Next != 10 || s.Lag != lagUnknown || s.LagRecords != nil || s.Heard != nil || s.SourceEnd != nil {
			t.Errorf("partition %+v", s)
		}
		if l.State != StateUnreachable || l.Lag != lagUnknown || l.LagRecords != nil || l.Heard != nil {
			t.Errorf("link %+v", l)
		}
	})
}

func TestAppendErrors(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 2)
		calls := 0
		w.dst.fail = func(record.TopicPartition) (before, after error) {
			calls++
			switch calls % 4 {
			case 1:
				return errors.New("no leader"), nil
			case 3:
				return nil, errors.New("timed out") // but it was appended
			}
			return nil, nil
		}
		w.wait(3 * time.Second)
		for range 50 {
			w.src.with(func() { w.log("clicks", w.rng.IntN(2)).add(w.rng, record.None, 10, 0) })
			w.wait(20 * time.Millisecond)
		}
		w.wait(5 * time.Second)
		w.level("clicks")
		if calls < 20 {
			t.Errorf("%d appends", calls)
		}
	})
}

// A bit that flips anywhere in a fetch answer's batches is seen, refused and
// fetched again, and other partitions are not held up.
func TestCorruptionInFlight(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := w.src.create("clicks", 1, 2)
		w.wait(3 * time.Second)
		flips, kinds := 0, map[string]int{}
		mangle := func(resp *kmsg.FetchResponse) {
			for i := range resp.Topics {
				for j := range resp.Topics[i].Partitions {
					p := &resp.Topics[i].Partitions[j]
					if len(p.RecordBatches) == 0 || p.Partition != 0 || w.rng.IntN(3) > 0 {
						continue
					}
					p.RecordBatches = bytes.Clone(p.RecordBatches)
					at := w.rng.IntN(len(p.RecordBatches))
					if w.rng.IntN(2) == 0 {
						at = w.rng.IntN(min(record.BatchHeaderSize, len(p.RecordBatches)))
					}
					p.RecordBatches[at] ^= 1 << w.rng.IntN(8)
					flips++
					if at < 8 {
						kinds["base offset"]++
					} else if at >= 12 && at < 16 {
						kinds["epoch"]++
					} else if at >= 8 && at < 12 {
						kinds["length"]++
					}
				}
			}
		}
		w.src.with(func() { w.src.mangle = mangle })
		for range 400 {
			w.src.with(func() {
				for _, l := range topic.logs {
					for range 1 + w.rng.IntN(3) {
						l.add(w.rng, record.None, 1+w.rng.IntN(5), 0)
					}
				}
			})
			w.wait(50 * time.Millisecond)
			w.dst.mu.Lock()
			if got := w.dst.topics["clicks"]; got != nil && len(got.logs) == 2 && got.logs[1].next < topic.logs[1].end-40 {
				t.Errorf("the other partition is held up: at %d of %d", got.logs[1].next, topic.logs[1].end)
			}
			w.dst.mu.Unlock()
		}
		w.src.with(func() { w.src.mangle = nil })
		w.wait(10 * time.Second)
		w.level("clicks")
		s := w.part("clicks", 0)
		if flips < 50 || s.Refused == 0 || len(kinds) < 3 {
			t.Errorf("%d flips (%v), %d refused: too few to say anything", flips, kinds, s.Refused)
		}
		t.Logf("%d flips, of them %v; %d answers refused", flips, kinds, s.Refused)
	})
}

func TestRecreatedTopic(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 1)
		w.src.with(func() { w.log("clicks", 0).add(w.rng, record.None, 10, 0) })
		w.wait(3 * time.Second)
		w.src.create("clicks", 9, 1)
		w.src.with(func() {
			for range 5 { // past the old end
				w.log("clicks", 0).add(w.rng, record.None, 10, 0)
			}
		})
		w.wait(4 * time.Second)
		check := func(when string) {
			t.Helper()
			state, reason := w.topicState("clicks")
			if state != StateRecreated || reason == "" {
				t.Errorf("%s: %s %q", when, state, reason)
			}
			if s := w.part("clicks", 0); s.Lag != lagUnknown || s.LagRecords != nil {
				t.Errorf("%s the lag is told: %+v", when, s)
			}
			if l := w.dst.topics["clicks"].logs[0]; l.next != 10 {
				t.Errorf("%s: the mirror went on to %d", when, l.next)
			}
		}
		check("running")
		w.stop()
		w.start()
		w.wait(4 * time.Second)
		check("restarted")
		if !strings.Contains(w.logs.String(), "SOURCE_RECREATED") {
			t.Errorf("not told:\n%s", w.logs)
		}
		// When the old mirror is deleted, the new topic is mirrored.
		w.dst.mu.Lock()
		delete(w.dst.topics, "clicks")
		w.dst.mu.Unlock()
		w.wait(5 * time.Second)
		w.level("clicks")
	})
}

func TestDeletedAtTheSource(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := w.src.create("clicks", 1, 1)
		w.src.with(func() { topic.logs[0].add(w.rng, record.None, 10, 0) })
		w.wait(3 * time.Second)
		w.src.with(func() { delete(w.src.topics, "clicks") })
		w.wait(4 * time.Second)
		if state, reason := w.topicState("clicks"); state != StateStopped || reason != "the topic was deleted at the source" {
			t.Errorf("%s %q", state, reason)
		}
		if l := w.dst.topics["clicks"].logs[0]; l.next != 10 {
			t.Error("the mirror did not stay")
		}
		w.src.with(func() { w.src.topics["clicks"], topic.config[settingTo] = topic, "north" })
		w.wait(3 * time.Second)
		if state, reason := w.topicState("clicks"); state != StateStopped || !strings.Contains(reason, "no longer names this site") {
			t.Errorf("%s %q", state, reason)
		}
		w.src.with(func() {
			topic.config[settingTo] = "west"
			topic.logs[0].add(w.rng, record.None, 10, 0)
		})
		w.wait(3 * time.Second)
		w.level("clicks")
	})
}

func TestRefusedHere(t *testing.T) {
	inWorld(t, func(w *world) {
		w.dst.refuse = record.ErrTopicExists
		w.src.create("clicks", 1, 1)
		w.wait(3 * time.Second)
		if state, reason := w.topicState("clicks"); state != StateRefused || !strings.Contains(reason, "already exists") {
			t.Errorf("%s %q", state, reason)
		}
		w.dst.mu.Lock()
		w.dst.refuse = nil
		w.dst.mu.Unlock()
		w.wait(12 * time.Second)
		w.level("clicks")
	})
}

func TestPause(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 1)
		w.src.create("views", 2, 1)
		w.wait(3 * time.Second)
		if err := w.m.Pause("east", "clicks"); err != nil {
			t.Fatal(err)
		}
		w.wait(time.Second)
		w.src.with(func() {
			w.log("clicks", 0).add(w.rng, record.None, 10, 0)
			w.log("views", 0).add(w.rng, record.None, 10, 0)
		})
		w.wait(8 * time.Second)
		w.level("views")
		if s := w.part("clicks", 0); s.State != StatePaused || s.Next != 0 || s.Lag != lagUnknown {
			t.Errorf("paused: %+v", s)
		}
		if err := w.m.Resume("east", ""); err != nil {
			t.Fatal(err)
		}
		w.wait(2 * time.Second)
		if s := w.part("clicks", 0); s.State != StatePaused {
			t.Errorf("a topic's own pause ended with the link's: %+v", s)
		}
		if err := w.m.Resume("east", "clicks"); err != nil {
			t.Fatal(err)
		}
		w.wait(2 * time.Second)
		w.level("clicks")
		if err := w.m.Pause("north", ""); err == nil || err.Error() != `mirror: no link "north"; there are: east` {
			t.Errorf("pause of a link that is not there: %v", err)
		}
	})
}

func TestSourceLostItsTail(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 1)
		l := w.log("clicks", 0)
		w.src.with(func() {
			for range 10 {
				l.add(w.rng, record.None, 10, 0)
			}
		})
		w.wait(3 * time.Second)
		w.src.with(func() { l.cut(50) })
		w.wait(2 * time.Second)
		if s := w.part("clicks", 0); s.State == StateDiverged {
			t.Errorf("not given time to settle: %+v", s)
		}
		w.wait(4 * time.Second)
		s := w.part("clicks", 0)
		if s.State != StateDiverged || s.Reason != "the source lost offsets 50 to 99, which the mirror has" || s.LagRecords != nil {
			t.Errorf("%+v", s)
		}
		// Written anew under another epoch, and past the mirror's end.
		w.src.with(func() {
			l.epoch++
			for range 10 {
				l.add(w.rng, record.None, 10, 0)
			}
		})
		w.wait(10 * time.Second)
		if err := w.m.Resume("east", ""); err != nil { // even when told to look again
			t.Fatal(err)
		}
		w.wait(10 * time.Second)
		if s := w.part("clicks", 0); s.State != StateDiverged || s.Next != 100 || !strings.Contains(s.Reason, "epoch 0 ends at offset 50") {
			t.Errorf("%+v", s)
		}
	})
}

// Right after a change of leader a source may not know what is committed; when
// it does again, the mirror goes on.
func TestEndThatComesBackIsNoLoss(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.create("clicks", 1, 1)
		l := w.log("clicks", 0)
		w.src.with(func() { l.add(w.rng, record.None, 10, 0); l.add(w.rng, record.None, 10, 0) })
		w.wait(3 * time.Second)
		w.src.with(func() { l.end = 10; l.wake() })
		w.wait(1500 * time.Millisecond)
		w.src.with(func() { l.end = 20; l.add(w.rng, record.None, 5, 0) })
		w.wait(2 * time.Second)
		w.level("clicks")
		if s := w.part("clicks", 0); s.State != StateStreaming {
			t.Errorf("%+v", s)
		}
	})
}

func TestGap(t *testing.T) {
	for _, policy := range []GapPolicy{GapStop, GapSkip} {
		inWorld(t, func(w *world) {
			w.stop()
			w.cfg.OnGap = policy
			w.start()
			w.src.create("clicks", 1, 1)
			l := w.log("clicks", 0)
			w.src.with(func() { l.add(w.rng, record.None, 10, 0) })
			w.wait(3 * time.Second)
			w.src.stop()
			w.src.with(func() {
				for range 10 {
					l.add(w.rng, record.None, 10, 0)
				}
				l.trim(47)
			})
			w.src.resume()
			w.wait(4 * time.Second)
			s, to := w.part("clicks", 0), w.dst.topics["clicks"].logs[0]
			if policy == GapSkip {
				if len(s.Skipped) != 1 || s.Skipped[0] != (Gap{10, 47}) || s.State != StateStreaming {
					t.Errorf("skip: %+v", s)
				}
				w.level("clicks")
				return
			}
			if s.State != StateGap || *s.Gap != (Gap{10, 47}) || s.Reason != "the source deleted offsets 10 to 46 before they were mirrored" || s.LagRecords != nil {
				t.Errorf("stop: %+v", s)
			}
			w.src.with(func() { l.trim(53) })
			w.wait(6 * time.Second)
			if s := w.part("clicks", 0); *s.Gap != (Gap{10, 53}) || to.next != 10 {
				t.Errorf("later: %+v, log to %d", s, to.next)
			}
		})
	}
}

func TestOldSourceIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		w.src.with(func() { w.src.newest = 12 })
		w.src.create("clicks", 1, 1)
		w.wait(3 * time.Second)
		if s := w.part("clicks", 0); s.State != StateUnreachable || !strings.Contains(s.Reason, "it speaks Fetch up to version 12, a mirror needs 13") {
			t.Errorf("%+v", s)
		}
	})
}

// Memory is bounded although the destination is slow.
func TestSlowDestination(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stop()
		w.cfg.HoldBytes, w.cfg.FetchBytes, w.cfg.PartitionBytes = 256<<10, 128<<10, 64<<10
		w.dst.slow = 300 * time.Millisecond
		w.start()
		topic := w.src.create("clicks", 1, 8)
		w.src.with(func() {
			for _, l := range topic.logs {
				for range 100 {
					l.add(w.rng, record.None, 30, 0)
				}
			}
		})
		most := 0
		for range 200 {
			w.wait(10 * time.Millisecond)
			k := w.m.all()[0]
			k.mu.Lock()
			held := 0
			for _, topic := range k.mu.core.topics {
				for _, p := range topic.parts {
					held += p.queued
				}
			}
			k.mu.Unlock()
			most = max(most, held)
		}
		if most > 256<<10 || most < 64<<10 {
			t.Errorf("%d bytes held, the limit is %d", most, 256<<10)
		}
		w.wait(60 * time.Second)
		w.level("clicks")
	})
}
