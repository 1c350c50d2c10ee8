package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest/history"
)

// copyRecords copies topic records to topic copies in transactions that have
// the group's offsets in them.
func (r *run) copyRecords(i int) {
	rng := r.random(fmt.Sprint("copy", i))
	lives(r.load, fmt.Sprintf("copy-%d", i), func(name string) {
		s := &sender{r: r, name: name}
		defer s.end()
		sess, err := kgo.NewGroupTransactSession(r.options(
			kgo.TransactionalID(fmt.Sprint("copy-", i)), kgo.TransactionTimeout(10*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ConsumerGroup("copiers"), kgo.ConsumeTopics("records"), kgo.RequireStableFetchOffsets(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
			kgo.FetchMaxWait(200*time.Millisecond))...)
		if err != nil {
			r.t.Error(err)
			return
		}
		defer sess.Close()
		for n := 0; r.load.Err() == nil; n++ {
			if !r.copySome(s, sess, fmt.Sprintf("%s#%d", name, n), rng.IntN(8) > 0) {
				return
			}
		}
	})
}

// copySome copies what one poll gives and reports whether the client can go on.
func (r *run) copySome(s *sender, sess *kgo.GroupTransactSession, txn string, commit bool) bool {
	fetches := sess.PollRecords(r.load, 200)
	fetches.EachError(func(topic string, partition int32, err error) {
		r.note("a copier of %s-%d: %v", topic, partition, err)
	})
	if fetches.NumRecords() == 0 || r.load.Err() != nil {
		return true
	}
	if err := sess.Begin(); err != nil {
		r.note("%s: %v", txn, err)
		return false
	}
	upTo := map[int32]int64{}
	var mu sync.Mutex
	var failed error
	fetches.EachRecord(func(in *kgo.Record) {
		upTo[in.Partition] = max(upTo[in.Partition], in.Offset+1)
		s.produce(sess.Client(), history.Send{Topic: "copies", Partition: in.Partition % topics["copies"], Txn: txn, From: string(in.Value)}, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if failed == nil {
				failed = err
			}
		})
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := sess.Client().Flush(ctx); err != nil {
		r.note("%s: %v", txn, err)
		r.leaveOpen(txn)
		return false
	}
	mu.Lock()
	commit = commit && failed == nil
	mu.Unlock()
	one := history.Txn{Name: txn, Outcome: history.Unknown}
	one.Begin = r.rec.Now()
	done, err := sess.End(ctx, kgo.TransactionEndTry(commit))
	one.End = r.rec.Now()
	// The session may have aborted what was to be committed.
	if one.Commit = commit; err == nil {
		one.Commit, one.Outcome = done, history.OK
	} else {
		r.note("%s: %v", txn, err)
	}
	r.rec.Add(func(h *history.History) {
		h.Txns = append(h.Txns, one)
		if !one.Commit {
			return
		}
		for p, at := range upTo {
			h.Offsets = append(h.Offsets, history.Offset{Span: one.Span, Group: "copiers", Topic: "records", Partition: p, At: at, Outcome: one.Outcome})
		}
	})
	return err == nil
}
