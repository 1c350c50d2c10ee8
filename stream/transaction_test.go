package stream

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/connectors"
)

// leaveOpen runs the tail job until its records are in an open transaction,
// and kills it there.
func leaveOpen(t *testing.T, w *world, job ConnectorSpec) {
	t.Helper()
	ends := 0 // the transaction of the split's first checkpoint ends
	stuck := w.cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.CoordinatorLoadInProgress, Count: -1,
		When: func(kmsg.Request) bool { ends++; return ends > 1 },
	})
	l := w.start(time.Nanosecond, job)
	l.await("tail", time.Minute, inState(Running))
	pass(5 * time.Second)
	l.crash()
	stuck.Remove()
	if n := len(w.records("out")); n != 100 {
		t.Fatalf("%d records are in the open transaction, want 100", n)
	}
}

// TestTransactionThatWasLeftIsCommitted: no reader sees a record twice.
func TestTransactionThatWasLeftIsCommitted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		job := parseOne(t, registry(newFakeSource(true, map[string][]string{"a": lines(0, 100)}), nil), tailJob)
		leaveOpen(t, w, job)
		l := w.start(0, job)
		s := l.await("tail", time.Minute, inState(Completed))
		l.end()
		if all, committed := len(w.records("out")), len(w.committed("out")); all != 100 || committed != 100 || s.Produced != 100 {
			t.Errorf("%d records, %d of them committed, %d counted; want 100 of each", all, committed, s.Produced)
		}
	})
}

// TestAbortedTransactionIsWrittenAgain: what the hub has aborted meanwhile is
// in the topic and is not taken for written.
func TestAbortedTransactionIsWrittenAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		job := parseOne(t, registry(newFakeSource(true, map[string][]string{"a": lines(0, 100)}), nil), tailJob)
		leaveOpen(t, w, job)
		id := transactionID("tail", "a")
		open, err := w.admin.DescribeTransactions(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = id, open[id].ProducerID, open[id].ProducerEpoch
		if resp, err := req.RequestWith(t.Context(), w.client); err != nil || resp.ErrorCode != 0 {
			t.Fatal(err, resp)
		}
		l := w.start(0, job)
		l.await("tail", time.Minute, inState(Completed))
		l.end()
		checkOnce(t, w.committed("out"), 100)
	})
}

// freeze starts an owner of a job that has lines 0 to 99 in, and freezes it for
// a while with 100 more on their way.
func freeze(w *world, src *fakeSource, job ConnectorSpec, d time.Duration) (owner *life, thaw func()) {
	w.t.Helper()
	owner = w.start(0, job)
	owner.await("tail", time.Minute, produced2(100))
	thaw = owner.wire.hold()
	src.append("a", lines(100, 200)...)
	pass(d)
	return owner, thaw
}

// TestFormerOwnerIsFenced freezes an owner with records on their way, lets
// another one finish, and thaws it.
func TestFormerOwnerIsFenced(t *testing.T) {
	for _, frozen := range []time.Duration{time.Second, 20 * time.Second} {
		t.Run(frozen.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.close()
				w.createTopic("out", 3)
				src := newFakeSource(false, map[string][]string{"a": lines(0, 100)})
				job := parseOne(t, registry(src, nil), tailJob)
				first, thaw := freeze(w, src, job, frozen)
				second := w.start(0, job)
				second.await("tail", time.Minute, produced2(200))
				thaw()
				s := first.await("tail", time.Minute, func(s JobStatus) bool { return s.Restarts > 0 })
				if !strings.Contains(s.LastError, connectors.ErrFenced.Error()) {
					t.Errorf("the former owner says %q", s.LastError)
				}
				first.end()
				second.end()
				checkOnce(t, w.records("out"), 200)
			})
		})
	}
}

func checkOnce(t *testing.T, records []*kgo.Record, want int) {
	t.Helper()
	seen := map[string]bool{}
	for _, r := range records {
		if seen[string(r.Value)] {
			t.Errorf("%s is here twice", r.Value)
		}
		seen[string(r.Value)] = true
	}
	if len(seen) != want {
		t.Errorf("%d values, want %d", len(seen), want)
	}
}

