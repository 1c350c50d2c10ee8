package record

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawBytes draws nil, empty and other.
func drawBytes(t *rapid.T, label string) []byte {
	if rapid.Bool().Draw(t, label+" is nil") {
		return nil
	}
	return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, label)...)
}

func drawRecords(t *rapid.T) []Record {
	rs := make([]Record, rapid.IntRange(1, 30).Draw(t, "records"))
	for i := range rs {
		r := &rs[i]
		r.Timestamp = rapid.Int64Range(-1, math.MaxInt64).Draw(t, "time")
		r.Key, r.Value = drawBytes(t, "key"), drawBytes(t, "value")
		for range rapid.IntRange(0, 4).Draw(t, "headers") {
			r.Headers = append(r.Headers, Header{Key: rapid.String().Draw(t, "header"), Value: drawBytes(t, "header value")})
		}
	}
	return rs
}

// TestRoundTrip: what goes into a Builder comes out of All, with every codec,
// with and without gaps between offsets.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs := drawRecords(t)
		n := NewBuilder(rapid.SampledFrom(codecs).Draw(t, "codec"))
		n.BaseOffset = rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "base offset")
		n.LeaderEpoch = rapid.Int32Min(-1).Draw(t, "epoch")
		n.ProducerID = rapid.Int64Min(-1).Draw(t, "producer")
		n.ProducerEpoch = rapid.Int16Min(-1).Draw(t, "producer epoch")
		n.BaseSequence = rapid.Int32Min(-1).Draw(t, "sequence")
		n.Transactional = rapid.Bool().Draw(t, "transactional")
		n.KeepOffsets = rapid.Bool().Draw(t, "keep offsets")
		next := n.BaseOffset
		for i := range rs {
			if n.KeepOffsets {
				next += int64(rapid.IntRange(0, 1<<20).Draw(t, "gap"))
			}
			rs[i].Offset = next
			next++
			if err := n.Append(rs[i]); err != nil {
				t.Fatal(err)
			}
		}
		b, err := n.Build()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		checkHeader(t, n, b, rs)
		var got []Record
		for r, err := range b.All(1 << 20) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if !slices.EqualFunc(got, rs, equalRecords) {
			t.Fatalf("got %+v, want %+v", got, rs)
		}
		// The same records into the same header make the same batch.
		again := Rebuild(b)
		for _, r := range got {
			if err := again.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := again.Build(); err != nil || string(c) != string(b) {
			t.Fatalf("rebuilt as\n%x, want\n%x (%v)", c, b, err)
		}
	})
}

func checkHeader(t *rapid.T, n *Builder, b Batch, rs []Record) {
	last := rs[len(rs)-1].Offset
	latest := slices.MaxFunc(rs, func(x, y Record) int {
		if x.Timestamp < y.Timestamp {
			return -1
		}
		return 1
	}).Timestamp
	switch {
	case b.BaseOffset() != n.BaseOffset, b.LastOffset() != last, b.LeaderEpoch() != n.LeaderEpoch:
		t.Fatalf("offsets %d to %d, epoch %d", b.BaseOffset(), b.LastOffset(), b.LeaderEpoch())
	case b.ProducerID() != n.ProducerID, b.ProducerEpoch() != n.ProducerEpoch, b.BaseSequence() != n.BaseSequence:
		t.Fatalf("producer %d, %d, %d", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	case b.Codec() != n.Codec, b.IsTransactional() != n.Transactional, b.IsControl(), b.LogAppendTime():
		t.Fatalf("attributes %x", b.i16(posAttributes))
	case b.BaseTime() != rs[0].Timestamp, b.MaxTime() != latest, int(b.Count()) != len(rs):
		t.Fatalf("times %d and %d, count %d", b.BaseTime(), b.MaxTime(), b.Count())
	case n.Codec == None && len(b) != n.Size():
		t.Fatalf("%d bytes, estimated %d", len(b), n.Size())
	}
}

func TestBuilderResets(t *testing.T) {
	n := NewBuilder(Zstd)
	mustAppend(t, n, Record{Timestamp: 900, Value: text(1000)}, Record{Timestamp: 50})
	first := mustBuild(t, n)
	if n.Len() != 2 || n.Size() < 1000 {
		t.Errorf("%d records, %d bytes", n.Len(), n.Size())
	}
	n.Reset()
	if n.Len() != 0 || n.Size() != BatchHeaderSize {
		t.Errorf("after Reset %d records, %d bytes", n.Len(), n.Size())
	}
	n.BaseOffset = first.NextOffset()
	mustAppend(t, n, Record{Timestamp: 7, Value: []byte("second")})
	second := mustBuild(t, n)
	if got := records(t, second); len(got) != 1 || got[0].Offset != 2 || got[0].Timestamp != 7 || second.MaxTime() != 7 {
		t.Errorf("second batch %+v, largest time %d", got, second.MaxTime())
	}
	if got := records(t, first); len(got) != 2 || len(got[0].Value) != 1000 {
		t.Error("the second batch wrote into the first")
	}
}

func TestBuilderRefuses(t *testing.T) {
	if _, err := NewBuilder(None).Build(); !errors.Is(err, ErrInvalidBatch) {
		t.Errorf("no record: %v", err)
	}
	n := NewBuilder(9)
	mustAppend(t, n, Record{})
	if _, err := n.Build(); !errors.Is(err, ErrUnsupportedCodec) {
		t.Errorf("codec 9: %v", err)
	}
	n = NewBuilder(None)
	n.KeepOffsets, n.BaseOffset, n.LastOffset = true, 100, 0
	mustAppend(t, n, Record{Offset: 105})
	before := mustBuild(t, n)
	for _, o := range []int64{0, 99, 104, 105, 101 + math.MaxInt32} {
		if err := n.Append(Record{Offset: o}); !errors.Is(err, ErrInvalidBatch) {
			t.Errorf("offset %d after 105: %v", o, err)
		}
	}
	if after := mustBuild(t, n); string(after) != string(before) {
		t.Error("a refused record changed the batch")
	}
	n.LastOffset = 101 + math.MaxInt32
	if _, err := n.Build(); !errors.Is(err, ErrInvalidBatch) {
		t.Errorf("more than 2^31 offsets: %v", err)
	}
}

// TestRebuildAfterCompaction drops records and keeps the range of offsets and
// of sequence numbers, down to a batch with no record.
func TestRebuildAfterCompaction(t *testing.T) {
	n := NewBuilder(Gzip)
	n.BaseOffset, n.LeaderEpoch, n.ProducerID, n.ProducerEpoch, n.BaseSequence = 40, 3, 9, 1, 6
	for i := range int64(5) {
		mustAppend(t, n, Record{Timestamp: i, Value: []byte{byte(i)}})
	}
	b := mustBuild(t, n)
	b.SetLogAppendTime(777)
	for keep := range 3 {
		again := Rebuild(b)
		rs := records(t, b)[1 : 1+keep]
		mustAppend(t, again, rs...)
		c := mustBuild(t, again)
		if got := records(t, c); !slices.EqualFunc(got, rs, equalRecords) {
			t.Errorf("kept %+v, want %+v", got, rs)
		}
		if c.BaseOffset() != 40 || c.LastOffset() != 44 || c.LastSequence() != b.LastSequence() || c.MaxTime() != 777 || c.LeaderEpoch() != 3 {
			t.Errorf("with %d records: offsets %d to %d, last sequence %d, time %d", keep, c.BaseOffset(), c.LastOffset(), c.LastSequence(), c.MaxTime())
		}
	}
}
