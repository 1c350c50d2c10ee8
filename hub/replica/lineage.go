package replica

import (
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// epochStart says at which offset the records of a leader epoch begin. The
// list of them, one for each epoch that has records, is a partition's lineage
// (KIP-101); a mirror's is that of its source.
type epochStart struct {
	epoch int32
	start int64
}

// addEpoch notes that a batch of the epoch begins at offset. It copies, so
// that lists handed out stay as they are.
func addEpoch(l []epochStart, epoch int32, offset int64) []epochStart {
	if n := len(l); n > 0 && l[n-1].epoch >= epoch {
		return l
	}
	return append(slices.Clip(l), epochStart{epoch, offset})
}

// trimLineage forgets epochs that have no record at or above start.
func trimLineage(l []epochStart, start int64) []epochStart {
	i := 0
	for i+1 < len(l) && l[i+1].start <= start {
		i++
	}
	if i == 0 && (len(l) == 0 || l[0].start >= start) {
		return l
	}
	l = slices.Clone(l[i:])
	l[0].start = max(l[0].start, start)
	return l
}

// epochEnd answers OffsetForLeaderEpoch: the largest epoch at or below the one
// asked for, and where it ended. current is the leader's epoch, end the high
// watermark, which is where the newest epoch ends for a reader. An epoch
// before the first one known ends where that one begins, as in Kafka.
func epochEnd(l []epochStart, asked, current int32, end int64) record.EpochEnd {
	if asked < 0 || asked > current {
		return record.EpochEnd{Epoch: -1, End: -1}
	}
	after, found := slices.BinarySearchFunc(l, asked, func(e epochStart, asked int32) int {
		if e.epoch <= asked {
			return -1
		}
		return 1
	})
	_ = found // never equal: after is the first epoch above the one asked for
	if after < len(l) {
		end = min(end, l[after].start)
	}
	if after == 0 {
		return record.EpochEnd{Epoch: asked, End: end}
	}
	return record.EpochEnd{Epoch: l[after-1].epoch, End: end}
}
