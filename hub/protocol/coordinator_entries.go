package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// The records of KIP-848 groups, which kmsg does not have. Their layout is that
// of the schemas in Kafka's group-coordinator module
// (ConsumerGroup…Key.json and …Value.json, version 0 of each value): a key is
// its number, the group and perhaps a name, in the old form; a value is its
// version and then the flexible form. Of the group's topics Kafka 4.0 kept a
// list (key 4); here, as in later ones, a hash of them is in the group's own
// record.
const (
	partitionMetadataKey = 4
	entryValueVersion    = 0
	metadataHashTag      = 0
	classicMemberTag     = 0
)

func entryKey(id string, k group.EntryKey) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(k.Kind))
	b = appendString(b, id)
	switch k.Kind {
	case group.GroupEntry, group.TargetEpochEntry:
		return b
	}
	return appendString(b, k.Name)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// entryValue is nil for a record that is to be removed.
func entryValue(v group.EntryValue) []byte {
	if v == nil {
		return nil
	}
	b := flexible{0, entryValueVersion}
	switch v := v.(type) {
	case group.GroupEpoch:
		b.int32(v.Epoch)
		return b.tag(metadataHashTag, binary.BigEndian.AppendUint64(nil, uint64(v.Hash)))
	case group.ConsumerMember:
		b.nullable(v.Instance)
		b.nullable(v.Rack)
		b.string(v.ClientID)
		b.string(v.ClientHost)
		b.strings(v.Topics)
		b.nullable(v.Regex)
		b.int32(int32(v.Rebalance.Milliseconds()))
		b.nullable(v.Assignor)
		if v.Classic != nil {
			return b.tag(classicMemberTag, classicValue(v.Classic))
		}
	case group.TargetEpoch:
		b.int32(v.Epoch)
	case group.Target:
		b.assignment(v.Assignment)
	case group.Current:
		b.int32(v.Epoch)
		b.int32(v.Previous)
		b = append(b, byte(v.State))
		b.assignment(v.Assigned)
		b.assignment(v.Revoking)
	case group.Resolved:
		b.strings(v.Topics)
		b.int64(v.Version)
		b.int64(v.At)
	}
	return append(b, 0) // no tags
}

// classicValue is a nullable structure that is there.
func classicValue(c *group.ClassicMember) []byte {
	b := flexible{1}
	b.int32(int32(c.Session.Milliseconds()))
	b.length(len(c.Protocols))
	for _, p := range c.Protocols {
		b.string(p.Name)
		b.string(string(p.Metadata))
		b = append(b, 0)
	}
	return append(b, 0)
}

// flexible is a value in the making, in the form of KIP-482.
type flexible []byte

func (b *flexible) int32(v int32)   { *b = binary.BigEndian.AppendUint32(*b, uint32(v)) }
func (b *flexible) int64(v int64)   { *b = binary.BigEndian.AppendUint64(*b, uint64(v)) }
func (b *flexible) length(n int)    { *b = binary.AppendUvarint(*b, uint64(n+1)) }
func (b *flexible) string(s string) { b.length(len(s)); *b = append(*b, s...) }

