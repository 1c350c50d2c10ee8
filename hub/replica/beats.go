package replica

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"sync"

	"github.com/entrepot-hub/entrepot/record"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Nodes with groups in common send each other one frame a tick. It says that the
// node lives, and carries the heartbeats of all groups and the answers to them:
//
//	byte     frameBeats
//	4 bytes  CRC-32C of what follows
//	uvarint  the member that it is for
//	uvarint  what tells one run of the sender's process from another
//	uvarint  the sender's tick
//	uvarint  the newest tick of the receiver that the sender has heard
//	uvarint  how many items
//	item*    group, kind, term, commit

// frameBeats is the first byte of a frame of heartbeats, version 1.
const frameBeats byte = 2

// The kinds of items.
const (
	beatSent      byte = iota // a leader's heartbeat
	beatSentQuiet             // one that asks for quiet
	beatAnswer
	beatAnswerQuiet // one that agrees
	beatGone        // the sender leads no more: its log cannot be written or read
)

// beat is one item.
type beat struct {
	group        groupKey
	kind         byte
	term, commit uint64
}

// beatFrame is a decoded frame of heartbeats.
type beatFrame struct {
	to, run    uint64
	tick, echo uint64
	beats      []beat
}

// beatOf makes an item of a message.
func beatOf(g groupKey, m *pb.Message) beat {
	b := beat{group: g, kind: beatSent, term: m.Term, commit: m.Commit}
	if m.Type == pb.MsgHeartbeatResp {
		b.kind = beatAnswer
	}
	if isQuiet(m) {
		b.kind++
	}
	return b
}

// message makes a message of an item.
func (b *beat) message(from, to uint64) pb.Message {
	m := pb.Message{Type: pb.MsgHeartbeat, From: from, To: to, Term: b.term, Commit: b.commit}
	if b.kind == beatAnswer || b.kind == beatAnswerQuiet {
		m.Type = pb.MsgHeartbeatResp
	}
	if b.kind == beatSentQuiet || b.kind == beatAnswerQuiet {
		m.Context = quietMark
	}
	return m
}

func (f *beatFrame) encode() []byte {
	b := append(make([]byte, 0, 64+24*len(f.beats)), frameBeats, 0, 0, 0, 0)
	for _, v := range [...]uint64{f.to, f.run, f.tick, f.echo, uint64(len(f.beats))} {
		b = binary.AppendUvarint(b, v)
	}
	for i := range f.beats {
		one := &f.beats[i]
		b = append(appendGroup(b, one.group), one.kind)
		b = binary.AppendUvarint(binary.AppendUvarint(b, one.term), one.commit)
	}
	binary.BigEndian.PutUint32(b[1:], record.CRC(b[frameHead:]))
	return b
}

// decodeBeats reads what encode wrote and nothing else. Errors are as of
// decodeFrame.
func decodeBeats(frame []byte) (f beatFrame, err error) {
	if len(frame) < frameHead || frame[0] != frameBeats {
		return f, fmt.Errorf("%w: it does not begin with kind %d", record.ErrInvalidRequest, frameBeats)
	}
	if got, want := record.CRC(frame[frameHead:]), binary.BigEndian.Uint32(frame[1:]); got != want {
		return f, fmt.Errorf("%w: checksum %08x, the frame says %08x", record.ErrCorruptBatch, got, want)
	}
	d := decoder{b: frame[frameHead:]}
	for _, v := range [...]*uint64{&f.to, &f.run, &f.tick, &f.echo} {
		*v = d.uvarint(math.MaxUint64)
	}
	f.beats = make([]beat, d.count(leastGroup+3))
	for i := range f.beats {
		b := &f.beats[i]
		b.group, b.kind = d.group(), d.byte()
		b.term, b.commit = d.uvarint(math.MaxUint64), d.uvarint(math.MaxUint64)
		if d.err == nil && (b.kind > beatGone || b.term == 0 && b.kind != beatGone) {
			d.fail("a heartbeat that cannot be")
		}
	}
	if err := d.end(); err != nil {
		return beatFrame{}, fmt.Errorf("%w: %w", record.ErrInvalidRequest, err)
	}
	return f, nil
}

// peers is what a set knows of the nodes that it has groups in common with. Its
// clock is the set's ticks.
type peers struct {
	run uint64
	mu  struct {
		sync.Mutex
		now uint64
		all map[uint64]*peerNode // by member
	}
}

// peerNode is another node, as a member.
type peerNode struct {
	run     uint64 // of its process; 0 before it was heard
	tick    uint64 // its newest one
	heard   uint64 // when it was last heard
	echoed  uint64 // the newest tick of ours that it has heard
	suspect uint64 // when it was said to have failed; 0: it was heard since
	beats   []beat // to go to it
	wanted  bool   // it has groups in common with this node
}

func newPeers(run uint64) *peers {
	p := &peers{run: run}
	p.mu.now = 1
	p.mu.all = map[uint64]*peerNode{}
	return p
}

// node is under the lock.
func (p *peers) node(member uint64) *peerNode {
	n := p.mu.all[member]
	if n == nil {
		n = &peerNode{heard: p.mu.now, echoed: p.mu.now}
		p.mu.all[member] = n
	}
	return n
}

// add puts an item into the next frame to a member.
func (p *peers) add(to uint64, b beat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.node(to)
	n.beats = append(n.beats, b)
}

// hears takes what a frame says of its sender. It reports whether the sender's
// process has begun anew.
func (p *peers) hears(from uint64, f *beatFrame) (anew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.node(from)
	anew = n.run != f.run && n.run != 0
	if n.run != f.run {
		n.run, n.tick = f.run, 0
	}
	n.tick = max(n.tick, f.tick)
	n.heard, n.suspect = p.mu.now, 0
	if f.echo <= p.mu.now {
		n.echoed = max(n.echoed, f.echo)
	}
	return anew
}

// tick begins a new one. It returns those that were said to have failed, and
// were not heard for the ticks after.
func (p *peers) tick(after uint64) (failed []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.now++
	for id, n := range p.mu.all {
		n.wanted = false
		if n.suspect != 0 && p.mu.now-n.suspect >= after {
			n.suspect = 0
			failed = append(failed, id)
		}
	}
	return failed
}

// silence is for how many ticks a member was not heard, and since when it has
// not heard this node. It notes that there are groups in common.
func (p *peers) silence(member uint64) (heard, echoed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.node(member)
	n.wanted = true
	return p.mu.now - n.heard, p.mu.now - n.echoed
}

// suspect notes that a node is said to have failed.
func (p *peers) suspect(node int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, n := range p.mu.all {
		if NodeOf(id) == node && n.suspect == 0 {
			n.suspect = p.mu.now
		}
	}
}

// frames are what is to be sent: items that wait, and with all set a sign of
// life to every node with groups in common.
func (p *peers) frames(all bool) map[uint64]net.Buffers {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[uint64]net.Buffers{}
	for id, n := range p.mu.all {
		if len(n.beats) > 0 || all && n.wanted {
			f := beatFrame{to: id, run: p.run, tick: p.mu.now, echo: n.tick, beats: n.beats}
			out[id] = net.Buffers{f.encode()}
			n.beats = n.beats[:0]
		}
	}
	return out
}
