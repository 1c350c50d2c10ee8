package record

import (
	"encoding/binary"
	"fmt"
)

// Types of a transaction marker's key (KIP-98).
const (
	markerAbort  = 0
	markerCommit = 1

	markerKeySize   = 4 // version, type
	markerValueSize = 6 // version, coordinator epoch
)

// maxMarker bounds the records of a control batch, in bytes.
const maxMarker = 1 << 10

// TransactionMarker says how a transaction of a producer ends in a partition.
type TransactionMarker struct {
	ProducerID       int64
	ProducerEpoch    int16 // with KIP-890 one above that of the transaction's batches
	Commit           bool
	CoordinatorEpoch int32 // of the transaction coordinator's partition
}

// Batch is the marker as a control batch of the time ms.
func (m TransactionMarker) Batch(ms int64) Batch {
	return NewMarker(m.ProducerID, m.ProducerEpoch, m.Commit, m.CoordinatorEpoch, ms)
}

// NewMarker makes the control batch that ends a transaction of the producer:
// one record, at offset 0 and of no leader epoch yet. ms is its time.
func NewMarker(producerID int64, producerEpoch int16, commit bool, coordinatorEpoch int32, ms int64) Batch {
	kind := uint16(markerAbort)
	if commit {
		kind = markerCommit
	}
	key := binary.BigEndian.AppendUint16(make([]byte, 2, markerKeySize), kind)
	value := binary.BigEndian.AppendUint32(make([]byte, 2, markerValueSize), uint32(coordinatorEpoch))
	b := NewBuilder(None)
	b.ProducerID, b.ProducerEpoch = producerID, producerEpoch
	b.Transactional, b.Control = true, true
	if err := b.Append(Record{Timestamp: ms, Key: key, Value: value}); err != nil {
		panic("a marker does not fit a batch: " + err.Error())
	}
	batch, err := b.Build()
	if err != nil {
		panic("a marker makes no batch: " + err.Error())
	}
	return batch
}

// Marker reads the transaction marker that the control batch holds. Errors
// wrap ErrInvalidBatch for another batch or another kind of control record, or
// are those of Each.
func (b Batch) Marker() (commit bool, coordinatorEpoch int32, err error) {
	if !b.IsControl() || b.Count() != 1 {
		return false, 0, fmt.Errorf("%w: the batch at offset %d with %d records is no marker", ErrInvalidBatch, b.BaseOffset(), b.Count())
	}
	err = b.Each(maxMarker, func(r Record) error {
		commit, coordinatorEpoch, err = parseMarker(r)
		return err
	})
	if err != nil {
		return false, 0, err
	}
	return commit, coordinatorEpoch, nil
}

// parseMarker reads key and value. Later versions may append fields to both.
func parseMarker(r Record) (commit bool, coordinatorEpoch int32, err error) {
	be := binary.BigEndian
	if len(r.Key) < markerKeySize || len(r.Value) < markerValueSize {
		return false, 0, fmt.Errorf("%w: the control record at offset %d has a key of %d bytes and a value of %d, a marker has at least %d and %d",
			ErrInvalidBatch, r.Offset, len(r.Key), len(r.Value), markerKeySize, markerValueSize)
	}
	kind := be.Uint16(r.Key[2:])
	if v := int16(be.Uint16(r.Key)); v < 0 || kind > markerCommit {
		return false, 0, fmt.Errorf("%w: the control record at offset %d has version %d and type %d, a marker has type 0 or 1", ErrInvalidBatch, r.Offset, v, kind)
	}
	return kind == markerCommit, int32(be.Uint32(r.Value[2:])), nil
}
