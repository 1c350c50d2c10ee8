package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A control entry is one Raft index and zero offsets (Invariant 1). Its payload
// begins with controlMark and a subtype. A data entry's payload is a record
// batch, whose first byte is the high byte of an offset and thus below 0x80.
const controlMark = 0xff

// Subtypes of control entries. Numbers are never used twice.
const (
	subConfChange   byte = iota + 1 // a pb.ConfChange
	subConfChangeV2                 // a pb.ConfChangeV2
	subCommand                      // a command for the group's Machine
	subLogStart
	subMirrorStart
	subMirrorStop
	subReadOnly
	subEpochBase
)

// ControlEntry is a decision that a partition's data is ordered against
// (Invariant 3). The types below are all there are.
type ControlEntry interface{ encode() []byte }

// LogStart makes the records below Offset unreadable; their segments go. On a
// partition that is written here it cannot lie above the high watermark. On a
// mirror it may lie above the end of the log, which then continues there.
type LogStart struct{ Offset int64 }

// MirrorStart gives the partition to a link. Epoch must be above that of every
// start and stop before; the same start again does nothing.
type MirrorStart struct {
	Link   string
	Source string // site
	Epoch  int64
}

// MirrorStop takes the partition from its link: it becomes writable here,
// unless it is read-only besides.
type MirrorStop struct{ Epoch int64 }

// ReadOnly refuses, or allows again, what clients write.
type ReadOnly struct{ On bool }

// EpochBase raises what is added to the Raft term to give the leader epoch
// (Invariant 4).
type EpochBase struct{ Base int32 }

func (c LogStart) encode() []byte {
	return binary.AppendUvarint(control(subLogStart), uint64(c.Offset))
}

func (c MirrorStart) encode() []byte {
	b := appendString(appendString(control(subMirrorStart), c.Link), c.Source)
	return binary.AppendUvarint(b, uint64(c.Epoch))
}

func (c MirrorStop) encode() []byte {
	return binary.AppendUvarint(control(subMirrorStop), uint64(c.Epoch))
}

func (c ReadOnly) encode() []byte {
	if c.On {
		return append(control(subReadOnly), 1)
	}
	return append(control(subReadOnly), 0)
}

func (c EpochBase) encode() []byte {
	return binary.AppendUvarint(control(subEpochBase), uint64(c.Base))
}

func control(subtype byte) []byte { return []byte{controlMark, subtype} }

// decodeControl reads the payload of a control entry. What has no effect on
// the control state (a no-op, a configuration change, a command) gives nil. An
// unknown subtype is an error: a newer program wrote it, and skipping it would
// make this replica differ from the others.
func decodeControl(p []byte) (ControlEntry, error) {
	if len(p) == 0 {
		return nil, nil // the no-op of a new leader
	}
	if len(p) < 2 || p[0] != controlMark {
		return nil, fmt.Errorf("control entry of %d bytes begins with %#x, want %#x and a subtype", len(p), p[0], controlMark)
	}
	d := decoder{b: p[2:]}
	var c ControlEntry
	switch p[1] {
	case subConfChange, subConfChangeV2, subCommand:
		return nil, nil
	case subLogStart:
		c = LogStart{Offset: d.int64()}
	case subMirrorStart:
		c = MirrorStart{Link: d.string(), Source: d.string(), Epoch: d.int64()}
	case subMirrorStop:
		c = MirrorStop{Epoch: d.int64()}
	case subReadOnly:
		c = ReadOnly{On: d.bool()}
	case subEpochBase:
		c = EpochBase{Base: d.int32()}
	default:
		return nil, fmt.Errorf("control entry of subtype %d, which this node does not know", p[1])
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("control entry of subtype %d: %w", p[1], err)
	}
	return c, nil
}

// Mirror is the relation of a partition to the link that pulls it.
type Mirror struct {
	Link   string
	Source string // site
	Epoch  int64  // of the last start or stop
	Active bool
}

// controlState is what the control entries and the epochs of the data entries
// up to one place of the log amount to. It is a value: a copy stays as it is.
type controlState struct {
	epochBase int32
	logStart  int64
	readOnly  bool
	mirror    Mirror
	lineage   []epochStart // by epoch and offset; see lineage.go
}

