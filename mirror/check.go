package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// splitAnswer cuts a partition's part of a fetch answer into batches and
// checks each. A batch that the answer's size limit cut off at the end is left
// out; it comes whole with the next answer. The error wraps
// record.ErrCorruptBatch or record.ErrInvalidBatch, and the batches before the
// bad one are returned with it: they are good.
func splitAnswer(raw []byte) ([]record.Batch, error) {
	var all []record.Batch
	for len(raw) > 0 {
		one, rest, err := record.SplitBatch(raw)
		if err != nil {
			if len(all) > 0 && cutOff(raw) {
				return all, nil
			}
			return all, err
		}
		if err := one.Check(); err != nil {
			return all, err
		}
		all, raw = append(all, one), rest
	}
	return all, nil
}

// cutOff reports whether raw can be the beginning of a longer batch. The first
// batch of an answer is always whole (KIP-74), so there it is damage; behind a
// good one the worst that a flipped length can do is a second fetch.
func cutOff(raw []byte) bool {
	if len(raw) < record.BatchHeaderSize {
		return true
	}
	// The length field of a v2 batch stands at byte 8 and counts what follows.
	return int64(int32(binary.BigEndian.Uint32(raw[8:])))+12 > int64(len(raw))
}

// errOverlap: a batch begins inside of what the mirror has. Batches are only
// ever taken whole, so the source's log is cut differently from ours.
var errOverlap = errors.New("the source's batches do not continue the mirror")

// continuity checks what the checksum does not cover, against what is known
// from elsewhere: base offset and leader epoch of each batch. Where offsets
// follow on each other that finds every flipped bit. Next to a hole, which
// compaction leaves, a batch may be moved within the hole and still fit; to see
// that, all would have to be fetched twice, and holes are to cost nothing. The
// link's own transport, or TLS, must keep such a bit out.
type continuity struct {
	floor       int64 // no batch may begin below: the end of what was taken before
	from        int64 // the offset that was asked for
	end         int64 // the source's high watermark in the same answer
	epoch       int32 // of the batch before, or -1
	leaderEpoch int32 // of the source's leader, or -1
}

// next takes a batch, or says why it cannot be.
func (c *continuity) next(b record.Batch) error {
	switch {
	case b.BaseOffset() < c.floor:
		return fmt.Errorf("%w: batch %d to %d begins below the end of the mirror, %d", errOverlap, b.BaseOffset(), b.LastOffset(), c.floor)
	case b.LastOffset() < c.from:
		return fmt.Errorf("%w: batch %d to %d lies before the offset asked for, %d", record.ErrInvalidBatch, b.BaseOffset(), b.LastOffset(), c.from)
	case b.NextOffset() > c.end:
		return fmt.Errorf("%w: batch %d to %d passes the source's high watermark, %d", record.ErrInvalidBatch, b.BaseOffset(), b.LastOffset(), c.end)
	case b.LeaderEpoch() < c.epoch || c.leaderEpoch >= 0 && b.LeaderEpoch() > c.leaderEpoch:
		return fmt.Errorf("%w: batch %d to %d has leader epoch %d, want %d to %d", record.ErrInvalidBatch,
			b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(), c.epoch, c.leaderEpoch)
	}
	c.floor, c.from, c.epoch = b.NextOffset(), b.NextOffset(), b.LeaderEpoch()
	return nil
}

// elected reports whether the batch is the first of a leader epoch, as far as
// its header can be trusted: not if there is only one epoch that it can have.
func (c *continuity) elected(b record.Batch) bool {
	return b.LeaderEpoch() > c.epoch && max(c.epoch, 0) != c.leaderEpoch
}
