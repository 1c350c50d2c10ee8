package record

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Builder makes v2 batches, one at a time. Set the fields before Append.
type Builder struct {
	Codec         Codec
	BaseOffset    int64
	LeaderEpoch   int32 // -1 when unknown
	ProducerID    int64 // NoProducer without idempotence
	ProducerEpoch int16
	BaseSequence  int32
	Transactional bool
	Control       bool

	// KeepOffsets keeps the offsets of the records, which must increase, from
	// BaseOffset on. Otherwise records get consecutive offsets.
	KeepOffsets bool

	// LastOffset, with KeepOffsets, is the last offset that the batch covers
	// even though no record may have it, as after compaction.
	LastOffset int64

	// AppendTime, unless it is -1, replaces the time of all records, as a
	// broker with LogAppendTime does. Milliseconds.
	AppendTime int64

	// DeleteHorizon, unless it is -1, is the time in ms from which on the
	// tombstones in the batch, or its marker, may be compacted away (KIP-534).
	DeleteHorizon int64

	buf       []byte // the records, encoded
	body      []byte // the record at hand, without its length
	count     int32
	lastDelta int32
	baseTime  int64
	maxTime   int64
}

// NewBuilder returns a Builder for batches without a producer, from offset 0.
func NewBuilder(c Codec) *Builder {
	return &Builder{Codec: c, LeaderEpoch: -1, ProducerID: NoProducer, ProducerEpoch: -1, BaseSequence: -1, AppendTime: -1, DeleteHorizon: -1, lastDelta: -1}
}

// Rebuild returns a Builder for a batch to stand in the place of b: with its
// header and its range of offsets, for those of its records that are appended.
func Rebuild(b Batch) *Builder {
	n := NewBuilder(b.Codec())
	n.BaseOffset, n.LastOffset, n.KeepOffsets = b.BaseOffset(), b.LastOffset(), true
	n.LeaderEpoch = b.LeaderEpoch()
	n.ProducerID, n.ProducerEpoch, n.BaseSequence = b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	n.Transactional, n.Control = b.IsTransactional(), b.IsControl()
	n.DeleteHorizon = b.DeleteHorizon()
	if b.LogAppendTime() {
		n.AppendTime = b.MaxTime()
	}
	return n
}

// Len is the number of records appended since Reset.
func (b *Builder) Len() int { return int(b.count) }

// Size is the batch's size in bytes before compression, exact with None.
func (b *Builder) Size() int { return BatchHeaderSize + len(b.buf) }

// Reset forgets the records and keeps the fields and the memory.
func (b *Builder) Reset() {
	b.buf, b.count, b.lastDelta = b.buf[:0], 0, -1
}

// Append encodes r at the end of the batch; nothing of r is kept. Errors wrap
// ErrInvalidBatch for an offset that does not fit and ErrBatchTooLarge for
// more than 2 GiB; the batch is then as before.
func (b *Builder) Append(r Record) error {
	delta, err := b.nextDelta(r.Offset)
	if err != nil {
		return err
	}
	baseTime := b.baseTime
	switch {
	case b.DeleteHorizon >= 0:
		baseTime = b.DeleteHorizon // it stands in the place of the base time
	case b.count == 0:
		baseTime = r.Timestamp
	}
	b.body = appendBody(b.body[:0], r, r.Timestamp-baseTime, delta)
	if int64(b.Size())+int64(len(b.body))+binary.MaxVarintLen32 > math.MaxInt32 {
		return fmt.Errorf("%w: a record of %d bytes onto %d, the most is 2 GiB", ErrBatchTooLarge, len(b.body), b.Size())
	}
	b.buf = binary.AppendVarint(b.buf, int64(len(b.body)))
	b.buf = append(b.buf, b.body...)
	if b.count == 0 {
		b.baseTime, b.maxTime = baseTime, r.Timestamp
	}
	b.maxTime = max(b.maxTime, r.Timestamp)
	b.lastDelta = delta
	b.count++
	return nil
}

