package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/connectors"
)

const plainSink = `
connectors:
  - name: shelve
    sink: {type: shelf, path: /shelf}
    topic: in
`

// sinkWorld has topic in with one partition and the values 0..n-1.
func sinkWorld(t *testing.T, n int) *world {
	w := newWorld(t)
	w.createTopic("in", 1)
	w.produce("in", 0, lines(0, n)...)
	return w
}

func read(n int64) func(JobStatus) bool {
	return func(s JobStatus) bool { return s.Read == n && s.Lag == 0 }
}

func TestSinkFlushesByTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 0)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Wait: 30 * time.Second})
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		l.await("shelve", time.Minute, inState(Running))
		w.produce("in", 0, lines(0, 3)...)
		began := time.Now()
		l.await("shelve", time.Minute, read(3))
		if took := time.Since(began); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("the flush came after %v, want 30 s", took)
		}
		w.produce("in", 0, "late")
		l.await("shelve", time.Minute, read(4))
		l.end()
		if len(snk.plans[tp("in", 0)]) != 2 || len(snk.faults) > 0 || snk.opened != 0 {
			t.Errorf("plans %v, faults %v, %d writers are open", snk.plans, snk.faults, snk.opened)
		}
	})
}

func TestSinkCutsByRowsBytesAndMemory(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits connectors.Limits
		memory string
		plans  int
	}{
		{"rows", connectors.Limits{Records: 10, Wait: time.Second}, "", 10},
		{"bytes", connectors.Limits{Bytes: 20 * 402, Wait: time.Second}, "", 5},
		{"memory", connectors.Limits{Wait: time.Second}, "    memory: 8KB\n", 5},
		{"time alone", connectors.Limits{Wait: time.Second}, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := sinkWorld(t, 100)
				defer w.close()
				snk := newFakeSink(false, c.limits)
				l := w.start(0, parseOne(t, registry(nil, snk), plainSink+c.memory))
				l.await("shelve", time.Minute, read(100))
				l.end()
				if n := len(snk.plans[tp("in", 0)]); n != c.plans {
					t.Errorf("%d plans, want %d: %v", n, c.plans, snk.plans)
				}
			})
		})
	}
}

func TestUnknownOutcomeExecutesTheSamePlan(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 25)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
		var tried []connectors.Plan
		snk.after = func(p connectors.Plan) error {
			if tried = append(tried, p); len(tried) < 3 {
				// While it is away more arrives; another cut would hold it.
				snk.limits.Records = 1000
				return connectors.Unknown(errors.New("no answer"))
			}
			return nil
		}
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		l.await("shelve", time.Minute, read(25))
		l.end()
		for _, p := range tried[:3] {
			if p.ID != tried[0].ID || p.From != 0 || p.To != 10 {
				t.Errorf("executed %v (%s), want %v again", p, p.ID, tried[0])
			}
		}
		if len(snk.faults) > 0 || len(snk.rows[tp("in", 0)]) != 25 {
			t.Errorf("rows %v, faults %v", snk.rows, snk.faults)
		}
	})
}

func TestWriteThatNeverAnswersIsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		snk := newFakeSink(true, connectors.Limits{Wait: time.Second})
		hang := &hangingSink{fakeSink: snk, hangs: 1}
		reg := connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": hang}}
		l := w.start(0, parseOne(t, reg, plainSink))
		s := l.await("shelve", 10*time.Minute, read(5))
		l.end()
		if !strings.Contains(s.LastError, "outcome unknown: no answer within 2m0s") || s.Restarts != 1 || len(snk.faults) > 0 {
			t.Errorf("%+v, faults %v", s, snk.faults)
		}
	})
}

type hangingSink struct {
	*fakeSink
	hangs int
}

func (s *hangingSink) Open(ctx context.Context, task connectors.TaskContext, tps []topicPartition) (connectors.Writer, error) {
	w, err := s.fakeSink.Open(ctx, task, tps)
	return &hangingWriter{w, s}, err
}

