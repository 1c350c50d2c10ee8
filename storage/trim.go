package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Trim deletes the segments whose entries are all at or below index, oldest
// first, and makes each deletion durable before the next: else a power cut
// could take a middle one (Invariant 12). The newest segment always stays, and
// so does one whose successor is not yet stated to be synced, until a later
// call. The caller trims only what it has applied. Files that are no part of the log any
// more, such as a superseded suffix, are deleted too when it is safe.
func (l *Log) Trim(index uint64) error {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	if err := l.ready(); err != nil {
		return fmt.Errorf("trim log %s: %w", l.id, err)
	}
	if err := l.trim(index); err != nil {
		return fmt.Errorf("trim log %s to index %d: %w", l.id, index, err)
	}
	return nil
}

func (l *Log) trim(index uint64) error {
	if err := l.removeDead(); err != nil {
		return err
	}
	for {
		s, err := l.dropFirst(index)
		if s == nil || err != nil {
			return err
		}
		l.store.handles.drop(s)
		if err := l.removeFile(s.name); err != nil {
			return err
		}
	}
}

// dropFirst takes the oldest segment out of the log if all of it is at or
// below index, the next one is proven and no dead file is left before it. The state before the next one is read from its header first.
func (l *Log) dropFirst(index uint64) (*segment, error) {
	l.writing.Lock() // the writer may be looking for a place in it
	defer l.writing.Unlock()
	l.mu.RLock()
	if len(l.mu.segs) < 2 || l.mu.segs[0].p.lastIndex > index {
		l.mu.RUnlock()
		return nil, nil
	}
	next := l.mu.segs[1]
	wait := !l.provenHeader(next) || slices.ContainsFunc(l.mu.dead, func(d deadFile) bool { return d.seq < next.header.seq })
	l.mu.RUnlock()
	if wait {
		// With a dead file in front the log would seem to begin there, and not
		// to go on.
		return nil, nil
	}
	state, err := l.stateOf(next)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.mu.segs[0]
	l.mu.segs = l.mu.segs[1:]
	l.mu.first = state
	return s, nil
}

// stateOf reads the state before a segment's first entry from its header.
func (l *Log) stateOf(s *segment) (State, error) {
	v, err := l.view(s)
	if err != nil {
		return State{}, err
	}
	defer v.close()
	h, err := readHeader(v.file.f)
	if err == nil && h.crc != s.header.crc {
		err = fmt.Errorf("the segment header has changed: checksum %08x, was %08x", h.crc, s.header.crc)
	}
	if err != nil {
		return State{}, l.damaged(s, err)
	}
	return h.state, nil
}

func (l *Log) removeFile(name string) error {
	if err := l.store.fs.Remove(l.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := l.syncDir(); err != nil {
		return l.store.goOffline(err)
	}
	return nil
}

// provenHeader reports whether a durable frame or header states that the
// segment's header was synced. Until then it could be lost, or if it is damaged
// pass for one that the power took, and the log would end in what was before
// it: that must still be there. The lock must be held.
func (l *Log) provenHeader(s *segment) bool {
	return !l.mu.proven.less(position{s.header.seq, s.header.length})
}

// sweep deletes the files that are no part of the log, as Trim does first.
func (l *Log) sweep() error {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	return l.removeDead()
}

// removeDead deletes files that the log does not need, once the newest segment
// is proven.
func (l *Log) removeDead() error {
	l.mu.RLock()
	newest := l.last()
	proven, dead := l.provenHeader(newest), l.mu.dead
	l.mu.RUnlock()
	if !proven {
		return nil
	}
	for _, d := range dead {
		if d.seq > newest.header.seq {
			continue // its number must not be used again
		}
		if err := l.removeFile(d.name); err != nil {
			return err
		}
		l.mu.Lock()
		l.mu.dead = slices.DeleteFunc(slices.Clone(l.mu.dead), func(o deadFile) bool { return o == d })
		l.mu.Unlock()
	}
	return nil
}
