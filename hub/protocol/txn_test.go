package protocol

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// generations are clients before and after KIP-890.
func generations() map[string][]kgo.Opt {
	return map[string][]kgo.Opt{
		"v2": nil,
		"v1": {kgo.MaxVersions(kversion.V3_6_0())},
	}
}

// committed reads what a read_committed client finds, n records at least.
func (s *site) committed(t testing.TB, topic string, n int) (values []string) {
	t.Helper()
	cl := s.client(t, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx := testContext(t)
	for len(values) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%v; %d of %d records of %s are there", err, len(values), n, topic)
		}
		fs.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestTransactionsWithARealClient(t *testing.T) {
	for name, opts := range generations() {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, quick())
			s.topic(t, "a", 3)
			s.topic(t, "b", 1)
			ctx := testContext(t)
			cl := s.client(t, append([]kgo.Opt{kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner())}, opts...)...)
			var want []string
			for i := range 10 {
				commit := i%3 != 1
				if err := cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				for j := range 5 {
					v := fmt.Sprintf("%d-%d", i, j)
					if commit {
						want = append(want, v)
					}
					for _, topic := range []string{"a", "b"} {
						cl.Produce(ctx, &kgo.Record{Topic: topic, Value: []byte(v)}, func(_ *kgo.Record, err error) {
							if err != nil {
								t.Errorf("%s: %v", v, err)
							}
						})
					}
				}
				if err := cl.Flush(ctx); err != nil {
					t.Fatal(err)
				}
				if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
					t.Fatalf("transaction %d: %v", i, err)
				}
			}
			slices.Sort(want)
			for _, topic := range []string{"a", "b"} {
				got := s.committed(t, topic, len(want))
				if slices.Sort(got); !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", topic, got, want)
				}
			}
		})
	}
}

