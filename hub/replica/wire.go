package replica

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Raft's messages between nodes. A frame is
//
//	byte     frameMessages
//	4 bytes  CRC-32C, big endian, of all that follows; of a record batch only
//	         of what its own checksum leaves out, its first 21 bytes
//	uvarint  the member that it is for
//	uvarint  how many messages
//	message* group, header, and a table of the entries or the state
//	bytes    what the tables speak of, in their order
//
// A payload is never copied: it is a part of its own when it is sent, and the
// entry that is received is a piece of the frame. Each batch's own checksum is
// verified as well before any message of the frame is believed.

// frameMessages is the first byte of a frame of messages, version 1.
const frameMessages byte = 1

// frameHead is the length of what the checksum does not cover.
const frameHead = 5

// batchSummed is where a batch's own checksum begins to count.
const batchSummed = 21

// groupKey names a group between nodes: by its topic ID, or, where there is
// none, by its name.
type groupKey struct {
	topic                 record.TopicID
	name                  string
	partition, generation int32
}

func keyOf(id storage.LogID) groupKey {
	k := groupKey{topic: id.ID, partition: id.Partition, generation: id.Generation}
	if id.ID.IsZero() {
		k.name = id.Topic
	}
	return k
}

// groupMessage is a message and the group that it belongs to.
type groupMessage struct {
	group groupKey
	msg   pb.Message
	bytes int // of its entries
}

// frameWriter makes one frame.
type frameWriter struct {
	messages int
	table    []byte
	bodies   net.Buffers
	summed   []bool // bodies that are batches
}

func (w *frameWriter) add(g groupKey, m *pb.Message) {
	w.messages++
	w.table = appendMessage(w.table, g, m)
	for i := range m.Entries {
		if e := &m.Entries[i]; len(e.Data) > 0 {
			w.bodies, w.summed = append(w.bodies, e.Data), append(w.summed, isBatch(e))
		}
	}
	if m.Snapshot != nil && len(m.Snapshot.Data) > 0 {
		w.bodies, w.summed = append(w.bodies, m.Snapshot.Data), append(w.summed, false)
	}
}

// frame returns what to send to a member.
func (w *frameWriter) frame(to uint64) net.Buffers {
	head := make([]byte, frameHead, frameHead+2*binary.MaxVarintLen64+len(w.table))
	head[0] = frameMessages
	head = binary.AppendUvarint(head, to)
	head = binary.AppendUvarint(head, uint64(w.messages))
	head = append(head, w.table...)
	sum := newFrameSum(head[frameHead:])
	for i, b := range w.bodies {
		sum.body(b, w.summed[i])
	}
	binary.BigEndian.PutUint32(head[1:], sum.crc)
	return append(net.Buffers{head}, w.bodies...)
}

// frameSum is the checksum of a frame.
type frameSum struct{ crc uint32 }

func newFrameSum(table []byte) frameSum { return frameSum{record.CRC(table)} }

func (s *frameSum) body(b []byte, batch bool) {
	if batch && len(b) > batchSummed {
		b = b[:batchSummed]
	}
	s.crc = record.UpdateCRC(s.crc, b)
}

// isBatch tells a record batch from everything else that an entry may hold.
func isBatch(e *pb.Entry) bool {
	return e.Type == pb.EntryNormal && len(e.Data) > 0 && e.Data[0] < 0x80
}

func appendGroup(b []byte, g groupKey) []byte {
	b = append(b, g.topic[:]...)
	if g.topic.IsZero() {
		b = appendString(b, g.name)
	}
	b = binary.AppendUvarint(b, uint64(g.partition))
	return binary.AppendUvarint(b, uint64(g.generation))
}

// leastGroup is the length of the shortest group in a frame.
const leastGroup = 16 + 2

// group reads what appendGroup wrote.
func (d *decoder) group() (g groupKey) {
	copy(g.topic[:], d.alias(len(g.topic)))
	if g.topic.IsZero() {
		g.name = d.string()
	}
	g.partition, g.generation = d.int32(), d.int32()
	return g
}

