package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// bug is one planted in a simulation, to see that it would be caught.
type bug int

const (
	noBug         bug = iota
	noGuard           // the destination appends whatever it is given
	noCRC             // batches are split but not checked
	autoSkip          // a gap is passed over
	neverStale        // the last lag is told for ever
	blindStart        // a log start is believed at once
	trustHoles        // a raised base offset is taken for a hole
	spliceHistory     // the source's history is not compared
)

// sim runs the state machine alone against a model of both sites, one seeded
// step at a time: no goroutine, no real clock. Answers come in any order, late,
// damaged or not at all; appends fail before, after, or are done much later;
// the destination crashes at any step and keeps its log and nothing else.
type sim struct {
	rng     *rand.Rand
	bug     bug
	cfg     Config
	now     time.Time
	core    *core
	src     *fakeSite
	dst     *memSite
	down    bool
	going   []any    // actions under way
	late    []func() // appends that the destination does after all
	lastOK  time.Time
	holes   bool // the source's log has holes; then base offsets are not flipped
	trims   bool // the source may trim above the mirror
	unclean bool // the source may lose its tail and write another one
	steps   int
	flipped map[partKey]bool
	stats   map[string]int
}

const simPartitions = 2

func newSim(seed uint64, b bug) *sim {
	s := &sim{rng: rand.New(rand.NewPCG(seed, 7)), bug: b, holes: seed%2 == 1, now: time.Unix(1e9, 0), src: newFakeSite(), dst: newMemSite(), stats: map[string]int{}, flipped: map[partKey]bool{}}
	s.cfg = Config{Site: "west", HoldBytes: 8 << 10, FetchBytes: 4 << 10, PartitionBytes: 2 << 10}.withDefaults()
	if b == neverStale {
		s.cfg.Stale = 1000 * time.Hour
	}
	s.src.create("clicks", 1, simPartitions)
	s.boot()
	return s
}

// boot starts the mirror over what the destination's log has.
func (s *sim) boot() {
	l := DefaultLink("east")
	if s.bug == autoSkip {
		l.OnGap = GapSkip
	}
	s.core = newCore(s.cfg, l)
	s.core.know(s.dst.Mirrors())
	s.going = nil
}

// step does one thing at random.
func (s *sim) step() {
	s.steps++
	switch n := s.rng.IntN(100); {
	case n < 30:
		s.going = append(s.going, s.core.next(s.now)...)
	case n < 70 && len(s.going) > 0:
		i := s.rng.IntN(len(s.going))
		action := s.going[i]
		s.going = append(s.going[:i], s.going[i+1:]...)
		s.core.step(s.now, s.outcome(action, true))
	case n < 80:
		s.now = s.now.Add(time.Duration(s.rng.IntN(400)) * time.Millisecond)
	case n < 82:
		s.now = s.now.Add(time.Duration(s.rng.IntN(8)) * time.Second)
	case n < 84:
		s.down = !s.down
	case n < 86 && len(s.late) > 0:
		s.late[0]()
		s.late = s.late[1:]
	case n < 87:
		s.crash()
	default:
		s.write()
	}
}

// crash loses the state machine; appends under way are done or not.
func (s *sim) crash() {
	s.stats["crashes"]++
	for _, a := range s.going {
		if w, ok := a.(write); ok && s.rng.IntN(2) == 0 {
			s.late = append(s.late, func() { s.append(w) })
			if s.rng.IntN(2) == 0 {
				s.append(w)
				s.late = s.late[:len(s.late)-1]
			}
		}
	}
	s.boot()
}

// write changes the source's log.
func (s *sim) write() {
	i := s.rng.IntN(simPartitions)
	l, to := s.src.topics["clicks"].logs[i], s.mirrorOf(i)
	switch n := s.rng.IntN(20); {
	case n == 0:
		most := l.end
		if !s.trims {
			most = min(most, to.next)
		}
		if most > l.start {
			l.trim(l.start + s.rng.Int64N(most-l.start+1))
			s.stats["trims"]++
		}
	case n == 1:
		l.epoch++
	case n == 2 && s.unclean && l.end > l.start:
		l.cut(l.start + s.rng.Int64N(l.end-l.start))
		l.epoch++
		l.add(s.rng, record.None, 1+s.rng.IntN(5), 0)
		s.stats["cuts"]++
	default:
		hole := int64(0)
		if s.holes && s.rng.IntN(8) == 0 {
			hole = s.rng.Int64N(20)
		}
		l.add(s.rng, record.Codec(s.rng.IntN(5)), 1+s.rng.IntN(6), hole)
	}
}

