package replica

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// marker is a marker at an offset.
func marker(id int64, epoch int16, commit bool, at int64) record.Batch {
	b := record.NewMarker(id, epoch, commit, 0, 1000)
	b.SetBaseOffset(at)
	return b
}

// Neither expiry nor eviction forgets a producer whose transaction is open.
func TestOpenTransactionsAreNotForgotten(t *testing.T) {
	ps := producers{most: 8}
	ps.observe(transactional(t, 1000, 0, 0, "a"), 1)
	for i := range int64(50) {
		ps.observe(idempotent(t, i, 0, 0, "a"), i+2)
	}
	if p := ps.byID[1000]; p == nil || p.open != 0 || len(ps.byID) > 8 {
		t.Fatalf("of %d producers the one with a transaction is %+v", len(ps.byID), p)
	}
	ps.expire(1 << 40)
	if len(ps.byID) != 1 || ps.byID[1000] == nil {
		t.Fatalf("%d producers are left, among them %+v", len(ps.byID), ps.byID[1000])
	}
	ps.observe(marker(1000, 0, true, 70), 60)
	ps.expire(1 << 40)
	if len(ps.byID) != 0 {
		t.Errorf("%d producers are left after the marker", len(ps.byID))
	}
}

// The list of aborted transactions is bounded, says from where it is complete,
// and what was handed out of it stays as it is.
func TestAbortedListIsBounded(t *testing.T) {
	var l abortedList
	var handed []abortedTxn
	for i := range int64(3 * keptAborted) {
		l.add(abortedTxn{producer: i % 7, first: 10 * i, marker: 10*i + 5})
		if i == keptAborted {
			handed = l.txns
		}
	}
	if len(l.txns) != keptAborted || l.from != 10*(2*keptAborted-1)+6 || l.txns[0].first != 10*2*keptAborted {
		t.Errorf("%d are kept, complete from %d on, the first is %+v", len(l.txns), l.from, l.txns[0])
	}
	for i, a := range handed {
		if a.first != 10*int64(i+1) {
			t.Fatalf("entry %d of a list that was handed out became %+v", i, a)
		}
	}
	l.trim(10*2*keptAborted + 5)
	if l.from != 10*2*keptAborted+5 || l.txns[0].marker != l.from {
		t.Errorf("trimmed to %d: %+v is the first", l.from, l.txns[0])
	}
	l.trim(l.from + 1)
	if l.txns[0].first != 10*(2*keptAborted+1) {
		t.Errorf("trimmed to %d: %+v is the first", l.from, l.txns[0])
	}
	b := l.encode(nil)
	d := decoder{b: b}
	if again := d.aborted(); d.end() != nil || again.from != l.from || !slices.Equal(again.txns, l.txns) {
		t.Errorf("%d transactions decode to %d from %d on: %v", len(l.txns), len(again.txns), again.from, d.err)
	}
	t.Logf("a full list takes %d bytes in a header", len(b))
}

// A header of the version that knew of no transactions is read. What was
// aborted below it is not in its list.
func TestProducersOfVersion1(t *testing.T) {
	v1, err := hex.DecodeString("01" + "02" + "05" + "03" + "e807" + "02" + "000109" + "02030b" + "06" + "00" + "00" + "00")
	if err != nil {
		t.Fatal(err)
	}
	st := firstState([]uint64{1})
	st.NextOffset, st.Producers = 77, v1
	s, _, _, err := decodeState(st, 10)
	if err != nil {
		t.Fatal(err)
	}
	p := s.producers.byID[5]
	if p == nil || p.epoch != 3 || p.n != 2 || p.batches[1] != (sequences{2, 3, 11}) || p.open != -1 || p.marker != -1 || p.coordinator != -1 {
		t.Errorf("producer 5 is %+v", p)
	}
	if len(s.producers.byID) != 2 || s.producers.aborted.from != 77 {
		t.Errorf("%d producers, aborted transactions are complete from %d on", len(s.producers.byID), s.producers.aborted.from)
	}
	if _, err := decodeProducers([]byte{producersVersion + 1}); err == nil {
		t.Error("a version of the future is read")
	}
}