func appendMessage(b []byte, g groupKey, m *pb.Message) []byte {
	b = append(appendGroup(b, g), byte(m.Type))
	for _, v := range [...]uint64{m.Term, m.LogTerm, m.Index, m.Commit, m.RejectHint} {
		b = binary.AppendUvarint(b, v)
	}
	b = appendBool(b, m.Reject)
	b = appendString(b, string(m.Context))
	switch m.Type {
	case pb.MsgApp:
		b = binary.AppendUvarint(b, uint64(len(m.Entries)))
		for i := range m.Entries {
			e := &m.Entries[i]
			b = append(b, byte(e.Type))
			b = binary.AppendUvarint(b, e.Term)
			b = binary.AppendUvarint(b, uint64(len(e.Data)))
		}
	case pb.MsgSnap:
		b = binary.AppendUvarint(b, m.Snapshot.Metadata.Index)
		b = binary.AppendUvarint(b, m.Snapshot.Metadata.Term)
		conf := confState{state: m.Snapshot.Metadata.ConfState}
		b = appendString(b, string(conf.encode()))
		b = binary.AppendUvarint(b, uint64(len(m.Snapshot.Data)))
	}
	return b
}

// decodeFrame reads a frame of messages. The entries of the messages are
// pieces of it. Errors wrap record.ErrInvalidRequest for what is no frame, and
// record.ErrCorruptBatch for one that was changed on its way.
func decodeFrame(frame []byte, from uint64) (to uint64, msgs []groupMessage, err error) {
	to, msgs, sum, err := parseFrame(frame, from)
	if err != nil {
		return 0, nil, err
	}
	if want := binary.BigEndian.Uint32(frame[1:]); sum != want {
		return 0, nil, fmt.Errorf("%w: checksum %08x, the frame says %08x", record.ErrCorruptBatch, sum, want)
	}
	return to, msgs, checkEntries(msgs)
}

// parseFrame takes a frame apart and computes its checksum.
func parseFrame(frame []byte, from uint64) (to uint64, msgs []groupMessage, crc uint32, err error) {
	if len(frame) < frameHead || frame[0] != frameMessages {
		return 0, nil, 0, fmt.Errorf("%w: it does not begin with kind %d, the one this node reads", record.ErrInvalidRequest, frameMessages)
	}
	d := decoder{b: frame[frameHead:]}
	to = d.uvarint(math.MaxUint64)
	n := d.count(leastMessage)
	msgs = make([]groupMessage, n)
	for i := range msgs {
		d.message(&msgs[i])
		msgs[i].msg.From, msgs[i].msg.To = from, to
	}
	if d.err != nil {
		return 0, nil, 0, fmt.Errorf("%w: %w", record.ErrInvalidRequest, d.err)
	}
	sum := newFrameSum(frame[frameHead : len(frame)-len(d.b)])
	for i := range msgs {
		d.bodies(&msgs[i], &sum)
	}
	if err := d.end(); err != nil {
		return 0, nil, 0, fmt.Errorf("%w: %w", record.ErrInvalidRequest, err)
	}
	return to, msgs, sum.crc, nil
}

// checkEntries verifies the checksum of every batch, and that every
// configuration change is one, before anything of it is believed.
func checkEntries(msgs []groupMessage) error {
	for i := range msgs {
		for j := range msgs[i].msg.Entries {
			if err := checkEntry(&msgs[i].msg.Entries[j]); err != nil {
				return fmt.Errorf("entry %d: %w", msgs[i].msg.Entries[j].Index, err)
			}
		}
	}
	return nil
}

func checkEntry(r *pb.Entry) error {
	switch {
	case isBatch(r):
		return record.Batch(r.Data).Check()
	case r.Type != pb.EntryNormal:
		e, err := fromRaft(r)
		if err == nil {
			_, err = decodeConfChange(e.Payload)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", record.ErrInvalidRequest, err)
		}
	}
	return nil
}

// leastMessage is the length of the shortest message in a frame.
const leastMessage = leastGroup + 1 + 5 + 2

