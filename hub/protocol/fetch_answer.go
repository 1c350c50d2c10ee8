package protocol

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// fetchAnswer is a Fetch response, encoded by hand: the batches go from the
// log's memory to the socket without a copy.
type fetchAnswer struct {
	err       error
	session   int32 // 0: none
	committed bool  // read_committed
	topics    []fetchedTopic
	size      int64 // bytes of batches
	held      int64 // of memory, until it is written
	throttle  int32 // milliseconds
	broker    func(id int32) (kmsg.FetchResponseBroker, bool)
}

type fetchedTopic struct {
	name  string
	id    [16]byte
	parts []fetchedPart
}

type fetchedPart struct {
	partition    int32
	code         int16
	offsets      record.Offsets
	batches      []record.Batch
	open         func(batch int) io.Reader   // that of record.Chunk
	release      func()                      // of the batches' memory; nil: it is not lent
	aborted      []record.AbortedTransaction // of batches; for read_committed
	diverging    int32                       // -1: none
	divergingEnd int64
	preferred    int32 // node to read from; -1: this one
	leader       int32 // -1: not named
	leaderEpoch  int32
}

func (p *fetchedPart) reset(partition int32) {
	p.giveBack()
	*p = fetchedPart{
		partition: partition, diverging: -1, divergingEnd: -1, preferred: -1, leader: -1, leaderEpoch: -1,
		offsets: record.Offsets{Start: -1, LastStable: -1, HighWatermark: -1},
	}
}

// giveBack returns the memory of the batches, which are gone then.
func (p *fetchedPart) giveBack() {
	if p.release != nil {
		p.release()
		p.release, p.open, p.batches = nil, nil, nil
	}
}

// giveBack ends the answer: it has been written, or never will be.
func (a *fetchAnswer) giveBack() {
	for i := range a.topics {
		for j := range a.topics[i].parts {
			a.topics[i].parts[j].giveBack()
		}
	}
}

func (p *fetchedPart) bytes() (n int) {
	for _, b := range p.batches {
		n += b.Size()
	}
	return n
}

// memory is what the batches take until they are written, with what those that
// are still in their files are sent through.
func (a *fetchAnswer) memory() (n int64) {
	late := false
	for i := range a.topics {
		for j := range a.topics[i].parts {
			for _, b := range a.topics[i].parts[j].batches {
				n += int64(len(b))
				late = late || len(b) < b.Size()
			}
		}
	}
	if late {
		n += writePiece
	}
	return n
}

// isLeadership: errors after which the client looks for another leader.
func isLeadership(code int16) bool {
	return code == kerr.NotLeaderForPartition.Code || code == kerr.FencedLeaderEpoch.Code
}

// inlined is the size up to which copying a batch is cheaper than a piece of
// its own in the gathered write.
const inlined = 256

// fetchWriter appends to one buffer and notes where batches belong between.
type fetchWriter struct {
	b       []byte
	version int16
	cuts    []cut
	extra   int // bytes of batches that are not in b
}

type cut struct {
	at int // in b
	buffer
}

func (a *fetchAnswer) buffers(dst []byte, r *request) []buffer {
	w := &fetchWriter{b: appendHeader(slices.Grow(dst, a.inlinedBytes()), r), version: r.version}
	w.i32(a.throttle)
	if r.version >= 7 {
		w.i16(code(a.err))
		w.i32(a.session)
	}
	w.length(len(a.topics))
	for i := range a.topics {
		w.topic(a, &a.topics[i])
	}
	w.tail(a)
	binary.BigEndian.PutUint32(w.b, uint32(len(w.b)+w.extra-4))
	return w.gather()
}

// inlinedBytes is about what the answer takes without the batches that are not
// copied into it.
func (a *fetchAnswer) inlinedBytes() (n int) {
	for i := range a.topics {
		n += len(a.topics[i].name) + 32
		for j := range a.topics[i].parts {
			n += 80 + 17*len(a.topics[i].parts[j].aborted)
			for _, b := range a.topics[i].parts[j].batches {
				if len(b) <= inlined {
					n += len(b)
				}
			}
		}
	}
	return n
}

func (w *fetchWriter) topic(a *fetchAnswer, t *fetchedTopic) {
	switch {
	case w.version >= 13:
		w.b = append(w.b, t.id[:]...)
	case w.flexible():
		w.uvarint(len(t.name) + 1)
		w.b = append(w.b, t.name...)
	default:
		w.i16(int16(len(t.name)))
		w.b = append(w.b, t.name...)
	}
	w.length(len(t.parts))
	for i := range t.parts {
		w.part(a, &t.parts[i])
	}
	w.noTags()
}

