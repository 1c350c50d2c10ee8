package storage

import (
	"errors"
	"path"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Log is one partition's copy on this volume.
type Log struct {
	store *Store
	id    LogID
	dir   string

	// writing admits one writer at a time: the replica's worker, or the
	// flusher when it states the synced position of an idle log. It is held
	// over writes to the page cache, and over syncs when a segment begins that
	// is no plain roll.
	writing sync.Mutex
	enc     *encoder // of the writer, while it writes: see takeWriter
	// trimming admits one at a time who deletes sealed segments, puts others in
	// their place or writes into one, and keeps their names from meaning other
	// files meanwhile. It is held over that, which does not keep the writer waiting.
	trimming sync.Mutex
	// restate says that recovery clamped the commit: the next round says so on
	// the disk too, before it could bless an entry that comes in the place of a
	// lost one. Of the writer.
	restate bool
	// noted is the term below which every term is covered by the store's note of
	// the log, as far as the writer has looked: see promise.
	noted uint64

	mu struct {
		sync.RWMutex
		cfg      LogConfig
		segs     []*segment // live, ascending; the last may be the active one
		dead     []deadFile // files that no live entry needs any more
		writable bool       // the last segment is active and ends cleanly
		maxSeq   uint32     // highest number of any file seen
		first    State      // before the first entry
		tip      State      // before the first entry of the newest segment
		hard     HardState
		synced   position   // everything before it is durable
		stated   position   // highest statement that was written
		proven   position   // highest statement that is durable
		unsynced []*segFile // written since the last flush began, with a reference each
		flushing []*segFile // being flushed now
		newNames bool       // the directory has names that are not durable
		tail     tail
		damage   error
		// readable is the last index that may be handed out: with damage where
		// the log ends, entries above the commit may be ones that a lost header
		// had superseded.
		readable uint64
		lives    int  // counts what was installed here
		certain  bool // the hard state is what was written last: see Promised
		closed   bool
		removed  bool
	}
	cursors cursors
}

// deadFile is a file of the log's directory that is not part of the log.
type deadFile struct {
	name string
	seq  uint32
	size int64
}

// ID is the log's identity.
func (l *Log) ID() LogID { return l.id }

func (l *Log) path(name string) string { return path.Join(l.dir, name) }

// active is the newest live segment. The lock must be held.
func (l *Log) last() *segment { return l.mu.segs[len(l.mu.segs)-1] }

// SetConfig changes when the log asks for a new segment.
func (l *Log) SetConfig(c LogConfig) {
	orDefault(&c.SegmentBytes, l.store.cfg.SegmentBytes)
	orDefault(&c.SegmentAge, l.store.cfg.SegmentAge)
	c.SegmentBytes = min(c.SegmentBytes, maxSegmentBytes)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.cfg = c
}

// ShouldRoll reports whether the next round should carry Before: the newest
// segment is too large or too old, or nothing can be appended to it any more,
// as after a crash or a failed write. In the last case Append refuses rounds
// without Before. Ask it before each round.
func (l *Log) ShouldRoll(now time.Time) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.mu.writable {
		return true
	}
	s := l.last()
	if s.p.count == 0 {
		return false
	}
	return int64(s.p.end) >= l.mu.cfg.SegmentBytes || now.UnixMilli()-s.header.created >= l.mu.cfg.SegmentAge.Milliseconds()
}

// First is the state before the first entry of the log.
func (l *Log) First() State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.first
}

// Tip is the state before the first entry of the newest segment: Replay from
// Tip().Index+1 on rebuilds the state at the end of the log.
func (l *Log) Tip() State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.tip
}

// FirstIndex is the index of the first entry, whether it exists yet or not.
func (l *Log) FirstIndex() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.first.Index + 1
}

// Whole is the first index from which on no entry is missing: behind the newest
// compacted segment. Below it Entries has none.
func (l *Log) Whole() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.whole()
}

// whole is Whole under the lock.
func (l *Log) whole() uint64 {
	for _, s := range slices.Backward(l.mu.segs) {
		if s.header.isCompacted() {
			return s.p.lastIndex + 1
		}
	}
	return l.mu.first.Index + 1
}

// StateBefore is the newest state that a segment header holds at or before an
// index; the first one for an index before the log.
func (l *Log) StateBefore(index uint64) (State, error) {
	l.mu.RLock()
	first, at := l.mu.first, (*segment)(nil)
	for _, s := range l.mu.segs[1:] {
		if s.header.state.Index <= index {
			at = s
		}
	}
	l.mu.RUnlock()
	if at == nil {
		return first, nil
	}
	return l.stateOf(at)
}

// Last is the index and term of the last entry; those before the first entry
// when there is none.
func (l *Log) Last() (index, term uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := l.last()
	return s.p.lastIndex, s.p.lastTerm
}