// message reads what appendMessage wrote; payloads get their lengths only.
func (d *decoder) message(g *groupMessage) {
	g.group = d.group()
	m := &g.msg
	m.Type = pb.MessageType(d.byte())
	if d.err == nil && !travels(m.Type) {
		d.fail(fmt.Sprintf("a message of type %d, which does not travel", m.Type))
	}
	for _, v := range [...]*uint64{&m.Term, &m.LogTerm, &m.Index, &m.Commit, &m.RejectHint} {
		*v = d.uvarint(math.MaxUint64)
	}
	m.Reject, m.Context = d.bool(), d.bytes()
	switch m.Type {
	case pb.MsgApp:
		d.entryTable(m)
	case pb.MsgSnap:
		d.snapshotTable(m)
	}
	if d.err == nil && m.Term == 0 {
		d.fail("a message without a term") // Raft takes it for one of this node's own
	}
}

func (d *decoder) entryTable(m *pb.Message) {
	n := d.count(3)
	if n == 0 {
		return
	}
	m.Entries = make([]pb.Entry, n)
	total := 0
	for i := range m.Entries {
		e := &m.Entries[i]
		e.Index, e.Type, e.Term = m.Index+1+uint64(i), pb.EntryType(d.byte()), d.uvarint(math.MaxUint64)
		n := d.int32()
		if total += int(n); e.Type > pb.EntryConfChangeV2 || total > len(d.b) || e.Index == 0 {
			d.fail("an entry that cannot be")
			return
		}
		e.Data = d.b[:n:n] // of the right length; bodies puts it where it is
	}
}

func (d *decoder) snapshotTable(m *pb.Message) {
	m.Snapshot = &pb.Snapshot{}
	meta := &m.Snapshot.Metadata
	meta.Index, meta.Term = d.uvarint(math.MaxInt64), d.uvarint(math.MaxInt64)
	conf, err := decodeConf(d.bytes())
	if err == nil {
		err = checkConf(conf.state)
	}
	if err != nil {
		d.fail(err.Error())
	} else if conf.index != 0 || conf.pending != nil {
		d.fail("a configuration with changes to come")
	}
	meta.ConfState = conf.state
	if n := int(d.int32()); d.err == nil && n <= len(d.b) {
		m.Snapshot.Data = d.b[:n:n]
	} else {
		d.fail("a state that is cut off")
	}
}

// bodies gives the entries their payloads.
func (d *decoder) bodies(g *groupMessage, sum *frameSum) {
	for i := range g.msg.Entries {
		e := &g.msg.Entries[i]
		if e.Data = d.body(len(e.Data)); len(e.Data) > 0 {
			sum.body(e.Data, isBatch(e))
			g.bytes += len(e.Data)
		}
	}
	if s := g.msg.Snapshot; s != nil {
		s.Data = d.body(len(s.Data))
		sum.body(s.Data, false)
		g.bytes += len(s.Data)
	}
}

// body is alias that is nil for nothing.
func (d *decoder) body(n int) []byte {
	if n == 0 {
		return nil
	}
	return d.alias(n)
}

// alias is the next n bytes themselves.
func (d *decoder) alias(n int) []byte {
	if d.err != nil || n > len(d.b) {
		d.fail("bytes are cut off")
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.alias(1); p != nil {
		return p[0]
	}
	return 0
}

// travels reports whether a message is one between nodes. Others are a node's
// own, and would be believed as such.
func travels(t pb.MessageType) bool {
	switch t {
	case pb.MsgApp, pb.MsgAppResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp,
		pb.MsgSnap, pb.MsgHeartbeat, pb.MsgHeartbeatResp, pb.MsgTimeoutNow:
		return true
	}
	return false
}

// classOf is the class that a message travels in.
func classOf(t pb.MessageType) Class {
	switch t {
	case pb.MsgApp:
		return ClassAppend
	case pb.MsgSnap:
		return ClassBulk
	}
	return ClassHeartbeat
}
