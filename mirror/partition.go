package mirror

import (
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// phase of a partition at the destination.
type phase uint8

const (
	closed  phase = iota // the end of the destination's log is to be asked
	opening              // is being asked
	running
)

// partition is the state machine of one mirrored partition. It is a value fed
// with answers and the time; it does no I/O.
//
// Offsets, always next ≤ end() ≤ from:
//
//	… ── next ──────── end() ─────── from ──────────── source.end
//	in the log │ in queue │ a hole or gap │ to be fetched
type partition struct {
	tp    record.TopicPartition
	topic *topic
	phase phase
	// era counts openings. Answers to what was asked in an earlier era say
	// nothing about this one.
	era   int
	retry retry // of opening and of fetching

	next      int64 // the end of the destination's log
	from      int64 // the next offset to fetch
	fromEpoch int32 // leader epoch of the batch before from; -1 unknown
	trimmed   int64 // the log start set at the destination
	queue     []chunk
	queued    int  // bytes in queue
	busy      bool // an append or a trim is under way
	asked     bool // in a fetch under way

	leader  leader
	refused bool // the leader is not the leader; wait for the next discovery
	source  sourceView
	lag     lag

	measureAt time.Time // when start and end at the source are to be asked; zero: not
	suspect   suspicion
	halt      *halt // not nil: DIVERGED or gap
	gaps      []Gap // skipped by policy
	lost      string
	reason    string // of the last trouble; empty when the last answer was good
	here      bool   // this node leads it (or it is not known yet)
	count     counters
}

// sourceView is what the source last said.
type sourceView struct {
	heard time.Time // zero: never
	start int64     // -1 unknown
	end   int64     // -1 unknown
	// claimed is the log start of the last answer, believed once another one
	// says at least the same: a flipped bit there would delete records.
	claimed int64
}

// chunk is what one answer brought, to be appended in one go.
type chunk struct {
	batches []record.Batch
	next    int64 // the guard: end of the log before it
	end     int64
	bytes   int
	records int64
}

// Gap is a range of offsets [From, To) that the source deleted before they
// were mirrored.
type Gap struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// halt stops a partition until the source changes or someone decides.
type halt struct {
	state  State
	reason string
	gap    Gap // of state StateGap
}

type counters struct {
	records, batches, bytes int64
	refused                 int64 // answers with a batch that failed a check
}

// retry is a pause that doubles.
type retry struct {
	at    time.Time
	delay time.Duration
}

func (r *retry) failed(now time.Time, most time.Duration) {
	r.delay = min(max(2*r.delay, retryFirst), most)
	r.at = now.Add(r.delay)
}

func (r *retry) due(now time.Time) bool { return !now.Before(r.at) }

func newPartition(t *topic, n int32) *partition {
	return &partition{
		tp: record.TopicPartition{Topic: t.name, Partition: n}, topic: t, here: true,
		fromEpoch: -1, leader: leader{-1, -1}, source: sourceView{start: -1, end: -1, claimed: -1},
	}
}

// end is the offset after what is in the log or on its way there.
func (p *partition) end() int64 {
	if n := len(p.queue); n > 0 {
		return p.queue[n-1].end
	}
	return p.next
}

// position is the offset below which nothing is left to do: from, when all
// that was fetched is in the log.
func (p *partition) position() int64 {
	if len(p.queue) == 0 {
		return p.from
	}
	return p.next
}

// reopen forgets everything but the log itself.
func (p *partition) reopen() {
	p.phase, p.era = closed, p.era+1
	p.queue, p.queued = nil, 0
	p.asked, p.busy = false, false
	p.measureAt, p.suspect = time.Time{}, suspicion{}
	p.source.claimed = -1
}

// opened takes the end of the destination's log.
func (p *partition) opened(now time.Time, e opened) {
	if e.err != nil {
		p.phase = closed
		p.here = !errors.Is(e.err, record.ErrNotLeader)
		if errors.Is(e.err, record.ErrUnknownTopic) {
			p.topic.made = MirroredTopic{} // deleted here; the source still offers it
		}
		p.reason = "open the destination: " + e.err.Error()
		p.retry.failed(now, retryMost)
		return
	}
	p.phase, p.here, p.reason, p.retry = running, true, "", retry{}
	p.next, p.from, p.fromEpoch, p.trimmed = e.next, e.next, e.epoch, 0
	if e.next == 0 {
		p.fromEpoch = -1
	}
	p.lag = lag{}
	if p.suspect.kind == suspectGap || p.halt != nil && p.halt.state == StateGap {
		p.measureAt = now
	}
}

// ready reports whether the partition may be fetched; full means that only
// its queue keeps it from being.
func (p *partition) ready(now time.Time) (ready, full bool) {
	if p.phase != running || p.asked || p.halt != nil || p.refused || p.leader.node < 0 ||
		!p.measureAt.IsZero() || !p.topic.pulls() || !p.retry.due(now) {
		return false, false
	}
	if len(p.queue) >= queueLimit {
		return false, true
	}
	return true, false
}

// unmeasured reports whether it is time to ask where the source's log begins
// and ends.
func (p *partition) unmeasured(now time.Time) bool {
	return p.phase == running && !p.measureAt.IsZero() && !now.Before(p.measureAt) &&
		!p.asked && !p.refused && p.leader.node >= 0 && p.topic.pulls()
}

func (p *partition) ask(maxBytes int32) ask {
	p.asked = true
	return ask{part: p, id: p.topic.id, era: p.era, offset: p.from, leaderEpoch: p.leader.epoch, lastEpoch: p.fromEpoch, maxBytes: maxBytes}
}

// trouble notes what went wrong and pauses fetching.
func (p *partition) trouble(now time.Time, reason string) {
	p.reason = reason
	p.retry.failed(now, retryMost)
}

// unreachable notes that the broker asked did not answer.
func (p *partition) unreachable(reason string) {
	p.asked = false
	p.lost = reason
}

// fetched takes an answer to what was asked of offset from.
func (p *partition) fetched(now time.Time, a ask, ans answer) {
	if a.era != p.era {
		return
	}
	p.asked, p.lost = false, ""
	if ans.fault != faultNone {
		p.suspect.clearUnless(suspectEnd)
	}
	switch ans.fault {
	case faultLeader, faultTopic:
		p.refused = true
		p.trouble(now, ans.text)
		return
	case faultOutOfRange:
		p.measureAt = now
		return
	case faultOther:
		p.trouble(now, ans.text)
		return
	}
	p.observe(now, ans.start, ans.end)
	if ans.diverging != nil {
		p.diverging(now, a, *ans.diverging)
		return
	}
	err := p.take(a, ans)
	if err == nil {
		err = ans.corrupt
	}
	switch {
	case err == nil:
		p.reason, p.retry = "", retry{}
		p.suspect.clearUnless(suspectBatch)
	case errors.Is(err, errOverlap):
		p.count.refused++
		p.overlapping(now, err)
	default:
		p.count.refused++
		p.trouble(now, fmt.Sprintf("refused from offset %d on: %v", p.from, err))
	}
}

// observe notes where the source's log begins and ends.
func (p *partition) observe(now time.Time, start, end int64) {
	p.source.heard, p.source.end = now, end
	if start >= 0 {
		if p.source.claimed >= 0 {
			p.source.start = min(start, p.source.claimed)
		}
		p.source.claimed = start
	}
	p.lag.saw(now, end, p.position())
}

// take puts the answer's good batches in the queue. The error says why the
// rest is not good.
func (p *partition) take(a ask, ans answer) error {
	c := continuity{floor: p.end(), from: p.from, end: ans.end, epoch: p.fromEpoch, leaderEpoch: a.leaderEpoch}
	taken, err := p.believe(&c, ans.batches)
	if len(taken) == 0 {
		return err
	}
	got := chunk{batches: taken, next: p.end(), end: taken[len(taken)-1].NextOffset()}
	for _, b := range taken {
		got.bytes, got.records = got.bytes+len(b), got.records+int64(b.Count())
	}
	p.queue = append(p.queue, got)
	p.queued += got.bytes
	p.from, p.fromEpoch = got.end, taken[len(taken)-1].LeaderEpoch()
	return err
}

// believe returns those of the batches that follow on what is there and are
// beyond doubt. Base offset and leader epoch stand outside of a batch's
// checksum. A base offset that a flipped bit has raised looks like a hole; what
// comes after such a batch shows it. A flipped epoch looks like a change of
// leader; the next batch bears it out. The last batch of an answer has nothing
// after it, and the first one after a gap follows on nothing: these are taken
// when they come a second time.
func (p *partition) believe(c *continuity, batches []record.Batch) ([]record.Batch, error) {
	firm := 0 // so many are beyond doubt
	for i, b := range batches {
		last := i == len(batches)-1
		gap, hole := c.floor < c.from, b.BaseOffset() > c.from
		elected := c.elected(b) && (last || batches[i+1].LeaderEpoch() != b.LeaderEpoch())
		if err := c.next(b); err != nil {
			return batches[:firm], err
		}
		if (gap || elected || hole && last) && !p.suspect.again(suspectBatch, batchMark(b)) {
			return batches[:i], nil
		}
		if hole && !last {
			firm = i // until the next one has followed on it
		} else {
			firm = i + 1
		}
	}
	return batches, nil
}

// output is what is to be done at the destination now, or nil.
func (p *partition) output() any {
	if p.phase != running || p.busy {
		return nil
	}
	// The log start is followed on its own, as soon as the log reaches it:
	// no new record is needed for that.
	if start := p.source.start; start > p.trimmed && start <= p.next {
		p.busy = true
		return trim{p, p.era, start}
	}
	if len(p.queue) > 0 {
		p.busy = true
		return write{p, p.era, p.queue[0].next, p.queue[0].batches}
	}
	return nil
}

// written takes the outcome of an append.
func (p *partition) written(now time.Time, w written) {
	if w.era != p.era {
		return
	}
	p.busy = false
	if w.err != nil {
		p.failedHere(now, "append", w.err)
		return
	}
	done := p.queue[0]
	p.queue = p.queue[1:]
	p.queued -= done.bytes
	p.next = done.end
	p.count.records += done.records
	p.count.batches += int64(len(done.batches))
	p.count.bytes += int64(done.bytes)
	p.lag.reached(p.position())
}

// trimDone takes the outcome of setting the log start.
func (p *partition) trimDone(now time.Time, t trimmed) {
	if t.era != p.era {
		return
	}
	p.busy = false
	if t.err != nil {
		p.failedHere(now, "set the log start", t.err)
		return
	}
	p.trimmed = t.start
}

// failedHere: what the log has now is not known, so it is asked.
func (p *partition) failedHere(now time.Time, what string, err error) {
	p.reopen()
	p.trouble(now, what+" at the destination: "+err.Error())
}
