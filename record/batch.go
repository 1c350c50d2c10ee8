package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Layout of a v2 batch, byte offsets from its start.
const (
	posBaseOffset   = 0
	posLength       = 8 // bytes that follow this field
	posLeaderEpoch  = 12
	posMagic        = 16
	posCRC          = 17 // CRC32C of everything from posAttributes on
	posAttributes   = 21
	posLastDelta    = 23
	posBaseTime     = 27
	posMaxTime      = 35
	posProducerID   = 43
	posProducerEpch = 51
	posBaseSequence = 53
	posCount        = 57
	posRecords      = 61

	// BatchHeaderSize is the size in bytes of a batch without records.
	BatchHeaderSize = posRecords
	// batchPrefix is what the length field does not count.
	batchPrefix = posLength + 4
)

// Attribute bits of a batch.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
)

// NoProducer is the producer ID of a batch without idempotence.
const NoProducer int64 = -1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC is the checksum of the whole product: CRC-32C (Castagnoli), as in Kafka.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// UpdateCRC continues a checksum over more bytes.
func UpdateCRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// Batch is one Kafka v2 record batch as bytes, exactly as long as its length
// field says. Its methods read the header in place. Only a batch that came
// out of SplitBatch, Check or Builder may be asked: shorter ones panic.
type Batch []byte

// SplitBatch cuts the first batch off b without looking into it. It returns
// ErrInvalidBatch for another magic and ErrCorruptBatch for a length that
// cannot be.
func SplitBatch(b []byte) (first Batch, rest []byte, err error) {
	// The magic comes first: older messages are shorter than a v2 header.
	if len(b) > posMagic && b[posMagic] != 2 {
		return nil, b, fmt.Errorf("%w: magic %d, only 2 is supported", ErrInvalidBatch, int8(b[posMagic]))
	}
	if len(b) < BatchHeaderSize {
		return nil, b, fmt.Errorf("%w: %d bytes left, a batch has at least %d", ErrCorruptBatch, len(b), BatchHeaderSize)
	}
	n := int64(int32(binary.BigEndian.Uint32(b[posLength:]))) + batchPrefix
	if n < BatchHeaderSize || n > int64(len(b)) {
		return nil, b, fmt.Errorf("%w: the length field says %d bytes, %d are there", ErrCorruptBatch, n, len(b))
	}
	return Batch(b[:n:n]), b[n:], nil
}

// SplitBatches cuts b into batches and checks each. It returns what was good
// before the first error.
func SplitBatches(b []byte) ([]Batch, error) {
	var all []Batch
	for len(b) > 0 {
		one, rest, err := SplitBatch(b)
		if err != nil {
			return all, err
		}
		if err := one.Check(); err != nil {
			return all, err
		}
		all, b = append(all, one), rest
	}
	return all, nil
}

// Check verifies length, magic, checksum and that the header agrees with
// itself. The records inside are not decoded.
func (b Batch) Check() error {
	one, rest, err := SplitBatch(b)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes after the end", ErrCorruptBatch, len(rest))
	}
	if got, want := CRC(one[posAttributes:]), one.CRC(); got != want {
		return fmt.Errorf("%w: checksum %08x, the header says %08x", ErrCorruptBatch, got, want)
	}
	if one.Codec() > Zstd {
		return fmt.Errorf("%w: codec %d", ErrUnsupportedCodec, one.Codec())
	}
	if one.Count() < 0 || one.LastDelta() < 0 {
		return fmt.Errorf("%w: %d records, last offset delta %d", ErrInvalidBatch, one.Count(), one.LastDelta())
	}
	return nil
}

