package kafka

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// kafka-go's decoders of two answers lose what matters here, so these are our
// own. Its Fetch drops the last offset of a batch (without which the reader of
// a compacted partition asks for the same batch for ever), takes the wrong
// time of records that the broker stamped, and passes over a damaged batch in
// silence; its Metadata has no topic ids.

// fields reads an answer from its front. After the first error it reads zeros.
type fields struct {
	b   []byte
	err error
}

func (f *fields) take(n int, what string) []byte {
	if f.err == nil && (n < 0 || n > len(f.b)) {
		f.err = fmt.Errorf("%w: %s of %d bytes, %d are left", errAnswer, what, n, len(f.b))
	}
	if f.err != nil {
		return nil
	}
	p := f.b[:n:n]
	f.b = f.b[n:]
	return p
}

func (f *fields) number(n int) (v uint64) {
	for _, x := range f.take(n, "number") {
		v = v<<8 | uint64(x)
	}
	return v
}

func (f *fields) i16() int16 { return int16(f.number(2)) }
func (f *fields) i32() int32 { return int32(f.number(4)) }
func (f *fields) i64() int64 { return int64(f.number(8)) }
func (f *fields) bool() bool { return f.number(1) != 0 }

// count is that of an array whose elements have at least size bytes; null is
// none.
func (f *fields) count(n int64, size int) int {
	if f.err == nil && n > int64(len(f.b)/size) {
		f.err = fmt.Errorf("%w: an array of %d elements in %d bytes", errAnswer, n, len(f.b))
	}
	if f.err != nil {
		return 0
	}
	return int(max(n, 0))
}

func (f *fields) array(size int) int { return f.count(int64(f.i32()), size) }

func (f *fields) compactArray(size int) int { return f.count(int64(f.uvarint())-1, size) }

func (f *fields) uvarint() uint64 {
	if f.err != nil {
		return 0
	}
	v, n := binary.Uvarint(f.b)
	if n <= 0 || v > 1<<31 {
		f.err = fmt.Errorf("%w: a length that is none, with %d bytes left", errAnswer, len(f.b))
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) text() string { return string(f.take(int(f.i16()), "text")) }

// compactText reads null as "".
func (f *fields) compactText() string {
	n := int(f.uvarint()) - 1
	return string(f.take(max(n, 0), "text"))
}

// tags passes over the tagged fields, of which we know none.
func (f *fields) tags() {
	for n := f.uvarint(); n > 0 && f.err == nil; n-- {
		f.uvarint()
		f.take(int(f.uvarint()), "tagged field")
	}
}

// The versions of Fetch whose answers are decoded here: the newest that
// kafka-go can ask for, and the first that names a topic by its id, so that
// one which was deleted and made anew is not taken for the one before.
const (
	fetchByName = 11
	fetchByID   = 13
)

// fetched is what a broker says of one partition.
type fetched struct {
	code                                int16
	highWatermark, lastStable, logStart int64
	aborted                             []aborted
	records                             []byte // batches; the last one may be cut off
}

// aborted is a transaction that was given up, and where it began.
type aborted struct{ producer, first int64 }

// decodeFetch reads an answer by name about exactly one partition, tp.
func decodeFetch(body []byte, tp record.TopicPartition) (fetched, error) {
	f := fields{b: body}
	f.i32() // throttled for ms
	whole := f.i16()
	f.i32() // session
	topics := f.array(6)
	if f.err == nil && topics == 0 && whole != 0 {
		return fetched{code: whole}, nil
	}
	topic, partitions := f.text(), f.array(36)
	number, p := f.partition()
	for range f.array(16) {
		p.aborted = append(p.aborted, aborted{f.i64(), f.i64()})
	}
	f.i32() // preferred replica
	if n := f.i32(); n > 0 {
		p.records = f.take(int(n), "records")
	}
	return f.only(p, tp, topics == 1 && partitions == 1 && topic == tp.Topic && number == tp.Partition)
}

// decodeFetchByID reads an answer by id about exactly one partition, tp.
func decodeFetchByID(body []byte, tp record.TopicPartition, id record.TopicID) (fetched, error) {
	f := fields{b: body}
	f.tags() // of the header
	f.i32()  // throttled for ms
	whole := f.i16()
	f.i32() // session
	topics := f.compactArray(18)
	if f.err == nil && topics == 0 && whole != 0 {
		return fetched{code: whole}, nil
	}
	var topic record.TopicID
	copy(topic[:], f.take(len(topic), "topic id"))
	partitions := f.compactArray(36)
	number, p := f.partition()
	for range f.compactArray(17) {
		p.aborted = append(p.aborted, aborted{f.i64(), f.i64()})
		f.tags()
	}
	f.i32() // preferred replica
	if n := f.uvarint(); n > 1 {
		p.records = f.take(int(n-1), "records")
	}
	return f.only(p, tp, topics == 1 && partitions == 1 && topic == id && number == tp.Partition)
}

// partition reads what both versions have at first.
func (f *fields) partition() (number int32, p fetched) {
	number = f.i32()
	p.code = f.i16()
	p.highWatermark, p.lastStable, p.logStart = f.i64(), f.i64(), f.i64()
	return number, p
}

// only is p, if it could be read and is what was asked for.
func (f *fields) only(p fetched, tp record.TopicPartition, asked bool) (fetched, error) {
	switch {
	case f.err != nil:
		return fetched{}, f.err
	case !asked:
		return fetched{}, fmt.Errorf("%w: it is of other partitions than %s", errAnswer, tp)
	}
	return p, nil
}

// fetchRequest asks for what a partition has from an offset on.
type fetchRequest struct {
	tp                 record.TopicPartition
	id                 record.TopicID
	offset             int64
	committed          bool
	minBytes, maxBytes int32
	wait               time.Duration
}

// encodeFetchByID is the body of a request by id, without a session.
func encodeFetchByID(r fetchRequest) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(make([]byte, 0, 96), math.MaxUint32) // no replica
	b = be.AppendUint32(b, uint32(r.wait.Milliseconds()))
	b = be.AppendUint32(b, uint32(r.minBytes))
	b = be.AppendUint32(b, uint32(r.maxBytes))
	b = append(b, byte(isolation(r.committed)))
	b = be.AppendUint32(b, 0)              // session
	b = be.AppendUint32(b, math.MaxUint32) // epoch of a session: none
	b = append(b, 2)                       // one topic
	b = append(b, r.id[:]...)
	b = append(b, 2) // one partition
	b = be.AppendUint32(b, uint32(r.tp.Partition))
	b = be.AppendUint32(b, math.MaxUint32) // leader epoch: any
	b = be.AppendUint64(b, uint64(r.offset))
	b = be.AppendUint32(b, math.MaxUint32) // epoch of the record before: any
	b = be.AppendUint64(b, math.MaxUint64) // log start: no follower
	b = be.AppendUint32(b, uint32(r.maxBytes))
	return append(b, 0, 0, 1, 1, 0) // tags of the partition and the topic; none forgotten, no rack, no tags
}

