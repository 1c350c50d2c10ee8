package record

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// handmade makes a sealed batch whose record section is section.
func handmade(count, lastDelta int32, c Codec, section []byte) Batch {
	b := make(Batch, BatchHeaderSize, BatchHeaderSize+len(section))
	(&Builder{Codec: c, count: count, AppendTime: -1}).putHeader(b, lastDelta)
	return append(b, section...).finish()
}

// framed puts the body of a record behind its length.
func framed(body ...byte) []byte {
	return append(binary.AppendVarint(nil, int64(len(body))), body...)
}

func TestEachRefuses(t *testing.T) {
	// A body is attributes, time delta, offset delta, key, value, headers;
	// 0x01 is the number -1, 0x02 the number 1.
	good := framed(0, 0, 0, 1, 1, 0)
	for _, c := range []struct {
		name    string
		count   int32
		section []byte
		want    string // in the error
	}{
		{"no record where one should be", 1, nil, "record length is no varint"},
		{"two counted, one there", 2, good, "record length is no varint"},
		{"one counted, two there", 1, slices.Concat(good, framed(0, 0, 2, 1, 1, 0)), "7 bytes after the 1 records"},
		{"none counted, one there", 0, good, "bytes after the 0 records"},
		{"a record of null", 1, []byte{1}, "record length -1"},
		{"a record of length 0", 1, []byte{0}, "an empty record"},
		{"a record longer than the batch", 1, []byte{100, 0}, "record length 50"},
		{"a length without end", 1, []byte(strings.Repeat("\xff", 11)), "no varint"},
		{"a length past 31 bits", 1, binary.AppendVarint(nil, 1<<31), "record length 2147483648"},
		{"no time", 1, framed(0), "time delta is no varint"},
		{"a negative offset delta", 1, framed(0, 0, 1, 1, 1, 0), "offset delta -1, want 0 to"},
		{"an offset past the last", 1, framed(0, 0, 40, 1, 1, 0), "offset delta 20, want 0 to 9"},
		{"an offset twice", 2, slices.Concat(good, good), "offset delta 0, want 1 to 9"},
		{"a key of length -2", 1, framed(0, 0, 0, 3, 1, 0), "key length -2"},
		{"a key past the record", 1, append(framed(0, 0, 0, 20, 'k', 0), good...), "key length 10, with 2 bytes left"},
		{"no value", 1, framed(0, 0, 0, 1), "value length is no varint"},
		{"no header count", 1, framed(0, 0, 0, 1, 1), "header count is no varint"},
		{"a negative header count", 1, framed(0, 0, 0, 1, 1, 1), "header count -1"},
		{"more headers than bytes", 1, framed(0, 0, 0, 1, 1, 200, 1, 0, 0), "header count 100, want 0 to 2"},
		{"a header key of null", 1, framed(0, 0, 0, 1, 1, 2, 1, 1), "header key length -1"},
		{"a header without a value", 1, framed(0, 0, 0, 1, 1, 2, 2, 'k'), "header value length is no varint"},
		{"bytes after the headers", 1, framed(0, 0, 0, 1, 1, 0, 9), "1 bytes after its headers"},
	} {
		b := handmade(c.count, 9, None, c.section)
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		err := b.Each(1<<20, func(Record) error { return nil })
		if !errors.Is(err, ErrCorruptBatch) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if got := records(t, handmade(1, 9, None, good)); len(got) != 1 {
		t.Errorf("the good record: %+v", got)
	}
}

func TestEachStops(t *testing.T) {
	n := NewBuilder(Snappy)
	mustAppend(t, n, make([]Record, 10)...)
	b := mustBuild(t, n)
	calls := 0
	err := b.Each(1<<20, func(Record) error {
		if calls++; calls == 3 {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	if err != io.ErrUnexpectedEOF || calls != 3 { //nolint:errorlint // it must come back as it is
		t.Errorf("%v after %d calls", err, calls)
	}
	calls = 0
	for range b.All(1 << 20) {
		if calls++; calls == 3 {
			break
		}
	}
	if calls != 3 {
		t.Errorf("%d turns", calls)
	}
}

func TestAllEndsWithTheError(t *testing.T) {
	n := NewBuilder(Gzip)
	mustAppend(t, n, Record{Value: text(1000)})
	var last error
	turns := 0
	for _, err := range mustBuild(t, n).All(999) {
		last, turns = err, turns+1
	}
	if !errors.Is(last, ErrBatchTooLarge) || turns != 1 {
		t.Errorf("%v after %d turns", last, turns)
	}
}

// TestRecordsAliasTheBatch: what is decoded is not copied, but for the keys
// of headers.
func TestRecordsAliasTheBatch(t *testing.T) {
	b := golden(t)
	r := records(t, b)[0]
	if &r.Key[0] != &b[len(b)-16] {
		t.Error("the key was copied")
	}
	if &append(r.Key, 'x')[0] == &r.Key[0] {
		t.Error("an append to the key would write into the value")
	}
	n := NewBuilder(None)
	mustAppend(t, n, make([]Record, 1000)...)
	many := mustBuild(t, n)
	if got := testing.AllocsPerRun(10, func() { _ = many.Each(1<<20, func(Record) error { return nil }) }); got > 5 {
		t.Errorf("%v allocations for 1000 records", got)
	}
}

func FuzzEach(f *testing.F) {
	for _, c := range codecs {
		n := NewBuilder(c)
		mustAppend(f, n, Record{Key: []byte("k"), Value: text(200), Headers: []Header{{"a", nil}, {"b", []byte("v")}}}, Record{})
		b := mustBuild(f, n)
		f.Add(b.Count(), b.LastDelta(), uint8(c), b.Records())
	}
	f.Add(int32(1<<30), int32(1<<30), uint8(None), framed(0, 0, 0, 1, 1, 0))
	f.Fuzz(func(t *testing.T, count, lastDelta int32, c uint8, section []byte) {
		b := handmade(count&0x7fffffff, lastDelta&0x7fffffff, Codec(c%5), section)
		got, size := []Record(nil), 0
		for r, err := range b.All(64 << 10) {
			if err != nil {
				if !errors.Is(err, ErrCorruptBatch) && !errors.Is(err, ErrBatchTooLarge) {
					t.Fatalf("an error of no kind: %v", err)
				}
				return
			}
			got = append(got, r)
			size += len(r.Key) + len(r.Value)
		}
		if len(got) != int(b.Count()) || size > 64<<10 {
			t.Fatalf("%d records of %d, %d bytes", len(got), b.Count(), size)
		}
		// What was read can be written and reads the same.
		again := Rebuild(b)
		for _, r := range got {
			if err := again.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		c2, err := again.Build()
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for r, err := range c2.All(1 << 20) {
			if err != nil || !equalRecords(r, got[i]) {
				t.Fatalf("record %d: %+v, %v; want %+v", i, r, err, got[i])
			}
			i++
		}
	})
}
