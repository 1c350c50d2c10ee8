package protocol

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// TestTransactionsLikeApacheKafka plays the same steps of three producers with
// one transactional ID to this server and to the broker at ENTREPOT_TEST_KAFKA
// (deploy/kafka starts one; its topics stay), and compares the codes and the
// epochs. Clients of one generation only.
func TestTransactionsLikeApacheKafka(t *testing.T) {
	addr := os.Getenv("ENTREPOT_TEST_KAFKA")
	if addr == "" {
		t.Skip("NOT COMPARED WITH APACHE KAFKA: ENTREPOT_TEST_KAFKA has no address")
	}
	ours, reference := startSite(t, quick()), &site{addr: addr}
	run := fmt.Sprintf("walk-%x", time.Now().UnixNano())
	ours.topic(t, run, 3)
	if _, err := reference.admin(t).CreateTopic(testContext(t), 3, 1, nil, run); err != nil {
		t.Fatal(err)
	}
	c := reference.dial(t)
	for p := range int32(3) {
		r := produceRequest(9, run, record.TopicID{}, batch(t, record.None, "v"))
		r.Topics[0].Partitions[0].Partition = p
		eventually(t, "the partition has a leader", func() bool { return produced(c, r).ErrorCode == 0 })
	}
	steps := 0
	for seed := range uint64(40) {
		a, b := newTxnWalk(t, ours, run, seed), newTxnWalk(t, reference, run, seed)
		for i := range 40 {
			what, got := a.step()
			_, want := b.step()
			steps++
			if got != want || a.epochs() != b.epochs() {
				t.Errorf("seed %d, step %d: %s: %v and epochs %v, the reference answers %v and %v",
					seed, i, what, kerr.ErrorForCode(got), a.epochs(), kerr.ErrorForCode(want), b.epochs())
				break
			}
		}
		_ = a.nc.Close()
		_ = b.nc.Close()
	}
	t.Logf("%d steps", steps)
}

// txnWalk takes random steps. The same seed takes the same ones as long as the
// answers are the same.
type txnWalk struct {
	*txnConn
	rng   *rand.Rand
	old   bool // clients before KIP-890
	topic *catalog.Topic
	has   [3]txn.Producer // what each producer got
	seq   map[string]int32
}

func newTxnWalk(t *testing.T, s *site, run string, seed uint64) *txnWalk {
	w := &txnWalk{
		txnConn: &txnConn{rawConn: s.dial(t), id: fmt.Sprint(run, "-", seed)},
		rng:     rand.New(rand.NewPCG(seed, 5)), old: seed%2 == 0, seq: map[string]int32{}, topic: &catalog.Topic{Name: run},
	}
	for i := range w.has {
		w.has[i] = txn.None
	}
	fc := &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorType: coordinatorOfTransaction, CoordinatorKeys: []string{w.id}}
	eventually(t, "there is a coordinator", func() bool {
		return ask[*kmsg.FindCoordinatorResponse](w.rawConn, fc).Coordinators[0].ErrorCode == 0
	})
	return w
}

func (w *txnWalk) epochs() (all [3]int16) {
	for i, p := range w.has {
		all[i] = p.Epoch
	}
	return all
}

func (w *txnWalk) step() (string, int16) {
	i := w.rng.IntN(len(w.has))
	partition, commit, kind := w.rng.Int32N(3), w.rng.IntN(3) > 0, w.rng.IntN(12)
	p := w.has[i]
	switch {
	case p == txn.None || kind == 0:
		var resp *kmsg.InitProducerIDResponse
		// A transaction that is being aborted, or a topic that is just being made.
		eventually(w.t, "a producer is given", func() bool {
			resp = w.init(4, txn.None)
			return resp.ErrorCode != kerr.ConcurrentTransactions.Code && !kerr.IsRetriable(kerr.ErrorForCode(resp.ErrorCode))
		})
		if resp.ErrorCode == 0 {
			w.has[i] = txn.Producer{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}
		}
		return fmt.Sprintf("%d: init", i), resp.ErrorCode
	case kind < 4 && w.old:
		return fmt.Sprintf("%d: add %d", i, partition), w.add(3, p, w.topic.Name, partition)[0]
	case kind < 8:
		version := int16(12)
		if w.old {
			version = 11
		}
		key := fmt.Sprint(p, partition)
		code := produced(w.rawConn, w.produceIn(version, w.topic, partition, p, w.seq[key])).ErrorCode
		if code == 0 {
			w.seq[key]++
		}
		return fmt.Sprintf("%d: produce to %d", i, partition), code
	}
	version := int16(4)
	if !w.old {
		version = 5
	}
	resp := ask[*kmsg.EndTxnResponse](w.rawConn, w.endRequest(version, p, commit))
	if resp.ErrorCode == 0 && !w.old {
		w.has[i] = txn.Producer{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}
	}
	eventually(w.t, "the transaction is over", func() bool { s := w.state().State; return s != "PrepareCommit" && s != "PrepareAbort" })
	return fmt.Sprintf("%d: end %v", i, commit), resp.ErrorCode
}