// Hard is the last hard state that was written. After OpenLog its commit is
// within the log.
func (l *Log) Hard() HardState {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.hard
}

// Offsets are the first offset that the log holds and the next one it will
// give, whatever the replicated log start says.
func (l *Log) Offsets() (start, next int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.first.NextOffset, l.last().p.nextOffset
}

// Term is the term of an entry, or of the one before the first. It wraps
// ErrCompacted or ErrUnavailable outside of that, and ErrCompacted for an entry
// of a compacted segment that is not the last of those.
func (l *Log) Term(index uint64) (uint64, error) {
	l.mu.RLock()
	s, term, err := l.termKnown(index)
	l.mu.RUnlock()
	if err != nil || s == nil {
		return term, err
	}
	v, err := l.view(s)
	if err != nil {
		return 0, err
	}
	defer v.close()
	return v.p.term(index), nil
}

// termKnown answers from memory, or returns the segment to ask.
func (l *Log) termKnown(index uint64) (*segment, uint64, error) {
	switch last := l.last(); {
	case index < l.mu.first.Index:
		return nil, 0, ErrCompacted
	case index > last.p.lastIndex:
		return nil, 0, ErrUnavailable
	case index == l.mu.first.Index:
		return nil, l.mu.first.Term, nil
	case index+1 < l.whole():
		return nil, 0, ErrCompacted
	}
	s := l.mu.segs[l.segmentOf(index)]
	switch {
	case index == s.p.lastIndex || s.header.state.Term == s.p.lastTerm:
		return nil, s.p.lastTerm, nil
	case s.file != nil:
		return nil, s.p.term(index), nil
	}
	return s, 0, nil
}

// segmentOf finds the live segment that holds index, which must be in the log.
// The lock must be held.
func (l *Log) segmentOf(index uint64) int {
	return sort.Search(len(l.mu.segs), func(i int) bool { return l.mu.segs[i].p.lastIndex >= index })
}

// Segments describes the live segments, oldest first.
func (l *Log) Segments() []SegmentInfo {
	l.mu.RLock()
	defer l.mu.RUnlock()
	infos := make([]SegmentInfo, len(l.mu.segs))
	for i, s := range l.mu.segs {
		infos[i] = SegmentInfo{
			Seq: s.header.seq, File: s.name, FirstIndex: s.firstIndex(), LastIndex: s.p.lastIndex,
			BaseOffset: s.base(), NextOffset: s.p.nextOffset, Bytes: s.size, MaxTime: s.p.maxTime,
			Created: s.header.created, Sealed: s.file == nil || !l.mu.writable,
			Compacted: s.header.isCompacted(), Clean: s.header.compacted.clean,
		}
	}
	return infos
}

// Size is the bytes of all the log's files.
func (l *Log) Size() (n int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.mu.segs {
		n += s.size
	}
	for _, d := range l.mu.dead {
		n += d.size
	}
	return n
}

// Damage is not nil when the log is quarantined: a *record.CorruptionError
// that says where. Rounds are refused then; what is whole can still be read.
func (l *Log) Damage() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.damage
}

// ready returns why the log cannot be written to, if so.
func (l *Log) ready() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.mu.closed:
		return record.ErrStopped
	case l.mu.damage != nil:
		return errors.Join(record.ErrQuarantined, l.mu.damage)
	}
	return nil
}

// Close gives the log's files back. Rounds that are not flushed yet still are:
// by Store.Run, Step or Close.
func (l *Log) Close() error {
	l.trimming.Lock() // once it is closed, another log may have its name
	defer l.trimming.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	l.store.forget(l)
	l.shut()
	return nil
}

// takeWriter makes the caller the log's writer. The encoder comes from a pool:
// an idle log keeps neither buffers nor payloads.
func (l *Log) takeWriter() {
	l.writing.Lock()
	l.enc = l.store.encoders.Get().(*encoder)
}

// tryWriter is takeWriter unless there is a writer.
func (l *Log) tryWriter() bool {
	if !l.writing.TryLock() {
		return false
	}
	l.enc = l.store.encoders.Get().(*encoder)
	return true
}

// giveWriter ends what takeWriter began.
func (l *Log) giveWriter() {
	l.enc.reset(position{})
	l.store.encoders.Put(l.enc)
	l.enc = nil
	l.writing.Unlock()
}

// shut releases what the log holds, except for the flusher's references.
func (l *Log) shut() {
	l.mu.Lock()
	segs := l.mu.segs
	closed := l.mu.closed
	l.mu.closed = true
	l.mu.tail.clear()
	l.mu.Unlock()
	if closed {
		return
	}
	for _, s := range segs {
		if s.file != nil {
			s.file.release()
		} else {
			l.store.handles.drop(s)
		}
	}
}
