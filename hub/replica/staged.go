package replica

import (
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// What fetches take of the disk: a copy begins only where there is room for all
// of it, and what nobody wants any more does not stay.

// stagedFor is how long something stays that was fetched of a log and that
// nobody wants: a leader that sees a member lack it offers its log again within
// seconds, unless there is none for the time being.
const stagedFor = 10 * time.Minute

// claimRoom has a fetch begin or go on only if what it lacks fits on the disk
// beside what others lack that have begun.
func (s *Set) claimRoom(f *fetch, g *storage.Staging) error {
	room, err := s.store.Room()
	if err != nil {
		return nil //nolint:nilerr // a system that does not tell how full a volume is tells when it is
	}
	t := s.fetches
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.mu.byLog {
		if o != f && o.fits {
			room -= o.lacks()
		}
	}
	lacks := f.lacks()
	if f.fits = lacks <= room; !f.fits {
		_, of := g.Progress()
		return fmt.Errorf("%w: a copy of %d bytes lacks %d, and there is room for %d", record.ErrDiskFull, of, lacks, max(0, room))
	}
	return nil
}

// lacks is how many bytes are not here yet.
func (f *fetch) lacks() int64 {
	if g := f.staging.Load(); g != nil {
		done, of := g.Progress()
		return of - done
	}
	return 0
}

// later has a log not fetched before some time.
func (t *fetches) later(id storage.LogID, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.next[id] = next
}

// sweepStaged has deleted what was fetched of logs and nobody has wanted for a
// while: the group went on in another way, or did before this node was started.
func (s *Set) sweepStaged(now time.Time) {
	if s.cfg.Source == nil {
		return
	}
	for _, r := range s.replicas(nil) {
		if s.store.Staged(r.id) {
			s.fetches.sweep(r, now)
		}
	}
}

// sweep looks at a log of which something was fetched. A fetcher deletes it, so
// that it is not fetched at the same time.
func (t *fetches) sweep(r *Replica, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since, idle := t.mu.idle[r.id]
	switch {
	case t.mu.byLog[r.id] != nil:
	case !idle:
		t.mu.idle[r.id] = now
	case now.Sub(since) >= stagedFor:
		t.enqueue(&fetch{r: r, ended: make(chan struct{}), discard: true})
	}
}
