package hubtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// strike is a point of a client's transaction at which the node is killed.
type strike struct {
	key      int16 // of the API
	answered bool  // once its answer has come; else once it is sent
}

func (p strike) String() string {
	if p.answered {
		return kmsg.NameForKey(p.key) + " answered"
	}
	return kmsg.NameForKey(p.key) + " sent"
}

const endTxn = 26

// decided is when a client knows the decision and the markers are being
// written.
var decided = strike{endTxn, true}

// strikes are the points. Between the decision of a transaction and what comes
// of it there is little time: its points come oftener.
func strikes() []strike {
	const produce, initProducer, addPartitions, addOffsets, offsetCommit = 0, 22, 24, 25, 28
	return []strike{
		{produce, false}, {produce, true}, {initProducer, false}, {initProducer, true}, {addPartitions, true}, {addOffsets, true},
		{offsetCommit, false}, {offsetCommit, true}, {endTxn, false}, {endTxn, false}, decided, decided,
	}
}

// killer kills a node when its clients come to a point. It is a hook of them.
type killer struct {
	n     *Node
	kills int
	mu    struct {
		sync.Mutex
		at    strike
		skip  int // so many times not yet
		after time.Duration
		done  chan struct{} // closed after the kill; nil: not armed
	}
}

// kill waits until the clients come to the point and kills the node then.
func (k *killer) kill(t *testing.T, rng *rand.Rand, at strike) {
	t.Helper()
	done := make(chan struct{})
	k.mu.Lock()
	k.mu.at, k.mu.skip, k.mu.done = at, rng.IntN(4), done
	// Half of them at once, and always before the markers; else while the node
	// works on what comes next.
	k.mu.after = max(0, time.Duration(rng.IntN(3000)-1500)) * time.Microsecond
	if at == decided {
		k.mu.after = 0
	}
	k.mu.Unlock()
	Until(t, 30*time.Second, "the clients come to "+at.String(), func() error {
		select {
		case <-done:
			return nil
		default:
			return fmt.Errorf("not yet")
		}
	})
	k.n.Kill()
	if code, err := k.n.Process().Wait(time.Second); code != -1 || err != nil {
		t.Errorf("the node was not killed, it ended with status %d, %v", code, err)
		return
	}
	k.kills++
}

func (k *killer) passes(key int16, answered bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.done == nil || k.mu.at != (strike{key, answered}) || err != nil {
		return
	}
	if k.mu.skip--; k.mu.skip >= 0 {
		return
	}
	done, proc := k.mu.done, k.n.Process()
	k.mu.done = nil
	strike := func() {
		proc.Kill()
		close(done)
	}
	if k.mu.after > 0 {
		time.AfterFunc(k.mu.after, strike)
		return
	}
	strike()
}

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (k *killer) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	k.passes(key, false, err)
}

// OnBrokerRead implements kgo.HookBrokerRead.
func (k *killer) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	k.passes(key, true, err)
}

// What was decided before a kill and came about after it.
const (
	lateEnd    = "decided before a kill, completed after it"
	lateMarker = "markers written only then"
)

// marker is the end of a transaction in one partition.
type marker struct {
	ending
	partition   int32
	coordinator int32 // the leader epoch of the coordinator that wrote it
}

// ending names a transaction's end. A client from KIP-890 on has another epoch
// in each.
type ending struct {
	producer int64
	epoch    int16
}

func markerOf(r *kgo.Record) marker {
	m := marker{ending: ending{r.ProducerID, r.ProducerEpoch}, partition: r.Partition, coordinator: -1}
	if len(r.Value) >= 6 {
		m.coordinator = int32(binary.BigEndian.Uint32(r.Value[2:]))
	}
	return m
}

// lateEnds counts the transactions that were decided before a kill and completed
// after it.
func (x *copying) lateEnds() (n int) {
	decided, completed := x.endings()
	for e, at := range completed {
		if by, ok := decided[e]; ok && at > by {
			n++
		}
	}
	return n
}

// lateMarkers counts the markers of such transactions that the first
// coordinator had not written.
func (x *copying) lateMarkers(markers []marker) (n int) {
	first := map[marker]int32{} // without the coordinator
	for _, m := range markers {
		at := m.coordinator
		m.coordinator = 0
		if old, ok := first[m]; !ok || at < old {
			first[m] = at
		}
	}
	decided, _ := x.endings()
	for m, at := range first {
		if by, ok := decided[m.ending]; ok && at > by {
			n++
		}
	}
	return n
}

// endings returns the leader epochs with which transactions of clients from
// KIP-890 on were decided and completed.
func (x *copying) endings() (decided, completed map[ending]int32) {
	decided, completed = map[ending]int32{}, map[ending]int32{}
	readEach(x.t, 20*time.Second, x.n.Kafka, "__transaction_state", func(r *kgo.Record) {
		v := kmsg.NewTxnMetadataValue()
		if r.Value == nil || v.ReadFrom(r.Value) != nil || v.ClientTransactionVersion < 2 {
			return
		}
		switch e := (ending{v.ProducerID, v.ProducerEpoch}); v.State {
		case kmsg.TransactionStatePrepareCommit, kmsg.TransactionStatePrepareAbort:
			decided[e] = r.LeaderEpoch
		case kmsg.TransactionStateCompleteCommit, kmsg.TransactionStateCompleteAbort:
			completed[e] = r.LeaderEpoch
		}
	})
	return decided, completed
}