// metadataVersion is the version of Metadata that is encoded and decoded here.
const metadataVersion = 12

// metadata is what a cluster says about itself.
type metadata struct {
	brokers map[int32]string // addresses by id
	topics  map[string]topic
}

type topic struct {
	code       int16
	id         record.TopicID // zero when the broker knows none
	internal   bool
	partitions map[int32]partition
}

type partition struct {
	code   int16
	leader int32
}

// encodeMetadata asks for topics, or for all with nil. None is made by asking.
func encodeMetadata(topics []string) []byte {
	var b []byte
	if topics == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(b, uint64(len(topics))+1)
	}
	for _, t := range topics {
		b = append(b, make([]byte, 16)...) // no id
		b = binary.AppendUvarint(b, uint64(len(t))+1)
		b = append(b, t...)
		b = append(b, 0) // no tags
	}
	return append(b, 0, 0, 0) // make none, without rights, no tags
}

func decodeMetadata(body []byte) (metadata, error) {
	f := fields{b: body}
	f.tags() // of the header
	f.i32()  // throttled for ms
	m := metadata{brokers: map[int32]string{}, topics: map[string]topic{}}
	for range f.compactArray(10) {
		id, host, port := f.i32(), f.compactText(), f.i32()
		m.brokers[id] = address(host, port)
		f.compactText() // rack
		f.tags()
	}
	f.compactText() // cluster
	f.i32()         // controller
	for range f.compactArray(25) {
		name, t := decodeTopic(&f)
		m.topics[name] = t
	}
	if f.err != nil {
		return metadata{}, f.err
	}
	return m, nil
}

func decodeTopic(f *fields) (string, topic) {
	t := topic{partitions: map[int32]partition{}}
	t.code = f.i16()
	name := f.compactText()
	copy(t.id[:], f.take(16, "topic id"))
	t.internal = f.bool()
	for range f.compactArray(18) {
		p := partition{code: f.i16()}
		number := f.i32()
		p.leader = f.i32()
		f.i32()       // leader epoch
		for range 3 { // replicas, in sync, offline
			for range f.compactArray(4) {
				f.i32()
			}
		}
		f.tags()
		t.partitions[number] = p
	}
	f.i32() // rights
	f.tags()
	return name, t
}
