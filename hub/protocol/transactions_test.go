package protocol

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// inTransaction is a batch of a transactional producer.
func inTransaction(t testing.TB, id int64, seq int32, values ...string) record.Batch {
	t.Helper()
	return inTransactionOf(t, txn.Producer{ID: id}, seq, values...)
}

func inTransactionOf(t testing.TB, p txn.Producer, seq int32, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = p.ID, p.Epoch, seq, true
	for i, v := range values {
		if err := b.Append(record.Record{Timestamp: 1000 + int64(i), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// appendIn appends behind the protocol: what the coordinator has to say is not
// what these tests are about.
func appendIn(t testing.TB, l *memLog, b record.Batch) {
	t.Helper()
	done := make(chan error, 1)
	l.Append([]record.Batch{b}, func(_ []record.Appended, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func endIn(t testing.TB, l *memLog, id int64, commit bool) {
	t.Helper()
	done := make(chan error, 1)
	l.EndTransaction(record.TransactionMarker{ProducerID: id, Commit: commit, CoordinatorEpoch: 3}, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// twoTransactions fills a log: producer 1 commits, producer 2 aborts, and
// producer 3 is open from offset 6 on.
//
//	0 plain, 1 of 1, 2 of 2, 3 of 2, 4 marker of 1, 5 marker of 2, 6 of 3, 7 plain
func twoTransactions(t testing.TB, l *memLog) {
	t.Helper()
	appendIn(t, l, batch(t, record.None, "plain-0"))
	appendIn(t, l, inTransaction(t, 1, 0, "committed"))
	appendIn(t, l, inTransaction(t, 2, 0, "aborted-0"))
	appendIn(t, l, inTransaction(t, 2, 1, "aborted-1"))
	endIn(t, l, 1, true)
	endIn(t, l, 2, false)
	appendIn(t, l, inTransaction(t, 3, 0, "open"))
	appendIn(t, l, batch(t, record.None, "plain-1"))
}

// Every version of Fetch has the list, encoded as a client decodes it: null for
// read_uncommitted, and for read_committed what the batches answered have to do
// with.
func TestFetchListsAbortedTransactions(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	twoTransactions(t, s.memLog(t, "t", 0))
	c := s.dial(t)
	for v := int16(4); v <= 18; v++ {
		f := fetchRequest(v, "t", topic.ID, 0)
		if got := fetched(c, f); got.AbortedTransactions != nil || got.LastStableOffset != 6 || got.HighWatermark != 8 {
			t.Errorf("v%d, read_uncommitted: aborted %v, stable to %d of %d", v, got.AbortedTransactions, got.LastStableOffset, got.HighWatermark)
		}
		f.IsolationLevel = readCommitted
		for offset, want := range map[int64]string{0: "[[2 2]]", 3: "[[2 2]]", 5: "[[2 2]]", 6: "[]"} {
			f.Topics[0].Partitions[0].FetchOffset = offset
			got := fetched(c, f)
			var list [][2]int64
			for _, a := range got.AbortedTransactions {
				list = append(list, [2]int64{a.ProducerID, a.FirstOffset})
			}
			if text := fmt.Sprint(list); text != want || got.AbortedTransactions == nil {
				t.Errorf("v%d from %d: %s, want %s and no null", v, offset, text, want)
			}
			bs, err := record.SplitBatches(got.RecordBatches)
			if err != nil || offset < 6 && (len(bs) == 0 || bs[len(bs)-1].LastOffset() != 5) || offset == 6 && len(bs) != 0 {
				t.Errorf("v%d from %d: %d batches: %v", v, offset, len(bs), err)
			}
		}
	}
}

// A real client with read_committed sees what is committed, and waits at the
// open transaction until its marker comes.
func TestReadCommittedClient(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1)
	l := s.memLog(t, "t", 0)
	twoTransactions(t, l)
	ctx := testContext(t)
	cl := s.client(t, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(5*time.Second))
	var got []string
	poll := func(n int) []string {
		for len(got) < n {
			fs := cl.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				t.Fatalf("%v, after %q", err, got)
			}
			for _, r := range fs.Records() {
				got = append(got, fmt.Sprintf("%d:%s", r.Offset, r.Value))
			}
		}
		return got
	}
	if want := []string{"0:plain-0", "1:committed"}; !slices.Equal(poll(2), want) {
		t.Fatalf("%q, want %q", got, want)
	}
	endIn(t, l, 3, true)
	if want := []string{"0:plain-0", "1:committed", "6:open", "7:plain-1"}; !slices.Equal(poll(4), want) {
		t.Fatalf("%q, want %q", got, want)
	}
	all := consume(t, s, "t", 6)
	if len(all) != 6 {
		t.Errorf("read_uncommitted: %d records", len(all))
	}
}

// A fetch that waits at the last stable offset is answered when that moves,
// though nothing was appended below the high watermark but a marker.
func TestFetchWakesWhenTheLastStableOffsetMoves(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	l := s.memLog(t, "t", 0)
	appendIn(t, l, inTransaction(t, 3, 0, "open"))
	waits := make(chan struct{})
	l.mu.Lock()
	l.mu.onRead = func() { close(waits) }
	l.mu.Unlock()
	c := s.dial(t)
	f := fetchRequest(12, "t", topic.ID, 0)
	f.IsolationLevel, f.MaxWaitMillis = readCommitted, 20_000
	begun := time.Now()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-waits
		l.EndTransaction(record.TransactionMarker{ProducerID: 3}, func(error) {})
	}()
	got := fetched(c, f)
	<-ended
	if len(got.RecordBatches) == 0 || len(got.AbortedTransactions) != 1 || time.Since(begun) > 10*time.Second {
		t.Errorf("%d bytes, aborted %v after %v", len(got.RecordBatches), got.AbortedTransactions, time.Since(begun))
	}
}

// ListOffsets and DescribeProducers know of transactions, and errors of them
// have their codes.
func TestOpenTransactionIsDescribed(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1)
	twoTransactions(t, s.memLog(t, "t", 0))
	c := s.dial(t)
	for isolation, want := range map[int8]int64{0: 8, readCommitted: 6} {
		lo := &kmsg.ListOffsetsRequest{Version: 6, IsolationLevel: isolation, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: -1}}}}}
		if got := ask[*kmsg.ListOffsetsResponse](c, lo).Topics[0].Partitions[0]; got.Offset != want {
			t.Errorf("isolation %d: the end is %d, want %d", isolation, got.Offset, want)
		}
	}
	dp := &kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{0}}}}
	got := ask[*kmsg.DescribeProducersResponse](c, dp).Topics[0].Partitions[0]
	for _, p := range got.ActiveProducers {
		open, coordinator := int64(-1), int32(3)
		if p.ProducerID == 3 {
			open, coordinator = 6, -1
		}
		if p.CurrentTxnStartOffset != open || p.CoordinatorEpoch != coordinator {
			t.Errorf("%+v", p)
		}
	}
	if len(got.ActiveProducers) != 3 {
		t.Errorf("%d producers", len(got.ActiveProducers))
	}
}
