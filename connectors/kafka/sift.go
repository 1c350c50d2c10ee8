package kafka

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// maxBatch bounds the records of one batch, decompressed, in bytes.
const maxBatch = 1 << 30

// sifter makes records of what a broker sends of one partition. It leaves out
// markers, aborted transactions, and what comes before the offset that is
// next. It is a pure value.
type sifter struct {
	next      int64 // offset of the first record that is wanted
	committed bool  // leave out aborted transactions
}

// sift calls emit with the records of an answer and moves next behind them,
// also where records are missing: after compaction, and where only markers
// and aborted records were. A batch that is damaged ends it with an error that
// wraps record.ErrCorruptBatch; what was good before it has been emitted.
//
// A broker names the aborted transactions that overlap with what it sends, by
// their producer and first offset. A producer's transaction is aborted from
// there up to its marker; the producer's next one may be committed.
func (s *sifter) sift(f fetched, emit func(record.Record)) error {
	waiting := slices.Clone(f.aborted)
	slices.SortFunc(waiting, func(a, b aborted) int { return cmp.Compare(a.first, b.first) })
	open := map[int64]bool{} // producers whose aborted transaction has begun
	for rest := f.records; len(rest) > 0; {
		if cutOff(rest) {
			break // the rest of the batch comes with the next answer
		}
		batch, after, err := record.SplitBatch(rest)
		if err == nil {
			err = batch.Check()
		}
		if err != nil {
			return fmt.Errorf("the batch at or after offset %d: %w", s.next, err)
		}
		rest = after
		for len(waiting) > 0 && waiting[0].first <= batch.LastOffset() {
			open[waiting[0].producer] = true
			waiting = waiting[1:]
		}
		if err := s.one(batch, open, emit); err != nil {
			return err
		}
		s.next = max(s.next, batch.NextOffset())
	}
	return nil
}

func (s *sifter) one(batch record.Batch, open map[int64]bool, emit func(record.Record)) error {
	if batch.IsControl() {
		// Other kinds of control records mean nothing to a reader.
		if commit, _, err := batch.Marker(); err == nil && !commit {
			delete(open, batch.ProducerID())
		}
		return nil
	}
	if s.committed && batch.IsTransactional() && open[batch.ProducerID()] || batch.NextOffset() <= s.next {
		return nil
	}
	return batch.Each(maxBatch, func(r record.Record) error {
		if r.Offset >= s.next {
			emit(r)
		}
		return nil
	})
}

// cutOff tells whether b is the beginning of a batch and no more. A broker
// sends the first batch whole and the last one as far as it fits.
func cutOff(b []byte) bool {
	const length, magic = 8, 16
	if len(b) <= magic {
		return true
	}
	n := int64(int32(binary.BigEndian.Uint32(b[length:]))) + length + 4
	return b[magic] == 2 && n >= record.BatchHeaderSize && n > int64(len(b))
}

// positionSize is that of a position: a version, the offset of the message,
// and the id of its topic, by which one that was deleted and made anew is
// told from the one before. placeSize is the part that names the message.
const (
	positionVersion = 1
	placeSize       = 1 + 8
	positionSize    = placeSize + 16
)

// appendPosition is what a message at an offset of a topic leaves behind.
func appendPosition(b []byte, offset int64, id record.TopicID) []byte {
	b = append(b, positionVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	return append(b, id[:]...)
}

func parsePosition(p connectors.Position) (offset int64, id record.TopicID, err error) {
	if len(p) != positionSize || p[0] != positionVersion || p[1]&0x80 != 0 {
		return 0, id, connectors.Fatalf("position %x is not one of a Kafka partition", []byte(p))
	}
	copy(id[:], p[placeSize:])
	return int64(binary.BigEndian.Uint64(p[1:])), id, nil
}
