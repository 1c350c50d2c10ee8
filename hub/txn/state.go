package txn

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// State is where a transactional ID is. The numbers are Kafka's in the records
// of __transaction_state.
type State int8

// The states; txn.go draws the moves between them.
const (
	Empty          State = iota // no transaction yet
	Ongoing                     // partitions have been added
	PrepareCommit               // decided; the markers are being written
	PrepareAbort                // decided; the markers are being written
	CompleteCommit              // all markers are committed
	CompleteAbort               // all markers are committed
	Dead                        // removed; the driver drops the value
	// PrepareEpochFence is Kafka's step before an abort that fences. Here the
	// fence is part of the abort's own write, so that nobody is ever in it;
	// tools may ask for it by name.
	PrepareEpochFence
)

var stateNames = [...]string{
	"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence",
}

// String is Kafka's name of the state.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", int8(s))
	}
	return stateNames[s]
}

// ParseState finds a state by Kafka's name.
func ParseState(name string) (State, bool) {
	i := slices.Index(stateNames[:], name)
	return State(i), i >= 0
}

func (s State) preparing() bool { return s == PrepareCommit || s == PrepareAbort }

// Producer is a producer ID with its epoch.
type Producer struct {
	ID    int64
	Epoch int16
}

// None is the producer that a client has before it got one.
var None = Producer{ID: record.NoProducer, Epoch: -1}

// maxEpoch is the last epoch that a client is given with a producer ID. One
// more is there for the marker that ends its last transaction.
const maxEpoch = 1<<15 - 2

// Record is what is kept of a transactional ID across restarts.
type Record struct {
	Producer   Producer
	Previous   int64 // producer ID before the present one, whose epochs are used up; -1: none
	Next       int64 // Prepare…: producer ID that follows on completion; -1: the same
	Timeout    time.Duration
	State      State
	Partitions []record.TopicPartition // in order; of the transaction that is open or being ended
	Started    int64                   // ms; when the transaction was opened, -1: none
	Updated    int64                   // ms
	Version    int16                   // of transactions, as the client speaks them; 2: KIP-890's
}

// Check says what cannot be in a record that was kept.
func (r *Record) Check() error {
	switch {
	case r.State < Empty || r.State > CompleteAbort:
		return fmt.Errorf("state %v, want %v to %v", r.State, Empty, CompleteAbort)
	case r.Producer.ID < 0 || r.Producer.Epoch < 0:
		return fmt.Errorf("producer %d epoch %d, want 0 or more", r.Producer.ID, r.Producer.Epoch)
	case r.Timeout < 0:
		return fmt.Errorf("timeout %v, want 0 or more", r.Timeout)
	}
	return nil
}

// client is the producer that the client knows or is going to be told.
func (r *Record) client() Producer {
	if r.State.preparing() && r.Next >= 0 {
		return Producer{ID: r.Next}
	}
	return r.Producer
}

// has reports whether all partitions are part of the transaction.
func (r *Record) has(tps []record.TopicPartition) bool {
	for _, tp := range tps {
		if _, ok := slices.BinarySearchFunc(r.Partitions, tp, comparePartitions); !ok {
			return false
		}
	}
	return true
}

// with returns the partitions of the transaction and these, in order.
func (r *Record) with(tps []record.TopicPartition) []record.TopicPartition {
	all := append(slices.Clone(r.Partitions), tps...)
	slices.SortFunc(all, comparePartitions)
	return slices.Compact(all)
}

func comparePartitions(a, b record.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
