package pgoutput

import (
	"errors"
	"fmt"
)

var errNoSpool = errors.New("pgoutput: a transaction in progress came, which was not asked for")

func (a *Assembler) put(xid uint32, h *held) {
	if a.held == nil {
		a.held = map[uint32]*held{}
	}
	a.held[xid] = h
}

// hold finds a transaction that is in the spool.
func (a *Assembler) hold(xid uint32, do func(*held) error) error {
	h := a.held[xid]
	if h == nil {
		return fmt.Errorf("pgoutput: transaction %d ends, and nothing of it came", xid)
	}
	return do(h)
}

func (a *Assembler) streamStart(m *StreamStart) error {
	switch {
	case a.Spool == nil:
		return errNoSpool
	case a.tx != nil || a.preparing != nil || a.stream != 0:
		return fmt.Errorf("pgoutput: a block of transaction %d inside of another", m.Xid)
	case m.First == (a.held[m.Xid] != nil):
		return fmt.Errorf("pgoutput: a block of transaction %d, which it calls the first: %t", m.Xid, m.First)
	case m.Xid == 0:
		return errors.New("pgoutput: a block of no transaction")
	}
	if m.First {
		a.put(m.Xid, &held{streamed: true})
	}
	a.stream = m.Xid
	return nil
}

// spool keeps a message until its transaction commits.
func (a *Assembler) spool(xid uint32, b []byte) error {
	if a.Spool == nil {
		return errNoSpool
	}
	return a.Spool.Append(xid, b)
}

func (a *Assembler) prepared(p *Prepare) error {
	if p.Xid != a.preparing.Xid {
		return fmt.Errorf("pgoutput: transaction %d is prepared inside of %d", p.Xid, a.preparing.Xid)
	}
	a.preparing = nil
	return a.hold(p.Xid, func(h *held) error { h.prepared = true; return nil })
}

// streamAbort forgets a transaction, or one part of it, whose messages are
// told by their own xid.
func (a *Assembler) streamAbort(m *StreamAbort) error {
	if m.Xid == m.Subxid {
		return a.drop(m.Xid)
	}
	return a.hold(m.Xid, func(h *held) error {
		if h.aborted == nil {
			h.aborted = map[uint32]bool{}
		}
		h.aborted[m.Subxid] = true
		return nil
	})
}

func (a *Assembler) drop(xid uint32) error {
	err := a.hold(xid, func(*held) error { return a.Spool.Drop(xid) })
	delete(a.held, xid)
	return err
}

// replay gives the changes of a transaction that was in the spool.
func (a *Assembler) replay(tx *Tx, end LSN, emit func(*Change) error) error {
	return a.hold(tx.Xid, func(h *held) error {
		if err := a.begin(tx); err != nil {
			return err
		}
		d := Decoder{inStream: h.streamed}
		err := a.Spool.Replay(tx.Xid, func(b []byte) error {
			m, err := d.Decode(b)
			if err != nil {
				return err
			}
			if h.aborted[xidOf(m)] {
				return nil
			}
			return a.change(m, emit)
		})
		if err != nil {
			return err
		}
		if err := a.drop(tx.Xid); err != nil {
			return err
		}
		return a.committed(end, emit)
	})
}

// xidOf is the transaction, or part of one, that a message in a block is of.
func xidOf(m Message) uint32 {
	switch m := m.(type) {
	case *Relation:
		return 0 // a description counts, whoever needed it first
	case *Insert:
		return m.Xid
	case *Update:
		return m.Xid
	case *Delete:
		return m.Xid
	case *Truncate:
		return m.Xid
	case *LogicalMessage:
		return m.Xid
	}
	return 0
}
