package pgoutput

import (
	"fmt"
)

// Tx is a committed transaction.
type Tx struct {
	Xid       uint32
	CommitLSN LSN // where its commit record begins: transactions come in this order
	EndLSN    LSN // where it ends; 0 until Committed
	Time      Time
	Origin    string // of the server it came from; "" for this one
}

// Op says what a Change is.
type Op byte

// The ops. Committed ends a transaction; Note is a logical message, which is
// outside of any when it was not transactional.
const (
	OpInsert    Op = 'I'
	OpUpdate    Op = 'U'
	OpDelete    Op = 'D'
	OpTruncate  Op = 'T'
	OpNote      Op = 'M'
	OpCommitted Op = 'C'
)

// Change is one step of a committed transaction. Its rows belong to the bytes
// it was made of: who keeps them copies them.
type Change struct {
	Op Op
	Tx *Tx // nil for a Note outside of a transaction
	// Index counts the changes of the transaction that came, from 1. It is the
	// same each time the server sends the transaction.
	Index     uint32
	Relation  *Relation // of a row; a new value whenever the table was described anew
	Truncated []*Relation
	Old, New  Tuple
	OldWhole  bool // Old is the whole row, not the identity alone
	Note      *LogicalMessage
}

// Spool keeps what came of transactions that are in progress, by their xid. It
// is the caller's, because they can be larger than memory.
type Spool interface {
	Append(xid uint32, message []byte) error
	// Replay gives the messages back, one with each call of next, and io.EOF
	// after the last; their memory is the spool's.
	Replay(xid uint32) (next func() ([]byte, error), err error)
	Drop(xid uint32) error
}

// Assembler makes changes of messages. The zero value, with Spool set when
// streaming or two-phase commit was asked for, is ready.
type Assembler struct {
	Decoder Decoder
	Spool   Spool

	relations map[uint32]*Relation
	tx        *Tx // the open one
	index     uint32
	preparing *Prepared        // between BeginPrepare and Prepare
	stream    uint32           // xid of the open stream block
	held      map[uint32]*held // transactions in the spool
	replaying *replay          // the one that is given back just now
}

// held is what is known of a transaction in the spool.
type held struct {
	streamed bool // its messages have an xid
	prepared bool
	aborted  map[uint32]bool // subtransactions
}

// Open reports whether a transaction is half through, or more are in progress.
func (a *Assembler) Open() bool { return a.tx != nil || len(a.held) > 0 }

// Replaying reports whether a committed transaction is to be taken out of the
// spool, by Step, before the next Push.
func (a *Assembler) Replaying() bool { return a.replaying != nil }

// Push takes the next message and calls emit for each change that it completes.
// The changes of a transaction that was in the spool come one by one, by Step.
func (a *Assembler) Push(b []byte, emit func(*Change) error) error {
	if a.replaying != nil {
		return errReplaying
	}
	m, err := a.Decoder.Decode(b)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *StreamStart:
		return a.streamStart(m)
	case *StreamStop:
		a.stream = 0
		return nil
	}
	switch {
	case a.stream != 0:
		return a.spool(a.stream, b)
	case a.preparing != nil:
		if p, ok := m.(*Prepare); ok {
			return a.prepared(p)
		}
		return a.spool(a.preparing.Xid, b)
	}
	return a.outer(m, emit)
}

