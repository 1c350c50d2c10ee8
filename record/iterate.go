package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
)

// Each calls f with the records in order, until f returns an error, which it
// returns as it is. The records' bytes lie in the batch, or in memory that
// only they share when the batch is compressed; limit is the most that the
// decompressed records may take, in bytes. Errors of the batch wrap
// ErrCorruptBatch, ErrBatchTooLarge or ErrUnsupportedCodec; f may have been
// called before.
func (b Batch) Each(limit int, f func(Record) error) error {
	var data []byte
	if b.Count() != 0 || len(b.Records()) != 0 {
		var err error
		if data, err = Decompress(b.Codec(), b.Records(), limit); err != nil {
			return fmt.Errorf("records from offset %d: %w", b.BaseOffset(), err)
		}
	}
	s := scanner{data: data, batch: b, lastDelta: -1}
	for i := range b.Count() {
		r, err := s.record()
		if err != nil {
			return fmt.Errorf("record %d of %d from offset %d: %w", i+1, b.Count(), b.BaseOffset(), err)
		}
		if err := f(r); err != nil {
			return err
		}
	}
	if n := len(s.data); n != 0 {
		return fmt.Errorf("%w: %d bytes after the %d records from offset %d", ErrCorruptBatch, n, b.Count(), b.BaseOffset())
	}
	return nil
}

// errStop ends Each from within All.
var errStop = errors.New("stop")

// All is Each as an iterator. An error comes last, with a zero Record.
func (b Batch) All(limit int) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		err := b.Each(limit, func(r Record) error {
			if !yield(r, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Record{}, err)
		}
	}
}

// scanner cuts records off the front of data.
type scanner struct {
	data      []byte
	batch     Batch
	lastDelta int64
}

// record decodes the next record. Its length frames it: the fields must fill
// it, neither less nor more.
func (s *scanner) record() (r Record, err error) {
	f := fields{b: s.data}
	body := f.bytes("record length")
	if f.err == nil && body == nil {
		f.fail("record length", -1)
	}
	if f.err != nil {
		return r, f.err
	}
	s.data = f.b
	f.b = body
	f.skipByte()
	timeDelta := f.varint("time delta", math.MinInt64, math.MaxInt64)
	delta := f.varint("offset delta", s.lastDelta+1, int64(s.batch.LastDelta()))
	r.Key = f.bytes("key length")
	r.Value = f.bytes("value length")
	r.Headers = f.headers()
	if f.err == nil && len(f.b) != 0 {
		f.err = fmt.Errorf("%w: %d bytes after its headers", ErrCorruptBatch, len(f.b))
	}
	if f.err != nil {
		return Record{}, f.err
	}
	s.lastDelta = delta
	r.Offset = s.batch.BaseOffset() + delta
	if r.Timestamp = s.batch.BaseTime() + timeDelta; s.batch.LogAppendTime() {
		r.Timestamp = s.batch.MaxTime()
	}
	return r, nil
}

// fields reads one record's fields off the front of b. After the first error
// it reads zeros.
type fields struct {
	b   []byte
	err error
}

func (f *fields) fail(what string, v int64) {
	f.b, f.err = nil, fmt.Errorf("%w: %s %d, with %d bytes left", ErrCorruptBatch, what, v, len(f.b))
}

// skipByte passes over the record's attributes, of which none are defined.
func (f *fields) skipByte() {
	if f.err != nil {
		return
	}
	if len(f.b) == 0 {
		f.err = fmt.Errorf("%w: an empty record", ErrCorruptBatch)
		return
	}
	f.b = f.b[1:]
}

// varint reads a zigzag number, which must be in lo..hi.
func (f *fields) varint(what string, lo, hi int64) int64 {
	if f.err != nil {
		return 0
	}
	v, n := binary.Varint(f.b)
	if n <= 0 {
		f.err = fmt.Errorf("%w: %s is no varint, with %d bytes left", ErrCorruptBatch, what, len(f.b))
		return 0
	}
	if v < lo || v > hi {
		f.err = fmt.Errorf("%w: %s %d, want %d to %d", ErrCorruptBatch, what, v, lo, hi)
		return 0
	}
	f.b = f.b[n:]
	return v
}

// bytes reads a length and as many bytes; a length of -1 is nil.
func (f *fields) bytes(what string) []byte {
	n := f.varint(what, -1, math.MaxInt32)
	if f.err != nil || n < 0 {
		return nil
	}
	if n > int64(len(f.b)) {
		f.fail(what, n)
		return nil
	}
	p := f.b[:n:n]
	f.b = f.b[n:]
	return p
}

// headers reads the count and the headers; none is nil.
func (f *fields) headers() []Header {
	// A header takes two bytes at least, which bounds what a count can claim.
	n := f.varint("header count", 0, int64(len(f.b)/2))
	if f.err != nil || n == 0 {
		return nil
	}
	hs := make([]Header, 0, n)
	for range n {
		key := f.bytes("header key length")
		if f.err == nil && key == nil {
			f.fail("header key length", -1)
		}
		value := f.bytes("header value length")
		if f.err != nil {
			return nil
		}
		hs = append(hs, Header{Key: string(key), Value: value})
	}
	return hs
}