// mirrorOf a partition; one that never was if there is none yet.
func (s *sim) mirrorOf(i int) *memLog {
	if t := s.dst.topics["clicks"]; t != nil && i < len(t.logs) {
		return t.logs[i]
	}
	return &memLog{epoch: -1}
}

// append does what the destination does with an append.
func (s *sim) append(w write) error {
	l := s.mirrorOf(int(w.part.tp.Partition))
	if w.next != l.next {
		if s.bug != noGuard {
			return record.ErrMirrorFenced
		}
		l.next = w.next // and writes it there
	}
	for _, b := range w.batches {
		if b.BaseOffset() < l.next && s.bug == noBug {
			panic(fmt.Sprintf("batch %d onto a log that ends at %d", b.BaseOffset(), l.next))
		}
		l.batches, l.next, l.epoch = append(l.batches, b), b.NextOffset(), b.LeaderEpoch()
	}
	s.stats["appends"]++
	return nil
}

var errSim = errors.New("failed")

// outcome of an action, now; faulty says whether things go wrong.
func (s *sim) outcome(action any, faulty bool) any {
	trouble := faulty && s.rng.IntN(10) == 0
	lost := trouble || s.down
	switch a := action.(type) {
	case discover:
		if lost {
			return discovered{err: errSim}
		}
		return discovered{topics: s.topics()}
	case ensure:
		if trouble {
			return ensured{a.topic, errSim}
		}
		return ensured{a.topic, s.dst.EnsureTopic(nil, a.topic)}
	case open:
		if trouble {
			return opened{part: a.part, err: errSim}
		}
		next, epoch := s.mirrorOf(int(a.part.tp.Partition)).Next()
		return opened{a.part, next, epoch, nil}
	case fetch:
		return s.fetch(a, lost, faulty)
	case measure:
		return s.measure(a, lost)
	case write:
		return written{a, s.maybeAppend(a, trouble)}
	case trim:
		if trouble {
			return trimmed{a, errSim}
		}
		return trimmed{a, s.mirrorOf(int(a.part.tp.Partition)).trim(a.start)}
	}
	panic(fmt.Sprintf("%T", action))
}

// maybeAppend fails before, after, or long before it is done.
func (s *sim) maybeAppend(a write, trouble bool) error {
	switch {
	case !trouble:
		return s.append(a)
	case s.rng.IntN(3) == 0:
		s.stats["late"]++
		s.late = append(s.late, func() { s.append(a) })
	case s.rng.IntN(2) == 0:
		s.append(a)
	}
	return errSim
}

func (s *sim) topics() []sourceTopic {
	var all []sourceTopic
	for name, t := range s.src.topics {
		st := sourceTopic{name: name, id: t.id, to: []string{"west"}}
		for _, l := range t.logs {
			st.leaders = append(st.leaders, leader{l.node, l.epoch})
		}
		all = append(all, st)
	}
	return all
}

// fetch goes through the wire's own structures, where bits may flip.
func (s *sim) fetch(a fetch, lost, faulty bool) fetched {
	e := fetched{broker: a.broker, asks: a.asks, took: 10 * time.Millisecond}
	if lost {
		e.err = errSim
		return e
	}
	resp, _, _ := s.src.fetchNow(fetchRequest(a))
	if faulty && s.rng.IntN(6) == 0 {
		s.flip(resp)
	}
	e.answers, e.bytes, e.err = readAnswers(a.asks, resp)
	if e.err == nil {
		s.lastOK = s.now
	}
	if s.bug == noCRC && e.err == nil {
		s.unchecked(a.asks, resp, e.answers)
	}
	for i := range e.answers {
		s.misread(a.asks[i], &e.answers[i])
	}
	return e
}

// flip damages an answer: a bit of a batch, a log start, an offset, a
// partition's number.
func (s *sim) flip(resp *kmsg.FetchResponse) {
	s.stats["flips"]++
	t := &resp.Topics[s.rng.IntN(len(resp.Topics))]
	p := &t.Partitions[s.rng.IntN(len(t.Partitions))]
	bit := 1 << s.rng.IntN(8)
	// A bit that has just flipped does not flip again.
	key := partKey{t.TopicID, p.Partition}
	if s.flipped[key] {
		delete(s.flipped, key)
		return
	}
	s.flipped[key] = true
	switch n := s.rng.IntN(10); {
	case n == 0:
		p.LogStartOffset ^= int64(bit)
	case n == 1:
		p.Partition ^= int32(bit)
	case n == 2:
		t.TopicID[s.rng.IntN(16)] ^= byte(bit)
	case n == 3:
		p.ErrorCode ^= int16(bit)
	case n == 4:
		p.DivergingEpoch.EndOffset, p.DivergingEpoch.Epoch = int64(bit), int32(bit)
	case len(p.RecordBatches) > 0:
		p.RecordBatches = bytes.Clone(p.RecordBatches)
		at := s.rng.IntN(len(p.RecordBatches))
		if n < 8 {
			at = s.anyBatch(p.RecordBatches) + s.rng.IntN(8) // the base offset, which no checksum covers
		}
		if !s.holes || !baseOffsetAt(p.RecordBatches, at) {
			p.RecordBatches[at] ^= byte(bit)
		}
	}
}

