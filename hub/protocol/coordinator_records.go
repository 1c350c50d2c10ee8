package protocol

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// The records of __consumer_offsets are Kafka's, so that tools which read the
// topic understand it: key versions 0 and 1 are offsets, 2 is a classic group,
// those above belong to consumer groups (coordinator_entries.go); a null value
// removes any of them.
const (
	offsetKeyVersion   = 1
	groupKeyVersion    = 2
	offsetValueVersion = 3
	groupValueVersion  = 3
)

// groupBatch builds batches of such records: one, unless a write is so large
// that the topic would not take it. Then a crash may leave its first part alone,
// which is why targets come before the epoch that they are for.
type groupBatch struct {
	b    *record.Builder
	full []record.Batch
	now  int64
	err  error
}

func newGroupBatch(now int64) *groupBatch {
	return &groupBatch{b: record.NewBuilder(record.None), now: now}
}

// of makes the batch part of a producer's transaction. It has no sequence: the
// coordinator sends nothing twice.
func (g *groupBatch) of(t *group.Transactional) {
	g.b.ProducerID, g.b.ProducerEpoch, g.b.Transactional = t.ProducerID, t.ProducerEpoch, true
}

func (g *groupBatch) size() int { return g.b.Size() }

func (g *groupBatch) build() ([]record.Batch, error) {
	g.end()
	return g.full, g.err
}

// end begins another batch.
func (g *groupBatch) end() {
	b, err := g.b.Build()
	if err != nil && g.err == nil {
		g.err = err
	}
	g.full = append(g.full, b)
	g.b.Reset()
}

// add appends the records of one write.
func (g *groupBatch) add(id string, w group.Write) {
	for _, o := range w.Offsets {
		g.put(offsetKey(id, o.TopicPartition), offsetValue(o.Offset))
	}
	for _, e := range w.Entries {
		g.put(entryKey(id, e.Key), entryValue(e.Value))
	}
	key := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: id}
	switch {
	case w.Delete:
		g.put(key.AppendTo(nil), nil)
	case w.Metadata != nil:
		g.put(key.AppendTo(nil), metadataValue(w.Metadata))
	}
}

func (g *groupBatch) put(key, value []byte) {
	if g.b.Len() > 0 && g.b.Size()+len(key)+len(value) > maxGroupBatch {
		g.end()
	}
	if err := g.b.Append(record.Record{Timestamp: g.now, Key: key, Value: value}); err != nil && g.err == nil {
		g.err = err
	}
}

func offsetKey(id string, tp record.TopicPartition) []byte {
	k := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: id, Topic: tp.Topic, Partition: tp.Partition}
	return k.AppendTo(nil)
}

func offsetValue(o *group.Offset) []byte {
	if o == nil {
		return nil
	}
	v := kmsg.NewOffsetCommitValue()
	v.Version = offsetValueVersion
	v.Offset, v.LeaderEpoch, v.Metadata, v.CommitTimestamp = o.Offset, o.LeaderEpoch, o.Metadata, o.CommitTime
	return v.AppendTo(nil)
}

func metadataValue(m *group.Metadata) []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = groupValueVersion
	v.ProtocolType, v.Generation, v.CurrentStateTimestamp = m.ProtocolType, m.Generation, m.Since
	v.Protocol, v.Leader = nonEmpty(m.Protocol), nonEmpty(m.Leader)
	for _, mm := range m.Members {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.InstanceID = mm.ID, nonEmpty(mm.Instance)
		vm.ClientID, vm.ClientHost = mm.ClientID, mm.ClientHost
		vm.RebalanceTimeoutMillis = int32(mm.Rebalance.Milliseconds())
		vm.SessionTimeoutMillis = int32(mm.Session.Milliseconds())
		vm.Subscription, vm.Assignment = mm.Subscription, mm.Assignment
		v.Members = append(v.Members, vm)
	}
	return v.AppendTo(nil)
}

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// keptGroup is what a partition has of a group.
type keptGroup struct {
	metadata *group.Metadata
	entries  map[group.EntryKey]group.EntryValue // of a consumer group
	offsets  map[record.TopicPartition]group.Offset
	// undecided are the offsets of open transactions, by producer ID.
	undecided map[int64]map[record.TopicPartition]undecidedOffset
}

// undecidedOffset is an offset of an open transaction with that of its batch in
// the log: of two for the same partition the later one counts.
type undecidedOffset struct {
	group.Offset
	at int64
}

