package replica

import (
	"time"

	"github.com/entrepot-hub/entrepot/storage"
)

// policy is what retention goes by.
type policy struct {
	age   time.Duration // 0 or less: no limit
	bytes int64         // 0 or less: no limit
}

// retain decides where the log should start: above the segments, oldest first,
// whose newest record came longer ago than the policy allows, and above those
// without which it still has the bytes that the policy allows. It never goes
// above the high watermark. roll asks for a new segment, because the one that
// is being written is too old as a whole and can only go once it is sealed.
//
// A record's age counts from when it came, not from its own timestamp: an old
// log that is loaded today stays as long as anything else (docs/adr/0002).
// now and written, the time of the last append, are in ms.
func retain(segments []storage.SegmentInfo, p policy, now, written, start, hw int64) (newStart int64, roll bool) {
	newStart = start
	var total int64
	for _, s := range segments {
		total += s.Bytes
	}
	for i, s := range segments {
		came := written
		if i+1 < len(segments) {
			came = segments[i+1].Created // nothing came to this one after that
		}
		tooOld := p.age > 0 && came < now-p.age.Milliseconds()
		tooMuch := p.bytes > 0 && s.Sealed && total-s.Bytes >= p.bytes
		empty := s.NextOffset == s.BaseOffset
		if !tooOld && !tooMuch && !empty || s.NextOffset > hw {
			break
		}
		if !s.Sealed && !empty {
			roll = true
		}
		newStart = max(newStart, s.NextOffset)
		total -= s.Bytes
	}
	return newStart, roll && newStart > start
}

// trimIndex is the index up to which segments may be deleted: of those, oldest
// first, that are wholly below the log start, and whose entries are applied and
// followed by a segment whose header is durable, so that the state they amount
// to is not lost with them (Invariant 12). most is the lower of the last two.
func trimIndex(segments []storage.SegmentInfo, start int64, most uint64) (index uint64) {
	for _, s := range segments {
		if !s.Sealed || s.NextOffset > start || s.LastIndex > most {
			break
		}
		index = s.LastIndex
	}
	return index
}

// retain looks at what is too old or too much. Of a mirror only its link says
// so, of a compacted topic nobody.
func (r *Replica) retain(now time.Time) {
	v, t := r.view.Load(), r.topic.Load()
	if v.role == RoleQuarantined {
		return
	}
	r.inbox.post(func(b *inbox) { b.mu.expire = now.Add(-r.set.cfg.ProducerExpiry).UnixMilli() })
	if v.serving && !v.mirror.Active && !t.Keep && (t.Retention > 0 || t.RetentionBytes > 0) {
		start, roll := retain(r.log.Segments(), policy{t.Retention, t.RetentionBytes}, now.UnixMilli(), r.written.Load(), v.offsets.Start, v.offsets.HighWatermark)
		if roll {
			r.inbox.post(func(b *inbox) { b.mu.rollNow = true })
		}
		if start > v.offsets.Start {
			p := &proposal{kind: propControl, control: LogStart{Offset: start}, failed: func(error) {
				// Not leading any more: the leader will look itself.
			}}
			_ = r.inbox.propose(p) // a closed group needs no retention
		}
	}
	r.set.ready(r)
}

// trim deletes the segments that nobody needs any more: those below the log
// start, and those below a machine's snapshot.
func (r *Replica) trim() {
	index := uint64(0)
	if r.core.cfg.machine != nil {
		index = r.core.snapshotAt
	} else {
		index = trimIndex(r.log.Segments(), r.core.control.logStart, min(r.core.applied, r.core.sealedTo))
	}
	if index <= r.log.First().Index {
		return
	}
	if err := r.log.Trim(index); err != nil {
		r.set.cfg.Logger.Warn("delete old segments", "topic", r.id.Topic, "partition", r.id.Partition, "error", err)
	}
	r.inbox.post(func(b *inbox) { b.mu.trimmed = true })
	r.set.ready(r)
}

// Configure replaces the settings of the replica's topic. The next step goes by
// them.
func (r *Replica) Configure(t TopicConfig) {
	r.topic.Store(&t)
	r.log.SetConfig(t.log())
}