// Who read the log under one leadership appends under no other one, and not
// behind a marker that came since.
func TestAppendFenced(t *testing.T) {
	n := startNode(t, vfs.NewMem(), "data", small, Config{})
	r := n.add(Spec{ID: clicks(0)})
	_, epoch := r.Leader()
	try := func(epoch int32, guard int64, seq int32) error {
		done := make(chan error, 1)
		r.AppendFenced([]record.Batch{transactional(t, 1, 0, seq, "v")}, epoch, guard, func(_ []record.Appended, err error) { done <- err })
		return <-done
	}
	for _, other := range []int32{epoch - 1, epoch + 1} {
		if err := try(other, -1, 0); !errors.Is(err, record.ErrFencedEpoch) {
			t.Errorf("epoch %d, now %d: %v", other, epoch, err)
		}
	}
	if err := errors.Join(try(epoch, -1, 0), try(epoch, 0, 1)); err != nil {
		t.Error(err)
	}
	done := make(chan error, 1)
	r.EndTransaction(record.TransactionMarker{ProducerID: 1, Commit: true}, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := try(epoch, 0, 2); !errors.Is(err, record.ErrTransactionState) {
		t.Errorf("behind the marker: %v", err)
	}
}

// Transactions through a running node, over restarts and new segments: what
// lies below the list is found in the log, with the same answer.
func TestAbortedAfterRestart(t *testing.T) {
	fs := vfs.NewMem()
	n := startNode(t, fs, "data", small, Config{})
	spec := Spec{ID: clicks(0), Topic: TopicConfig{SegmentBytes: 2000}}
	r := n.add(spec)
	end := func(m record.TransactionMarker) error {
		done := make(chan error, 1)
		r.EndTransaction(m, func(err error) { done <- err })
		return <-done
	}
	var o txnOracle
	for i := range int32(60) {
		pid := int64(1 + i%3)
		tx, err := r.Transaction(pid)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		r.AppendTransactional([]record.Batch{transactional(t, pid, 0, 2*(i/3), "v", "w")}, tx.Guard, func(_ []record.Appended, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			if err := end(record.TransactionMarker{ProducerID: pid, Commit: i%8 == 0, CoordinatorEpoch: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if i%20 == 19 {
			n.stop()
			n = startNode(t, fs, "data", small, Config{})
			r = n.add(spec)
		}
	}
	if err := end(record.TransactionMarker{ProducerID: 1, CoordinatorEpoch: 0}); !errors.Is(err, record.ErrCoordinatorFenced) {
		t.Errorf("an older coordinator: %v", err)
	}
	off := r.Offsets()
	c, err := r.Read(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	o = c.Batches
	if want := o.lastStable(0, off.HighWatermark); off.LastStable != want || want == off.HighWatermark || off.LastStable == 0 {
		t.Fatalf("the last stable offset is %d of %d, the batches say %d", off.LastStable, off.HighWatermark, want)
	}
	for from := int64(0); from < off.LastStable; from++ {
		for _, to := range []int64{from + 1, from + 7, off.LastStable} {
			to = min(to, off.LastStable)
			list, err := r.Aborted(from, to)
			read, err2 := r.findAborted(r.view.Load(), from, to)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			o.checkReader(t, from, to, list)
			o.checkReader(t, from, to, read)
		}
	}
	if _, err := r.findAborted(r.view.Load(), 0, off.HighWatermark); !errors.Is(err, record.ErrTransactionState) {
		t.Errorf("beyond the last stable offset: %v", err)
	}
	// A reader who read before the log start moved on is answered in full.
	if err := r.SetLogStart(context.Background(), off.LastStable); err != nil {
		t.Fatal(err)
	}
	list, err := r.Aborted(off.LastStable-20, off.LastStable)
	if err == nil {
		o.checkReader(t, off.LastStable-20, off.LastStable, list)
	} else if !errors.Is(err, record.ErrOffsetOutOfRange) {
		t.Error(err)
	}
	n.stop()
}

// A search by time finds records, not markers.
func TestOffsetForTimeSkipsMarkers(t *testing.T) {
	n := startNode(t, vfs.NewMem(), "data", small, Config{})
	r := n.add(Spec{ID: clicks(0)})
	if _, err := appendWait(t, r, transactional(t, 7, 0, 0, "a")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	r.EndTransaction(record.TransactionMarker{ProducerID: 7, Commit: true}, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := appendWait(t, r, build(t, record.NewBuilder(record.None), 1<<42, "z")); err != nil {
		t.Fatal(err)
	}
	for ms, want := range map[int64]int64{0: 0, 1000: 0, 1001: 2, 1 << 42: 2, 1<<42 + 1: -1} {
		if got, err := r.OffsetForTime(ms); err != nil || got.Offset != want {
			t.Errorf("time %d: %+v %v, want offset %d", ms, got, err, want)
		}
	}
	info := r.Producers()
	if len(info) != 1 || info[0].TxnFirst != -1 || info[0].CoordinatorEpoch != 0 {
		t.Errorf("%+v", info)
	}
}

// A damaged log answers for what is decided below the damage, and refuses the
// rest by name.
func TestAbortedOfADamagedLog(t *testing.T) {
	fs := vfs.NewMem()
	n := startNode(t, fs, "data", small, Config{})
	r := n.add(Spec{ID: clicks(0)})
	for i := range int32(12) {
		if _, err := appendWait(t, r, transactional(t, 7, 0, i, fmt.Sprintf("value-%d", i))); err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			done := make(chan error, 1)
			r.EndTransaction(record.TransactionMarker{ProducerID: 7}, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	name := r.log.Segments()[0].File
	n.stop()
	flip(t, fs, "data", name, "value-10")
	n = startNode(t, fs, "data", small, Config{})
	r, err := n.set.Add(Spec{ID: clicks(0), Born: []uint64{1}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Aborted(0, 5); err != nil || len(got) != 1 || got[0] != (record.AbortedTransaction{ProducerID: 7}) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := r.Aborted(0, 7); !errors.Is(err, record.ErrQuarantined) {
		t.Errorf("an undecided transaction below the damage: %v", err)
	}
}

// What a group coordinator writes into a transaction has no sequence: it opens
// the transaction and is fenced as any batch, and nothing of it is a duplicate.
func TestTransactionalBatchWithoutSequence(t *testing.T) {
	var ps producers
	const id = 7
	for i := range int64(3) {
		b := transactional(t, id, 2, -1, "a")
		b.SetBaseOffset(i)
		if v, err := ps.byID[id].check(b); err != nil || v.duplicate {
			t.Fatalf("batch %d: %+v, %v", i, v, err)
		}
		ps.observe(b, i)
	}
	if got := ps.transaction(id); got.First != 0 || got.Epoch != 2 {
		t.Errorf("%+v", got)
	}
	if _, err := ps.byID[id].check(transactional(t, id, 1, -1, "a")); !errors.Is(err, record.ErrProducerFenced) {
		t.Errorf("an old epoch: %v", err)
	}
	ps.observe(marker(id, 3, true, 3), 4)
	if got := ps.transaction(id); got.Open() || got.Epoch != 3 || got.Guard != 4 {
		t.Errorf("after the marker: %+v", got)
	}
}