// nextDelta is the offset delta of the record to come.
func (b *Builder) nextDelta(offset int64) (int32, error) {
	delta := int64(b.lastDelta) + 1
	if b.KeepOffsets {
		if offset < b.BaseOffset+delta {
			return 0, fmt.Errorf("%w: record offset %d, want at least %d", ErrInvalidBatch, offset, b.BaseOffset+delta)
		}
		delta = offset - b.BaseOffset
	}
	if delta > math.MaxInt32 {
		return 0, fmt.Errorf("%w: record offset %d is %d past the batch's base, the most is %d", ErrInvalidBatch, offset, delta, math.MaxInt32)
	}
	return int32(delta), nil
}

// appendBody encodes a record as KIP-98 has it, without its leading length:
// attributes (none are defined), time delta, offset delta, key, value, headers.
func appendBody(dst []byte, r Record, timeDelta int64, offsetDelta int32) []byte {
	dst = append(dst, 0)
	dst = binary.AppendVarint(dst, timeDelta)
	dst = binary.AppendVarint(dst, int64(offsetDelta))
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for _, h := range r.Headers {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

// appendBytes encodes p after its length, which is -1 for nil.
func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(p))), p...)
}

// Build returns the batch of the records so far, in memory of its own. The
// Builder stays as it is. Errors wrap ErrInvalidBatch for a batch that covers
// no offset, and ErrUnsupportedCodec.
func (b *Builder) Build() (Batch, error) {
	last := int64(b.lastDelta)
	if b.KeepOffsets {
		last = max(last, b.LastOffset-b.BaseOffset)
	}
	if last < 0 || last > math.MaxInt32 {
		return nil, fmt.Errorf("%w: last offset delta %d with %d records, want 0 to %d", ErrInvalidBatch, last, b.count, math.MaxInt32)
	}
	out := make(Batch, BatchHeaderSize, b.Size())
	b.putHeader(out, int32(last))
	if b.count == 0 {
		return out.finish(), nil
	}
	out, err := Compress(out, b.Codec, b.buf)
	if err != nil {
		return nil, err
	}
	if len(out) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d bytes, the most is 2 GiB", ErrBatchTooLarge, len(out))
	}
	return out.finish(), nil
}

// finish writes what depends on all the rest: length and checksum.
func (b Batch) finish() Batch {
	binary.BigEndian.PutUint32(b[posLength:], uint32(len(b)-batchPrefix))
	b.seal()
	return b
}

func (b *Builder) putHeader(h Batch, lastDelta int32) {
	be := binary.BigEndian
	h.SetBaseOffset(b.BaseOffset)
	h.SetLeaderEpoch(b.LeaderEpoch)
	h[posMagic] = 2
	be.PutUint16(h[posAttributes:], b.attributes())
	be.PutUint32(h[posLastDelta:], uint32(lastDelta))
	baseTime, maxTime := b.times()
	be.PutUint64(h[posBaseTime:], uint64(baseTime))
	be.PutUint64(h[posMaxTime:], uint64(maxTime))
	be.PutUint64(h[posProducerID:], uint64(b.ProducerID))
	be.PutUint16(h[posProducerEpch:], uint16(b.ProducerEpoch))
	be.PutUint32(h[posBaseSequence:], uint32(b.BaseSequence))
	be.PutUint32(h[posCount:], uint32(b.count))
}

// times are the header's base and largest time; -1 is Kafka's for no record.
func (b *Builder) times() (base, largest int64) {
	base, largest = b.baseTime, b.maxTime
	if b.count == 0 {
		base, largest = -1, -1
	}
	if b.AppendTime >= 0 {
		largest = b.AppendTime
	}
	if b.DeleteHorizon >= 0 {
		base = b.DeleteHorizon
	}
	return base, largest
}

// attributes are the header's. A batch without records is never compressed.
func (b *Builder) attributes() (a uint16) {
	if b.count > 0 {
		a = uint16(b.Codec)
	}
	if b.AppendTime >= 0 {
		a |= attrLogAppendTime
	}
	if b.Transactional {
		a |= attrTransactional
	}
	if b.Control {
		a |= attrControl
	}
	if b.DeleteHorizon >= 0 {
		a |= attrDeleteHorizon
	}
	return a
}