// TestSinkReadsCommitted: what was aborted does not reach a destination, and
// the markers of transactions are no lag.
func TestSinkReadsCommitted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("in", 1)
		cl, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.net.over(w.wire)), kgo.DisableClientMetrics(),
			kgo.TransactionalID("someone"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for round := range 6 {
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				r := &kgo.Record{Topic: "in", Value: fmt.Appendf(nil, `{"n":%d}`, 10*round+i)}
				if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			if err := cl.EndTransaction(t.Context(), round%3 != 2); err != nil {
				t.Fatal(err)
			}
		}
		for _, own := range []bool{false, true} {
			snk := newFakeSink(own, connectors.Limits{Records: 7, Wait: time.Second})
			name := fmt.Sprintf("shelve-%v", own)
			job := parseOne(t, registry(nil, snk), "connectors: [{name: "+name+", sink: {type: shelf, path: /s}, topic: in}]")
			snk.after = failOnce() // so that a plan is executed again
			l := w.start(0, job)
			l.await(name, time.Minute, func(s JobStatus) bool { return s.Written == 40 && s.Lag == 0 })
			if err := abortOne(t, cl); err != nil {
				t.Fatal(err)
			}
			pass(5 * time.Second)
			l.await(name, time.Second, func(s JobStatus) bool { return s.Lag == 0 })
			l.end()
			if len(snk.rows[tp("in", 0)]) != 40 || len(snk.faults) > 0 {
				t.Errorf("own=%v: %d rows, want 40; %v", own, len(snk.rows[tp("in", 0)]), snk.faults)
			}
			for _, v := range snk.values {
				var n int
				if _, err := fmt.Sscanf(v, `{"n":%d}`, &n); err != nil || n/10%3 == 2 {
					t.Errorf("%s was aborted, or is none of ours", v)
				}
			}
		}
	})
}

// abortOne puts a record into topic in and aborts it.
func abortOne(t *testing.T, cl *kgo.Client) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte(`{"n":20}`)}).FirstErr(); err != nil {
		return err
	}
	return cl.EndTransaction(t.Context(), kgo.TryAbort)
}

// failOnce is an answer that is lost after the third write.
func failOnce() func(connectors.Plan) error {
	n := 0
	return func(connectors.Plan) error {
		if n++; n == 3 { // the third plan spans what was aborted
			return connectors.Unknown(errors.New("no answer"))
		}
		return nil
	}
}

// TestFormerOwnerCannotSlipIn lets a frozen owner go on between the steps by
// which another one takes over.
func TestFormerOwnerCannotSlipIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 100)})
		job := parseOne(t, registry(src, nil), tailJob)
		first, thaw := freeze(w, src, job, time.Second)
		thawed := false
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TxnID: transactionID("tail", "a"), Err: kerr.CoordinatorLoadInProgress, Count: 5, When: func(kmsg.Request) bool {
			if !thawed { // the second one is about to take over: the first one is quicker
				thawed = true
				thaw()
			}
			return true
		}})
		second := w.start(0, job)
		second.await("tail", time.Minute, produced2(200))
		pass(2 * time.Minute) // the first one comes back and finds that all is done, or takes over in turn
		first.end()
		second.end()
		checkOnce(t, w.committed("out"), 200)
	})
}

// TestPartOfATransactionUnderAnotherConfig: the records that landed of a
// transaction are known after the config has sent the others elsewhere, and
// stay known until the checkpoint covers them.
func TestPartOfATransactionUnderAnotherConfig(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 100)})
		out0 := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Partitions: []int32{0}, Err: kerr.NotLeaderForPartition, Count: -1})
		l := w.start(time.Nanosecond, parseOne(t, registry(src, nil), tailJob))
		l.await("tail", time.Minute, inState(Running))
		pass(5 * time.Second)
		l.crash()
		out0.Remove()
		landed := len(w.records("out"))
		if landed == 0 || landed == 100 {
			t.Fatalf("%d records landed, want a part of 100", landed)
		}
		keyed := tailJob + "    transforms: [{parse: {format: json}}]\n    key: string(value * 7)\n"
		src.splits["a"] = lines(0, 50)
		l = w.start(time.Nanosecond, parseOne(t, registry(src, nil), keyed))
		l.await("tail", time.Minute, produced2(50))
		l.crash()
		src.append("a", lines(50, 100)...)
		l = w.start(0, parseOne(t, registry(src, nil), keyed))
		l.await("tail", time.Minute, produced2(100))
		l.end()
		checkOnce(t, w.records("out"), 100)
	})
}

// TestIdleSplitIsNotLookedFor: after a clean end, a start reads nothing of a
// topic that others have made long; after another one, it does.
func TestIdleSplitIsNotLookedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 1)
		src := newFakeSource(false, map[string][]string{"a": lines(0, 10)})
		job := parseOne(t, registry(src, nil), tailJob)
		l := w.start(0, job)
		l.await("tail", time.Minute, produced2(10))
		l.end()
		w.produce("out", 0, lines(1000, 1100)...)
		fetches := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "out", Observe: true, Count: -1})
		for round, crash := range []bool{false, true, false} {
			before := fetches.Hits()
			l = w.start(time.Nanosecond, job)
			l.await("tail", time.Minute, inState(Running))
			src.append("a", lines(10+round, 11+round)...)
			l.await("tail", time.Minute, produced2(int64(11+round)))
			if read := fetches.Hits() > before; read != (round == 2) {
				t.Errorf("round %d: the topic was read: %v", round, read)
			}
			if crash {
				src.append("a", "999")
				pass(150 * time.Millisecond) // sent, not committed
				l.crash()
				src.mu.Lock()
				src.splits["a"] = src.splits["a"][:12]
				src.mu.Unlock()
				continue
			}
			l.end()
		}
	})
}