// apply takes one control entry. It returns the next offset after it.
func (s *controlState) apply(c ControlEntry, next int64) int64 {
	switch c := c.(type) {
	case LogStart:
		if c.Offset > s.logStart {
			s.logStart = c.Offset
			s.lineage = trimLineage(s.lineage, c.Offset)
		}
		return max(next, c.Offset)
	case MirrorStart:
		s.mirror = Mirror{Link: c.Link, Source: c.Source, Epoch: c.Epoch, Active: true}
	case MirrorStop:
		s.mirror = Mirror{Epoch: c.Epoch}
	case ReadOnly:
		s.readOnly = c.On
	case EpochBase:
		s.epochBase = max(s.epochBase, c.Base)
	}
	return next
}

// controlVersion is the first byte of an encoded control state.
const controlVersion = 1

// encode writes the control state, and for a machine group the snapshot of its
// machine and the index at which it was taken.
func (s *controlState) encode(snap machineSnapshot) []byte {
	b := []byte{controlVersion}
	b = binary.AppendUvarint(b, uint64(s.epochBase))
	b = binary.AppendUvarint(b, uint64(s.logStart))
	b = appendBool(b, s.readOnly)
	b = appendString(b, s.mirror.Link)
	b = appendString(b, s.mirror.Source)
	b = binary.AppendUvarint(b, uint64(s.mirror.Epoch))
	b = appendBool(b, s.mirror.Active)
	b = binary.AppendUvarint(b, uint64(len(s.lineage)))
	for _, e := range s.lineage {
		b = binary.AppendUvarint(b, uint64(e.epoch))
		b = binary.AppendUvarint(b, uint64(e.start))
	}
	b = binary.AppendUvarint(b, snap.index)
	return appendString(b, string(snap.data))
}

// machineSnapshot is a Machine's state after the entry at index.
type machineSnapshot struct {
	index uint64
	data  []byte
}

// decodeControlState reads what encode wrote and nothing else. No bytes are
// the state of a new group.
func decodeControlState(b []byte) (s controlState, snap machineSnapshot, err error) {
	if len(b) == 0 {
		return s, snap, nil
	}
	if b[0] != controlVersion {
		return s, snap, fmt.Errorf("control state of version %d, this node reads version %d", b[0], controlVersion)
	}
	d := decoder{b: b[1:]}
	s.epochBase, s.logStart, s.readOnly = d.int32(), d.int64(), d.bool()
	s.mirror = Mirror{Link: d.string(), Source: d.string(), Epoch: d.int64(), Active: d.bool()}
	n := d.count(2)
	for range n {
		e := epochStart{epoch: d.int32(), start: d.int64()}
		if k := len(s.lineage); k > 0 && (e.epoch <= s.lineage[k-1].epoch || e.start < s.lineage[k-1].start) {
			d.fail("epochs out of order")
		}
		s.lineage = append(s.lineage, e)
	}
	snap.index, snap.data = uint64(d.int64()), d.bytes()
	if err := d.end(); err != nil {
		return controlState{}, machineSnapshot{}, fmt.Errorf("control state: %w", err)
	}
	return s, snap, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// decoder reads numbers and strings off the front of b; after the first error
// it reads zeros. Every value has one encoding, so that what decodes encodes
// to the same bytes.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = errors.New(what)
	}
	d.b = nil
}

func (d *decoder) uvarint(most uint64) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	switch {
	case n <= 0:
		d.fail("a number is cut off")
		return 0
	case n > 1 && d.b[n-1] == 0:
		d.fail("a number is longer than it needs to be")
		return 0
	case v > most:
		d.fail("a number is out of range")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int64() int64 { return int64(d.uvarint(math.MaxInt64)) }
func (d *decoder) int32() int32 { return int32(d.uvarint(math.MaxInt32)) }
func (d *decoder) bool() bool   { return d.uvarint(1) == 1 }

// count reads the number of things that follow, each of at least least bytes,
// so that no length in bad input makes memory grow.
func (d *decoder) count(least int) int {
	n := d.uvarint(math.MaxInt32)
	if n > uint64(len(d.b)/least) {
		d.fail("a count is larger than what follows")
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count(1)
	if d.err != nil || n == 0 {
		return nil
	}
	p := slices.Clone(d.b[:n])
	d.b = d.b[n:]
	return p
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes are left over")
	}
	return d.err
}
