package group

import (
	"encoding/binary"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// What classic consumers and their leader tell each other through the group, in
// the bytes of Kafka's ConsumerProtocolSubscription and -Assignment, versions 0
// to 3. A consumer group reads and writes them for its classic members.

// subscription is what a classic consumer tells of itself.
type subscription struct {
	version int16
	topics  []string
	owned   map[string][]int32 // what it still works on: nothing with an eager assignor
	rack    string
}

// assignmentVersion is the highest version of an assignment.
const assignmentVersion = 3

// readSubscription takes what it knows of any version. Fields that the version
// should have are none if the bytes end before them: not every client writes
// them.
func readSubscription(b []byte) (s subscription, ok bool) {
	r := cursor{b: b}
	s.version = r.int16()
	for range r.count(2) {
		s.topics = append(s.topics, r.string())
	}
	if r.bad || s.version < 0 {
		return subscription{}, false
	}
	if len(r.b) > 0 {
		r.bytes() // of the assignor
	}
	if s.version >= 1 && len(r.b) > 0 {
		s.owned = r.partitions()
	}
	if s.version >= 2 && len(r.b) > 0 {
		r.int32() // the generation
	}
	if s.version >= 3 && len(r.b) > 0 {
		s.rack = r.string()
	}
	return s, !r.bad
}

// readAssignment reads what a leader gave to a member. Topics that are gone
// are left out. It is not ok when the leader's assignor has data of its own in
// it, which nobody else could keep.
func readAssignment(b []byte, topics Topics) (a Assignment, ok bool) {
	if len(b) == 0 {
		return Assignment{}, true
	}
	r := cursor{b: b}
	version, named := r.int16(), r.partitions()
	if len(r.b) > 0 && len(r.bytes()) > 0 {
		return nil, false
	}
	return fromNames(named, topics), !r.bad && version >= 0
}

func fromNames(named map[string][]int32, topics Topics) Assignment {
	a := Assignment{}
	for name, ps := range named {
		if id, _, ok := topics.Topic(name); ok && len(ps) > 0 {
			a[id] = slices.Compact(slices.Sorted(slices.Values(ps)))
		}
	}
	return a
}

// appendAssignment writes an assignment as a leader would give it to a member
// whose subscription has that version.
func appendAssignment(a Assignment, version int16, topics Topics) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(min(version, assignmentVersion)))
	var ids []record.TopicID
	var names []string
	for _, id := range a.Topics() {
		if name, ok := topics.Name(id); ok {
			ids, names = append(ids, id), append(names, name)
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(ids)))
	for i, id := range ids {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(names[i]))), names[i]...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(a[id])))
		for _, p := range a[id] {
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		}
	}
	return append(b, 0xff, 0xff, 0xff, 0xff) // no data of an assignor
}

// cursor reads the classic encoding. After a fault it returns zeros.
type cursor struct {
	b   []byte
	bad bool
}

func (r *cursor) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *cursor) int16() int16 {
	if p := r.take(2); p != nil {
		return int16(binary.BigEndian.Uint16(p))
	}
	return 0
}

func (r *cursor) int32() int32 {
	if p := r.take(4); p != nil {
		return int32(binary.BigEndian.Uint32(p))
	}
	return 0
}

// string reads null, which only a rack may be, as "".
func (r *cursor) string() string { return string(r.take(max(0, int(r.int16())))) }

// bytes reads null as nothing.
func (r *cursor) bytes() []byte { return r.take(max(0, int(r.int32()))) }

// count is the length of an array whose elements have size bytes at least.
func (r *cursor) count(size int) int {
	n := max(0, int(r.int32()))
	if n > len(r.b)/size {
		r.b, r.bad = nil, true
		return 0
	}
	return n
}

func (r *cursor) partitions() map[string][]int32 {
	all := map[string][]int32{}
	for range r.count(6) {
		name := r.string()
		for range r.count(4) {
			all[name] = append(all[name], r.int32())
		}
	}
	return all
}

// subscribed are the topics that the group's members read. known is false when
// that cannot be told: then any topic may be among them.
func (g *Group) subscribed() (topics map[string]bool, known bool) {
	topics = map[string]bool{}
	if g.consumer != nil {
		for _, t := range g.consumer.names() {
			topics[t] = true
		}
		return topics, true
	}
	if g.protocolType != consumerProtocol && len(g.members) > 0 {
		return topics, false
	}
	for _, m := range g.members {
		for _, p := range m.protocols {
			s, ok := readSubscription(p.Metadata)
			if !ok {
				return topics, false
			}
			for _, t := range s.topics {
				topics[t] = true
			}
		}
	}
	return topics, true
}