func (w *fetchWriter) part(a *fetchAnswer, p *fetchedPart) {
	w.i32(p.partition)
	w.i16(p.code)
	w.i64(p.offsets.HighWatermark)
	w.i64(p.offsets.LastStable)
	if w.version >= 5 {
		w.i64(p.offsets.Start)
	}
	if a.committed {
		w.aborted(p.aborted)
	} else {
		w.null()
	}
	if w.version >= 11 {
		w.i32(p.preferred)
	}
	w.batches(p)
	if w.flexible() {
		w.partTags(p)
	}
}

func (w *fetchWriter) aborted(all []record.AbortedTransaction) {
	w.length(len(all))
	for _, t := range all {
		w.i64(t.ProducerID)
		w.i64(t.First)
		w.noTags()
	}
}

func (w *fetchWriter) batches(p *fetchedPart) {
	n := p.bytes()
	if w.flexible() {
		w.uvarint(n + 1)
	} else {
		w.i32(int32(n))
	}
	for i, b := range p.batches {
		c := cut{len(w.b), buffer{b: b}}
		if p.open != nil {
			c.late = p.open(i)
		}
		if c.late == nil && len(b) <= inlined {
			w.b = append(w.b, b...)
			continue
		}
		w.cuts = append(w.cuts, c)
		w.extra += b.Size()
	}
}

// partTags encodes the tagged fields: 0 the diverging epoch, 1 the leader.
func (w *fetchWriter) partTags(p *fetchedPart) {
	diverging, leader := p.diverging >= 0, p.leader >= 0
	w.uvarint(count(diverging) + count(leader))
	if diverging {
		w.b = append(w.b, 0, 13)
		w.i32(p.diverging)
		w.i64(p.divergingEnd)
		w.noTags()
	}
	if leader {
		w.b = append(w.b, 1, 9)
		w.i32(p.leader)
		w.i32(p.leaderEpoch)
		w.noTags()
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// tail ends the response; v16+ gives the addresses of the leaders named.
func (w *fetchWriter) tail(a *fetchAnswer) {
	if !w.flexible() {
		return
	}
	brokers := a.leaders()
	if w.version < 16 || len(brokers) == 0 {
		w.noTags()
		return
	}
	// kmsg encodes the one tag of a response that has nothing else; what is
	// before it there is the throttle, the error, the session and no topics.
	tail := kmsg.NewFetchResponse()
	tail.SetVersion(w.version)
	tail.Brokers = brokers
	const before = 4 + 2 + 4 + 1
	w.b = append(w.b, tail.AppendTo(nil)[before:]...)
}

func (a *fetchAnswer) leaders() (brokers []kmsg.FetchResponseBroker) {
	named := map[int32]bool{}
	for i := range a.topics {
		for j := range a.topics[i].parts {
			id := a.topics[i].parts[j].leader
			if id < 0 || named[id] {
				continue
			}
			named[id] = true
			if b, ok := a.broker(id); ok {
				brokers = append(brokers, b)
			}
		}
	}
	return brokers
}

// gather puts the batches into their places.
func (w *fetchWriter) gather() []buffer {
	bufs := make([]buffer, 0, 2*len(w.cuts)+1)
	at := 0
	for _, c := range w.cuts {
		if c.at > at {
			bufs = append(bufs, buffer{b: w.b[at:c.at]})
		}
		bufs = append(bufs, c.buffer)
		at = c.at
	}
	if at < len(w.b) || len(bufs) == 0 {
		bufs = append(bufs, buffer{b: w.b[at:]})
	}
	return bufs
}

func (w *fetchWriter) flexible() bool { return w.version >= 12 }
func (w *fetchWriter) i16(v int16)    { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }
func (w *fetchWriter) i32(v int32)    { w.b = binary.BigEndian.AppendUint32(w.b, uint32(v)) }
func (w *fetchWriter) i64(v int64)    { w.b = binary.BigEndian.AppendUint64(w.b, uint64(v)) }
func (w *fetchWriter) uvarint(v int)  { w.b = binary.AppendUvarint(w.b, uint64(v)) }

// length is that of an array.
func (w *fetchWriter) length(n int) {
	if w.flexible() {
		w.uvarint(n + 1)
		return
	}
	w.i32(int32(n))
}

// null is an array that is not there.
func (w *fetchWriter) null() {
	if w.flexible() {
		w.uvarint(0)
		return
	}
	w.i32(-1)
}

func (w *fetchWriter) noTags() {
	if w.flexible() {
		w.b = append(w.b, 0)
	}
}
