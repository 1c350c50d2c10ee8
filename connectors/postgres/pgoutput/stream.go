package pgoutput

import (
	"errors"
	"fmt"
	"io"
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

// replay is a transaction that comes out of the spool.
type replay struct {
	*held
	decoder Decoder
	next    func() ([]byte, error)
	end     LSN
}

var errReplaying = errors.New("pgoutput: a transaction is to be taken out of the spool first")

// replay begins to give the changes of a transaction that was in the spool.
func (a *Assembler) replay(tx *Tx, end LSN) error {
	return a.hold(tx.Xid, func(h *held) error {
		if err := a.begin(tx); err != nil {
			return err
		}
		next, err := a.Spool.Replay(tx.Xid)
		if err != nil {
			return err
		}
		a.replaying = &replay{held: h, decoder: Decoder{inStream: h.streamed}, next: next, end: end}
		return nil
	})
}

// Step takes the next message out of the spool.
func (a *Assembler) Step(emit func(*Change) error) error {
	r := a.replaying
	b, err := r.next()
	if errors.Is(err, io.EOF) {
		a.replaying = nil
		if err := a.drop(a.tx.Xid); err != nil {
			return err
		}
		return a.committed(r.end, emit)
	}
	if err != nil {
		return err
	}
	m, err := r.decoder.Decode(b)
	if err != nil || r.aborted[xidOf(m)] {
		return err
	}
	return a.change(m, emit)
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