func (k *keptGroup) writes() []group.OffsetWrite { return offsetWrites(k.offsets) }

func offsetWrites(offsets map[record.TopicPartition]group.Offset) (ws []group.OffsetWrite) {
	for tp, o := range offsets {
		ws = append(ws, group.OffsetWrite{TopicPartition: tp, Offset: &o})
	}
	return ws
}

// live brings a group to life: a consumer group if its own record is there. A
// classic group that came after one has removed that record.
func (k *keptGroup) live(id string, cfg group.Config, now time.Time) (*group.Group, error) {
	if _, ok := k.entries[group.EntryKey{Kind: group.GroupEntry}]; !ok {
		return group.Load(id, cfg, now, k.metadata, k.writes()), nil
	}
	var es []group.Entry
	for key, v := range k.entries {
		es = append(es, group.Entry{Key: key, Value: v})
	}
	return group.LoadConsumer(id, cfg, now, es, k.writes())
}

// pend gives the group the offsets of open transactions.
func (k *keptGroup) pend(g *group.Group) {
	for producer, offsets := range k.undecided {
		for tp, o := range offsets {
			g.Pend(producer, o.at, group.OffsetWrite{TopicPartition: tp, Offset: &o.Offset})
		}
	}
}

// maxGroupRecords bounds what one batch may unpack to.
const maxGroupRecords = 1 << 30

// readGroups reads a partition to its end and returns the groups that are left.
func readGroups(ctx context.Context, log Partition, logger *slog.Logger) (map[string]*keptGroup, error) {
	groups := map[string]*keptGroup{}
	err := readLog(ctx, log, func(b record.Batch) error { return readGroupBatch(groups, b, logger) })
	if err != nil {
		return nil, err
	}
	for id, k := range groups {
		if k.metadata == nil && len(k.offsets)+len(k.undecided)+len(k.entries) == 0 {
			delete(groups, id)
		}
	}
	return groups, nil
}

// readLog reads a partition from its start to its end. The end is that of the
// first read, which fails unless the partition can be served: taken from
// elsewhere it could be one that is still catching up, and groups would seem to
// have no offsets.
func readLog(ctx context.Context, log Partition, each func(record.Batch) error) error {
	at := log.Offsets().Start
	first, err := log.Read(at, 1)
	if err != nil {
		return fmt.Errorf("read offset %d: %w", at, err)
	}
	for end := first.Offsets.HighWatermark; at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk, err := log.Read(at, 1<<20)
		if err != nil {
			return fmt.Errorf("read offset %d: %w", at, err)
		}
		if len(chunk.Batches) == 0 {
			return fmt.Errorf("read offset %d: nothing there, the end is %d", at, end)
		}
		for _, b := range chunk.Batches {
			if err := each(b); err != nil {
				return fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
			}
			at = b.NextOffset()
		}
	}
	return nil
}

func readGroupBatch(groups map[string]*keptGroup, b record.Batch, logger *slog.Logger) error {
	if b.IsControl() {
		return endKept(groups, b)
	}
	of := record.NoProducer
	if b.IsTransactional() {
		of = b.ProducerID()
	}
	return b.Each(maxGroupRecords, func(r record.Record) error {
		if err := readGroupRecord(groups, of, r); err != nil {
			// Only the coordinator writes here: a record it cannot read is of a
			// newer version, and one group's must not take all others down.
			logger.Error("skipped a record of a consumer group", "offset", r.Offset, "error", err)
		}
		return nil
	})
}

// endKept ends a producer's transaction in all groups.
func endKept(groups map[string]*keptGroup, b record.Batch) error {
	commit, _, err := b.Marker()
	if err != nil {
		return err
	}
	for _, k := range groups {
		for tp, o := range k.undecided[b.ProducerID()] {
			if commit {
				k.offsets[tp] = o.Offset
				k.overtake(tp, o.at)
			}
		}
		delete(k.undecided, b.ProducerID())
	}
	return nil
}

// readGroupRecord takes over a record; of is the producer of the transaction
// that it belongs to.
func readGroupRecord(groups map[string]*keptGroup, of int64, r record.Record) error {
	if len(r.Key) < 2 {
		return fmt.Errorf("the key has %d bytes, want a version first", len(r.Key))
	}
	switch v := binary.BigEndian.Uint16(r.Key); v {
	case 0, offsetKeyVersion:
		return readOffset(groups, of, r)
	case groupKeyVersion:
		return readMetadata(groups, r)
	case uint16(group.GroupEntry), partitionMetadataKey, uint16(group.MemberEntry), uint16(group.TargetEpochEntry),
		uint16(group.TargetEntry), uint16(group.CurrentEntry), uint16(group.RegexEntry):
		return readEntry(groups, r)
	default:
		return fmt.Errorf("key version %d is not known here", v)
	}
}

