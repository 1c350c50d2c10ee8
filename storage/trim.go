package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Trim deletes the segments whose entries are all at or below index, oldest
// first, and makes each deletion durable before the next: else a power cut
// could take a middle one (Invariant 12). The newest segment always stays. The
// caller trims only what it has applied. Files that are no part of the log any
// more, such as a superseded suffix, are deleted too when it is safe.
func (l *Log) Trim(index uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
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
// below index and no dead file is left before the next one. The state before the next one is read from its header first.
func (l *Log) dropFirst(index uint64) (*segment, error) {
	l.mu.RLock()
	if len(l.mu.segs) < 2 || l.mu.segs[0].p.lastIndex > index {
		l.mu.RUnlock()
		return nil, nil
	}
	next := l.mu.segs[1]
	inTheWay := slices.ContainsFunc(l.mu.dead, func(d deadFile) bool { return d.seq < next.header.seq })
	l.mu.RUnlock()
	if inTheWay {
		// The log would seem to begin with a dead file, and not to go on.
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

// removeDead deletes files that the log does not need, once a durable frame
// states that the newest segment's header was synced: until then a damaged
// header could pass for one that the power took, and the log would end in one
// of them.
func (l *Log) removeDead() error {
	l.mu.RLock()
	s := l.last()
	proven := position{s.header.seq, s.header.length}
	safe := !l.mu.stated.less(proven) && s.p.end > s.header.length && !l.mu.synced.less(position{s.header.seq, s.p.end})
	dead := l.mu.dead
	l.mu.RUnlock()
	if !safe {
		return nil
	}
	for _, d := range dead {
		if d.seq > proven.seq {
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
