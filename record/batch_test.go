package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

// goldenBatch is written out by hand; its checksum was computed by another
// implementation (Sarama's tests carry the same batch).
const goldenBatch = "" +
	"0000000000000000" + // base offset
	"00000046" + // length: 70
	"00000000" + // leader epoch
	"02" + // magic
	"547961fd" + // checksum
	"0000" + // attributes
	"00000000" + // last offset delta
	"000001588dcd5938" + // base time
	"0000000000000000" + // largest time
	"0000000000000000" + "0000" + "00000000" + // producer, epoch, sequence
	"00000001" + // count
	"28" + "00" + "0a" + "00" + // length 20, attributes, time delta 5, offset delta
	"08" + "01020304" + // key
	"06" + "050607" + // value
	"02" + "06" + "08090a" + "04" + "0b0c" // one header

func golden(t testing.TB) Batch {
	t.Helper()
	b, err := hex.DecodeString(goldenBatch)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenBatch(t *testing.T) {
	b := golden(t)
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	want := Record{
		Timestamp: 1479847795000 + 5,
		Key:       []byte{1, 2, 3, 4},
		Value:     []byte{5, 6, 7},
		Headers:   []Header{{Key: "\x08\x09\x0a", Value: []byte{11, 12}}},
	}
	got := records(t, b)
	if len(got) != 1 || !equalRecords(got[0], want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCheckFindsEveryFlippedBit(t *testing.T) {
	good := golden(t)
	for i := posLength; i < len(good); i++ {
		if i >= posLeaderEpoch && i < posMagic {
			continue // a broker writes it; the checksum does not cover it
		}
		for bit := range 8 {
			b := slices.Clone(good)
			b[i] ^= 1 << bit
			if b.Check() == nil {
				t.Errorf("bit %d of byte %d flipped and not found", bit, i)
			}
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(Batch) Batch
		want error
	}{
		{"nothing", func(b Batch) Batch { return nil }, ErrCorruptBatch},
		{"part of a header", func(b Batch) Batch { return b[:BatchHeaderSize-1] }, ErrCorruptBatch},
		{"a message of magic 1, shorter than a header", func(b Batch) Batch { b[posMagic] = 1; return b[:40] }, ErrInvalidBatch},
		{"magic 3", func(b Batch) Batch { b[posMagic] = 3; return b }, ErrInvalidBatch},
		{"a torn tail", func(b Batch) Batch { return b[:len(b)-1] }, ErrCorruptBatch},
		{"bytes after the end", func(b Batch) Batch { return append(b, 0) }, ErrCorruptBatch},
		{"a negative length", func(b Batch) Batch { b[posLength] = 0xff; return b }, ErrCorruptBatch},
		{"the longest length", func(b Batch) Batch { copy(b[posLength:], "\x7f\xff\xff\xff"); return b }, ErrCorruptBatch},
		{"codec 5", func(b Batch) Batch { b[posAttributes+1] = 5; b.seal(); return b }, ErrUnsupportedCodec},
		{"a negative count", func(b Batch) Batch { b[posCount] = 0x80; b.seal(); return b }, ErrInvalidBatch},
		{"a negative last delta", func(b Batch) Batch { b[posLastDelta] = 0x80; b.seal(); return b }, ErrInvalidBatch},
	} {
		if err := c.edit(golden(t)).Check(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCheckProduced(t *testing.T) {
	one := Record{Value: []byte("v")}
	for _, c := range []struct {
		name string
		edit func(*Builder)
		ok   bool
	}{
		{"plain", func(*Builder) {}, true},
		{"idempotent", func(n *Builder) { n.ProducerID, n.ProducerEpoch, n.BaseSequence = 7, 0, 0 }, true},
		{"a gap at the end", func(n *Builder) { n.KeepOffsets, n.LastOffset = true, 9 }, false},
		{"control", func(n *Builder) { n.Control = true }, false},
		{"no sequence", func(n *Builder) { n.ProducerID, n.ProducerEpoch = 7, 0 }, false},
		{"no epoch", func(n *Builder) { n.ProducerID, n.BaseSequence = 7, 0 }, false},
		{"transactional", func(n *Builder) { n.ProducerID, n.ProducerEpoch, n.BaseSequence, n.Transactional = 7, 0, 0, true }, true},
		{"transactional without a producer", func(n *Builder) { n.Transactional = true }, false},
		{"producer -2", func(n *Builder) { n.ProducerID = -2 }, false},
	} {
		n := NewBuilder(None)
		c.edit(n)
		mustAppend(t, n, one)
		if err := mustBuild(t, n).CheckProduced(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalidBatch) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestHeaderEdits(t *testing.T) {
	b := golden(t)
	b.SetBaseOffset(1 << 40)
	b.SetLeaderEpoch(12)
	if err := b.Check(); err != nil {
		t.Errorf("offset and epoch are not under the checksum: %v", err)
	}
	b.SetLogAppendTime(1234)
	if err := b.Check(); err != nil {
		t.Errorf("after the append time: %v", err)
	}
	r := records(t, b)[0]
	if r.Offset != 1<<40 || b.NextOffset() != 1<<40+1 || b.LeaderEpoch() != 12 || r.Timestamp != 1234 {
		t.Errorf("got %+v, next %d, epoch %d", r, b.NextOffset(), b.LeaderEpoch())
	}
}

func TestLastSequence(t *testing.T) {
	for _, c := range []struct{ base, records, want int32 }{
		{-1, 3, -1}, {0, 1, 0}, {5, 3, 7}, {1<<31 - 1, 1, 1<<31 - 1}, {1<<31 - 1, 3, 1},
	} {
		n := NewBuilder(None)
		n.BaseSequence = c.base
		for range c.records {
			mustAppend(t, n, Record{})
		}
		if got := mustBuild(t, n).LastSequence(); got != c.want {
			t.Errorf("%d records from sequence %d: last %d, want %d", c.records, c.base, got, c.want)
		}
	}
}

func TestSplitBatchesReturnsTheGoodOnes(t *testing.T) {
	run := slices.Concat(golden(t), golden(t), golden(t)[:50])
	all, err := SplitBatches(run)
	if len(all) != 2 || !errors.Is(err, ErrCorruptBatch) {
		t.Errorf("%d batches, %v; want 2 and a corrupt tail", len(all), err)
	}
	if cap(all[0]) != len(all[0]) {
		t.Error("an append to the first batch would write into the second")
	}
}

func FuzzSplitBatches(f *testing.F) {
	good := golden(f)
	f.Add([]byte(nil))
	f.Add([]byte(good))
	f.Add(slices.Concat([]byte(good), []byte(good)))
	f.Add([]byte(strings.Repeat("\x02", 200)))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := SplitBatches(b)
		n := 0
		for _, one := range all {
			if err := one.Check(); err != nil {
				t.Fatalf("a batch it let through: %v", err)
			}
			n += len(one)
		}
		if err == nil && n != len(b) || n > len(b) {
			t.Fatalf("%d of %d bytes in %d batches, error %v", n, len(b), len(all), err)
		}
	})
}

// The helpers of this package's tests.

func mustAppend(t testing.TB, n *Builder, rs ...Record) {
	t.Helper()
	for _, r := range rs {
		if err := n.Append(r); err != nil {
			t.Fatal(err)
		}
	}
}

func mustBuild(t testing.TB, n *Builder) Batch {
	t.Helper()
	b, err := n.Build()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	return b
}

func records(t testing.TB, b Batch) (rs []Record) {
	t.Helper()
	for r, err := range b.All(1 << 30) {
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

// equalRecords tells nil from empty, which a tombstone needs.
func equalRecords(a, b Record) bool {
	return a.Offset == b.Offset && a.Timestamp == b.Timestamp && equalBytes(a.Key, b.Key) && equalBytes(a.Value, b.Value) &&
		slices.EqualFunc(a.Headers, b.Headers, func(x, y Header) bool { return x.Key == y.Key && equalBytes(x.Value, y.Value) })
}

func equalBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