// checkValueVersion refuses values newer than those written here. Flexible
// ones (version 4 and on) could also make kmsg follow any count of tags.
func checkValueVersion(value []byte, most uint16) error {
	if len(value) < 2 {
		return fmt.Errorf("the value has %d bytes, want a version first", len(value))
	}
	if v := binary.BigEndian.Uint16(value); v > most {
		return fmt.Errorf("value version %d, want 0 to %d", v, most)
	}
	return nil
}

func keep(groups map[string]*keptGroup, id string) *keptGroup {
	k := groups[id]
	if k == nil {
		k = &keptGroup{offsets: map[record.TopicPartition]group.Offset{}, entries: map[group.EntryKey]group.EntryValue{}}
		groups[id] = k
	}
	return k
}

func readOffset(groups map[string]*keptGroup, of int64, r record.Record) error {
	var key kmsg.OffsetCommitKey
	if err := key.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("offset key: %w", err)
	}
	tp := record.TopicPartition{Topic: key.Topic, Partition: key.Partition}
	k := keep(groups, key.Group)
	if r.Value == nil {
		delete(k.offsets, tp)
		k.overtake(tp, r.Offset)
		return nil
	}
	v := kmsg.NewOffsetCommitValue()
	if err := checkValueVersion(r.Value, offsetValueVersion); err != nil {
		return fmt.Errorf("offset of group %q for %v: %w", key.Group, tp, err)
	}
	if err := v.ReadFrom(r.Value); err != nil {
		return fmt.Errorf("offset of group %q for %v: %w", key.Group, tp, err)
	}
	k.commit(of, r.Offset, tp, group.Offset{
		Offset: v.Offset, LeaderEpoch: v.LeaderEpoch, Metadata: v.Metadata, CommitTime: v.CommitTimestamp,
	})
	return nil
}

// commit takes over an offset that stands in the log at at, of a transaction or
// of none.
func (k *keptGroup) commit(of, at int64, tp record.TopicPartition, o group.Offset) {
	if of == record.NoProducer {
		k.offsets[tp] = o
		k.overtake(tp, at)
		return
	}
	if k.undecided == nil {
		k.undecided = map[int64]map[record.TopicPartition]undecidedOffset{}
	}
	if k.undecided[of] == nil {
		k.undecided[of] = map[record.TopicPartition]undecidedOffset{}
	}
	k.undecided[of][tp] = undecidedOffset{o, at}
}

// overtake drops what open transactions would have set before what stands in the
// log at at.
func (k *keptGroup) overtake(tp record.TopicPartition, at int64) {
	for _, offsets := range k.undecided {
		if o, ok := offsets[tp]; ok && o.at < at {
			delete(offsets, tp)
		}
	}
}

func readMetadata(groups map[string]*keptGroup, r record.Record) error {
	var key kmsg.GroupMetadataKey
	if err := key.ReadFrom(r.Key); err != nil {
		return fmt.Errorf("group key: %w", err)
	}
	if r.Value == nil {
		keep(groups, key.Group).metadata = nil
		return nil
	}
	v := kmsg.NewGroupMetadataValue()
	if err := checkValueVersion(r.Value, groupValueVersion); err != nil {
		return fmt.Errorf("group %q: %w", key.Group, err)
	}
	if err := v.ReadFrom(r.Value); err != nil {
		return fmt.Errorf("group %q: %w", key.Group, err)
	}
	m := &group.Metadata{
		ProtocolType: v.ProtocolType, Generation: v.Generation, Since: v.CurrentStateTimestamp,
		Protocol: orEmpty(v.Protocol), Leader: orEmpty(v.Leader),
	}
	for _, vm := range v.Members {
		m.Members = append(m.Members, group.MemberMetadata{
			ID: vm.MemberID, Instance: orEmpty(vm.InstanceID), ClientID: vm.ClientID, ClientHost: vm.ClientHost,
			Rebalance:    time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond,
			Session:      time.Duration(vm.SessionTimeoutMillis) * time.Millisecond,
			Subscription: vm.Subscription, Assignment: vm.Assignment,
		})
	}
	k := keep(groups, key.Group)
	k.metadata = m
	clear(k.entries) // it is no longer a consumer group
	return nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