// CheckProduced verifies what a producer's batch must have beyond Check: one
// record for each offset (Kafka refuses others), no control batch. A
// transactional batch may have no sequence, as those of a group coordinator.
func (b Batch) CheckProduced() error {
	switch {
	case b.Count() < 1 || b.Count() != b.LastDelta()+1:
		return fmt.Errorf("%w: %d records over %d offsets", ErrInvalidBatch, b.Count(), int64(b.LastDelta())+1)
	case b.IsControl():
		return fmt.Errorf("%w: a client cannot write control batches", ErrInvalidBatch)
	case b.DeleteHorizon() >= 0:
		return fmt.Errorf("%w: a client cannot say when tombstones go", ErrInvalidBatch)
	case b.IsTransactional() && b.ProducerID() == NoProducer:
		return fmt.Errorf("%w: a transactional batch without a producer ID", ErrInvalidBatch)
	case b.ProducerID() != NoProducer && (b.ProducerID() < 0 || b.ProducerEpoch() < 0 || b.BaseSequence() < 0 && !b.IsTransactional()):
		return fmt.Errorf("%w: producer %d epoch %d sequence %d", ErrInvalidBatch, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	}
	return nil
}

func (b Batch) i64(p int) int64 { return int64(binary.BigEndian.Uint64(b[p:])) }
func (b Batch) i32(p int) int32 { return int32(binary.BigEndian.Uint32(b[p:])) }
func (b Batch) i16(p int) int16 { return int16(binary.BigEndian.Uint16(b[p:])) }

// Size is the batch's length in bytes, as its header states it.
func (b Batch) Size() int { return batchPrefix + int(b.i32(posLength)) }

// BaseOffset is the offset of the first record (of its slot, when compacted).
func (b Batch) BaseOffset() int64 { return b.i64(posBaseOffset) }

// LeaderEpoch is the leader epoch under which the batch was appended.
func (b Batch) LeaderEpoch() int32 { return b.i32(posLeaderEpoch) }

// CRC is the checksum that the header states.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[posCRC:]) }

// LastDelta is the last offset relative to BaseOffset.
func (b Batch) LastDelta() int32 { return b.i32(posLastDelta) }

// LastOffset is the offset of the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastDelta()) }

// NextOffset is the offset after the batch.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// BaseTime is the timestamp that the records' deltas count from, in ms.
func (b Batch) BaseTime() int64 { return b.i64(posBaseTime) }

// MaxTime is the largest timestamp in the batch, in ms.
func (b Batch) MaxTime() int64 { return b.i64(posMaxTime) }

// ProducerID is NoProducer without idempotence.
func (b Batch) ProducerID() int64 { return b.i64(posProducerID) }

// ProducerEpoch is the epoch of ProducerID.
func (b Batch) ProducerEpoch() int16 { return b.i16(posProducerEpch) }

// BaseSequence is the sequence number of the first record; it wraps from
// MaxInt32 to 0.
func (b Batch) BaseSequence() int32 { return b.i32(posBaseSequence) }

// LastSequence is the sequence number of the last record; -1 when the batch
// has none, as markers do.
func (b Batch) LastSequence() int32 {
	if b.BaseSequence() < 0 {
		return -1
	}
	return (b.BaseSequence() + b.LastDelta()) & 0x7fffffff
}

// Count is the number of records in the batch.
func (b Batch) Count() int32 { return b.i32(posCount) }

// Codec is the compression of the records.
func (b Batch) Codec() Codec { return Codec(b.i16(posAttributes) & attrCodec) }

// LogAppendTime reports whether MaxTime was set by the broker for all records.
func (b Batch) LogAppendTime() bool { return b.i16(posAttributes)&attrLogAppendTime != 0 }

// IsTransactional reports whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.i16(posAttributes)&attrTransactional != 0 }

// IsControl reports whether the batch holds a transaction marker.
func (b Batch) IsControl() bool { return b.i16(posAttributes)&attrControl != 0 }

// DeleteHorizon is the time in ms from which on the tombstones in the batch, or
// its marker, may be compacted away; -1 until compaction has set it (KIP-534).
func (b Batch) DeleteHorizon() int64 {
	if b.i16(posAttributes)&attrDeleteHorizon == 0 {
		return -1
	}
	return b.BaseTime()
}

// SetBaseOffset writes the base offset in place; the checksum does not cover it.
func (b Batch) SetBaseOffset(o int64) { binary.BigEndian.PutUint64(b[posBaseOffset:], uint64(o)) }

// SetLeaderEpoch writes the leader epoch in place; the checksum does not cover it.
func (b Batch) SetLeaderEpoch(e int32) { binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(e)) }

// SetLogAppendTime stamps the batch with the broker's time, in ms, and
// recomputes the checksum, which covers both.
func (b Batch) SetLogAppendTime(ms int64) {
	binary.BigEndian.PutUint16(b[posAttributes:], uint16(b.i16(posAttributes))|attrLogAppendTime)
	binary.BigEndian.PutUint64(b[posMaxTime:], uint64(ms))
	b.seal()
}

// Recompress returns the same records compressed by c, in memory of its own;
// limit is the most that they may take decompressed, in bytes. Errors wrap
// ErrCorruptBatch, ErrBatchTooLarge or ErrUnsupportedCodec.
func (b Batch) Recompress(c Codec, limit int) (Batch, error) {
	data, err := Decompress(b.Codec(), b.Records(), limit)
	if err != nil {
		return nil, fmt.Errorf("records from offset %d: %w", b.BaseOffset(), err)
	}
	out := append(make(Batch, 0, len(b)+len(b)/4), b[:BatchHeaderSize]...)
	binary.BigEndian.PutUint16(out[posAttributes:], uint16(b.i16(posAttributes))&^attrCodec|uint16(c))
	if out, err = Compress(out, c, data); err != nil {
		return nil, err
	}
	return out.finish(), nil
}

// seal recomputes the checksum.
func (b Batch) seal() { binary.BigEndian.PutUint32(b[posCRC:], CRC(b[posAttributes:])) }

// Records is the compressed record section.
func (b Batch) Records() []byte { return b[posRecords:] }
