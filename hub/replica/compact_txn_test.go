package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// keyedIn is keyed in a transaction of a producer.
func keyedIn(t testing.TB, pid int64, seq int32, key, value string) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = pid, 0, seq, true
	if err := b.Append(record.Record{Timestamp: 1000, Key: []byte(key), Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func endWait(t testing.TB, r *Replica, pid int64, commit bool) {
	t.Helper()
	done := make(chan error, 1)
	r.EndTransaction(record.TransactionMarker{ProducerID: pid, Commit: commit}, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// readCommitted reads a partition from offset on in pieces of about size bytes,
// and returns the batches that a reader with read_committed may see.
func readCommitted(t testing.TB, r *Replica, from int64, size int) (seen []int64) {
	t.Helper()
	for at := from; at < r.Offsets().LastStable; {
		c, err := r.Read(at, size)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Batches) == 0 {
			break
		}
		end := c.Batches[len(c.Batches)-1].NextOffset()
		list, err := r.Aborted(c.Batches[0].BaseOffset(), end)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, filtered(t, c.Batches, list)...)
		at = end
	}
	return seen
}

// The marker of an aborted transaction goes once nothing of it is left. A
// reader that was still told of the transaction would wait for that marker and
// skip what its producer commits later.
func TestCommittedRecordsBehindADroppedMarkerAreSeen(t *testing.T) {
	fs := vfs.NewMem()
	sc := small
	sc.IdleAfter = time.Millisecond
	spec := Spec{ID: clicks(0), Topic: TopicConfig{SegmentBytes: 20_000, Keep: true, Compact: Compaction{On: true, DirtyRatio: 0.01}}}
	n := startNode(t, fs, "data", sc, Config{CompactEvery: time.Millisecond, CompactRate: -1})
	r := n.add(spec)
	const pid = 7
	if _, err := appendWait(t, r, keyed(t, "first", "stays")); err != nil {
		t.Fatal(err)
	}
	if _, err := appendWait(t, r, keyedIn(t, pid, 0, "aborted", "never")); err != nil {
		t.Fatal(err)
	}
	endWait(t, r, pid, false)
	if _, err := appendWait(t, r, keyedIn(t, pid, 1, "mine", "committed")); err != nil {
		t.Fatal(err)
	}
	endWait(t, r, pid, true)
	i := 0
	waitFor(t, func() bool {
		for range 200 {
			i++
			if _, err := appendWait(t, r, keyed(t, fmt.Sprintf("k%d", i%10), fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		c, err := r.Read(1, 1)
		return err == nil && c.Batches[0].BaseOffset() > 2
	})
	check := func(r *Replica) {
		t.Helper()
		for _, size := range []int{1, 1 << 10, 1 << 20} {
			if seen := readCommitted(t, r, 0, size); !slices.Contains(seen, 3) {
				t.Errorf("read %d bytes at once: the committed record at offset 3 is hidden", size)
			}
		}
	}
	check(r)
	n.stop()
	check(startNode(t, fs, "data", sc, Config{CompactEvery: time.Hour}).add(spec))
}
