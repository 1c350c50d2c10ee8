package pgoutput

import (
	"errors"
	"fmt"
)

// Decoder makes messages of bytes. Its zero value stands outside of stream
// blocks.
type Decoder struct {
	// Parallel says that streaming 'parallel' was asked for (version 4): then
	// StreamAbort says where and when.
	Parallel bool

	inStream bool
}

// InStream reports whether the next message belongs to a stream block.
func (d *Decoder) InStream() bool { return d.inStream }

// Decode reads one message. Values in it belong to b.
func (d *Decoder) Decode(b []byte) (Message, error) {
	if len(b) == 0 {
		return nil, errors.New("pgoutput: an empty message")
	}
	c := &cursor{b: b, at: 1}
	m := d.read(b[0], c)
	if c.err == nil && c.at != len(b) {
		c.fail("%d bytes are left over", len(b)-c.at)
	}
	if c.err != nil {
		return nil, fmt.Errorf("pgoutput: message %q: %w", b[0], c.err)
	}
	switch m.(type) {
	case *StreamStart:
		d.inStream = true
	case *StreamStop:
		d.inStream = false
	}
	return m, nil
}

// read dispatches by the message's first byte.
func (d *Decoder) read(kind byte, c *cursor) Message {
	if m := d.readChange(kind, c); m != nil {
		return m
	}
	if d.inStream && kind != 'E' {
		c.fail("it does not belong into a stream block")
		return nil
	}
	switch kind {
	case 'B':
		return &Begin{CommitLSN: c.lsn("commit"), Time: c.time(), Xid: c.uint32("xid")}
	case 'C':
		c.none()
		return &Commit{CommitLSN: c.lsn("commit"), EndLSN: c.lsn("end"), Time: c.time()}
	case 'O':
		return &Origin{CommitLSN: c.lsn("commit"), Name: c.string("name")}
	case 'S':
		return &StreamStart{Xid: c.uint32("xid"), First: c.byte("first") == 1}
	case 'E':
		if !d.inStream {
			c.fail("no stream block is open")
		}
		return &StreamStop{}
	case 'c':
		xid := c.uint32("xid")
		c.none()
		return &StreamCommit{Xid: xid, CommitLSN: c.lsn("commit"), EndLSN: c.lsn("end"), Time: c.time()}
	case 'A':
		m := &StreamAbort{Xid: c.uint32("xid"), Subxid: c.uint32("subxid")}
		if d.Parallel {
			m.AbortLSN, m.Time = c.lsn("abort"), c.time()
		}
		return m
	}
	return readPrepared(kind, c)
}

// readChange reads what can stand inside a stream block; nil for others.
func (d *Decoder) readChange(kind byte, c *cursor) Message {
	xid := func() uint32 {
		if d.inStream {
			return c.uint32("xid")
		}
		return 0
	}
	switch kind {
	case 'R':
		return readRelation(xid(), c)
	case 'Y':
		return &Type{Xid: xid(), ID: c.uint32("type"), Namespace: c.string("namespace"), Name: c.string("name")}
	case 'I':
		m := &Insert{Xid: xid(), Relation: c.uint32("relation")}
		if k := c.byte("kind of row"); k != 'N' {
			c.fail("a row of kind %q, want the new one", k)
		}
		m.New = c.tuple()
		return m
	case 'U':
		m := &Update{Xid: xid(), Relation: c.uint32("relation")}
		k := c.byte("kind of row")
		if k == 'K' || k == 'O' {
			m.OldWhole, m.Old = k == 'O', c.tuple()
			k = c.byte("kind of row")
		}
		if k != 'N' {
			c.fail("a row of kind %q, want the new one", k)
		}
		m.New = c.tuple()
		return m
	case 'D':
		m := &Delete{Xid: xid(), Relation: c.uint32("relation")}
		k := c.byte("kind of row")
		if k != 'K' && k != 'O' {
			c.fail("a row of kind %q, want the old one", k)
		}
		m.OldWhole, m.Old = k == 'O', c.tuple()
		return m
	case 'T':
		return readTruncate(xid(), c)
	case 'M':
		m := &LogicalMessage{Xid: xid()}
		m.Transactional = c.byte("flags") == 1
		m.LSN, m.Prefix = c.lsn("message"), c.string("prefix")
		m.Content = c.take(int(int32(c.uint32("length"))), "content")
		return m
	}
	return nil
}

func readRelation(xid uint32, c *cursor) *Relation {
	m := &Relation{Xid: xid, ID: c.uint32("relation"), Namespace: c.string("namespace"), Name: c.string("name")}
	if m.Namespace == "" {
		m.Namespace = "pg_catalog"
	}
	m.Identity = Identity(c.byte("identity"))
	switch m.Identity {
	case IdentityDefault, IdentityNothing, IdentityFull, IdentityIndex:
	default:
		c.fail("replica identity %q is unknown", m.Identity)
	}
	n := c.uint16("number of columns")
	const least = 10 // bytes of a column: flags, an empty name, type, bounds
	if n > (len(c.b)-c.at)/least {
		c.fail("%d columns do not fit into %d bytes", n, len(c.b)-c.at)
	}
	if c.err != nil {
		return m
	}
	m.Columns = make([]Column, n)
	for i := range m.Columns {
		m.Columns[i] = Column{
			Key: c.byte("flags")&1 != 0, Name: c.string("name"),
			Type: c.uint32("type"), Typmod: int32(c.uint32("bounds")),
		}
	}
	return m
}

func readTruncate(xid uint32, c *cursor) *Truncate {
	m := &Truncate{Xid: xid}
	n := c.uint32("number of relations")
	flags := c.byte("flags")
	m.Cascade, m.RestartIdentity = flags&1 != 0, flags&2 != 0
	if uint64(n)*4 > uint64(len(c.b)-c.at) {
		c.fail("%d relations do not fit into %d bytes", n, len(c.b)-c.at)
		return m
	}
	m.Relations = make([]uint32, n)
	for i := range m.Relations {
		m.Relations[i] = c.uint32("relation")
	}
	return m
}

func readPrepared(kind byte, c *cursor) Message {
	read := func(flags bool) (p Prepared) {
		if flags {
			c.none()
		}
		p.LSN, p.EndLSN, p.Time = c.lsn("place"), c.lsn("end"), c.time()
		p.Xid, p.GID = c.uint32("xid"), c.string("gid")
		return p
	}
	switch kind {
	case 'b':
		return &BeginPrepare{read(false)}
	case 'P':
		return &Prepare{read(true)}
	case 'K':
		return &CommitPrepared{read(true)}
	case 'p':
		return &StreamPrepare{read(true)}
	case 'r':
		c.none()
		return &RollbackPrepared{
			PrepareEndLSN: c.lsn("prepare"), EndLSN: c.lsn("end"), PrepareTime: c.time(), Time: c.time(),
			Xid: c.uint32("xid"), GID: c.string("gid"),
		}
	}
	c.fail("it is unknown")
	return nil
}
