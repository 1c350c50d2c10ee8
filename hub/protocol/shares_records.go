package protocol

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// The records of __share_group_state are Kafka's (ShareSnapshotKey.json and
// ShareSnapshotValue.json of its share-coordinator module): a key is its number
// 0, the group, the topic's ID and the partition, in the old form; a value is
// its version and then the flexible form. Kafka also writes what has changed
// alone (ShareUpdateKey, 1); here each record is a whole snapshot, so that
// compaction keeps one for each partition.
const (
	shareSnapshotKey     = 0
	shareSnapshotVersion = 0
	deliveryCompleteTag  = 0 // records from the start on that are done
)

func shareRecordKey(k shareKey) []byte {
	b := binary.BigEndian.AppendUint16(nil, shareSnapshotKey)
	b = appendString(b, k.group)
	b = append(b, k.topic[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(k.partition))
}

// The snapshot epoch counts updates in Kafka, of which there are none here. It is
// 0 in records of the versions whose leader epoch was that of the topic of the
// states; this one is that of the partition that is shared, as in Kafka.
const shareSnapshotEpoch = 1

func shareValue(w *shareState, now int64) []byte {
	start, batches := w.Snapshot()
	b := flexible{0, shareSnapshotVersion}
	if w.created == 0 {
		w.created = now
	}
	w.written = now
	b.int32(shareSnapshotEpoch)
	b.int32(w.epoch)
	b.int32(w.leader)
	b.int64(start)
	b.int64(w.created)
	b.int64(now)
	b.length(len(batches))
	for _, one := range batches {
		b.int64(one.First)
		b.int64(one.Last)
		b = append(b, byte(one.State))
		b = binary.BigEndian.AppendUint16(b, uint16(one.Count))
		b = append(b, 0)
	}
	b = append(b, 1, deliveryCompleteTag, 4)
	b.int32(int32(w.Done()))
	return b
}

// readShares reads a partition of the topic and returns what it keeps.
func readShares(ctx context.Context, log Partition, l share.Limits, logger *slog.Logger) (map[shareKey]*shareState, error) {
	kept := map[shareKey]*shareState{}
	err := readLog(ctx, log, func(b record.Batch) error {
		if b.IsControl() {
			return nil
		}
		return b.Each(maxGroupRecords, func(r record.Record) error {
			if err := readShare(kept, r, l); err != nil {
				logger.Error("skipped a record of a share group", "offset", r.Offset, "error", err)
			}
			return nil
		})
	})
	return kept, err
}

func readShare(kept map[shareKey]*shareState, r record.Record, l share.Limits) error {
	key := entryReader{walk{b: r.Key, left: maxElements}}
	kind := key.take(2)
	if kind == nil || binary.BigEndian.Uint16(kind) != shareSnapshotKey {
		return fmt.Errorf("a key of %d bytes that is no snapshot's", len(r.Key))
	}
	k := shareKey{group: key.nullableString()}
	copy(k.topic[:], key.take(len(k.topic)))
	if k.partition = key.int32(); key.bad != "" {
		return errors.New(key.bad)
	}
	if r.Value == nil {
		delete(kept, k)
		return nil
	}
	w, err := decodeShare(r.Value, l)
	if err != nil {
		return fmt.Errorf("group %q, partition %d of topic %v: %w", k.group, k.partition, k.topic, err)
	}
	kept[k] = w
	return nil
}

func decodeShare(value []byte, l share.Limits) (*shareState, error) {
	if err := checkValueVersion(value, shareSnapshotVersion); err != nil {
		return nil, err
	}
	r := entryReader{walk{b: value[2:], left: maxElements, flexible: true}}
	snapshot, epoch, leader := r.int32(), r.int32(), r.int32()
	if snapshot < shareSnapshotEpoch {
		leader = -1
	}
	start, created, written := r.int64(), r.int64(), r.int64()
	var batches []share.Batch
	for range r.count(20) {
		b := share.Batch{First: r.int64(), Last: r.int64(), State: share.State(r.int8())}
		if p := r.take(2); p != nil {
			b.Count = int16(binary.BigEndian.Uint16(p))
		}
		r.tags(nil, shareSnapshotVersion)
		batches = append(batches, b)
	}
	if r.bad != "" {
		return nil, errors.New(r.bad)
	}
	w, err := share.Restore(start, batches, l)
	if err != nil {
		return nil, err
	}
	return &shareState{Window: w, epoch: epoch, leader: leader, created: created, written: written}, nil
}

// milliseconds reads a setting that was checked when it was set.
func milliseconds(v string) time.Duration {
	n, _ := strconv.ParseInt(v, 10, 64)
	return time.Duration(n) * time.Millisecond
}
