package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/entrepot-hub/entrepot/record"
)

// The store keeps a note of every log that it has, outside the log's own folder,
// as the name of an empty file: known/<log>~<term>. It says two things that the
// log cannot say once it is gone or damaged:
//
//   - that it was there: a folder that is missing is a loss, and the replica may
//     have voted and acknowledged what it has forgotten;
//   - that every vote and promise it ever gave was in a term below this one.
//
// The note is made when the log is durable, and before anything is promised; it
// is raised, durably, before a term at or above it is written, termStride terms
// at a time, so that elections rarely pay for it.
type known struct {
	mu struct {
		sync.Mutex
		below map[string]uint64 // by noteName
	}
}

const (
	knownDir   = "known"
	termStride = 32
)

// noteName is what the log is called in its note: the topic's ID makes a
// recreated topic another one, and is short.
func noteName(id LogID) string {
	if id.ID == ([16]byte{}) {
		return dirName(id)
	}
	return LogID{Topic: id.ID.Hex(), Partition: id.Partition, Generation: id.Generation}.String()
}

func parseNote(file string) (name string, below uint64, ok bool) {
	at := strings.LastIndexByte(file, '~')
	if at < 0 || !logDirPattern.MatchString(file[:at]) {
		return "", 0, false
	}
	below, err := strconv.ParseUint(file[at+1:], 10, 64)
	return file[:at], below, err == nil
}

func noteFile(name string, below uint64) string { return fmt.Sprintf("%s~%d", name, below) }

// loadKnown reads the notes. Two of one log are what a file system made of a
// rename that the power cut short: the higher one counts.
func (s *Store) loadKnown() error {
	dir := path.Join(s.dir, knownDir)
	err := s.fs.Mkdir(dir)
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return s.onDisk(false, func() error { return err })
	}
	names, err := s.fs.List(dir)
	if err != nil {
		return err
	}
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	s.known.mu.below = map[string]uint64{}
	for _, file := range names {
		if name, below, ok := parseNote(file); ok {
			s.known.mu.below[name] = max(s.known.mu.below[name], below)
		}
	}
	return nil
}

func (s *Store) knownBelow(id LogID) (below uint64, ok bool) {
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	below, ok = s.known.mu.below[noteName(id)]
	return below, ok
}

// absent is the error of a log that has no folder or nothing in it.
func (s *Store) absent(id LogID) error {
	if _, ok := s.knownBelow(id); ok {
		return ErrLost
	}
	return ErrNotFound
}

// promise makes sure that the note covers a term, before anything of that term
// is written. The caller is the log's writer, or nobody else has it yet.
func (l *Log) promise(term uint64) error {
	if term < l.noted {
		return nil // as nearly always: each round comes by here
	}
	s := l.store
	name := noteName(l.id)
	old, have := s.knownBelow(l.id)
	if have && term < old {
		l.noted = old
		return nil
	}
	below := term - term%termStride + 2*termStride
	dir := path.Join(s.dir, knownDir)
	to := path.Join(dir, noteFile(name, below))
	err := s.onDisk(false, func() error {
		if have {
			return s.fs.Rename(path.Join(dir, noteFile(name, old)), to)
		}
		f, err := s.fs.Create(to)
		if err == nil {
			err = f.Close()
		} else if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("note that log %s may vote up to term %d: %w", l.id, below-1, err)
	}
	if err := s.fs.SyncDir(dir); err != nil {
		return s.goOffline(err)
	}
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	s.known.mu.below[name], l.noted = below, below
	return nil
}

// forgetKnown deletes a log's note, before the log itself: one that is left
// without its log would tell of a loss that was none.
func (s *Store) forgetKnown(id LogID) error {
	name := noteName(id)
	s.known.mu.Lock()
	below, ok := s.known.mu.below[name]
	delete(s.known.mu.below, name)
	s.known.mu.Unlock()
	if !ok {
		return nil
	}
	dir := path.Join(s.dir, knownDir)
	if err := s.fs.Remove(path.Join(dir, noteFile(name, below))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.fs.SyncDir(dir); err != nil {
		return s.goOffline(err)
	}
	return nil
}

// Promised is this replica's hard state as far as its votes go, for a log that
// is to be replaced: the one it wrote last, if that is certain. If damage may
// have taken a later one, it is a term above all in which it can have voted,
// without a vote.
func (l *Log) Promised() HardState {
	below, _ := l.store.knownBelow(l.id)
	l.mu.RLock()
	defer l.mu.RUnlock()
	h := l.mu.hard
	if !l.mu.certain && below > h.Term {
		h.Term, h.Vote = below, 0
	}
	return h
}

// CreateLost makes a log in the place of one that was lost (ErrLost), or of
// which not one segment can be read (record.ErrQuarantined of OpenLog): empty and
// quarantined, with a term above all in which the lost one can have voted, to be
// replaced by a copy of the leader's (Install).
func (s *Store) CreateLost(id LogID) (*Log, error) {
	below, ok := s.knownBelow(id)
	if !ok {
		return nil, fmt.Errorf("create lost log %s: %w", id, ErrNotFound)
	}
	dir := path.Join(s.dir, dirName(id))
	if err := s.setAside(id, dir); err != nil {
		return nil, fmt.Errorf("create lost log %s: %w", id, err)
	}
	l, err := s.create(id, State{Hard: HardState{Term: below}}, func() error {
		// Before its first segment: from then on it would pass for a sound one.
		return writeMarker(s.fs, dir, lostDamage(dir))
	})
	if err != nil {
		return nil, fmt.Errorf("create lost log %s: %w", id, err)
	}
	l.mu.Lock()
	l.mu.damage = lostDamage(dir)
	l.mu.Unlock()
	s.log.Error("the folder of a log is gone: the replica is quarantined", "log", id.String(), "dir", dir)
	return l, nil
}

// damagedSuffix is behind the name of a folder that was set aside, for people to
// look at.
const damagedSuffix = ".damaged"

// setAside renames a folder in which nothing can be read. Others are left alone:
// create refuses them.
func (s *Store) setAside(id LogID, dir string) error {
	r := &recovery{fs: s.fs, dir: dir}
	defer r.close()
	err := r.run()
	if corrupt := (*record.CorruptionError)(nil); errors.As(err, &corrupt) {
		r.damage, err = corrupt, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(r.chain) > 0 || r.damage == nil:
		return nil
	}
	to := dir + damagedSuffix
	if _, err := s.fs.Stat(to); err == nil {
		if to, err = s.removedName(); err != nil {
			return err
		}
	}
	s.log.Warn("no segment of a log can be read: its folder is set aside", "log", id.String(), "to", to)
	if err := s.fs.Rename(dir, to); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return s.goOffline(err)
	}
	return nil
}

func lostDamage(dir string) *record.CorruptionError {
	return &record.CorruptionError{File: dir, Err: errors.New("the folder of the log was gone")}
}