type hangingWriter struct {
	connectors.Writer
	sink *hangingSink
}

func (w *hangingWriter) Write(ctx context.Context, p connectors.Plan, b connectors.Batch) ([]connectors.RecordError, error) {
	if w.sink.hangs > 0 {
		w.sink.hangs--
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return w.Writer.Write(ctx, p, b)
}

func TestRetryBacksOffAndRecovers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Wait: time.Second})
		began, failures := time.Now(), 0
		snk.before = func(connectors.Plan) error {
			if failures++; failures == 3 {
				return connectors.Retry(5*time.Minute, errors.New("too many requests"))
			}
			if failures < 8 {
				return connectors.Retry(0, errors.New("busy"))
			}
			return nil
		}
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		s := l.await("shelve", time.Hour, inState(BackingOff))
		if s.NextTry == nil || !strings.Contains(s.LastError, "busy") {
			t.Errorf("while backing off: %+v", s)
		}
		s = l.await("shelve", time.Hour, read(5))
		l.end()
		// 1 + 2 + 300 (asked for) + 8 + 16 + 32 + 60 seconds, and some for each try
		if took := time.Since(began); took < 419*time.Second || took > 435*time.Second {
			t.Errorf("it took %v", took)
		}
		if s.Restarts != 7 || len(snk.faults) > 0 {
			t.Errorf("%d restarts, faults %v", s.Restarts, snk.faults)
		}
	})
}

func TestFatalParksUntilRestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Wait: time.Second})
		broken := true
		snk.before = func(connectors.Plan) error {
			if broken {
				return connectors.Fatalf("the password is wrong")
			}
			return nil
		}
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		s := l.await("shelve", time.Minute, inState(Failed))
		if !strings.Contains(s.LastError, "the password is wrong") {
			t.Errorf("last error: %s", s.LastError)
		}
		pass(time.Hour)
		if writes := snk.writes; writes != 1 {
			t.Errorf("a parked job wrote %d times", writes)
		}
		snk.mu.Lock()
		broken = false
		snk.mu.Unlock()
		if err := l.Restart("shelve"); err != nil {
			t.Error(err)
		}
		l.await("shelve", time.Minute, read(5))
		l.end()
	})
}

func TestDeadLetterIsSentOnce(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("own=%v", own), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := sinkWorld(t, 0)
				defer w.close()
				w.produce("in", 0, "not JSON", "1")
				snk := newFakeSink(own, connectors.Limits{Wait: time.Second})
				snk.next[tp("in", 0)] = 0 // with own: known from the start, so that no plan is needed for the write
				failures := 0
				snk.before = func(connectors.Plan) error {
					if failures++; failures < 4 {
						return connectors.Retry(0, errors.New("busy"))
					}
					return nil
				}
				l := w.start(0, parseOne(t, registry(nil, snk), plainSink+"    transforms: [{filter: value > 0}]\n"))
				s := l.await("shelve", time.Hour, read(2))
				l.end()
				if n := len(w.records("shelve.dlq")); n != 1 || s.DeadLetters != 1 || s.Written != 1 {
					t.Errorf("%d dead letters; %+v", n, s.Counters)
				}
			})
		})
	}
}

func TestPoisonIsFoundByHalves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 0)
		defer w.close()
		const n, bad = 1024, 700
		w.produce("in", 0, lines(0, n)...)
		snk := newFakeSink(false, connectors.Limits{Records: n, Wait: time.Second})
		snk.poison = func(m connectors.Message) bool { return m.Offset == bad }
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		s := l.await("shelve", time.Minute, read(n))
		l.end()
		// The whole, ten halvings of two writes, the lone record's plan again.
		if snk.writes > 22 {
			t.Errorf("%d writes to find one record of %d", snk.writes, n)
		}
		if s.DeadLetters != 1 || s.Written != n-1 || len(snk.faults) > 0 || slices.Contains(snk.rows[tp("in", 0)], bad) {
			t.Errorf("%+v, faults %v", s.Counters, snk.faults)
		}
		letter := w.records("shelve.dlq")[0]
		if string(letter.Value) != "700" || string(letter.Key) != "k700" || header(letter, HeaderDeadWhere) != "in-0@700" ||
			header(letter, HeaderDeadStep) != "sink" || header(letter, HeaderDeadJob) != "shelve" || header(letter, HeaderDeadAttempt) != "1" {
			t.Errorf("dead letter %v", letter)
		}
	})
}

func TestTooManyFailuresStopTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 100)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
		snk.refuse = func(m connectors.Message) bool { return m.Offset >= 50 }
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink+"    errors: {max_failures: 3/20}\n"))
		s := l.await("shelve", time.Minute, inState(Failed))
		l.end()
		if !strings.Contains(s.LastError, "more than 3 of the last 20 records") || s.Written != 50 {
			t.Errorf("%s; %+v", s.LastError, s.Counters)
		}
	})
}

func TestRecordsDeletedBeforeTheyWereLoaded(t *testing.T) {
	for _, c := range []struct {
		policy string
		state  State
	}{{"", Failed}, {"    errors: {gaps: skip}\n", Running}} {
		t.Run(string(c.state), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := sinkWorld(t, 50)
				defer w.close()
				snk := newFakeSink(true, connectors.Limits{Records: 10, Wait: time.Second})
				l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
				l.await("shelve", time.Minute, read(50))
				l.end()
				w.produce("in", 0, lines(50, 80)...)
				if err := w.cluster.DeleteRecords("in", 0, 60); err != nil {
					t.Fatal(err)
				}
				l = w.start(0, parseOne(t, registry(nil, snk), plainSink+c.policy))
				if c.state == Failed {
					s := l.await("shelve", time.Minute, inState(Failed))
					if !strings.Contains(s.LastError, "records 50 to 59 of in-0 were deleted") {
						t.Errorf("last error: %s", s.LastError)
					}
				} else {
					l.await("shelve", time.Minute, read(70))
				}
				l.end()
				if len(snk.faults) > 0 {
					t.Error(snk.faults)
				}
			})
		})
	}
}

// TestTopicMadeAnew: the new topic has the same offsets as the old one, and
// the last plan of the old one must not be taken for one of the new.
func TestTopicMadeAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Records: 5, Wait: time.Second})
		job := parseOne(t, registry(nil, snk), plainSink)
		l := w.start(0, job)
		l.await("shelve", time.Minute, read(5))
		l.end()
		if err := w.cluster.DeleteTopic("in"); err != nil { // and with it the group's offsets
			t.Fatal(err)
		}
		w.createTopic("in", 1)
		w.client.PurgeTopicsFromClient("in")
		w.produce("in", 0, "a", "b", "c", "d", "e", "f")
		l = w.start(0, job)
		l.await("shelve", time.Minute, read(6))
		l.end()
		if joined(snk.values) != "0 1 2 3 4 a b c d e f" { // plans of the two topics overlap, which is no fault here
			t.Errorf("loaded %v", snk.values)
		}
	})
}

func TestOffsetOfADeletedTopicIsNotUsed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 50)
		defer w.close()
		job := parseOne(t, registry(nil, newFakeSink(false, connectors.Limits{Wait: time.Second})), plainSink)
		old := &sinkRun{session: &session{admin: w.admin, spec: job}, group: Group("shelve"), topic: topicInfo{1, "anotherIDofthetopic00A"}}
		if err := old.commitOffset(t.Context(), tp("in", 0), 3, Counters{}); err != nil {
			t.Fatal(err)
		}
		l := w.start(0, job)
		s := l.await("shelve", time.Minute, inState(Failed))
		l.end()
		if !strings.Contains(s.LastError, "made anew") {
			t.Errorf("last error: %s", s.LastError)
		}
	})
}

