package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Remove deletes a log, open or not. It is no error when there is none.
func (s *Store) Remove(id LogID) error {
	if err := s.remove(id); err != nil {
		return fmt.Errorf("remove log %s: %w", id, err)
	}
	return nil
}

func (s *Store) remove(id LogID) error {
	dir := path.Join(s.dir, dirName(id))
	if l := s.lookup(id); l != nil {
		l.mu.Lock()
		l.mu.removed = true
		l.mu.Unlock()
		if err := l.Close(); err != nil {
			return err
		}
	} else if held, ok := s.identify(dir); ok && held != id {
		return fmt.Errorf("%w: %s holds another topic of this name, with id %s", ErrNotFound, dir, held.ID)
	}
	if err := errors.Join(s.forgetKnown(id), s.discardStaged(dir+stagingSuffix)); err != nil {
		return err
	}
	gone, err := s.removedName()
	if err != nil {
		return err
	}
	// Renamed first: half of a log would look like a damaged one.
	if err := s.fs.Rename(dir, gone); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return s.goOffline(err)
	}
	return s.removeTree(gone)
}

// removedPrefix begins the name of a directory whose log is gone. It is no
// name of a log: those end in a number behind a dash.
const removedPrefix = "removed."

func (s *Store) removedName() (string, error) {
	for n := 1; ; n++ {
		name := path.Join(s.dir, fmt.Sprintf("%s%d", removedPrefix, n))
		if _, err := s.fs.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
}

func (s *Store) removeTree(dir string) error {
	names, err := s.fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.fs.Remove(path.Join(dir, name)); err != nil {
			return err
		}
	}
	return s.fs.Remove(dir)
}

// finishRemovals deletes what a crash left of removed logs.
func (s *Store) finishRemovals() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, removedPrefix) && !logDirPattern.MatchString(name) {
			if err := s.removeTree(path.Join(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
