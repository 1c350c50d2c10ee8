package mirror

import (
	"fmt"
	"hash/crc32"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// suspicion is a finding that is acted on when it comes a second time: a bit
// that flipped on the way does not flip again, and an end that a new leader
// has not yet agreed on goes up again.
type suspicion struct {
	kind  suspect
	mark  uint64
	since time.Time
}

type suspect uint8

const (
	suspectNone    suspect = iota
	suspectBatch           // a batch of an answer has nothing to bear it out
	suspectEpoch           // the source says that our last epoch ended below our end
	suspectOverlap         // the source's batch begins inside of our log
	suspectEnd             // the source's log ends below ours
	suspectGap             // the source's log begins above our end
)

// again reports whether the same finding came before, and remembers it.
func (s *suspicion) again(kind suspect, mark uint64) bool {
	return s.lasts(time.Time{}, kind, mark, 0)
}

// lasts reports whether the same finding came before, at least d ago.
func (s *suspicion) lasts(now time.Time, kind suspect, mark uint64, d time.Duration) bool {
	if s.kind != kind || s.mark != mark {
		*s = suspicion{kind, mark, now}
		return false
	}
	return now.Sub(s.since) >= d
}

func (s *suspicion) clearUnless(kind suspect) {
	if s.kind != kind {
		*s = suspicion{}
	}
}

// batchMark tells batches apart by their header, checksum included.
func batchMark(b record.Batch) uint64 {
	return uint64(crc32.ChecksumIEEE(b[:record.BatchHeaderSize]))<<32 | uint64(b.CRC())
}

// diverging: the source's log has another history than ours (KIP-595's answer
// to LastFetchedEpoch). Nothing is cut here to fit.
func (p *partition) diverging(now time.Time, a ask, at record.EpochEnd) {
	if !p.suspect.again(suspectEpoch, uint64(at.End)<<16^uint64(uint32(at.Epoch))) {
		p.trouble(now, "the source reports another history; asking again")
		return
	}
	p.halt = &halt{state: StateDiverged, reason: fmt.Sprintf(
		"the source's history differs: its leader epoch %d ends at offset %d, the mirror has epoch %d up to offset %d",
		at.Epoch, at.End, a.lastEpoch, a.offset)}
}

// overlapping: the source answers with a batch that begins inside of ours.
func (p *partition) overlapping(now time.Time, err error) {
	if !p.suspect.again(suspectOverlap, uint64(p.end())) {
		p.trouble(now, err.Error()+"; asking again")
		return
	}
	p.halt = &halt{state: StateDiverged, reason: err.Error()}
}

// measured takes where the source's log begins and ends, which is asked when
// an offset is not in it, and as long as the partition stands at a gap.
func (p *partition) measured(now time.Time, a ask, x extent) {
	if a.era != p.era {
		return
	}
	p.asked, p.lost = false, ""
	switch x.fault {
	case faultNone:
	case faultLeader, faultTopic:
		p.refused = true
		p.trouble(now, x.text)
		return
	default:
		p.trouble(now, x.text)
		p.measureAt = p.retry.at
		return
	}
	p.measureAt = time.Time{}
	p.observe(now, x.start, x.end)
	switch {
	case p.from < x.start:
		p.behind(now, x)
	case p.from > x.end:
		p.beyond(now, x)
	default:
		if p.halt != nil && p.halt.state == StateGap {
			p.halt = nil
		}
		p.suspect.clearUnless(suspectNone)
		p.trouble(now, "the source refused an offset that it has; asking again")
	}
}

// behind: the source no longer has what comes next.
func (p *partition) behind(now time.Time, x extent) {
	gap := Gap{p.from, x.start}
	if p.busy || len(p.queue) > 0 {
		p.trouble(now, "the source deleted what comes next; finishing what was fetched")
		p.measureAt = p.retry.at
		return
	}
	if p.halt == nil && !p.suspect.again(suspectGap, uint64(p.from)) {
		s := p.suspect
		p.reopen() // where our own log ends may be old news
		p.suspect = s
		return
	}
	switch {
	case p.end() == 0:
		// Nothing was ever mirrored: the mirror begins where the source does.
	case p.topic.link.OnGap == GapSkip:
		p.skipped(gap)
	default:
		p.halt = &halt{state: StateGap, gap: gap, reason: fmt.Sprintf(
			"the source deleted offsets %d to %d before they were mirrored", gap.From, gap.To-1)}
		// The range is kept up to date, at both ends: an append whose outcome
		// was not known may turn out to have been made.
		p.reopen()
		p.retry.at = now.Add(gapRecheck)
		return
	}
	p.halt, p.reason, p.retry = nil, "", retry{}
	p.from, p.fromEpoch = x.start, -1
	p.lag.saw(now, x.end, p.position())
}

// skipped enters a gap, once also when it is met again after a failed append.
func (p *partition) skipped(gap Gap) {
	if n := len(p.gaps); n > 0 && p.gaps[n-1].From == gap.From {
		p.gaps[n-1] = gap
		return
	}
	p.gaps = append(p.gaps, gap)
}

// beyond: the source's log ends below the mirror's. Just after a change of its
// leader it may say so for a moment, until the new one knows what is
// committed.
func (p *partition) beyond(now time.Time, x extent) {
	if !p.suspect.lasts(now, suspectEnd, 0, confirmAfter) {
		p.trouble(now, fmt.Sprintf("the source's log ends at %d, the mirror's at %d; asking again", x.end, p.from))
		p.measureAt = p.retry.at
		return
	}
	p.halt = &halt{state: StateDiverged, reason: fmt.Sprintf(
		"the source lost offsets %d to %d, which the mirror has", x.end, p.from-1)}
}
