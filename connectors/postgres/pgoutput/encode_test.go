package pgoutput

import (
	"encoding/binary"
	"fmt"
	"io"
)

// encode is the reverse of Decode, so that tests can say what the server does.
func encode(m Message, inStream, parallel bool) []byte {
	e := &encoder{}
	xid := func(kind byte, x uint32) {
		e.byte(kind)
		if inStream {
			e.u32(x)
		}
	}
	switch m := m.(type) {
	case *Begin:
		e.byte('B').u64(uint64(m.CommitLSN)).u64(uint64(m.Time)).u32(m.Xid)
	case *Commit:
		e.byte('C').byte(0).u64(uint64(m.CommitLSN)).u64(uint64(m.EndLSN)).u64(uint64(m.Time))
	case *Origin:
		e.byte('O').u64(uint64(m.CommitLSN)).text(m.Name)
	case *Relation:
		xid('R', m.Xid)
		space := m.Namespace
		if space == "pg_catalog" {
			space = ""
		}
		e.u32(m.ID).text(space).text(m.Name).byte(byte(m.Identity)).u16(len(m.Columns))
		for _, c := range m.Columns {
			flag := byte(0)
			if c.Key {
				flag = 1
			}
			e.byte(flag).text(c.Name).u32(c.Type).u32(uint32(c.Typmod))
		}
	case *Type:
		xid('Y', m.Xid)
		e.u32(m.ID).text(m.Namespace).text(m.Name)
	case *Insert:
		xid('I', m.Xid)
		e.u32(m.Relation).byte('N').tuple(m.New)
	case *Update:
		xid('U', m.Xid)
		e.u32(m.Relation).old(m.Old, m.OldWhole).byte('N').tuple(m.New)
	case *Delete:
		xid('D', m.Xid)
		e.u32(m.Relation).old(m.Old, m.OldWhole)
	case *Truncate:
		xid('T', m.Xid)
		flags := byte(0)
		if m.Cascade {
			flags |= 1
		}
		if m.RestartIdentity {
			flags |= 2
		}
		e.u32(uint32(len(m.Relations))).byte(flags)
		for _, r := range m.Relations {
			e.u32(r)
		}
	case *LogicalMessage:
		xid('M', m.Xid)
		flags := byte(0)
		if m.Transactional {
			flags = 1
		}
		e.byte(flags).u64(uint64(m.LSN)).text(m.Prefix).u32(uint32(len(m.Content)))
		e.b = append(e.b, m.Content...)
	default:
		e.block(m, parallel)
	}
	return e.b
}

type encoder struct{ b []byte }

func (e *encoder) byte(v byte) *encoder  { e.b = append(e.b, v); return e }
func (e *encoder) u16(v int) *encoder    { e.b = binary.BigEndian.AppendUint16(e.b, uint16(v)); return e }
func (e *encoder) u32(v uint32) *encoder { e.b = binary.BigEndian.AppendUint32(e.b, v); return e }
func (e *encoder) u64(v uint64) *encoder { e.b = binary.BigEndian.AppendUint64(e.b, v); return e }
func (e *encoder) text(v string) *encoder {
	e.b = append(append(e.b, v...), 0)
	return e
}

func (e *encoder) tuple(t Tuple) *encoder {
	e.u16(len(t))
	for _, v := range t {
		e.byte(byte(v.Kind))
		if v.Kind == Text || v.Kind == Binary {
			e.u32(uint32(len(v.Data)))
			e.b = append(e.b, v.Data...)
		}
	}
	return e
}

func (e *encoder) old(t Tuple, whole bool) *encoder {
	if t == nil {
		return e
	}
	kind := byte('K')
	if whole {
		kind = 'O'
	}
	return e.byte(kind).tuple(t)
}

// block encodes what opens and closes blocks and prepared transactions.
func (e *encoder) block(m Message, parallel bool) {
	prepared := func(kind byte, flags bool, p Prepared) {
		e.byte(kind)
		if flags {
			e.byte(0)
		}
		e.u64(uint64(p.LSN)).u64(uint64(p.EndLSN)).u64(uint64(p.Time)).u32(p.Xid).text(p.GID)
	}
	switch m := m.(type) {
	case *StreamStart:
		first := byte(0)
		if m.First {
			first = 1
		}
		e.byte('S').u32(m.Xid).byte(first)
	case *StreamStop:
		e.byte('E')
	case *StreamCommit:
		e.byte('c').u32(m.Xid).byte(0).u64(uint64(m.CommitLSN)).u64(uint64(m.EndLSN)).u64(uint64(m.Time))
	case *StreamAbort:
		e.byte('A').u32(m.Xid).u32(m.Subxid)
		if parallel {
			e.u64(uint64(m.AbortLSN)).u64(uint64(m.Time))
		}
	case *BeginPrepare:
		prepared('b', false, m.Prepared)
	case *Prepare:
		prepared('P', true, m.Prepared)
	case *CommitPrepared:
		prepared('K', true, m.Prepared)
	case *StreamPrepare:
		prepared('p', true, m.Prepared)
	case *RollbackPrepared:
		e.byte('r').byte(0).u64(uint64(m.PrepareEndLSN)).u64(uint64(m.EndLSN)).u64(uint64(m.PrepareTime)).u64(uint64(m.Time)).u32(m.Xid).text(m.GID)
	default:
		panic(fmt.Sprintf("%T cannot be encoded", m))
	}
}

// memory is a spool in memory.
type memory map[uint32][][]byte

func (s memory) Append(xid uint32, b []byte) error {
	s[xid] = append(s[xid], append([]byte(nil), b...))
	return nil
}

func (s memory) Replay(xid uint32) (func() ([]byte, error), error) {
	left := s[xid]
	return func() ([]byte, error) {
		if len(left) == 0 {
			return nil, io.EOF
		}
		b := left[0]
		left = left[1:]
		return b, nil
	}, nil
}

func (s memory) Drop(xid uint32) error {
	delete(s, xid)
	return nil
}

// pushAll pushes a message and takes what it commits out of the spool.
func pushAll(a *Assembler, b []byte, emit func(*Change) error) error {
	err := a.Push(b, emit)
	for err == nil && a.Replaying() {
		err = a.Step(emit)
	}
	return err
}
