package pgoutput

// Message is one of the types below.
type Message interface{ message() }

// Begin opens a committed transaction.
type Begin struct {
	CommitLSN LSN // where its commit record begins
	Time      Time
	Xid       uint32
}

// Commit closes what Begin opened.
type Commit struct {
	CommitLSN, EndLSN LSN
	Time              Time
}

// Origin says that the transaction came from another server.
type Origin struct {
	CommitLSN LSN // there
	Name      string
}

// Identity is what a table's old rows are told apart by (REPLICA IDENTITY).
type Identity byte

// The identities: the primary key, nothing, the whole row, an index.
const (
	IdentityDefault Identity = 'd'
	IdentityNothing Identity = 'n'
	IdentityFull    Identity = 'f'
	IdentityIndex   Identity = 'i'
)

// Relation describes a table before the first of its changes, and again when
// it has changed.
type Relation struct {
	Xid       uint32 // in a stream block
	ID        uint32
	Namespace string
	Name      string
	Identity  Identity
	Columns   []Column
}

// Column is a column of a Relation.
type Column struct {
	Key    bool // part of the replica identity
	Name   string
	Type   uint32 // object id
	Typmod int32  // the type's bounds; -1 for none
}

// Type names a type that is not one of PostgreSQL's own.
type Type struct {
	Xid       uint32
	ID        uint32
	Namespace string
	Name      string
}

// Kind says what is sent of a value.
type Kind byte

// The kinds: NULL, not sent because it is unchanged and stored out of line,
// text, and the type's binary form.
const (
	Null      Kind = 'n'
	Unchanged Kind = 'u'
	Text      Kind = 't'
	Binary    Kind = 'b'
)

// Value is one column of a row. Data belongs to the message's bytes.
type Value struct {
	Kind Kind
	Data []byte
}

// Tuple is a row, in the order of the relation's columns; nil when there is none.
type Tuple []Value

// Insert is a new row.
type Insert struct {
	Xid, Relation uint32
	New           Tuple
}

// Update is a changed row. Old is there when the identity changed (only its
// columns are set; the others came as NULL and mean nothing) or is the whole row.
type Update struct {
	Xid, Relation uint32
	Old           Tuple
	OldWhole      bool // Old is the whole row, not the identity alone
	New           Tuple
}

// Delete is a row that is gone.
type Delete struct {
	Xid, Relation uint32
	Old           Tuple
	OldWhole      bool
}

// Truncate empties tables.
type Truncate struct {
	Xid             uint32
	Cascade         bool
	RestartIdentity bool
	Relations       []uint32
}

// LogicalMessage is what pg_logical_emit_message wrote.
type LogicalMessage struct {
	Xid           uint32
	Transactional bool
	LSN           LSN
	Prefix        string
	Content       []byte
}

// StreamStart opens a block of a transaction that is in progress.
type StreamStart struct {
	Xid   uint32
	First bool // the first block of this transaction
}

// StreamStop closes the block.
type StreamStop struct{}

// StreamCommit commits a transaction that came in blocks.
type StreamCommit struct {
	Xid               uint32
	CommitLSN, EndLSN LSN
	Time              Time
}

// StreamAbort rolls back a transaction that came in blocks, or a part of it.
type StreamAbort struct {
	Xid, Subxid uint32
	AbortLSN    LSN // from version 4 on, when parallel streaming was asked for
	Time        Time
}

// Prepared is what the messages of two-phase commit have in common.
type Prepared struct {
	LSN    LSN // of the prepare, or of the commit of what was prepared
	EndLSN LSN
	Time   Time
	Xid    uint32
	GID    string
}

// BeginPrepare opens a transaction that was prepared.
type BeginPrepare struct{ Prepared }

// Prepare closes what BeginPrepare opened.
type Prepare struct{ Prepared }

// CommitPrepared commits it.
type CommitPrepared struct{ Prepared }

// StreamPrepare prepares a transaction that came in blocks.
type StreamPrepare struct{ Prepared }

// RollbackPrepared forgets it.
type RollbackPrepared struct {
	PrepareEndLSN, EndLSN LSN
	PrepareTime, Time     Time
	Xid                   uint32
	GID                   string
}

func (*Begin) message()            {}
func (*Commit) message()           {}
func (*Origin) message()           {}
func (*Relation) message()         {}
func (*Type) message()             {}
func (*Insert) message()           {}
func (*Update) message()           {}
func (*Delete) message()           {}
func (*Truncate) message()         {}
func (*LogicalMessage) message()   {}
func (*StreamStart) message()      {}
func (*StreamStop) message()       {}
func (*StreamCommit) message()     {}
func (*StreamAbort) message()      {}
func (*BeginPrepare) message()     {}
func (*Prepare) message()          {}
func (*CommitPrepared) message()   {}
func (*StreamPrepare) message()    {}
func (*RollbackPrepared) message() {}