// anyBatch is where one of the batches begins.
func (s *sim) anyBatch(raw []byte) int {
	starts, at := []int{}, 0
	for rest := raw; ; {
		one, next, err := record.SplitBatch(rest)
		if err != nil {
			break
		}
		starts, at, rest = append(starts, at), at+len(one), next
	}
	if len(starts) == 0 {
		return 0
	}
	return starts[s.rng.IntN(len(starts))]
}

// baseOffsetAt reports whether a byte of an answer is of a base offset. Between
// two holes a batch can be moved by a flipped bit and nothing shows it; see
// continuity.
func baseOffsetAt(raw []byte, at int) bool {
	for {
		one, rest, err := record.SplitBatch(raw)
		if at < 8 || err != nil {
			return at < 8
		}
		if at < len(one) {
			return false
		}
		raw, at = rest, at-len(one)
	}
}

// unchecked is reading without checksums.
func (s *sim) unchecked(asks []ask, resp *kmsg.FetchResponse, answers []answer) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			for i, a := range asks {
				if a.part.tp.Partition != p.Partition || answers[i].fault != faultNone {
					continue
				}
				answers[i].batches, answers[i].corrupt = nil, nil
				for raw := p.RecordBatches; len(raw) > 0; {
					one, rest, err := record.SplitBatch(raw)
					if err != nil {
						break
					}
					answers[i].batches, raw = append(answers[i].batches, one), rest
				}
			}
		}
	}
}

// misread plants the bugs of the state machine itself from outside: it is led
// to believe at once what it wants to see twice.
func (s *sim) misread(a ask, ans *answer) {
	switch s.bug {
	case blindStart:
		if ans.fault == faultNone && ans.start >= 0 {
			a.part.source.claimed = ans.start
		}
	case trustHoles:
		if n := len(ans.batches); n > 0 {
			a.part.suspect = suspicion{kind: suspectBatch, mark: batchMark(ans.batches[n-1])}
		}
	case spliceHistory:
		ans.diverging = nil
	}
}

func (s *sim) measure(a measure, lost bool) measured {
	e := measured{broker: a.broker, asks: a.asks}
	if lost {
		e.err = errSim
		return e
	}
	s.lastOK = s.now
	for _, k := range a.asks {
		l := s.src.topics["clicks"].logs[k.part.tp.Partition]
		e.ranges = append(e.ranges, extent{start: l.start, end: l.end})
	}
	return e
}

// check is what must hold after every step.
func (s *sim) check() error {
	for i, l := range s.src.topics["clicks"].logs {
		to := s.mirrorOf(i)
		if s.unclean {
			continue // what must hold then is checked at the end
		}
		if err := prefix(l, to); err != nil {
			return fmt.Errorf("clicks-%d: %w", i, err)
		}
		if to.start > l.start {
			return fmt.Errorf("clicks-%d: the mirror begins at %d, the source at %d", i, to.start, l.start)
		}
		if err := noHole(l, to); err != nil {
			return fmt.Errorf("clicks-%d: %w", i, err)
		}
	}
	return s.checkStatus()
}

// noHole: the mirror has every batch of the source between its first and its
// last. prefix has compared those that the source still has.
func noHole(src *fakeLog, dst *memLog) error {
	last := int64(-1)
	for _, b := range dst.batches {
		if b.BaseOffset() <= last {
			return fmt.Errorf("batch %d after %d", b.BaseOffset(), last)
		}
		last = b.LastOffset()
	}
	for i, b := range dst.batches {
		if i > 0 && b.BaseOffset() != dst.batches[i-1].NextOffset() && dst.batches[i-1].NextOffset() < src.start && b.BaseOffset() >= src.start {
			// A hole that ends at the source's start may be one of the
			// source's own, or a gap that was passed over.
			if !src.hadHole(dst.batches[i-1].NextOffset(), b.BaseOffset()) {
				return fmt.Errorf("offsets %d to %d were passed over", dst.batches[i-1].NextOffset(), b.BaseOffset()-1)
			}
		}
	}
	return nil
}