// tag ends a value with one tag.
func (b flexible) tag(tag byte, value []byte) []byte {
	b = append(b, 1, tag)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

// nullable writes "" as null.
func (b *flexible) nullable(s string) {
	if s == "" {
		b.length(-1)
		return
	}
	b.string(s)
}

func (b *flexible) strings(all []string) {
	b.length(len(all))
	for _, s := range all {
		b.string(s)
	}
}

func (b *flexible) assignment(a group.Assignment) {
	b.length(len(a))
	for _, t := range a.Topics() {
		*b = append(*b, t[:]...)
		b.length(len(a[t]))
		for _, p := range a[t] {
			b.int32(p)
		}
		*b = append(*b, 0)
	}
}

// readEntry takes over one record of a consumer group; a tombstone removes it.
func readEntry(groups map[string]*keptGroup, r record.Record) error {
	kind := binary.BigEndian.Uint16(r.Key)
	w := walk{b: r.Key[2:], left: maxElements}
	id := w.nullableString()
	key := group.EntryKey{Kind: group.EntryKind(kind)}
	switch key.Kind {
	case partitionMetadataKey, group.GroupEntry, group.TargetEpochEntry:
	default:
		key.Name = w.nullableString()
	}
	switch {
	case w.bad != "":
		return fmt.Errorf("key of kind %d: %s", kind, w.bad)
	case kind == partitionMetadataKey:
		return nil // what an older broker left; the hash will differ
	case r.Value == nil:
		delete(keep(groups, id).entries, key)
		return nil
	}
	v, err := decodeEntry(key.Kind, r.Value)
	if err != nil {
		return fmt.Errorf("group %q, record of kind %d for %q: %w", id, kind, key.Name, err)
	}
	k := keep(groups, id)
	k.entries[key] = v
	if key.Kind == group.GroupEntry {
		k.metadata = nil // it is no longer a classic one
	}
	return nil
}

func decodeEntry(kind group.EntryKind, value []byte) (group.EntryValue, error) {
	if err := checkValueVersion(value, entryValueVersion); err != nil {
		return nil, err
	}
	r := entryReader{walk{b: value[2:], left: maxElements, flexible: true}}
	var v group.EntryValue
	switch kind {
	case group.GroupEntry:
		v = group.GroupEpoch{Epoch: r.int32(), Hash: r.hash()}
	case group.MemberEntry:
		v = group.ConsumerMember{
			Instance: r.string(), Rack: r.string(), ClientID: r.string(), ClientHost: r.string(),
			Topics: r.strings(), Regex: r.string(),
			Rebalance: time.Duration(r.int32()) * time.Millisecond, Assignor: r.string(), Classic: r.classic(),
		}
	case group.TargetEpochEntry:
		v = group.TargetEpoch{Epoch: r.int32()}
	case group.TargetEntry:
		v = group.Target{Assignment: r.assignment()}
	case group.CurrentEntry:
		v = group.Current{
			Epoch: r.int32(), Previous: r.int32(), State: group.MemberState(r.int8()),
			Assigned: r.assignment(), Revoking: r.assignment(),
		}
	case group.RegexEntry:
		v = group.Resolved{Topics: r.strings(), Version: r.int64(), At: r.int64()}
	default:
		return nil, errors.New("unknown kind of record")
	}
	if r.bad != "" {
		return nil, errors.New(r.bad)
	}
	return v, nil
}

// entryReader reads what flexible writes. After a fault it returns zeros.
type entryReader struct{ walk }

func (r *entryReader) int8() int8 {
	if p := r.take(1); p != nil {
		return int8(p[0])
	}
	return 0
}

func (r *entryReader) int32() int32 {
	if p := r.take(4); p != nil {
		return int32(binary.BigEndian.Uint32(p))
	}
	return 0
}

func (r *entryReader) int64() int64 {
	if p := r.take(8); p != nil {
		return int64(binary.BigEndian.Uint64(p))
	}
	return 0
}

// string reads null as "".
func (r *entryReader) string() string { return string(r.take(max(0, r.length(2)))) }

// count is the length of an array whose elements have size bytes at least.
func (r *entryReader) count(size int) int {
	n := max(0, r.length(4))
	if n > r.left || n*size > len(r.b) {
		r.fail(fmt.Sprintf("an array claims %d elements", n))
		return 0
	}
	r.left -= n
	return n
}

func (r *entryReader) strings() (all []string) {
	for range r.count(1) {
		all = append(all, r.string())
	}
	return all
}

func (r *entryReader) assignment() group.Assignment {
	a := group.Assignment{}
	for range r.count(18) {
		var t record.TopicID
		copy(t[:], r.take(len(t)))
		var ps []int32
		for range r.count(4) {
			ps = append(ps, r.int32())
		}
		r.tags(nil, entryValueVersion)
		slices.Sort(ps)
		if ps = slices.Compact(ps); len(ps) > 0 && r.bad == "" {
			a[t] = ps
		}
	}
	return a
}

// tag finds one of the tags at the end of a value, nil without it.
func (r *entryReader) tag(want uint64) []byte {
	for range min(r.uvarint(), uint64(len(r.b))) {
		tag, size := r.uvarint(), r.uvarint()
		if p := r.take(int(min(size, 1<<31-1))); tag == want {
			return p
		}
	}
	return nil
}

func (r *entryReader) hash() int64 {
	if p := r.tag(metadataHashTag); len(p) == 8 {
		return int64(binary.BigEndian.Uint64(p))
	}
	return 0
}

// classic reads what a member of the classic protocol has.
func (r *entryReader) classic() *group.ClassicMember {
	p := r.tag(classicMemberTag)
	if len(p) == 0 || p[0] != 1 { // null
		return nil
	}
	in := entryReader{walk{b: p[1:], left: r.left, flexible: true}}
	c := &group.ClassicMember{Session: time.Duration(in.int32()) * time.Millisecond}
	for range in.count(3) {
		c.Protocols = append(c.Protocols, group.Protocol{Name: in.string(), Metadata: []byte(in.string())})
		in.tags(nil, entryValueVersion)
	}
	if in.bad != "" || len(c.Protocols) == 0 {
		r.fail("the classic part of a member cannot be read")
	}
	return c
}
