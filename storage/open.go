package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"

	"github.com/entrepot-hub/entrepot/record"
)

// OpenLog opens a log, or returns it if it is open already, and recovers it if
// it is not. A damaged log opens quarantined, with what is whole before the
// damage: see Damage. It wraps ErrNotFound when the store has no such log.
func (s *Store) OpenLog(id LogID) (*Log, error) {
	l, err := s.openLog(id)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", id, err)
	}
	return l, nil
}

func (s *Store) openLog(id LogID) (*Log, error) {
	if l := s.lookup(id); l != nil {
		return l, nil
	}
	dir := path.Join(s.dir, dirName(id))
	if err := s.syncAgain(id); err != nil {
		return nil, err
	}
	r := &recovery{fs: s.fs, dir: dir, hint: s.point.hint(dirName(id)), skipOver: s.planted.skipOver}
	defer r.close()
	err := r.run()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.absent(id)
	}
	if corrupt := (*record.CorruptionError)(nil); errors.As(err, &corrupt) {
		r.damage, err = corrupt, nil
	}
	switch {
	case err != nil:
		return nil, err
	case len(r.chain) == 0 && r.damage == nil:
		return nil, s.absent(id)
	case len(r.chain) == 0:
		return nil, fmt.Errorf("%w: %w", record.ErrQuarantined, r.damage)
	case *r.id != id:
		return nil, fmt.Errorf("%w: %s holds %s with topic id %s, asked for %s", ErrNotFound, dir, r.id, r.id.ID, id.ID)
	}
	l := s.newLog(id, dir)
	if err := l.load(r); err != nil {
		return nil, err
	}
	// On a full disk the first round has to try again.
	if err := l.promise(l.mu.hard.Term); err != nil && !errors.Is(err, record.ErrDiskFull) {
		return nil, err
	}
	return s.remember(l)
}

// syncAgain makes durable what this process wrote to a log that it closed
// before: recovery takes for synced whatever it reads.
func (s *Store) syncAgain(id LogID) error {
	s.mu.Lock()
	again := s.mu.seen[id]
	s.mu.seen[id] = true
	s.mu.Unlock()
	if !again {
		return nil
	}
	if err := s.fs.SyncFS(s.dir); err != nil {
		return s.goOffline(err)
	}
	return nil
}

func (s *Store) newLog(id LogID, dir string) *Log {
	l := &Log{store: s, id: id, dir: dir}
	l.mu.readable = math.MaxUint64
	l.mu.cfg = LogConfig{SegmentBytes: s.cfg.SegmentBytes, SegmentAge: s.cfg.SegmentAge}
	return l
}

// load takes over what recovery found.
func (l *Log) load(r *recovery) error {
	for _, f := range r.files {
		l.mu.maxSeq = max(l.mu.maxSeq, f.header.seq)
	}
	for _, f := range r.chain {
		seg := f.segment
		seg.size -= f.rest
		if f != r.chain[len(r.chain)-1] {
			seg.p.runs, seg.p.blocks, seg.p.open = nil, nil, block{}
		}
		seg.header.state.Aux = Aux{}
		l.mu.segs = append(l.mu.segs, &seg)
	}
	l.mu.dead = r.deadFiles()
	newest := r.chain[len(r.chain)-1]
	l.mu.first, l.mu.tip = r.chain[0].header.state, newest.header.state
	last := l.last()
	l.mu.hard = clamp(last.p.hard, r.committed(), last.p.lastIndex)
	l.restate, last.p.hard = l.mu.hard != last.p.hard, l.mu.hard
	l.mu.synced = position{last.header.seq, last.p.end}
	l.mu.stated = maxPosition(r.stated, last.p.stated)
	l.mu.proven = l.mu.stated
	l.mu.certain = r.damage == nil
	if err := l.loadDamage(r); err != nil {
		return err
	}
	if l.mu.damage != nil || !newest.clean || newest.footer != 0 || newest.header.seq != l.mu.maxSeq {
		last.p.runs, last.p.blocks, last.p.open = nil, nil, block{}
		return nil
	}
	f, err := l.store.fs.OpenWrite(l.path(last.name))
	if err != nil {
		return err
	}
	last.file, last.size, last.filled = newSegFile(f), int64(last.p.end), newest.f.size
	l.mu.writable = true
	return nil
}

