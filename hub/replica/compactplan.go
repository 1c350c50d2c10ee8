package replica

import (
	"math"
	"time"

	"github.com/entrepot-hub/entrepot/storage"
)

// Compaction is what a topic's settings say of it.
type Compaction struct {
	On              bool          // cleanup.policy has compact
	DeleteRetention time.Duration // delete.retention.ms
	MinLag, MaxLag  time.Duration // min. and max.compaction.lag.ms
	DirtyRatio      float64       // min.cleanable.dirty.ratio
}

// compactionPlan is what there is to compact in a log.
type compactionPlan struct {
	segments     []storage.SegmentInfo // from the first, as many as may be compacted
	dirtyFrom    int64                 // below it, no record has a later one below it
	dirty, total int64                 // bytes
	due          bool
	roll         bool // the newest segment has waited too long and must end first
}

// ratio is the part of the plan's bytes that is dirty.
func (p *compactionPlan) ratio() float64 { return float64(p.dirty) / float64(max(p.total, 1)) }

// compactionLimit is what must not be compacted yet, apart from what is too
// young.
type compactionLimit struct {
	offset int64  // records from here on: the last stable offset
	index  uint64 // entries above: not applied
}

// planCompaction decides what of a log may be compacted, and whether it is
// time: when the dirty part is large enough, or has waited too long. The newest
// segment never is part of it. now is in ms. A record's age counts from when it
// came, as for retention (docs/adr/0002).
func planCompaction(segments []storage.SegmentInfo, c Compaction, limit compactionLimit, now int64) compactionPlan {
	var p compactionPlan
	if len(segments) == 0 {
		return p
	}
	n := 0
	for n+1 < len(segments) {
		s := &segments[n]
		young := c.MinLag > 0 && segments[n+1].Created > now-c.MinLag.Milliseconds()
		if s.NextOffset > limit.offset || s.LastIndex > limit.index || young && !s.Compacted {
			break
		}
		n++
	}
	p.segments = segments[:n]
	p.dirtyFrom = dirtyFrom(segments)
	oldest := int64(math.MaxInt64) // when the first dirty record came
	for i := range segments {
		s := &segments[i]
		dirty := s.NextOffset > max(p.dirtyFrom, s.BaseOffset)
		if dirty {
			oldest = min(oldest, s.Created)
		}
		if i < n {
			p.total += s.Bytes
			if dirty {
				p.dirty += s.Bytes
			}
		}
	}
	waited := oldest != math.MaxInt64 && c.MaxLag > 0 && oldest < now-c.MaxLag.Milliseconds()
	p.due = p.dirty > 0 && (p.ratio() >= c.DirtyRatio || waited)
	newest := &segments[len(segments)-1]
	p.roll = waited && newest.NextOffset > newest.BaseOffset && newest.Created < now-c.MaxLag.Milliseconds()
	return p
}

// dirtyFrom is the offset below which a log is clean: where the compacted
// segments that it begins with end, as far as each was compacted with the keys
// of all of it.
func dirtyFrom(segments []storage.SegmentInfo) int64 {
	from := segments[0].BaseOffset
	for _, s := range segments {
		if !s.Compacted {
			return from
		}
		if s.Clean < s.NextOffset {
			return max(from, s.Clean)
		}
		from = s.NextOffset
	}
	return from
}

// compactionGroups cuts segments into runs that become one segment each, of no
// more than most bytes unless a single one has more.
func compactionGroups(segments []storage.SegmentInfo, most int64) (groups [][]storage.SegmentInfo) {
	var bytes int64
	begin := 0
	for i, s := range segments {
		if i > begin && bytes+s.Bytes > most {
			groups = append(groups, segments[begin:i])
			begin, bytes = i, 0
		}
		bytes += s.Bytes
	}
	if begin < len(segments) {
		groups = append(groups, segments[begin:])
	}
	return groups
}