func TestStartLatest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 50)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Wait: time.Second})
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink+"    start: latest\n"))
		l.await("shelve", time.Minute, inState(Running))
		w.produce("in", 0, "new")
		l.await("shelve", time.Minute, read(1))
		l.end()
		if joined(snk.values) != "new" {
			t.Errorf("loaded %v", snk.values)
		}
	})
}

func TestSinkTakesUpNewPartitions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Wait: time.Second})
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		l.await("shelve", time.Minute, read(5))
		if _, err := w.admin.UpdatePartitions(t.Context(), 3, "in"); err != nil {
			t.Fatal(err)
		}
		w.client.ForceMetadataRefresh()
		pass(time.Minute)
		w.produce("in", 2, "a", "b")
		l.await("shelve", 2*time.Minute, read(7))
		l.end()
	})
}

func TestSinkWaitsForATopicThatIsMirroredLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Wait: time.Second})
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		l.await("shelve", time.Minute, func(s JobStatus) bool { return strings.Contains(s.LastError, "topic in does not exist") })
		w.createTopic("in", 1)
		w.produce("in", 0, "x")
		l.await("shelve", 10*time.Second, read(1))
		l.end()
	})
}

// TestCrashLoopQuarantinesTheRecord: a record over which the connector panics
// stops it for a moment, not for good.
func TestCrashLoopQuarantinesTheRecord(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 200)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Records: 100, Wait: time.Second})
		snk.refuse = func(m connectors.Message) bool {
			if m.Offset == 137 {
				panic("out of luck")
			}
			return false
		}
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		s := l.await("shelve", 10*time.Minute, read(200))
		l.end()
		if s.Written != 199 || s.DeadLetters != 1 || s.State != Running || s.Restarts != crashLimit-1 {
			t.Errorf("%+v; want 199 rows and one dead letter after %d restarts", s, crashLimit-1)
		}
		letters := w.records("shelve.dlq")
		if len(letters) != 1 || !strings.Contains(header(letters[0], HeaderDeadReason), "panicked: out of luck") || header(letters[0], HeaderDeadWhere) != "in-0@137" {
			t.Errorf("dead letters: %v", letters)
		}
		if len(snk.faults) > 0 {
			t.Error(snk.faults)
		}
	})
}

// TestCrashesOfPartitionsAreCountedApart: two partitions with such a record that
// crash in turn come to their end, each by itself.
func TestCrashesOfPartitionsAreCountedApart(t *testing.T) {
	var b breaker
	for round := range crashLimit {
		for p := range int32(2) {
			if found, want := b.crashed(plan("j", tp("in", p), 0, 10, int64(round))), round == crashLimit-1; found != want {
				t.Errorf("round %d, partition %d: found %v, want %v", round, p, found, want)
			}
		}
	}
	if !b.crashed(plan("j", tp("in", 0), 0, 5, 9)) || b.crashed(plan("j", tp("in", 0), 10, 20, 9)) {
		t.Error("a part of the plan counts with it, the next plan does not")
	}
}

// TestDeadLettersThatCannotBeWrittenStopTheSink: what cannot be put aside is
// not passed over, however long that takes.
func TestDeadLettersThatCannotBeWrittenStopTheSink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 100)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
		snk.refuse = func(m connectors.Message) bool { return m.Offset == 55 }
		down := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "shelve.dlq", Err: kerr.NotLeaderForPartition, Count: -1})
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		l.await("shelve", time.Minute, func(s JobStatus) bool { return s.Written == 50 })
		pass(time.Hour)
		if s := l.Status()[0]; s.Written != 50 || s.DeadLetters != 0 {
			t.Errorf("with the dead letters down: %+v, want 50 rows and no more", s)
		}
		down.Remove()
		s := l.await("shelve", time.Hour, read(100))
		l.end()
		if s.Written != 99 || s.DeadLetters != 1 || len(w.records("shelve.dlq")) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestRefusedLoginMovesNothing: a destination that takes no login for five