// The second process with a transactional ID fences the first.
func TestZombieIsFenced(t *testing.T) {
	for name, opts := range generations() {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, quick())
			s.topic(t, "t", 1)
			ctx := testContext(t)
			produce := func(cl *kgo.Client, v string) error {
				return cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte(v)}).FirstErr()
			}
			start := func() *kgo.Client {
				cl := s.client(t, append([]kgo.Opt{kgo.TransactionalID("x")}, opts...)...)
				if err := cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				return cl
			}
			first := start()
			if err := produce(first, "zombie"); err != nil {
				t.Fatal(err)
			}
			second := start()
			if err := produce(second, "good"); err != nil {
				t.Fatal(err)
			}
			err := produce(first, "late")
			if !errors.Is(err, kerr.InvalidProducerEpoch) && !errors.Is(err, kerr.ProducerFenced) {
				t.Errorf("the first one produces: %v", err)
			}
			if err := first.EndTransaction(ctx, kgo.TryCommit); err == nil {
				t.Error("the first one commits")
			}
			if err := second.EndTransaction(ctx, kgo.TryCommit); err != nil {
				t.Error(err)
			}
			if got := s.committed(t, "t", 1); !slices.Equal(got, []string{"good"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

// A transaction that nobody ends is aborted by the server.
func TestTransactionTimesOut(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1)
	ctx := testContext(t)
	slow := s.client(t, kgo.TransactionalID("slow"), kgo.TransactionTimeout(200*time.Millisecond))
	if err := slow.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := slow.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("slow")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	log := s.memLog(t, "t", 0)
	eventually(t, "the transaction is aborted", func() bool { return log.Offsets().LastStable == 2 })
	if err := slow.EndTransaction(ctx, kgo.TryCommit); err == nil {
		t.Error("it can be committed after all")
	}
	other := s.client(t, kgo.TransactionalID("other"))
	if err := other.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := other.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("other")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := other.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if got := s.committed(t, "t", 1); !slices.Equal(got, []string{"other"}) {
		t.Errorf("%q", got)
	}
}

// Consume, transform, produce: the output and the offsets of the input are
// committed together, whichever member of the group does it.
func TestGroupTransactions(t *testing.T) {
	for name, opts := range generations() {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, quick())
			s.topic(t, "in", 3)
			s.topic(t, "out", 2)
			const total = 300
			ctx, stop := context.WithCancel(testContext(t))
			defer stop()
			in := s.client(t, kgo.DefaultProduceTopic("in"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
			var want []string
			for i := range total {
				v := fmt.Sprintf("%04d", i)
				want = append(want, v)
				if err := in.ProduceSync(ctx, &kgo.Record{Value: []byte(v)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			done := make(chan struct{}, 3)
			for i := range 3 {
				go func() {
					defer func() { done <- struct{}{} }()
					copyInGroup(ctx, t, s, fmt.Sprint("copier-", i), opts)
				}()
			}
			got := s.committed(t, "out", total)
			stop()
			for range 3 {
				<-done
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%d records, want each of %d once", len(got), total)
			}
		})
	}
}

// copyInGroup copies records in small transactions until ctx ends; some are
// aborted.
func copyInGroup(ctx context.Context, t *testing.T, s *site, id string, opts []kgo.Opt) {
	sess, err := kgo.NewGroupTransactSession(append([]kgo.Opt{
		kgo.SeedBrokers(s.addr), kgo.TransactionalID(id), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.RequireStableFetchOffsets(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic("out"),
		kgo.FetchMaxPartitionBytes(1000), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
	}, opts...)...)
	if err != nil {
		t.Error(err)
		return
	}
	defer sess.Close()
	for n := 0; ctx.Err() == nil; n++ {
		fs := sess.PollRecords(ctx, 20)
		if fs.Empty() || ctx.Err() != nil {
			continue
		}
		if err := sess.Begin(); err != nil {
			t.Errorf("%s: %v", id, err)
			return
		}
		fs.EachRecord(func(r *kgo.Record) {
			sess.Produce(ctx, &kgo.Record{Value: r.Value}, nil)
		})
		if _, err := sess.End(ctx, kgo.TransactionEndTry(n%4 != 3)); err != nil && ctx.Err() == nil {
			t.Logf("%s: end: %v", id, err)
		}
	}
}

// Offsets in a transaction are nobody's until it is committed: the group shows
// those before, or says that it cannot tell (KIP-447); a restart of the
// coordinator in between changes nothing.
func TestOffsetsWaitForTheTransaction(t *testing.T) {
	for _, commit := range []bool{true, false} {
		s := startSite(t, quick())
		s.topic(t, "t", 2)
		c := s.dial(t)
		id := kmsg.StringPtr("x")
		ip := kmsg.NewPtrInitProducerIDRequest()
		ip.Version, ip.TransactionalID, ip.TransactionTimeoutMillis = 5, id, 60_000
		p := ask[*kmsg.InitProducerIDResponse](c, ip)
		wantCode(t, "init", p.ErrorCode, nil)
		plain := kmsg.NewPtrOffsetCommitRequest()
		plain.Version, plain.Group, plain.Generation = 7, "g", -1
		plain.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 4}}}}
		wantCode(t, "commit", ask[*kmsg.OffsetCommitResponse](c, plain).Topics[0].Partitions[0].ErrorCode, nil)

		toc := kmsg.NewPtrTxnOffsetCommitRequest()
		toc.Version, toc.TransactionalID, toc.Group, toc.Generation = 4, "x", "g", -1
		toc.ProducerID, toc.ProducerEpoch = p.ProducerID, p.ProducerEpoch
		toc.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 7}, {Partition: 1, Offset: 8}}}}
		txnCommit := func() int16 { return ask[*kmsg.TxnOffsetCommitResponse](c, toc).Topics[0].Partitions[0].ErrorCode }
		wantCode(t, "v4 without AddOffsetsToTxn", txnCommit(), kerr.TransactionAbortable)
		toc.Version = 3
		wantCode(t, "v3 without AddOffsetsToTxn", txnCommit(), kerr.InvalidTxnState)
		toc.Version, toc.ProducerEpoch = 5, 7
		wantCode(t, "another epoch", txnCommit(), kerr.InvalidProducerEpoch)
		toc.ProducerEpoch, toc.Generation, toc.MemberID = p.ProducerEpoch, 3, "nobody"
		wantCode(t, "no member", txnCommit(), kerr.UnknownMemberID)
		toc.Generation, toc.MemberID = -1, ""
		log := s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3))
		log.newEpoch() // what was agreed is forgotten
		s.srv.open.close(record.TopicPartition{Topic: catalog.OffsetsTopic, Partition: partitionOf("g", 3)}, p.ProducerID)
		log.fallBehind(record.ErrLeaderUnknown)
		wantCode(t, "while the group's partition has no leader", txnCommit(), kerr.CoordinatorNotAvailable)
		log.fallBehind(nil)
		wantCode(t, "v5", txnCommit(), nil)

		of := &kmsg.OffsetFetchRequest{Version: 7, Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}}
		check := func(when string, offset int64, unstable *kerr.Error) {
			t.Helper()
			of.RequireStable = false
			if got := ask[*kmsg.OffsetFetchResponse](c, of).Topics[0].Partitions[0]; got.Offset != offset || got.ErrorCode != 0 {
				t.Errorf("commit %v, %s: offset %d, code %d, want %d", commit, when, got.Offset, got.ErrorCode, offset)
			}
			of.RequireStable = true
			wantCode(t, when+", stable", ask[*kmsg.OffsetFetchResponse](c, of).Topics[0].Partitions[0].ErrorCode, unstable)
			// Asked for all topics, it names the partition whose first offset is to come.
			all := &kmsg.OffsetFetchRequest{Version: 7, Group: "g", RequireStable: true}
			if got := ask[*kmsg.OffsetFetchResponse](c, all).Topics[0].Partitions; unstable != nil {
				if len(got) != 2 || got[1].Partition != 1 || got[1].ErrorCode != unstable.Code {
					t.Errorf("commit %v, %s, all topics, stable: %+v", commit, when, got)
				}
			} else if n := len(got); (n == 2) != commit {
				t.Errorf("commit %v, %s, all topics: %+v", commit, when, got)
			}
		}
		check("before the end", 4, kerr.UnstableOffsetCommit)
		log.newEpoch()
		check("after a restart", 4, kerr.UnstableOffsetCommit)

		end := kmsg.NewPtrEndTxnRequest()
		end.Version, end.TransactionalID, end.Commit = 5, "x", commit
		end.ProducerID, end.ProducerEpoch = p.ProducerID, p.ProducerEpoch
		if got := ask[*kmsg.EndTxnResponse](c, end); got.ErrorCode != 0 || got.ProducerID != p.ProducerID || got.ProducerEpoch != p.ProducerEpoch+1 {
			t.Errorf("end: %+v", got)
		}
		eventually(t, "the offset is stable", func() bool {
			return ask[*kmsg.OffsetFetchResponse](c, of).Topics[0].Partitions[0].ErrorCode == 0
		})
		want := int64(4)
		if commit {
			want = 7
		}
		check("after the end", want, nil)
		log.newEpoch()
		check("after another restart", want, nil)
	}
}

