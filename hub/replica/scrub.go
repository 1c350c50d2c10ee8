package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// Scrubbing: everything on the disk is read once in a while, so that what has
// decayed is found while the other replicas are whole. One segment is read after
// the other, at a bounded rate, not while the node is busy and not while a log is
// copied to or from it: what reads for nobody in particular takes one turn at the
// disk at a time. How far it came is kept, so that restarts do not keep it from ever
// reaching the end.

// ScrubStats is what scrubbing has found.
type ScrubStats struct {
	Running  bool
	Began    time.Time // of this pass or the last one
	LastPass time.Time // when the last whole pass ended; zero: never
	Bytes    int64     // read in this pass
	Damaged  int64     // logs found damaged since the start
	Indexes  int64     // segments whose index could not be used, since the start
	Mended   int64     // of these: written anew
}

// scrubber is what the set knows of it.
type scrubber struct {
	mu struct {
		sync.Mutex
		stats ScrubStats
	}
}

// Scrubbed is what scrubbing has found so far.
func (s *Set) Scrubbed() ScrubStats {
	s.scrubber.mu.Lock()
	defer s.scrubber.mu.Unlock()
	return s.scrubber.mu.stats
}

func (s *scrubber) note(f func(*ScrubStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.mu.stats)
}

const (
	scrubRest = time.Minute     // after a start, which has other things to read
	scrubKeep = time.Minute     // between two writes of the mark
	scrubWait = 2 * time.Second // until a busy node is looked at again
)

// scrub reads all logs over and over until ctx ends.
func (s *Set) scrub(ctx context.Context) {
	pause(ctx, scrubRest)
	mark := s.store.ScrubMark()
	s.scrubber.note(func(st *ScrubStats) { st.LastPass = asTime(mark.Done) })
	for ctx.Err() == nil {
		now := s.cfg.Clock()
		if mark.Began == 0 {
			if next := asTime(mark.Done).Add(s.cfg.ScrubEvery); mark.Done != 0 && now.Before(next) {
				pause(ctx, min(next.Sub(now), time.Hour))
				continue
			}
			mark = storage.ScrubMark{Began: now.UnixMilli(), Done: mark.Done}
		}
		s.scrubber.note(func(st *ScrubStats) { st.Running, st.Began, st.Bytes = true, asTime(mark.Began), mark.Bytes })
		if !s.scrubPass(ctx, &mark) {
			s.keepMark(mark)
			return
		}
		s.cfg.Logger.Info("all logs were read and checked", "bytes", mark.Bytes, "damaged", mark.Found, "took", s.cfg.Clock().Sub(asTime(mark.Began)).Round(time.Second))
		mark = storage.ScrubMark{Done: s.cfg.Clock().UnixMilli()}
		s.scrubber.note(func(st *ScrubStats) { st.Running, st.LastPass = false, asTime(mark.Done) })
		s.keepMark(mark)
	}
}

func asTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func (s *Set) keepMark(m storage.ScrubMark) {
	if err := s.store.SetScrubMark(m); err != nil && !errors.Is(err, record.ErrOffline) {
		s.cfg.Logger.Warn("how far the scrub came is not kept", "error", err)
	}
}

// scrubPass reads what is behind the mark. It reports false when ctx has ended.
func (s *Set) scrubPass(ctx context.Context, mark *storage.ScrubMark) bool {
	kept := s.cfg.Clock()
	for _, r := range s.All() {
		at := cmp.Or(cmp.Compare(r.id.Topic, mark.Topic), cmp.Compare(r.id.Partition, mark.Partition))
		if at < 0 {
			continue
		}
		for _, seg := range r.log.Segments() {
			if at == 0 && seg.Seq <= mark.Seq || r.log.Damage() != nil {
				continue
			}
			if !s.scrubSegment(ctx, r, seg.Seq, mark) {
				return false
			}
			mark.Topic, mark.Partition, mark.Seq = r.id.Topic, r.id.Partition, seg.Seq
			if now := s.cfg.Clock(); now.Sub(kept) >= scrubKeep {
				s.keepMark(*mark)
				kept = now
			}
		}
	}
	return true
}

// scrubSegment reads one segment, once the node is not busy.
func (s *Set) scrubSegment(ctx context.Context, r *Replica, seq uint32, mark *storage.ScrubMark) bool {
	for s.Buffered() > s.cfg.TotalBytes/16 {
		if !pause(ctx, scrubWait) {
			return false
		}
	}
	got, err := r.log.Scrub(ctx, seq, s.scrubPace())
	mark.Bytes += got.Bytes
	s.scrubber.note(func(st *ScrubStats) { st.Bytes = mark.Bytes })
	s.noteIndex(r, seq, got)
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, record.ErrQuarantined):
		mark.Found++
		s.scrubber.note(func(st *ScrubStats) { st.Damaged++ })
		r.noteDamage()
	case err != nil && !errors.Is(err, record.ErrStopped):
		s.cfg.Logger.Warn("a segment was not read for its check", "topic", r.id.Topic, "partition", r.id.Partition, "segment", seq, "error", err)
	}
	return true
}

// scrubPace has a scrub read no faster than it may, and nothing while a log is
// copied. What was not read meanwhile, or while the node was busy, is not made up for.
func (s *Set) scrubPace() func(ctx context.Context, n int) error {
	pace := newPace(s.cfg.ScrubRate)
	return func(ctx context.Context, n int) error {
		for s.copies.Load() > 0 {
			if !pause(ctx, scrubWait) {
				return fmt.Errorf("%w: %w", record.ErrStopped, ctx.Err())
			}
			pace = newPace(s.cfg.ScrubRate)
		}
		return pace.wait(ctx, n)
	}
}

// noteIndex counts and tells of an index that was found unusable.
func (s *Set) noteIndex(r *Replica, seq uint32, got storage.Scrubbed) {
	if got.Index == nil {
		return
	}
	s.scrubber.note(func(st *ScrubStats) {
		st.Indexes++
		if got.Unmended == nil {
			st.Mended++
		}
	})
	of := s.cfg.Logger.With("topic", r.id.Topic, "partition", r.id.Partition, "segment", seq, "found", got.Index)
	if got.Unmended != nil {
		of.Warn("the index at the end of a segment has decayed or was never finished; until it can be written anew it is made from the frames when it is needed", "error", got.Unmended)
		return
	}
	of.Warn("the index at the end of a segment had decayed or was never finished; it was written anew from the frames")
}