// outer takes what is in no block.
func (a *Assembler) outer(m Message, emit func(*Change) error) error {
	switch m := m.(type) {
	case *Begin:
		return a.begin(&Tx{Xid: m.Xid, CommitLSN: m.CommitLSN, Time: m.Time})
	case *Commit:
		if a.tx == nil || a.tx.CommitLSN != m.CommitLSN {
			return fmt.Errorf("pgoutput: a commit at %s without its begin", m.CommitLSN)
		}
		return a.committed(m.EndLSN, emit)
	case *StreamCommit:
		tx := &Tx{Xid: m.Xid, CommitLSN: m.CommitLSN, Time: m.Time}
		return a.replay(tx, m.EndLSN)
	case *StreamAbort:
		return a.streamAbort(m)
	case *StreamPrepare:
		return a.hold(m.Xid, func(h *held) error { h.prepared = true; return nil })
	case *BeginPrepare:
		if a.Spool == nil {
			return errNoSpool
		}
		if a.tx != nil || a.held[m.Xid] != nil {
			return fmt.Errorf("pgoutput: transaction %d is prepared inside of another, or twice", m.Xid)
		}
		a.preparing = &m.Prepared
		a.put(m.Xid, &held{})
		return nil
	case *CommitPrepared:
		return a.replay(&Tx{Xid: m.Xid, CommitLSN: m.LSN, Time: m.Time}, m.EndLSN)
	case *RollbackPrepared:
		return a.drop(m.Xid)
	}
	return a.change(m, emit)
}

func (a *Assembler) begin(tx *Tx) error {
	if a.tx != nil {
		return fmt.Errorf("pgoutput: transaction %d begins inside of %d", tx.Xid, a.tx.Xid)
	}
	a.tx, a.index = tx, 0
	return nil
}

func (a *Assembler) committed(end LSN, emit func(*Change) error) error {
	tx := a.tx
	tx.EndLSN, a.tx = end, nil
	return emit(&Change{Op: OpCommitted, Tx: tx, Index: a.index})
}

// change takes what is inside of a transaction, and notes outside of one.
func (a *Assembler) change(m Message, emit func(*Change) error) error {
	switch m := m.(type) {
	case *Relation:
		if a.relations == nil {
			a.relations = map[uint32]*Relation{}
		}
		a.relations[m.ID] = m
		return nil
	case *Type:
		return nil // the table's description has its number
	case *LogicalMessage:
		if !m.Transactional {
			return emit(&Change{Op: OpNote, Note: m})
		}
	}
	if a.tx == nil {
		return fmt.Errorf("pgoutput: a %T outside of a transaction", m)
	}
	c := &Change{Tx: a.tx}
	relation := uint32(0)
	switch m := m.(type) {
	case *Origin:
		a.tx.Origin = m.Name
		return nil
	case *Insert:
		c.Op, relation, c.New = OpInsert, m.Relation, m.New
	case *Update:
		c.Op, relation, c.Old, c.OldWhole, c.New = OpUpdate, m.Relation, m.Old, m.OldWhole, m.New
	case *Delete:
		c.Op, relation, c.Old, c.OldWhole = OpDelete, m.Relation, m.Old, m.OldWhole
	case *LogicalMessage:
		c.Op, c.Note = OpNote, m
	case *Truncate:
		c.Op = OpTruncate
		for _, id := range m.Relations {
			r := a.relations[id]
			if r == nil {
				return fmt.Errorf("pgoutput: relation %d is truncated and was never described", id)
			}
			c.Truncated = append(c.Truncated, r)
		}
	default:
		return fmt.Errorf("pgoutput: a %T inside of transaction %d", m, a.tx.Xid)
	}
	a.index++
	c.Index = a.index
	if relation != 0 {
		if err := a.relate(c, relation); err != nil {
			return err
		}
	}
	return emit(c)
}

// relate finds the table of a row, whose columns have to be as many.
func (a *Assembler) relate(c *Change, id uint32) error {
	r := a.relations[id]
	if r == nil {
		return fmt.Errorf("pgoutput: a row of relation %d, which was never described", id)
	}
	for _, t := range []Tuple{c.Old, c.New} {
		if t != nil && len(t) != len(r.Columns) {
			return fmt.Errorf("pgoutput: a row of %d values in %s.%s, which has %d columns", len(t), r.Namespace, r.Name, len(r.Columns))
		}
	}
	c.Relation = r
	return nil
}
