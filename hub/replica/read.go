package replica

import (
	"errors"
	"fmt"
	"io"

	"github.com/entrepot-hub/entrepot/record"
)

// Read returns whole batches from the one that holds offset on, as many as fit
// into maxBytes and at least one, never above the high watermark. At the high
// watermark there are none. Errors wrap record.ErrOffsetOutOfRange, those of
// Serving, or damage found in the log.
//
// A quarantined replica returns what is committed below the damage and
// record.ErrQuarantined above it.
func (r *Replica) Read(offset int64, maxBytes int) (record.Chunk, error) {
	return r.read(offset, maxBytes, false)
}

// ReadLate is Read for who sends the batches on: of large ones only the headers
// may be there, and the rest is for the chunk's Open to read, which can find damage
// yet.
func (r *Replica) ReadLate(offset int64, maxBytes int) (record.Chunk, error) {
	return r.read(offset, maxBytes, true)
}

func (r *Replica) read(offset int64, maxBytes int, late bool) (chunk record.Chunk, err error) {
	v := r.view.Load()
	if err = v.mayRead(offset); err == nil && offset < v.offsets.HighWatermark {
		chunk, err = r.readLog(v, offset, maxBytes, late)
	}
	chunk.Offsets = v.offsets
	if err != nil {
		return chunk, r.readError(offset, err)
	}
	return chunk, nil
}

func (r *Replica) readLog(v *view, offset int64, maxBytes int, late bool) (record.Chunk, error) {
	chunk, err := r.log.ReadLent(offset, v.offsets.HighWatermark, maxBytes, late)
	if open := chunk.Open; open != nil {
		chunk.Open = func(batch int) io.Reader {
			if one := open(batch); one != nil {
				return lateReader{r, chunk.Batches[batch].BaseOffset(), one}
			}
			return nil
		}
	}
	return chunk, err
}

// lateReader reads a batch that was left in the file.
type lateReader struct {
	r      *Replica
	offset int64
	io.Reader
}

func (l lateReader) Read(b []byte) (int, error) {
	n, err := l.Reader.Read(b)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader returns it bare
		err = l.r.readError(l.offset, err)
	}
	return n, err
}

func (v *view) mayRead(offset int64) error {
	if v.role == RoleQuarantined && offset >= v.offsets.Start && offset < v.offsets.HighWatermark {
		return nil
	}
	if err := v.mayServe(); err != nil {
		return err
	}
	if offset < v.offsets.Start || offset > v.offsets.HighWatermark {
		return fmt.Errorf("%w: the partition has %d to %d", record.ErrOffsetOutOfRange, v.offsets.Start, v.offsets.HighWatermark)
	}
	return nil
}

func (r *Replica) readError(offset int64, err error) error {
	if errors.Is(err, record.ErrQuarantined) {
		r.noteDamage()
	}
	return fmt.Errorf("read %s at %d: %w", r.id, offset, err)
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-320).
func (r *Replica) EpochEnd(epoch int32) record.EpochEnd {
	v := r.view.Load()
	return epochEnd(v.lineage, epoch, v.offsets.LeaderEpoch, v.offsets.HighWatermark)
}

// maxDecompressed bounds what looking into a batch may take, in bytes.
const maxDecompressed = 64 << 20

// OffsetForTime finds the first record below the high watermark whose
// timestamp is at or after ms. Its offset is -1 when there is none.
func (r *Replica) OffsetForTime(ms int64) (record.TimeOffset, error) {
	v := r.view.Load()
	if err := v.mayServe(); err != nil {
		return record.TimeOffset{}, fmt.Errorf("find time %d in %s: %w", ms, r.id, err)
	}
	found, err := r.findTime(ms, v.offsets.Start, v.offsets.HighWatermark)
	if err != nil {
		if errors.Is(err, record.ErrQuarantined) {
			r.noteDamage()
		}
		return found, fmt.Errorf("find time %d in %s: %w", ms, r.id, err)
	}
	return found, nil
}

func (r *Replica) findTime(ms, start, limit int64) (record.TimeOffset, error) {
	none := record.TimeOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}
	b, ok, err := r.log.OffsetForTime(ms, limit)
	if err != nil || !ok {
		return none, err
	}
	for {
		if t, ok, err := firstAt(b, ms, start); ok || err != nil {
			return t, err
		}
		// The record lies below the log start, or was compacted away: the
		// batches after it may hold another.
		next, err := r.log.Read(b.NextOffset(), limit, 1)
		if err != nil || len(next) == 0 {
			return none, err
		}
		b = next[0]
	}
}

var errFound = errors.New("found")

// firstAt finds the first record of a batch at or after ms and start. A
// transaction marker is no record to a client.
func firstAt(b record.Batch, ms, start int64) (t record.TimeOffset, ok bool, err error) {
	if b.MaxTime() < ms || b.LastOffset() < start || b.IsControl() {
		return t, false, nil
	}
	err = b.Each(maxDecompressed, func(rec record.Record) error {
		if rec.Timestamp < ms || rec.Offset < start {
			return nil
		}
		t = record.TimeOffset{Offset: rec.Offset, Timestamp: rec.Timestamp, LeaderEpoch: b.LeaderEpoch()}
		return errFound
	})
	if errors.Is(err, errFound) {
		return t, true, nil
	}
	return t, false, err
}

// Transaction is where the transaction of a producer stands, after all that was
// given to Append and EndTransaction before. It waits for a worker. Errors are
// those of Serving.
func (r *Replica) Transaction(producerID int64) (record.Transaction, error) {
	none := record.Transaction{Epoch: -1, First: -1}
	if err := r.Serving(); err != nil {
		return none, err
	}
	done := make(chan record.Transaction, 1)
	if err := r.inbox.call(func(c *core) { done <- c.tail.producers.transaction(producerID) }); err != nil {
		return none, r.wrap("transaction", err)
	}
	r.set.ready(r)
	return <-done, nil
}

// Producers lists what is known of idempotent producers, uncommitted batches
// included. It waits for a worker; nil when the replica is stopped.
func (r *Replica) Producers() []ProducerInfo {
	if r.view.Load().role == RoleQuarantined {
		return nil
	}
	done := make(chan []ProducerInfo, 1)
	if err := r.inbox.call(func(c *core) { done <- c.tail.producers.info() }); err != nil {
		return nil
	}
	r.set.ready(r)
	return <-done
}
