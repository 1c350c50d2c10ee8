package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// The flusher: one for each store, because a volume has one queue. While one
// flush runs the next round gathers, so a flush takes in whatever came
// meanwhile, over all logs (Invariant 7). An error takes the volume offline and
// is never tried again: the system may have thrown the bytes away and would
// call the second attempt a success.

// parallelSyncs is the number of files and directories up to which they are
// synced one by one, at the same time; more are left to one syncfs.
const parallelSyncs = 8

// flusher gathers what has to be flushed.
type flusher struct {
	wake chan struct{}
	mu   struct {
		sync.Mutex
		items   []*flushItem // in the order in which logs became dirty
		byLog   map[*Log]*flushItem
		written []func(error) // rounds that need no sync, to be answered
	}
}

// flushItem is one log that was written to since its last flush began.
type flushItem struct {
	log   *Log
	sync  bool // a round waits for it
	dones []func(error)
	bytes int64     // written by rounds that do not wait
	since time.Time // when the first of them was written
	// Set when the flush begins.
	files []*segFile
	names bool
	end   position
	// Highest statement in what is being flushed.
	stated position
	lives  int // of the log: what was in it before Install says nothing about it
}

func newFlusher() *flusher {
	f := &flusher{wake: make(chan struct{}, 1)}
	f.mu.byLog = map[*Log]*flushItem{}
	return f
}

// add takes a written round. votes says that its term or vote is new.
func (f *flusher) add(l *Log, r *Round, votes bool) {
	now := l.store.cfg.Clock()
	f.mu.Lock()
	it := f.item(l, now)
	switch {
	case !r.NoSync || votes:
		it.sync = true
		fallthrough
	case it.sync:
		// Behind a round that waits: their answers keep the rounds' order.
		if r.Done != nil {
			it.dones = append(it.dones, r.Done)
		}
	case r.Done != nil:
		f.mu.written = append(f.mu.written, r.Done)
	}
	for i := range r.Entries {
		it.bytes += int64(len(r.Entries[i].Payload))
	}
	f.mu.Unlock()
	f.signal()
}

// addIdle takes a state frame that nobody waits for.
func (f *flusher) addIdle(l *Log) {
	f.mu.Lock()
	it := f.item(l, l.store.cfg.Clock())
	it.sync = true
	f.mu.Unlock()
	f.signal()
}

func (f *flusher) item(l *Log, now time.Time) *flushItem {
	it := f.mu.byLog[l]
	if it == nil {
		it = &flushItem{log: l, since: now}
		f.mu.byLog[l] = it
		f.mu.items = append(f.mu.items, it)
	}
	return it
}

func (f *flusher) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns the logs to flush now, and the rounds to answer before that.
func (f *flusher) take(now time.Time, all bool) (items []*flushItem, written []func(error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	written, f.mu.written = f.mu.written, nil
	var later []*flushItem
	for _, it := range f.mu.items {
		if all || it.sync || it.bytes >= noSyncBytes || now.Sub(it.since) >= noSyncDelay {
			items = append(items, it)
			delete(f.mu.byLog, it.log)
		} else {
			later = append(later, it)
		}
	}
	f.mu.items = later
	return items, written
}

// due is when the next log that nobody waits for must be flushed.
func (f *flusher) due() (at time.Time, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, it := range f.mu.items {
		if d := it.since.Add(noSyncDelay); !ok || d.Before(at) {
			at, ok = d, true
		}
	}
	return at, ok
}

// flushHow says how a flush is done.
type flushHow struct {
	all      bool // what could wait, too
	parallel bool // several syncs at the same time
}

// flushOnce flushes what is there and answers. It reports whether it did
// anything.
func (s *Store) flushOnce(now time.Time, how flushHow) bool {
	items, written := s.flush.take(now, how.all)
	for _, done := range written {
		done(s.offline())
	}
	if len(items) == 0 {
		return len(written) > 0
	}
	targets := 0
	for _, it := range items {
		it.log.beginFlush(it)
		targets += len(it.files)
		if it.names {
			targets++
		}
	}
	err := s.offline()
	if err == nil {
		if err = s.syncItems(items, targets, how.parallel); err != nil {
			err = s.goOffline(err)
		}
	}
	for _, it := range items {
		it.log.endFlush(it, err == nil)
		if err == nil {
			s.idle.flushed(it.log, now)
		}
		for _, done := range it.dones {
			done(err)
		}
	}
	return true
}

// syncItems makes the items' files and directories durable.
func (s *Store) syncItems(items []*flushItem, targets int, parallel bool) error {
	if targets > parallelSyncs {
		return s.fs.SyncFS(s.dir)
	}
	errs := make(chan error, targets)
	var wg sync.WaitGroup
	run := func(sync func() error) {
		if targets == 1 || !parallel {
			errs <- sync()
			return
		}
		wg.Go(func() { errs <- sync() })
	}
	for _, it := range items {
		for _, f := range it.files {
			run(f.sync)
		}
		if it.names {
			run(it.log.syncDir)
		}
	}
	wg.Wait()
	close(errs)
	var first error
	for err := range errs {
		if first == nil {
			first = err
		}
	}
	return first
}

// beginFlush notes what the flush will make durable.
func (l *Log) beginFlush(it *flushItem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it.files, l.mu.unsynced = l.mu.unsynced, nil
	it.names, l.mu.newNames = l.mu.newNames, false
	l.mu.flushing = it.files
	s := l.last()
	it.end, it.stated, it.lives = position{s.header.seq, s.p.end}, l.mu.stated, l.mu.lives
}

// endFlush moves the synced position and gives the files back.
func (l *Log) endFlush(it *flushItem, ok bool) {
	l.mu.Lock()
	l.mu.flushing = nil
	if ok && it.lives == l.mu.lives {
		l.mu.synced = maxPosition(l.mu.synced, it.end)
		l.mu.proven = maxPosition(l.mu.proven, it.stated)
	}
	l.mu.Unlock()
	for _, f := range it.files {
		f.release()
	}
}

// syncDir makes the names of the log's directory durable. A log that is being
// removed has none that matter; nor has one that was closed before, when its
// directory is not there any more: it was removed while its last rounds waited.
func (l *Log) syncDir() error {
	err := l.store.fs.SyncDir(l.dir)
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.mu.removed || l.mu.closed && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// offline is the reason why nothing is written any more, if so.
func (s *Store) offline() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.offline
}

// goOffline stops all writing for good and returns the error that everybody
// gets from now on.
func (s *Store) goOffline(err error) error {
	s.mu.Lock()
	first := s.mu.offline == nil
	if first {
		s.mu.offline = fmt.Errorf("%w: %s: %w", record.ErrOffline, s.dir, err)
	}
	offline := s.mu.offline
	s.mu.Unlock()
	if first {
		s.log.Error("the volume is offline: a write or sync failed, and what it lost is unknown; repair the disk and restart the node", "dir", s.dir, "error", err)
	}
	return offline
}
