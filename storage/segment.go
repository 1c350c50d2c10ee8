package storage

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// segment is one live segment of a log. Its fields are guarded by the log's
// lock; header and name do not change once set.
type segment struct {
	name   string
	header segHeader // without Aux
	// p tells where the segment ends as far as it is live: a later segment may
	// have superseded its tail. Only the active segment's p has the lists.
	p      progress
	footer uint32   // position of the footer, 0 for none
	size   int64    // of the file, up to its last frame
	file   *segFile // of the active segment
	filled int64    // where the active segment's file ends; only whoever may append looks at it
	// While a compacted segment takes its name, its file is held here; then
	// replaced is that segment.
	pinned   *segFile
	replaced *segment
	gone     bool // another log was installed in the place of this one
}

func segmentName(seq uint32, first uint64) string { return fmt.Sprintf("%010d-%020d.log", seq, first) }

func (s *segment) firstIndex() uint64 { return s.header.state.Index + 1 }
func (s *segment) base() int64        { return s.header.state.NextOffset }

// ahead is how many zeros to write behind a round that ends at end, at most so
// many. To sync a file that has grown, most file systems write more than its bytes
// and wait for that, too. So small rounds make room for those that follow, up to a
// quarter of what the file has: no segment becomes much larger by it. Recovery
// takes zeros for room that was not used yet, as it has to anyway.
func (s *segment) ahead(end, most int64) int64 {
	if end <= s.filled || end-int64(s.p.end) >= most {
		return 0
	}
	page := max(1, min(most/4, 4<<10))
	to := end + min(end/4, most)
	return max(0, to-to%page-end)
}

// segFile is an open file that several hold: the log while it writes to it,
// the flusher until it is synced, readers while they read.
type segFile struct {
	f       vfs.File
	refs    atomic.Int32
	syncing struct {
		sync.Mutex // held over the sync on purpose: see sync
		err        error
	}
	// lists of a segment that is not active, once somebody needed them.
	lists atomic.Pointer[progress]
}

func newSegFile(f vfs.File) *segFile {
	s := &segFile{f: f}
	s.refs.Store(1)
	return s
}

// retain takes a reference; false when the last one was given back already.
func (s *segFile) retain() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back; the last one closes the file. Nothing is
// written by closing: what had to be durable was synced.
func (s *segFile) release() {
	if s.refs.Add(-1) == 0 {
		_ = s.f.Close()
	}
}

// sync makes the file durable. The system reports a failed write-back once, to
// whoever asks first, and forgets it: so calls follow each other, and an error
// stays (Invariant 7).
func (s *segFile) sync() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if s.syncing.err == nil {
		s.syncing.err = s.f.Sync()
	}
	return s.syncing.err
}

// handles keeps sealed segments open for reading, the recently used ones.
type handles struct {
	fs    vfs.FS
	limit int
	mu    struct {
		sync.Mutex
		byKey map[*segment]*list.Element
		used  *list.List // of *handle, the most recent first
	}
}

type handle struct {
	key  *segment
	file *segFile
}

func newHandles(fs vfs.FS, limit int) *handles {
	h := &handles{fs: fs, limit: limit}
	h.mu.byKey, h.mu.used = map[*segment]*list.Element{}, list.New()
	return h
}

// acquire opens the segment's file, or finds it open. The caller releases it.
func (h *handles) acquire(s *segment, path string) (*segFile, error) {
	if f := h.lookup(s); f != nil {
		return f, nil
	}
	f, err := h.fs.Open(path)
	if err != nil {
		return nil, err
	}
	file := newSegFile(f)
	file.retain() // for the caller; the first reference is the cache's
	h.mu.Lock()
	if e := h.mu.byKey[s]; e != nil && e.Value.(*handle).file.retain() {
		other := e.Value.(*handle).file
		h.mu.Unlock()
		file.release()
		file.release()
		return other, nil
	}
	h.mu.byKey[s] = h.mu.used.PushFront(&handle{s, file})
	var evicted *segFile
	if h.mu.used.Len() > h.limit {
		evicted = h.remove(h.mu.used.Back())
	}
	h.mu.Unlock()
	if evicted != nil {
		evicted.release()
	}
	return file, nil
}

func (h *handles) lookup(s *segment) *segFile {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.mu.byKey[s]
	if e == nil {
		return nil
	}
	h.mu.used.MoveToFront(e)
	f := e.Value.(*handle).file
	f.retain()
	return f
}

func (h *handles) remove(e *list.Element) *segFile {
	hd := h.mu.used.Remove(e).(*handle)
	delete(h.mu.byKey, hd.key)
	return hd.file
}