// minutes costs nothing but the time (a Retry), or waits for someone (Fatal).
func TestRefusedLoginMovesNothing(t *testing.T) {
	for _, class := range []func(error) error{connectors.Fatal, func(err error) error { return connectors.Retry(0, err) }} {
		inBubble(t, func(t *testing.T) {
			w := sinkWorld(t, 100)
			defer w.close()
			snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
			until := time.Now().Add(5 * time.Minute)
			snk.before = func(p connectors.Plan) error {
				if p.From >= 30 && time.Now().Before(until) {
					return class(errors.New("401 Unauthorized"))
				}
				return nil
			}
			l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
			pass(4 * time.Minute)
			if s := l.Status()[0]; s.Written != 30 || len(w.records("shelve.dlq")) != 0 {
				t.Errorf("after four minutes: %+v, want 30 rows and no dead letter", s)
			}
			pass(2 * time.Minute)
			if l.Status()[0].State == Failed {
				if err := l.Resume("shelve"); err != nil {
					t.Error(err)
				}
			}
			s := l.await("shelve", time.Hour, read(100))
			l.end()
			if s.Written != 100 || s.DeadLetters != 0 || len(snk.faults) > 0 {
				t.Errorf("%+v, %v", s, snk.faults)
			}
		})
	}
}

// TestLagWhileNothingIsRead: a job whose destination is away, that has failed,
// or that is paused does not read; what comes meanwhile is in its lag.
func TestLagWhileNothingIsRead(t *testing.T) {
	for name, class := range map[string]func(error) error{
		"backing off": func(err error) error { return connectors.Retry(0, err) }, "failed": connectors.Fatal, "paused": nil,
	} {
		inBubble(t, func(t *testing.T) {
			w := sinkWorld(t, 100)
			defer w.close()
			snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
			snk.before = func(p connectors.Plan) error {
				if class != nil && p.From >= 30 {
					return class(errors.New("connection refused"))
				}
				return nil
			}
			l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
			pass(time.Minute)
			if class == nil {
				if err := l.Pause("shelve"); err != nil {
					t.Error(err)
				}
			}
			before := l.Status()[0].Written
			for range 50 {
				w.produce("in", 0, "x")
			}
			pass(2 * endsPoll)
			if s := l.Status()[0]; s.Written != before || s.Lag != 150-before {
				t.Errorf("%s: %d written, the lag is %d, want %d: %+v", name, s.Written, s.Lag, 150-before, s)
			}
			l.end()
		})
	}
}

// TestTimeFlushIsExactThroughKills: a row a minute, a flush each 30 seconds,
// twenty kills: every row is there within a minute, and once.
func TestTimeFlushIsExactThroughKills(t *testing.T) {
	eachSeed(t, func(t *testing.T, rng *rand.Rand) {
		w := sinkWorld(t, 0)
		defer w.close()
		snk := newFakeSink(rng.IntN(2) == 0, connectors.Limits{Wait: 30 * time.Second})
		job := parseOne(t, registry(nil, snk), plainSink)
		l := w.start(time.Nanosecond, job)
		kills := 0
		for second := range 11 * 60 {
			if second%60 == 0 && second < 600 {
				w.produce("in", 0, fmt.Sprint(second/60))
			}
			pass(time.Second)
			if second%60 == 59 && second < 600 && len(snk.rows[tp("in", 0)]) != second/60+1 {
				t.Errorf("row %d is not there after a minute", second/60)
			}
			if rng.IntN(28) == 0 && kills < 20 || second == 600 {
				l.crash()
				kills++
				l = w.start(time.Nanosecond, job)
			}
		}
		l.await("shelve", time.Hour, read(10))
		l.end()
		if kills < 10 || len(snk.faults) > 0 || !slices.Equal(snk.rows[tp("in", 0)], []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("%d kills, rows %v, faults %v", kills, snk.rows[tp("in", 0)], snk.faults)
		}
	})
}

