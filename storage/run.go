package storage

import (
	"context"
	"time"
)

// Run flushes what logs append and does the store's chores until ctx ends:
// stating the positions of idle logs, rewriting the recovery point, watching
// the disk. What is pending then is left to Close. Only one Run at a time.
func (s *Store) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for s.work(s.cfg.Clock(), true) {
			if ctx.Err() != nil {
				return nil
			}
		}
		timer.Reset(s.untilDue(s.cfg.Clock()))
		select {
		case <-ctx.Done():
			return nil
		case <-s.flush.wake:
		case <-timer.C:
		}
	}
}

// Step does once, without waiting for anything to be due, what Run does in a
// loop: it flushes what is pending at now and does the chores that are due. It
// reports whether it flushed. It is for seeded simulations, which have no
// goroutines, and must not be called while Run runs.
func (s *Store) Step(now time.Time) bool { return s.work(now, false) }

func (s *Store) work(now time.Time, parallel bool) bool {
	flushed := s.flushOnce(now, flushHow{parallel: parallel})
	s.chores(now)
	return flushed
}

// chores does what is due.
func (s *Store) chores(now time.Time) {
	for _, l := range s.idle.take(now, s.cfg.IdleAfter) {
		l.stateIdle()
	}
	if s.disk.due(now) {
		s.watchDisk(now)
	}
	if s.point.due(now) {
		s.writePoint(now)
	}
}

// untilDue is how long Run may sleep if nobody wakes it.
func (s *Store) untilDue(now time.Time) time.Duration {
	next := s.disk.next
	if at, ok := s.flush.due(); ok && at.Before(next) {
		next = at
	}
	if at, ok := s.idle.due(s.cfg.IdleAfter); ok && at.Before(next) {
		next = at
	}
	return max(0, next.Sub(now))
}
