package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// CompactionStats are what compaction has done on this node since it started.
type CompactionStats struct {
	Passes, Errors uint64
	Before, After  int64     // bytes of the segments that were compacted, and of what became of them
	Last           time.Time // end of the last pass; zero when there was none
	Took           time.Duration
	LastError      string
}

// compactions is the node's one compaction at a time.
type compactions struct {
	mu struct {
		sync.Mutex
		stats CompactionStats
		by    map[storage.LogID]CompactionStats
	}
}

// Compactions is what compaction has done on this node.
func (s *Set) Compactions() CompactionStats {
	s.compactions.mu.Lock()
	defer s.compactions.mu.Unlock()
	return s.compactions.mu.stats
}

// Compacted is what compaction has done to the replica's log since the node
// started.
func (r *Replica) Compacted() CompactionStats {
	c := &r.set.compactions
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.by[r.id]
}

// Dirty is what of a compacted log waits to be compacted.
type Dirty struct {
	CleanBelow int64 // below this offset each key has one record at most
	Bytes      int64
	Ratio      float64 // of all that may be compacted
}

// Dirty is what waits to be compacted; false unless the topic is compacted.
func (r *Replica) Dirty() (Dirty, bool) {
	if !r.topic.Load().Compact.On {
		return Dirty{}, false
	}
	p := r.compactionPlan(r.set.cfg.Clock())
	return Dirty{p.dirtyFrom, p.dirty, p.ratio()}, true
}

func (c *compactions) note(id storage.LogID, done storage.Rewritten, took time.Duration, now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.mu.by[id]
	for _, s := range []*CompactionStats{&c.mu.stats, &one} {
		s.Before, s.After = s.Before+done.Before, s.After+done.After
		s.Last, s.Took = now, took
		if err != nil {
			s.Errors++
			s.LastError = err.Error()
		} else {
			s.Passes++
			s.LastError = ""
		}
	}
	if c.mu.by == nil {
		c.mu.by = map[storage.LogID]CompactionStats{}
	}
	c.mu.by[id] = one
}

// compact looks for something to compact until ctx ends. A volume has one
// compaction at a time, so that it cannot take the disk from everybody else.
func (s *Set) compact(ctx context.Context) {
	t := time.NewTicker(s.cfg.CompactEvery)
	defer t.Stop()
	for {
		for ctx.Err() == nil && s.compactOne(ctx) {
			// Until nothing is due.
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// compactOne compacts the log that needs it most. It reports whether there may
// be more to do.
func (s *Set) compactOne(ctx context.Context) bool {
	var best *Replica
	var plan compactionPlan
	for _, r := range s.All() {
		p := r.compactionPlan(s.cfg.Clock())
		if p.roll {
			r.inbox.post(func(b *inbox) { b.mu.rollNow = true })
			s.ready(r)
		}
		if p.due && (best == nil || p.ratio() > plan.ratio()) {
			best, plan = r, p
		}
	}
	if best == nil {
		return false
	}
	began := s.cfg.Clock()
	done, err := best.compact(ctx, plan)
	now := s.cfg.Clock()
	if errors.Is(err, storage.ErrNotSealed) || errors.Is(err, record.ErrStopped) {
		if done.Before > 0 {
			s.compactions.note(best.id, done, now.Sub(began), now, nil)
		}
		return false // later
	}
	s.compactions.note(best.id, done, now.Sub(began), now, err)
	if err != nil {
		best.noteDamage()
		s.cfg.Logger.Error("compact a log", "topic", best.id.Topic, "partition", best.id.Partition, "error", err)
		return false
	}
	return true
}

// compactionPlan is what there is to do for the replica's log.
func (r *Replica) compactionPlan(now time.Time) compactionPlan {
	v, t := r.view.Load(), r.topic.Load()
	if !t.Compact.On || v.err != nil || r.set.store.Disk().Offline != nil {
		return compactionPlan{}
	}
	return planCompaction(r.log.Segments(), t.Compact, compactionLimit{v.offsets.LastStable, v.applied}, now.UnixMilli())
}

// compact runs one pass over the replica's log.
func (r *Replica) compact(ctx context.Context, plan compactionPlan) (total storage.Rewritten, err error) {
	now, cfg := r.set.cfg.Clock().UnixMilli(), &r.set.cfg
	c := &compactor{
		keys: newOffsetMap(cfg.CompactBytes), start: r.view.Load().offsets.Start, now: now,
		horizon: deleteHorizon(now, r.topic.Load().Compact.DeleteRetention), lasts: map[int64]int64{},
	}
	for _, p := range r.Producers() {
		c.lasts[p.ID] = p.LastOffset
	}
	p := pass{log: r.log, compactor: c, pace: newPace(cfg.CompactRate), segmentBytes: r.segmentBytes()}
	p.done = func(one storage.Rewritten) {
		total.Before, total.After = total.Before+one.Before, total.After+one.After
		total.Dropped, total.Kept = total.Dropped+one.Dropped, total.Kept+one.Kept
		r.inbox.post(func(b *inbox) { b.mu.trimmed = true })
		r.set.ready(r)
	}
	return total, p.run(ctx, plan)
}

func deleteHorizon(now int64, retention time.Duration) int64 {
	return now + min(retention.Milliseconds(), 1<<62-now)
}

func (r *Replica) segmentBytes() int64 {
	if n := r.topic.Load().SegmentBytes; n > 0 {
		return n
	}
	return 128 << 20
}

// pace spreads reading and writing over time.
type pace struct {
	rate  int64 // bytes a second; 0 or less: as fast as it goes
	since time.Time
	bytes int64
}

func newPace(rate int64) *pace { return &pace{rate: rate, since: time.Now()} }

// wait takes note of n bytes and waits if there were too many of late. Errors
// wrap record.ErrStopped.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	p.bytes += int64(n)
	ahead := time.Duration(float64(p.bytes)/float64(p.rate)*float64(time.Second)) - time.Since(p.since)
	if ahead <= 10*time.Millisecond {
		return nil
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", record.ErrStopped, ctx.Err())
	}
}