// A coordinator that has come to a node whose catalog is behind takes what is
// about a topic of a moment ago.
func TestCoordinatorWhoseCatalogIsBehind(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "before", 1)
	c := s.dial(t)
	commit := func(topic string) int16 {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.Generation = 7, "g", -1
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 4}}}}
		return ask[*kmsg.OffsetCommitResponse](c, req).Topics[0].Partitions[0].ErrorCode
	}
	wantCode(t, "commit", commit("before"), nil)
	ip := kmsg.NewPtrInitProducerIDRequest()
	ip.Version, ip.TransactionalID, ip.TransactionTimeoutMillis = 5, kmsg.StringPtr("x"), 60_000
	p := ask[*kmsg.InitProducerIDResponse](c, ip)
	wantCode(t, "init", p.ErrorCode, nil)
	behind := s.State()
	s.topic(t, "t", 1)
	lag := func() {
		s.memSite.mu.Lock()
		s.memSite.mu.lags = behind
		s.memSite.mu.Unlock()
	}
	lag()
	wantCode(t, "commit", commit("t"), nil)
	wantCode(t, "commit for a topic that is not there", commit("none"), kerr.UnknownTopicOrPartition)
	lag()
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.Version, add.TransactionalID, add.ProducerID, add.ProducerEpoch = 3, "x", p.ProducerID, p.ProducerEpoch
	add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	wantCode(t, "add", ask[*kmsg.AddPartitionsToTxnResponse](c, add).Topics[0].Partitions[0].ErrorCode, nil)
	lag()
	toc := kmsg.NewPtrTxnOffsetCommitRequest()
	toc.Version, toc.TransactionalID, toc.Group, toc.Generation = 5, "x", "g", -1
	toc.ProducerID, toc.ProducerEpoch = p.ProducerID, p.ProducerEpoch
	toc.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 7}}}}
	wantCode(t, "commit in a transaction", ask[*kmsg.TxnOffsetCommitResponse](c, toc).Topics[0].Partitions[0].ErrorCode, nil)
	s.memSite.mu.Lock()
	s.memSite.mu.lags, s.memSite.mu.lost = behind, []bool{false}
	s.memSite.mu.Unlock()
	wantCode(t, "commit while the catalog has no leader", commit("t"), kerr.CoordinatorNotAvailable)
}