// drop forgets a segment that is deleted or closed.
func (h *handles) drop(s *segment) {
	h.mu.Lock()
	e := h.mu.byKey[s]
	var f *segFile
	if e != nil {
		f = h.remove(e)
	}
	h.mu.Unlock()
	if f != nil {
		f.release()
	}
}

// view is a segment as a reader sees it: the file, and the progress with its
// lists, neither of which changes while the reader looks.
type view struct {
	seg    *segment
	file   *segFile
	p      progress
	footer uint32
	// active: the segment is being written to, and p has the lists already.
	active bool
}

func (v *view) close() { v.file.release() }

// walk reads the view's frames from pos on.
func (v *view) walk(pos uint32, chunk int) *walker {
	return &walker{f: v.file.f, sealing: v.p.sealing, pos: pos, end: v.p.end, chunk: chunk}
}

// view opens a live segment for reading, or the one that stands for it since it
// was compacted.
func (l *Log) view(s *segment) (*view, error) {
	v, err := l.openView(s)
	if err != nil || v.active {
		return v, err
	}
	lists := v.file.lists.Load()
	if lists == nil {
		loaded, rebuilt, err := v.loadLists()
		if rebuilt != nil {
			l.store.log.Warn("the index at the end of a segment cannot be used and was made from its frames", "file", l.path(v.seg.name), "error", rebuilt)
		}
		if err != nil {
			v.file.release()
			return nil, l.damaged(v.seg, err)
		}
		lists = &loaded
		v.file.lists.Store(lists)
	}
	v.p.runs, v.p.blocks, v.p.open = lists.runs, lists.blocks, lists.open
	return v, nil
}

// openView finds the file. Between the look at the segment and the opening of
// its file a compacted one may have taken its name: then it looks again.
func (l *Log) openView(s *segment) (*view, error) {
	for {
		v, err := l.held(s)
		if err != nil || v.file != nil {
			return v, err
		}
		s = v.seg
		v.file, err = l.store.handles.acquire(s, l.path(s.name))
		if !l.moved(s) {
			if err != nil {
				return nil, l.gone(s, err)
			}
			return v, nil
		}
		if err == nil {
			v.file.release()
		}
		l.store.handles.drop(s)
	}
}

// held is a view with the file that the log itself holds, if it does.
func (l *Log) held(s *segment) (*view, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for s.replaced != nil {
		s = s.replaced
	}
	if s.gone {
		return nil, ErrCompacted
	}
	v := &view{seg: s, p: s.p, footer: s.footer}
	if v.file, v.active = s.file, s.file != nil; !v.active {
		v.file = s.pinned
	}
	if v.file != nil {
		v.file.retain() // the log's own reference is there while we hold the lock
	}
	return v, nil
}

// moved reports whether a file that was opened by the segment's name may be
// another one.
func (l *Log) moved(s *segment) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return s.pinned != nil || s.replaced != nil || s.gone
}

// loadLists reads the index of a segment that is not active: from its footer,
// or from its frames when it has none, or a damaged one, which repeats nothing
// but what the frames say: rebuilt tells why.
func (v *view) loadLists() (p progress, rebuilt, err error) {
	if v.footer != 0 {
		if p, rebuilt = loadSummary(v.file.f, v.p.sealing, v.footer); rebuilt == nil {
			return p, nil, nil
		}
	}
	p, err = indexFrames(v.file.f, begin(&v.seg.header), v.p.end)
	return p, rebuilt, err
}

// gone explains why a segment's file cannot be opened: it may have been
// trimmed since the caller looked.
func (l *Log) gone(s *segment, err error) error {
	l.mu.RLock()
	trimmed := len(l.mu.segs) == 0 || s.header.seq < l.mu.segs[0].header.seq
	l.mu.RUnlock()
	switch {
	case trimmed:
		return ErrCompacted
	case errors.Is(err, fs.ErrNotExist):
		return l.damaged(s, fmt.Errorf("the segment is missing: %w", err))
	}
	return fmt.Errorf("open %s: %w", l.path(s.name), err)
}

// damaged makes an error of what a reader found and quarantines the log.
func (l *Log) damaged(s *segment, err error) error {
	var at *placeError
	pos := int64(0)
	if asPlace(err, &at) {
		pos = int64(at.pos)
	}
	return l.quarantine(&record.CorruptionError{File: l.path(s.name), Offset: pos, Err: err})
}

// asPlace finds the place in an error, if it has one.
func asPlace(err error, at **placeError) bool { return errors.As(err, at) }