// committed is the index up to which the log is known to be committed, whatever
// its hard state says: before its first entry, and in what is compacted.
func (r *recovery) committed() uint64 {
	index := r.chain[0].header.state.Index
	for _, s := range r.chain {
		if s.header.isCompacted() {
			index = max(index, s.header.compacted.index)
		}
	}
	return index
}

// clamp keeps the commit within the log: a hard state can be durable before
// the entries that it commits (Invariant 9). A term below the last entry's
// cannot be, because a round's state is written in front of its entries.
func clamp(h HardState, base, last uint64) HardState {
	h.Commit = min(max(h.Commit, base), last)
	return h
}

// deadFiles are the segments that are not in the chain.
func (r *recovery) deadFiles() (dead []deadFile) {
	dead = r.unready
	live := map[uint32]bool{}
	for _, f := range r.chain {
		live[f.header.seq] = true
	}
	for _, f := range r.files {
		if !live[f.header.seq] {
			dead = append(dead, deadFile{f.name, f.header.seq, f.size})
		}
	}
	return dead
}

// Create makes a new log that begins from a state: all zero for the very first
// replica, the leader's for one that joins, with the term and vote its own.
// The log is durable when Create returns (Invariant 9a). It wraps ErrExists
// when the log, or another one of its name, is there.
func (s *Store) Create(id LogID, first State) (*Log, error) {
	l, err := s.create(id, first, nil)
	if err != nil {
		return nil, fmt.Errorf("create log %s: %w", id, err)
	}
	return l, nil
}

// create runs before, unless nil, when there is a folder and no log in it yet.
func (s *Store) create(id LogID, first State, before func() error) (*Log, error) {
	if s.lookup(id) != nil {
		return nil, ErrExists
	}
	if err := s.writable(false); err != nil {
		return nil, err
	}
	l := s.newLog(id, path.Join(s.dir, dirName(id)))
	if err := l.claimDir(); err != nil {
		return nil, err
	}
	if before != nil {
		if err := before(); err != nil {
			return nil, err
		}
	}
	if err := l.begin(first); err != nil {
		return nil, err
	}
	// Not before: a log whose creation was cut short has promised nothing.
	if err := l.promise(first.Hard.Term); err != nil {
		return nil, err
	}
	l, err := s.remember(l)
	if err == nil {
		// States at once that the header was synced: without a statement a
		// flipped bit in it would pass for a log that never came to be.
		l.stateIdle()
	}
	return l, err
}

// begin writes the first segment's header and makes it durable.
func (l *Log) begin(first State) error {
	l.takeWriter()
	defer l.giveWriter()
	h := segHeader{flags: flagSynced, id: l.id, created: l.store.cfg.Clock().UnixMilli(), state: first, prevMaxTime: -1}
	seg, err := l.prepare(&h, false)
	if err != nil {
		return err
	}
	if err := l.flushEncoder(seg, 0, false); err != nil {
		return errors.Join(err, l.discard(seg))
	}
	if err := errors.Join(seg.file.sync(), l.store.fs.SyncDir(l.dir)); err != nil {
		return l.store.goOffline(err)
	}
	l.adopt(seg, &h, place{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.first, l.mu.hard, l.mu.certain = first, first.Hard, true
	l.mu.synced = position{h.seq, h.length}
	return nil
}

// claimDir makes the log's directory. One may be there from a Create that a
// crash cut short; one with a log in it is not touched.
func (l *Log) claimDir() error {
	s := l.store
	err := s.fs.Mkdir(l.dir)
	if err == nil {
		if err := s.fs.SyncDir(s.dir); err != nil {
			return s.goOffline(err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return s.onDisk(false, func() error { return err })
	}
	r := &recovery{fs: s.fs, dir: l.dir}
	defer r.close()
	if err := r.run(); err != nil {
		return err
	}
	if len(r.chain) > 0 || r.damage != nil {
		return fmt.Errorf("%w in %s", ErrExists, l.dir)
	}
	for _, f := range r.files {
		l.mu.maxSeq = max(l.mu.maxSeq, f.header.seq)
	}
	l.mu.dead = r.deadFiles()
	// A quarantine without a log is what a CreateLost left that was cut short.
	if err := s.fs.Remove(path.Join(l.dir, markerName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