func TestGroupShowsTheOffset(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 5)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Wait: time.Second})
		l := w.start(0, parseOne(t, registry(nil, snk), plainSink))
		l.await("shelve", time.Minute, read(5))
		l.end()
		offsets, err := w.admin.FetchOffsets(t.Context(), "connect-shelve")
		o, ok := offsets.Lookup("in", 0)
		if err != nil || !ok || o.At != 5 {
			t.Errorf("offset %+v, %v", o, err)
		}
	})
}

// TestSinkOffsetSetBackLoadsAgain: whoever sets the group's offset back wants
// the records again; the last plan must not stand in the way.
func TestSinkOffsetSetBackLoadsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := sinkWorld(t, 20)
		defer w.close()
		snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
		job := parseOne(t, registry(nil, snk), plainSink)
		l := w.start(0, job)
		l.await("shelve", time.Minute, read(20))
		l.end()
		s := &session{admin: w.admin, spec: job}
		if err := (&sinkRun{session: s, group: Group("shelve")}).commitOffset(t.Context(), tp("in", 0), 3, Counters{}); err != nil {
			t.Fatal(err)
		}
		snk.plans, snk.values = map[topicPartition][]connectors.Plan{}, nil
		l = w.start(0, job)
		l.await("shelve", time.Minute, read(17))
		l.end()
		if joined(snk.values) != joined(lines(3, 20)) || len(snk.faults) > 0 {
			t.Errorf("loaded %v, faults %v", snk.values, snk.faults)
		}
	})
}

// TestAnotherSitesPlanIsFinishedFirst: where the destination knows a plan that
// was begun elsewhere, it is executed as it was, by an owner of a later epoch,
// before anything after it.
func TestAnotherSitesPlanIsFinishedFirst(t *testing.T) {
	for _, at := range []int64{-1, 2, 6} { // what this site had committed before
		inBubble(t, func(t *testing.T) {
			w := sinkWorld(t, 20)
			defer w.close()
			snk := newFakeSink(false, connectors.Limits{Records: 10, Wait: time.Second})
			snk.last = connectors.Plan{Partition: tp("in", 0), From: 4, To: 9, Epoch: 5, ID: "theirs", Made: 7}
			job := parseOne(t, registry(nil, snk), plainSink)
			if at >= 0 {
				r := &sinkRun{session: &session{admin: w.admin, spec: job}, group: Group("shelve")}
				if err := r.commitOffset(t.Context(), tp("in", 0), at, Counters{}); err != nil {
					t.Fatal(err)
				}
			}
			l := w.start(0, job)
			l.await("shelve", time.Minute, func(s JobStatus) bool { return s.Lag == 0 && s.State == Running })
			l.end()
			plans := snk.plans[tp("in", 0)]
			if len(plans) < 2 || plans[0].ID != "theirs" || plans[0].From != 4 || plans[0].To != 9 || plans[0].Epoch <= 5 || plans[0].Made != 7 || plans[1].From != 9 {
				t.Errorf("from %d, plans %v", at, plans)
			}
			if joined(snk.values) != joined(lines(4, 20)) || len(snk.faults) > 0 {
				t.Errorf("from %d, loaded %v, faults %v", at, snk.values, snk.faults)
			}
		})
	}
}

func TestFailureWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	w := newFailureWindow(3, 10)
	var all []bool
	for range 5000 {
		bad := rng.IntN(4) == 0
		all = append(all, bad)
		n := 0
		for _, b := range all[max(0, len(all)-10):] {
			if b {
				n++
			}
		}
		if got := w.add(bad); got != (n > 3) {
			t.Fatalf("after %d records: %v with %d of the last 10", len(all), got, n)
		}
	}
}