// checkStatus: a lag is told only while the source is heard, and is true.
func (s *sim) checkStatus() error {
	st := s.core.status(s.now)
	for _, t := range st.Topics {
		if alarmingTopic(t.State) && !s.trims && !s.unclean {
			return fmt.Errorf("topic is %s: %s", t.State, t.Reason)
		}
		for _, p := range t.Partitions {
			unheard := s.lastOK.IsZero() || s.now.Sub(s.lastOK) > 5*time.Second
			if unheard && p.LagRecords != nil {
				return fmt.Errorf("%d is told as lag though nothing was heard since %v", *p.LagRecords, s.lastOK)
			}
			if p.Lag == lagUnknown != (p.LagRecords == nil) {
				return fmt.Errorf("lag %s but %v", p.Lag, p.LagRecords)
			}
		}
	}
	return nil
}

// heal ends all trouble and lets the mirror work until it has nothing to do.
func (s *sim) heal() {
	s.down = false
	for _, f := range s.late {
		f()
	}
	s.late = nil
	for range 250 {
		s.going = append(s.going, s.core.next(s.now)...)
		for _, a := range s.going {
			s.core.step(s.now, s.outcome(a, false))
		}
		s.going = nil
		s.now = s.now.Add(100 * time.Millisecond)
	}
}

// run is one seed. It returns what went wrong.
func (s *sim) run(steps int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("step %d: panic: %v", s.steps, r)
		}
	}()
	for range steps {
		s.step()
		if err := s.check(); err != nil {
			return fmt.Errorf("step %d: %w", s.steps, err)
		}
	}
	s.heal()
	return s.final()
}

// final is what must hold when all is well again.
func (s *sim) final() error {
	for i, l := range s.src.topics["clicks"].logs {
		to, st := s.mirrorOf(i), s.core.status(s.now).Topics[0].Partitions[i]
		switch {
		case st.State == StateGap && s.unclean:
			s.stats["gaps"]++
		case st.State == StateGap && s.trims:
			if *st.Gap != (Gap{to.next, l.start}) {
				return fmt.Errorf("clicks-%d: the gap is told as %v, it is %d to %d", i, *st.Gap, to.next, l.start)
			}
			s.stats["gaps"]++
		case st.State == StateDiverged && s.unclean:
			s.stats["diverged"]++
			if n := len(to.batches); n > 0 && l.has(to.batches[n-1]) {
				return fmt.Errorf("clicks-%d: DIVERGED, but it is a part of the source: %s", i, st.Reason)
			}
		default:
			if err := same(l, to); err != nil {
				return fmt.Errorf("clicks-%d in state %s (%s): %w", i, st.State, st.Reason, err)
			}
			if st.State != StateStreaming || st.LagRecords == nil || *st.LagRecords != 0 {
				return fmt.Errorf("clicks-%d: level, but %+v", i, st)
			}
			s.stats["level"]++
		}
	}
	return nil
}

// simulate runs seeds and returns the first failure.
func simulate(t *testing.T, seeds int, b bug, set func(*sim)) error {
	t.Helper()
	total := map[string]int{}
	for seed := range seeds {
		s := newSim(uint64(seed), b)
		if set != nil {
			set(s)
		}
		if err := s.run(600); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		for k, n := range s.stats {
			total[k] += n
		}
	}
	t.Logf("%d seeds: %v", seeds, total)
	return nil
}

func seeds(t *testing.T) int {
	if testing.Short() {
		return 100
	}
	return 500
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	if err := simulate(t, seeds(t), noBug, nil); err != nil {
		t.Fatal(err)
	}
}

func TestSimulationWithGaps(t *testing.T) {
	t.Parallel()
	if err := simulate(t, seeds(t), noBug, func(s *sim) { s.trims = true }); err != nil {
		t.Fatal(err)
	}
}

func TestSimulationWithUncleanSource(t *testing.T) {
	t.Parallel()
	if err := simulate(t, seeds(t), noBug, func(s *sim) { s.unclean = true }); err != nil {
		t.Fatal(err)
	}
}

// Each planted bug must be found, or the simulation proves nothing.
func TestSimulationFindsPlantedBugs(t *testing.T) {
	for _, c := range []struct {
		name string
		bug  bug
		set  func(*sim)
		want string // in the failure
	}{
		{"append without guard", noGuard, nil, ""},
		{"no checksum", noCRC, nil, ""},
		{"a gap is skipped", autoSkip, func(s *sim) { s.trims = true }, "passed over"},
		{"the lag of an unheard source", neverStale, nil, "is told as lag though nothing was heard"},
		{"a log start believed at once", blindStart, nil, "begins at"},
		{"a flipped base offset", trustHoles, nil, ""},
		{"another history is spliced", spliceHistory, func(s *sim) { s.unclean = true }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := simulate(t, 1000, c.bug, c.set)
			if err == nil {
				t.Fatal("not found")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("found by accident: %v", err)
			}
			t.Log(err)
		})
	}
}
