package storage

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Store is one volume's directory.
type Store struct {
	fs   vfs.FS
	dir  string
	cfg  Config
	wake chan struct{}
	mu   struct {
		sync.Mutex
		logs    map[LogID]*Log
		pending []func(error)
	}
}

// Open opens the store.
func Open(fs vfs.FS, dir string, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s := &Store{fs: fs, dir: dir, cfg: cfg.withDefaults(), wake: make(chan struct{}, 1)}
	s.mu.logs = map[LogID]*Log{}
	return s, nil
}

// Logs lists the logs.
func (s *Store) Logs() []LogID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []LogID
	for id := range s.mu.logs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b LogID) int { return slices.Compare([]byte(a.String()), []byte(b.String())) })
	return ids
}

// Create makes a log.
func (s *Store) Create(id LogID, first State) (*Log, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.logs[id] != nil {
		return nil, fmt.Errorf("create log %s: %w", id, ErrExists)
	}
	l := &Log{store: s, id: id}
	l.mu.first, l.mu.hard, l.mu.tip = first, first.Hard, first
	s.mu.logs[id] = l
	return l, nil
}

// OpenLog opens a log.
func (s *Store) OpenLog(id LogID) (*Log, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.mu.logs[id]; l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("open log %s: %w", id, ErrNotFound)
}

// Remove removes a log.
func (s *Store) Remove(id LogID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.logs, id)
	return nil
}

// Run flushes until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
			s.Step(s.cfg.Clock())
		}
	}
}

// Step does once, without waiting, what Run does in a loop: it flushes what is
// pending and does what is due at now. It reports whether it flushed. It is
// for seeded simulations that have no goroutines; it must not run beside Run.
func (s *Store) Step(now time.Time) bool {
	s.mu.Lock()
	p := s.mu.pending
	s.mu.pending = nil
	s.mu.Unlock()
	for _, done := range p {
		done(nil)
	}
	return len(p) > 0
}

// Close closes the store.
func (s *Store) Close() error { return nil }

// Disk reports the volume.
func (s *Store) Disk() DiskStatus { return DiskStatus{Free: 1 << 40, Reserve: true} }

// Log is one log.
type Log struct {
	store *Store
	id    LogID
	mu    struct {
		sync.RWMutex
		first, tip State
		hard       HardState
		entries    []Entry
	}
}

// ID is the log's identity.
func (l *Log) ID() LogID { return l.id }

// Append appends.
func (l *Log) Append(r Round) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Reset != nil {
		l.mu.first, l.mu.tip, l.mu.hard, l.mu.entries = *r.Reset, *r.Reset, r.Reset.Hard, nil
	}
	if n := len(r.Entries); n > 0 {
		i := r.Entries[0].Index
		if i <= l.mu.first.Index || i > l.mu.first.Index+uint64(len(l.mu.entries))+1 {
			return fmt.Errorf("%w: index %d", ErrRound, i)
		}
		l.mu.entries = append(l.mu.entries[:i-l.mu.first.Index-1:i-l.mu.first.Index-1], r.Entries...)
	}
	if r.Hard != nil {
		l.mu.hard = *r.Hard
	}
	if r.Done != nil {
		l.store.mu.Lock()
		l.store.mu.pending = append(l.store.mu.pending, r.Done)
		l.store.mu.Unlock()
		select {
		case l.store.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// ShouldRoll reports whether the next round must or should carry Before.
func (l *Log) ShouldRoll(time.Time) bool { return false }

// SetConfig sets.
func (l *Log) SetConfig(LogConfig) {}

// First is the state before the first entry.
func (l *Log) First() State { l.mu.RLock(); defer l.mu.RUnlock(); return l.mu.first }

// Tip is the state at the beginning of the newest segment.
func (l *Log) Tip() State { l.mu.RLock(); defer l.mu.RUnlock(); return l.mu.tip }

// Hard is the hard state.
func (l *Log) Hard() HardState { l.mu.RLock(); defer l.mu.RUnlock(); return l.mu.hard }

// FirstIndex is the index of the first entry.
func (l *Log) FirstIndex() uint64 { return l.First().Index + 1 }

// Last is the last index and term.
func (l *Log) Last() (index, term uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := len(l.mu.entries); n > 0 {
		return l.mu.entries[n-1].Index, l.mu.entries[n-1].Term
	}
	return l.mu.first.Index, l.mu.first.Term
}

// Term is the term of an index.
func (l *Log) Term(i uint64) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case i == l.mu.first.Index:
		return l.mu.first.Term, nil
	case i < l.mu.first.Index:
		return 0, ErrCompacted
	case i > l.mu.first.Index+uint64(len(l.mu.entries)):
		return 0, ErrUnavailable
	}
	return l.mu.entries[i-l.mu.first.Index-1].Term, nil
}

// Entries returns entries lo ≤ i < hi.
func (l *Log) Entries(lo, hi uint64, maxBytes int) ([]Entry, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if lo <= l.mu.first.Index {
		return nil, ErrCompacted
	}
	if hi > l.mu.first.Index+uint64(len(l.mu.entries))+1 {
		return nil, ErrUnavailable
	}
	all := l.mu.entries[lo-l.mu.first.Index-1 : hi-l.mu.first.Index-1]
	n := 0
	for i, e := range all {
		if n += len(e.Payload); n > maxBytes && i > 0 {
			return slices.Clone(all[:i]), nil
		}
	}
	return slices.Clone(all), nil
}

// Replay calls fn.
func (l *Log) Replay(from uint64, fn func(Entry) error) error {
	last, _ := l.Last()
	es, err := l.Entries(from, last+1, 1<<30)
	if err != nil {
		return err
	}
	for _, e := range es {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// Offsets returns the first and the next offset.
func (l *Log) Offsets() (start, next int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	start, next = l.mu.first.NextOffset, l.mu.first.NextOffset
	if n := len(l.mu.entries); n > 0 {
		next = l.mu.entries[n-1].NextOffset()
	}
	return start, next
}

// Read reads batches.
func (l *Log) Read(offset, limit int64, maxBytes int) ([]record.Batch, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if offset < l.mu.first.NextOffset {
		return nil, record.ErrOffsetOutOfRange
	}
	var out []record.Batch
	n := 0
	for _, e := range l.mu.entries {
		if e.Kind != KindData || e.NextOffset() <= offset {
			continue
		}
		if e.BaseOffset >= limit || (n > 0 && n+len(e.Payload) > maxBytes) {
			break
		}
		out, n = append(out, e.Batch()), n+len(e.Payload)
	}
	return out, nil
}

// OffsetForTime finds.
func (l *Log) OffsetForTime(ms, limit int64) (record.Batch, bool, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, e := range l.mu.entries {
		if e.Kind == KindData && e.BaseOffset < limit && e.Batch().MaxTime() >= ms {
			return e.Batch(), true, nil
		}
	}
	return nil, false, nil
}

// Segments lists the segments.
func (l *Log) Segments() []SegmentInfo { return nil }

// Trim deletes.
func (l *Log) Trim(index uint64) error { return nil }

// Size is the bytes on disk.
func (l *Log) Size() int64 { return 0 }

// Damage is nil.
func (l *Log) Damage() error { return nil }

// Close closes.
func (l *Log) Close() error { return nil }
