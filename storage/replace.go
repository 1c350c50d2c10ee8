package storage

import (
	"fmt"
	"slices"
)

// replace puts a compacted segment, which is whole and synced, in the place of
// others.
func (l *Log) replace(segs []*segment, w *rewriter) error {
	l.trimming.Lock() // it is about the same files
	defer l.trimming.Unlock()
	if err := l.ready(); err != nil {
		return err
	}
	if !l.stillLive(segs) {
		return fmt.Errorf("%w: it was deleted meanwhile", ErrNotSealed)
	}
	unpin, err := l.pin(segs)
	if err != nil {
		return err
	}
	defer unpin()
	if err := l.store.fs.Rename(w.name, l.path(w.seg.name)); err != nil {
		return err
	}
	w.name = ""
	l.exchange(segs, w.seg)
	if err := l.syncDir(); err != nil {
		return l.store.goOffline(err)
	}
	// Not before: if the power takes the new name back, they are needed.
	for _, s := range segs[1:] {
		if err := l.removeFile(s.name); err != nil {
			return err
		}
		l.forgetDead(s.header.seq)
	}
	return nil
}

// stillLive reports whether the segments are in the log and follow each other.
func (l *Log) stillLive(segs []*segment) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	at := slices.Index(l.mu.segs, segs[0])
	return at >= 0 && at+len(segs) < len(l.mu.segs) && slices.Equal(l.mu.segs[at:at+len(segs)], segs)
}

// pin holds the segments' files for readers, since their names are about to
// mean something else. What it returns gives them back.
func (l *Log) pin(segs []*segment) (unpin func(), err error) {
	var files []*segFile
	unpin = func() {
		l.mu.Lock()
		for _, s := range segs {
			s.pinned = nil
		}
		l.mu.Unlock()
		for i, f := range files {
			l.store.handles.drop(segs[i])
			f.release()
		}
	}
	for _, s := range segs {
		f, err := l.store.handles.acquire(s, l.path(s.name))
		if err != nil {
			unpin()
			return nil, l.gone(s, err)
		}
		files = append(files, f)
		l.mu.Lock()
		s.pinned = f
		l.mu.Unlock()
	}
	return unpin, nil
}

// exchange puts the compacted segment into the chain. Entries in memory that it
// holds go too, so that what is read does not depend on the cache.
func (l *Log) exchange(segs []*segment, with *segment) {
	l.writing.Lock() // the writer may be looking for a place in one of them
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.Index(l.mu.segs, segs[0])
	l.mu.segs = slices.Concat(l.mu.segs[:at], []*segment{with}, l.mu.segs[at+len(segs):])
	for i, s := range segs {
		s.replaced = with
		if i > 0 {
			l.mu.dead = append(l.mu.dead, deadFile{s.name, s.header.seq, s.size})
		}
	}
	l.mu.tail.evict(with.p.lastIndex)
}

func (l *Log) forgetDead(seq uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.dead = slices.DeleteFunc(slices.Clone(l.mu.dead), func(d deadFile) bool { return d.seq == seq })
}
