package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest/history"
)

// sender records what one producer sends, in the order in which it sends it.
type sender struct {
	r     *run
	name  string
	order sync.Mutex // held while a record is given to the client
	mu    struct {
		sync.Mutex
		sent []*history.Send
	}
}

// produce sends what says where to, with a value that no other has. done is
// called with the end.
func (s *sender) produce(cl *kgo.Client, what history.Send, done func(error)) {
	s.order.Lock() // the order here is the order of the records
	defer s.order.Unlock()
	one := &what
	one.Producer, one.Outcome, one.Offset = s.name, history.Unknown, -1
	s.mu.Lock()
	one.Value = fmt.Sprintf("%s/%d", s.name, len(s.mu.sent))
	one.Begin = s.r.rec.Now()
	s.mu.sent = append(s.mu.sent, one)
	s.mu.Unlock()
	record := &kgo.Record{Topic: one.Topic, Partition: one.Partition, Value: []byte(one.Value)}
	if one.Key != "" {
		record.Key = []byte(one.Key)
	}
	// The client decides when it gives up, not a context: the end would be
	// unknown.
	cl.Produce(context.Background(), record, func(got *kgo.Record, err error) {
		s.mu.Lock()
		one.End, one.Outcome = s.r.rec.Now(), outcome(err)
		if err == nil {
			one.Offset = got.Offset
		}
		s.mu.Unlock()
		done(err)
	})
}

// outcome is what an error says about whether a record is there.
func outcome(err error) history.Outcome {
	switch {
	case err == nil:
		return history.OK
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.TopicAuthorizationFailed):
		return history.Failed
	}
	return history.Unknown
}

// end adds what was sent to the history.
func (s *sender) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.r.rec.Add(func(h *history.History) {
		for _, one := range s.mu.sent {
			h.Sends = append(h.Sends, *one)
		}
	})
	s.mu.sent = nil
}

// lives calls fn with the name of a client's next life until ctx ends.
func lives(ctx context.Context, base string, fn func(name string)) {
	for life := 0; ctx.Err() == nil; life++ {
		fn(fmt.Sprintf("%s.%d", base, life))
	}
}

// appendRecords sends to every partition, steadily, so that a time without
// acknowledgements is a time without service.
func (r *run) appendRecords(i int) {
	lives(r.feed, fmt.Sprintf("append-%d", i), func(name string) {
		s := &sender{r: r, name: name}
		defer s.end()
		cl, err := kgo.NewClient(r.options(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(5000))...)
		if err != nil {
			r.t.Error(err)
			return
		}
		defer cl.Close()
		failed := make(chan error, 1)
		for n := int32(0); r.feed.Err() == nil; n++ {
			what := history.Send{Topic: "records", Partition: n % topics["records"]}
			if n%5 == 4 {
				what = history.Send{Topic: compacted, Partition: n % topics[compacted], Key: fmt.Sprint("key-", n%40)}
			}
			s.produce(cl, what, func(err error) {
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
			r.pause(12 * time.Millisecond)
			select {
			case err := <-failed:
				r.note("%s: %v; it begins anew", name, err)
				return
			default:
			}
		}
		r.flush(cl)
	})
}

// flush waits until everything that was given to the client has its end, for a
// while: the site is healed by then.
func (r *run) flush(cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if err := cl.Flush(ctx); err != nil {
		r.t.Errorf("flush: %v", err)
	}
}

// transact writes transactions, aborts some, and leaves some open, as a process
// does that dies.
func (r *run) transact(i int) {
	rng := r.random(fmt.Sprint("transact", i))
	lives(r.feed, fmt.Sprintf("transact-%d", i), func(name string) {
		s := &sender{r: r, name: name}
		defer s.end()
		cl, err := kgo.NewClient(r.options(kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.TransactionalID(fmt.Sprint("transact-", i)), kgo.TransactionTimeout(10*time.Second))...)
		if err != nil {
			r.t.Error(err)
			return
		}
		defer cl.Close()
		for n := 0; r.feed.Err() == nil; n++ {
			if err := cl.BeginTransaction(); err != nil {
				return
			}
			txn := fmt.Sprintf("%s#%d", name, n)
			failed := s.several(cl, rng.Perm(int(topics["transactions"])), txn, 1+rng.IntN(3))
			if rng.IntN(12) == 0 {
				r.leaveOpen(txn)
				return // and the next life takes its ID
			}
			if r.endTxn(cl, txn, failed == nil && rng.IntN(4) > 0) != nil {
				return
			}
			r.pause(50 * time.Millisecond)
		}
	})
}

// several produces some records to each of the partitions and waits for them.
func (s *sender) several(cl *kgo.Client, partitions []int, txn string, each int) error {
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for _, p := range partitions {
		for range each {
			wg.Add(1)
			s.produce(cl, history.Send{Topic: "transactions", Partition: int32(p), Txn: txn}, func(err error) {
				defer wg.Done()
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			})
		}
	}
	ctx, cancel := context.WithTimeout(s.r.t.Context(), 20*time.Second)
	defer cancel()
	if err := cl.Flush(ctx); err != nil {
		return err // they have no end; what comes of them stays unknown
	}
	wg.Wait()
	return first
}

// leaveOpen records that nobody ends a transaction.
func (r *run) leaveOpen(txn string) {
	r.rec.Add(func(h *history.History) { h.Txns = append(h.Txns, history.Txn{Name: txn, Outcome: history.Unknown}) })
}

// endTxn ends a transaction and records how.
func (r *run) endTxn(cl *kgo.Client, txn string, commit bool) error {
	one := history.Txn{Name: txn, Commit: commit, Outcome: history.Unknown}
	one.Begin = r.rec.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit))
	if one.End = r.rec.Now(); err == nil {
		one.Outcome = history.OK
	}
	r.rec.Add(func(h *history.History) { h.Txns = append(h.Txns, one) })
	return err
}
