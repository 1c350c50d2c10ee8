package replica

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

var (
	simSeeds = flag.Int("sim.seeds", 0, "how many seeds a simulation runs; 0: as many as is usual, or the one of -sim.seed")
	simFirst = flag.Uint64("sim.seed", 0, "the first seed; 0: 1")
)

// simRange is the first seed to run and how many.
func simRange(usual int) (first uint64, n int) {
	first, n = max(*simFirst, 1), *simSeeds
	switch {
	case n > 0:
	case *simFirst > 0:
		n = 1
	default:
		n = usual
	}
	return first, n
}

// TestSimulation runs a node without goroutines on a file system that is cut
// off in the middle of things: groups of one voter over real logs, idempotent
// and other producers, a mirrored partition with its link, a machine group,
// new segments, trims, kills and power cuts. What was acknowledged must be
// there afterwards, once, at its offset, with its epoch.
func TestSimulation(t *testing.T) {
	var sum simCounts
	first, n := simRange(400)
	for i := range n {
		seed := first + uint64(i)
		s := newSim(t, seed)
		s.run(150)
		if t.Failed() {
			t.Fatalf("seed %d: run it alone with -run 'TestSimulation$' -sim.seed=%d", seed, seed)
		}
		sum.add(s.counts)
	}
	t.Logf("%d seeds: %+v", n, sum)
	if n >= 100 && (sum.cuts == 0 || sum.segments == 0 || sum.trims == 0 || sum.duplicates == 0 || sum.mirrored == 0 || sum.commands == 0 || sum.fenced == 0 ||
		sum.commits == 0 || sum.aborts == 0 || sum.refused == 0 || sum.openStarts == 0) {
		t.Errorf("the simulation did not do what it is for: %+v", sum)
	}
}

// simCounts says what the seeds went through.
type simCounts struct {
	lives, cuts, acks, duplicates, mirrored, fenced, commands, segments, trims int
	commits, aborts, refused, openStarts                                       int
}

func (c *simCounts) add(o simCounts) {
	c.lives += o.lives
	c.cuts += o.cuts
	c.acks += o.acks
	c.duplicates += o.duplicates
	c.mirrored += o.mirrored
	c.fenced += o.fenced
	c.commands += o.commands
	c.segments += o.segments
	c.trims += o.trims
	c.commits += o.commits
	c.aborts += o.aborts
	c.refused += o.refused
	c.openStarts += o.openStarts
}

type sim struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	fs     *vfs.Mem
	store  *storage.Store
	set    *Set
	now    time.Time
	counts simCounts
	parts  []*simPart
	mirror *simMirror
	meta   *simMeta
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 99)), fs: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000)}
	for i := range int32(2) {
		p := &simPart{s: s, id: clicks(i), acked: map[int64]string{}, seen: map[int64]string{}}
		for j := range int64(2) {
			p.clients = append(p.clients, &simClient{p: p, pid: int64(1)<<48 | (int64(i)*10 + j)})
			p.clients = append(p.clients, &simClient{p: p, pid: int64(1)<<48 | (int64(i)*10 + j + 5), txn: newSimTxn()})
		}
		s.parts = append(s.parts, p)
	}
	s.mirror = newSimMirror(s)
	s.meta = &simMeta{s: s, acked: map[int]bool{}}
	s.start()
	return s
}

func (s *sim) fatalf(format string, v ...any) {
	s.t.Helper()

	s.t.Fatalf("seed %d, life %d: %s", s.seed, s.counts.lives, fmt.Sprintf(format, v...))
}

// aheadOf is how many zeros a store of a simulation writes behind its rounds:
// none, or as many as segments of a few kilobytes have room for.
func aheadOf(draw int64) int64 { return []int64{-1, 256, 1 << 10}[draw%3] }

// start opens the node on what the file system has, and settles it.
func (s *sim) start() {
	s.counts.lives++
	clock := func() time.Time { return s.now }
	size := s.rng.Int64N(20_000)
	store, err := storage.Open(s.fs, "data", storage.Config{
		ReserveBytes: -1, LowWater: 1, HighWater: 1, Clock: clock, Rand: randReader{s.rng}, TailCacheBytes: size + 1, AheadBytes: aheadOf(size),
	})
	if err != nil {
		s.fatalf("open the store: %v", err)
	}
	set, err := Open(Config{Member: 1, Workers: 1, Clock: clock, Rand: randReader{s.rng}}, store)
	if err != nil {
		s.fatalf("open the set: %v", err)
	}
	s.store, s.set = store, set
	topic := TopicConfig{SegmentBytes: 1500 + s.rng.Int64N(4000)}
	for _, p := range s.parts {
		p.r = s.add(Spec{ID: p.id, Topic: topic})
	}
	s.mirror.r = s.add(Spec{ID: s.mirror.id, Topic: topic})
	s.meta.r = s.add(Spec{ID: storage.LogID{Topic: "__meta"}, Topic: topic, Machine: s.meta.reset()})
	s.settle()
	for _, r := range []*Replica{s.parts[0].r, s.parts[1].r, s.mirror.r, s.meta.r} {
		if err := r.Serving(); err != nil {
			s.fatalf("after a start: %v", err)
		}
	}
}

func (s *sim) add(spec Spec) *Replica {
	spec.Born = []uint64{1}
	r, err := s.set.Add(spec)
	if err != nil {
		s.fatalf("add: %v", err)
	}
	return r
}

// drain steps what is ready, as the workers would.
func (s *sim) drain(most int) (any bool) {
	for range most {
		if s.set.queue.mu.groups.len() == 0 {
			break
		}
		r := s.set.queue.next()
		calls, ok := r.inbox.begin(&r.in)
		if !ok {
			continue
		}
		r.step(calls)
		if r.inbox.end() {
			s.set.queue.push(r)
		}
		any = true
	}
	return any
}

func (s *sim) settle() {
	for again := true; again && !s.fs.Dead(); {
		again = s.drain(1000)
		again = s.store.Step(s.now) || again
	}
}

func (s *sim) run(steps int) {
	for range steps {
		s.now = s.now.Add(time.Duration(s.rng.IntN(50)) * time.Millisecond)
		s.op()
		if s.fs.Dead() {
			s.counts.cuts++
			s.crash(true)
		}
		if s.t.Failed() {
			return
		}
	}
	s.settle()
	s.crash(false)
}

func (s *sim) op() {
	switch n := s.rng.IntN(100); {
	case n < 35:
		s.parts[s.rng.IntN(2)].produce()
	case n < 38:
		s.parts[s.rng.IntN(2)].read()
	case n < 50:
		s.mirror.act()
	case n < 57:
		s.meta.propose()
	case n < 70:
		s.drain(1 + s.rng.IntN(4))
	case n < 80:
		s.store.Step(s.now)
	case n < 86:
		s.parts[s.rng.IntN(2)].control()
	case n < 91:
		p := s.parts[s.rng.IntN(2)]
		p.r.inbox.post(func(b *inbox) { b.mu.rollNow = true })
		s.set.ready(p.r)
	case n < 94:
		s.fs.CutAfter(s.rng.IntN(12), s.rng)
	case n < 96:
		s.fs.Uncut()
		if !s.fs.Dead() {
			s.settle()
		}
	case n < 98:
		s.crash(true)
	default:
		s.crash(false)
	}
}

// crash kills the process or cuts the power, and starts again.
func (s *sim) crash(power bool) {
	if power {
		s.fs = s.fs.CrashClone(s.rng)
	} else {
		s.fs.Uncut()
		if s.rng.IntN(2) == 0 && !s.fs.Dead() {
			// An orderly stop: what waits is answered with ErrStopped.
			for _, r := range s.set.All() {
				r.shut(record.ErrStopped)
			}
			if err := s.store.Close(); err != nil {
				s.fatalf("close: %v", err)
			}
		}
		s.fs = s.fs.KillClone()
	}
	for _, p := range s.parts {
		for _, g := range p.r.log.Segments() {
			s.counts.segments += int(min(g.Seq-1, 1))
		}
		if p.r.log.FirstIndex() > 2 {
			s.counts.trims++
		}
		p.down()
	}
	s.mirror.flying = 0
	s.start()
	for _, p := range s.parts {
		p.check()
	}
	s.mirror.check()
	s.meta.check()
}

type randReader struct{ rng *rand.Rand }

func (r randReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.rng.UintN(256))
	}
	return len(b), nil
}

// simPart is a partition with its producers.
type simPart struct {
	s         *sim
	id        storage.LogID
	r         *Replica
	clients   []*simClient
	loose     int              // batches sent without idempotence
	acked     map[int64]string // first offset -> value
	seen      map[int64]string // what a reader saw: base offset -> all bytes of the batch
	starts    []int64          // log starts asked for since the last check
	start, hw int64            // acknowledged
	epoch     int32
}

// simClient is an idempotent producer: up to five batches in flight, sent
// again in order after a failure.
type simClient struct {
	p     *simPart
	pid   int64
	epoch int16
	next  int32
	sent  []*simBatch // not acknowledged, in order
	last  *simBatch   // the last one acknowledged
	count int
	known bool // a batch of it was acknowledged
	txn   *simTxn
}

type simBatch struct {
	epoch  int16
	seq    int32
	n      int
	value  string
	offset int64
	flying bool
}

func (p *simPart) produce() {
	if p.s.rng.IntN(6) == 0 {
		p.loose++
		v := fmt.Sprintf("loose-%d", p.loose)
		p.r.Append([]record.Batch{batch(p.s.t, v)}, func(a []record.Appended, err error) {
			if err == nil {
				p.ack(a[0].BaseOffset, v)
			}
		})
		return
	}
	p.clients[p.s.rng.IntN(len(p.clients))].send()
}

func (p *simPart) ack(offset int64, value string) {
	if old, ok := p.acked[offset]; ok && old != value {
		p.s.fatalf("%s: offset %d acknowledged for %s and for %s", p.id, offset, old, value)
	}
	p.s.counts.acks++
	p.acked[offset] = value
	p.hw = max(p.hw, offset+1)
}

func (c *simClient) send() {
	rng := c.p.s.rng
	for _, b := range c.sent {
		if !b.flying {
			c.fly(b)
			return
		}
	}
	if c.txn != nil && len(c.sent) == 0 && c.endOrMisbehave() {
		return
	}
	if len(c.sent) == 0 && rng.IntN(10) == 0 && (c.txn == nil || len(c.txn.values) == 0) {
		c.epoch, c.next = c.epoch+1, 0
		c.last = nil
	}
	if len(c.sent) > 0 && !c.known {
		return // a producer nobody knows may begin anywhere, so the first batch must be in before the second comes
	}
	if len(c.sent) == keptBatches {
		if rng.IntN(3) == 0 { // an impatient client sends one again that is still on its way
			c.fly(c.sent[rng.IntN(len(c.sent))])
		}
		return
	}
	c.count++
	b := &simBatch{epoch: c.epoch, seq: c.next, n: 1 + rng.IntN(3), value: fmt.Sprintf("%d-%d", c.pid, c.count)}
	c.next = (c.next + int32(b.n)) & 0x7fffffff
	c.sent = append(c.sent, b)
	if c.txn != nil {
		c.txn.values = append(c.txn.values, b.value)
	}
	c.fly(b)
}

func (c *simClient) fly(b *simBatch) {
	b.flying = true
	c.p.r.Append([]record.Batch{c.build(b)}, func(a []record.Appended, err error) { c.done(b, a, err) })
}

func (c *simClient) build(b *simBatch) record.Batch {
	vals := make([]string, b.n)
	for i := range vals {
		vals[i] = b.value
	}
	vals[0] += strings.Repeat(".", 200)
	if c.txn != nil {
		return transactional(c.p.s.t, c.pid, b.epoch, b.seq, vals...)
	}
	return idempotent(c.p.s.t, c.pid, b.epoch, b.seq, vals...)
}

func (c *simClient) done(b *simBatch, a []record.Appended, err error) {
	b.flying = false
	if err != nil {
		if errors.Is(err, record.ErrOutOfOrderSequence) && len(c.sent) > 0 && c.sent[0] != b {
			return // one before it failed
		}
		if !errors.Is(err, record.ErrOffline) && !errors.Is(err, record.ErrStopped) && !errors.Is(err, record.ErrReadOnly) && !errors.Is(err, record.ErrLeaderUnknown) {
			c.p.s.fatalf("%s: %s of sequence %d: %v", c.p.id, b.value, b.seq, err)
		}
		return
	}
	if a[0].Duplicate {
		c.p.s.counts.duplicates++
	}
	b.offset, c.known = a[0].BaseOffset, true
	c.p.ack(b.offset, b.value)
	if i := slices.Index(c.sent, b); i >= 0 {
		c.sent = slices.Delete(c.sent, i, i+1)
		c.last = b
	}
}

// read notes what a reader sees now: it may never go away or change.
func (p *simPart) read() {
	if p.r.Serving() != nil {
		return
	}
	if hw := p.r.Offsets().HighWatermark; hw > p.hw {
		p.hw = hw
	}
	readAll(p.s, p.r, p.seen)
}

// control moves the log start, raises the epoch, or closes and opens the
// partition for clients.
func (p *simPart) control() {
	rng := p.s.rng
	p.read() // whatever the log start passes was seen: the transactions are judged by it
	hw := p.r.Offsets().HighWatermark
	var e ControlEntry = LogStart{Offset: rng.Int64N(hw + 1)}
	switch rng.IntN(4) {
	case 0:
		e = EpochBase{Base: rng.Int32N(50)}
	case 1:
		e = ReadOnly{On: rng.IntN(3) == 0}
	}
	if l, ok := e.(LogStart); ok {
		if rng.IntN(2) == 0 { // all there is
			l.Offset, e = hw, LogStart{Offset: hw}
		}
		p.starts = append(p.starts, l.Offset)
	}
	r := p.r
	r.submit(context.Background(), &proposal{kind: propControl, control: e, failed: func(err error) {
		switch c := e.(type) {
		case LogStart:
			if err == nil {
				p.start = max(p.start, c.Offset)
			}
		case EpochBase:
			if _, epoch := r.Leader(); err == nil {
				p.epoch = max(p.epoch, epoch)
			}
		}
	}})
}

func (p *simPart) down() {
	for _, c := range p.clients {
		for _, b := range c.sent {
			b.flying = false
		}
	}
}

// check reads everything and compares it with what was promised.
func (p *simPart) check() {
	s := p.s
	off := p.r.Offsets()
	if off.Start < p.start || off.Start > p.start && !slices.Contains(p.starts, off.Start) {
		s.fatalf("%s: log start %d, acknowledged %d, asked for %v", p.id, off.Start, p.start, p.starts)
	}
	if off.HighWatermark < p.hw || off.LeaderEpoch < p.epoch {
		s.fatalf("%s: high watermark %d < %d acknowledged, or epoch %d < %d", p.id, off.HighWatermark, p.hw, off.LeaderEpoch, p.epoch)
	}
	p.start, p.starts, p.epoch = off.Start, nil, off.LeaderEpoch
	found := readAll(s, p.r, p.seen)
	once := map[string]int64{}
	for offset, v := range found {
		if was, twice := once[v]; twice {
			s.fatalf("%s: %s is at offset %d and at %d", p.id, v, was, offset)
		}
		once[v] = offset
	}
	for offset, v := range p.acked {
		if offset >= off.Start && found[offset] != v {
			s.fatalf("%s: offset %d was acknowledged for %s and holds %q", p.id, offset, v, found[offset])
		}
	}
	for _, c := range p.clients {
		c.checkRetry()
	}
	p.checkTransactions(found)
	// Closed by a control entry that may or may not have come through.
	p.r.submit(context.Background(), &proposal{kind: propControl, control: ReadOnly{}, failed: func(error) {}})
	s.settle()
}

// checkRetry sends the last acknowledged batch again: it must be known.
func (c *simClient) checkRetry() {
	s, b := c.p.s, c.last
	if b == nil || len(c.sent) >= keptBatches {
		return
	}
	if c.p.r.Status().ReadOnly || c.txn != nil && c.txn.ending != nil {
		return // closed, or the marker that fences the epoch may have come
	}
	var got *record.Appended
	c.p.r.Append([]record.Batch{c.build(b)}, func(a []record.Appended, err error) {
		if err != nil {
			s.fatalf("%s: %s, sent again after a restart: %v", c.p.id, b.value, err)
		}
		got = &a[0]
	})
	s.settle()
	if got == nil || !got.Duplicate || got.BaseOffset != b.offset {
		s.fatalf("%s: %s, at offset %d, sent again after a restart: %+v", c.p.id, b.value, b.offset, got)
	}
}

// readAll reads a partition from its log start. It returns the value of each
// batch by its first offset, and compares the bytes with what a reader saw
// before.
func readAll(s *sim, r *Replica, seen map[int64]string) map[int64]string {
	found := map[int64]string{}
	off := r.Offsets()
	lastEpoch := int32(-1)
	for at := off.Start; at < off.HighWatermark; {
		c, err := r.Read(at, 700)
		if err != nil {
			s.fatalf("read: %v", err)
		}
		if len(c.Batches) == 0 {
			break // a gap up to the high watermark
		}
		for _, b := range c.Batches {
			if err := b.Check(); err != nil {
				s.fatalf("%s: batch at %d: %v", r.ID(), b.BaseOffset(), err)
			}
			if old, ok := seen[b.BaseOffset()]; ok && old != string(b) {
				s.fatalf("%s: the batch at %d, epoch %d, is not what it was", r.ID(), b.BaseOffset(), b.LeaderEpoch())
			}
			seen[b.BaseOffset()] = string(b)
			if b.LeaderEpoch() < lastEpoch || b.NextOffset() <= at {
				s.fatalf("%s: batch at %d of epoch %d after epoch %d, asked from %d", r.ID(), b.BaseOffset(), b.LeaderEpoch(), lastEpoch, at)
			}
			lastEpoch = b.LeaderEpoch()
			at = b.NextOffset()
			for rec, err := range b.All(1 << 20) {
				if err != nil {
					s.fatalf("records: %v", err)
				}
				if rec.Offset != b.BaseOffset() {
					continue
				}
				if b.IsControl() {
					found[rec.Offset] = fmt.Sprintf("marker at %d", rec.Offset)
				} else {
					found[rec.Offset] = strings.TrimRight(string(rec.Value), ".")
				}
			}
		}
	}
	return found
}

// simMirror is a partition that a link fills from a source with gaps and
// epochs of its own.
type simMirror struct {
	s      *sim
	id     storage.LogID
	r      *Replica
	source []record.Batch
	guard  MirrorGuard
	held   bool // the start of the guard's epoch is acknowledged
	flying int
	seen   map[int64]string
	hw     int64
}

func newSimMirror(s *sim) *simMirror {
	m := &simMirror{s: s, id: storage.LogID{Topic: "mirrored", ID: record.TopicID{2}}, seen: map[int64]string{}}
	at, epoch := s.rng.Int64N(1000), s.rng.Int32N(30)
	for i := range 300 {
		if s.rng.IntN(5) == 0 {
			at += s.rng.Int64N(50)
		}
		if s.rng.IntN(20) == 0 {
			epoch += s.rng.Int32N(15)
		}
		b := batch(s.t, fmt.Sprintf("m-%d", i)+strings.Repeat(".", 100), "x")
		switch pid := s.rng.Int64N(3); s.rng.IntN(6) {
		case 0, 1:
			b = transactional(s.t, pid, 0, s.rng.Int32N(100), fmt.Sprintf("m-%d", i)+strings.Repeat(".", 100), "x")
		case 2:
			b = record.NewMarker(pid, int16(s.rng.IntN(2)), s.rng.IntN(2) == 0, s.rng.Int32N(4), 1000)
		}
		b.SetBaseOffset(at)
		b.SetLeaderEpoch(epoch)
		m.source = append(m.source, b)
		at = b.NextOffset()
	}
	return m
}

func (m *simMirror) act() {
	rng := m.s.rng
	switch {
	case !m.held || rng.IntN(25) == 0:
		m.begin()
	case rng.IntN(12) == 0:
		m.beFenced()
	default:
		m.pull()
	}
}

func (m *simMirror) begin() {
	// Epochs are never used twice, whatever became of the start before.
	g := MirrorGuard{Link: "m", Epoch: m.guard.Epoch + 1}
	m.guard, m.held = g, false
	start := MirrorStart{Link: g.Link, Source: "fra", Epoch: g.Epoch}
	m.r.submit(context.Background(), &proposal{kind: propControl, control: start, failed: func(err error) {
		if err == nil && m.guard.Epoch == g.Epoch {
			m.held = true
		}
	}})
}

// pull appends the source's next batches.
func (m *simMirror) pull() {
	next, _ := m.r.Next()
	i, _ := slices.BinarySearchFunc(m.source, next, func(b record.Batch, at int64) int { return int(b.BaseOffset() - at) })
	n := min(1+m.s.rng.IntN(3), len(m.source)-i)
	if n <= 0 {
		return
	}
	var some []record.Batch
	for _, b := range m.source[i : i+n] {
		some = append(some, bytes.Clone(b))
	}
	g := m.guard
	g.Next = next
	end := some[n-1].NextOffset()
	m.r.AppendMirrored(g, some, func(err error) {
		if err == nil {
			m.s.counts.mirrored++
			m.hw = max(m.hw, end)
		}
	})
}

// beFenced appends what only the guard keeps out: batches of the right form
// from a link that is elsewhere, or is not the one.
func (m *simMirror) beFenced() {
	m.s.drain(1000) // a batch that waits in the inbox would make the guard right
	next, _ := m.r.Next()
	i, _ := slices.BinarySearchFunc(m.source, next, func(b record.Batch, at int64) int { return int(b.BaseOffset() - at) })
	if i+1 >= len(m.source) || !m.held {
		return
	}
	g := m.guard
	g.Next = m.source[i+1].BaseOffset()
	switch m.s.rng.IntN(3) {
	case 0:
		g.Next, g.Epoch = next, g.Epoch-1
	case 1:
		g.Next, g.Link = next, "other"
	}
	m.r.AppendMirrored(g, []record.Batch{bytes.Clone(m.source[i+1])}, func(err error) {
		if err == nil {
			m.s.fatalf("a link with guard %+v appended at offset %d", g, m.source[i+1].BaseOffset())
		}
		m.s.counts.fenced++
	})
}

// check compares the mirror with its source: a prefix of it, byte by byte.
func (m *simMirror) check() {
	s, v := m.s, m.r.view.Load()
	if v.offsets.HighWatermark < m.hw {
		s.fatalf("mirror: high watermark %d < %d acknowledged", v.offsets.HighWatermark, m.hw)
	}
	if m.held && (!v.mirror.Active || v.mirror.Link != "m" || v.mirror.Source != "fra" || v.mirror.Epoch != m.guard.Epoch) {
		s.fatalf("mirror: held with epoch %d, the partition says %+v", m.guard.Epoch, v.mirror)
	}
	m.held = v.mirror.Active && v.mirror.Epoch == m.guard.Epoch
	found := readAll(s, m.r, m.seen)
	for i, b := range m.source {
		if i == len(found) {
			break
		}
		if m.seen[b.BaseOffset()] != string(b) {
			s.fatalf("mirror: batch %d, at offset %d, is not the source's, or is missing below others", i, b.BaseOffset())
		}
		if b.LeaderEpoch() > v.offsets.LeaderEpoch {
			s.fatalf("mirror: local epoch %d < the source's %d", v.offsets.LeaderEpoch, b.LeaderEpoch())
		}
	}
	checkTransactions(s, m.r, m.seen)
}

// simMeta is the machine group: a list of numbered commands.
type simMeta struct {
	s       *sim
	r       *Replica
	machine *simMachine
	next    int
	acked   map[int]bool
	list    string
}

type simMachine struct{ list []byte }

func (m *simMachine) Apply(_ uint64, cmd []byte) any {
	m.list = append(append(m.list, cmd...), ' ')
	return len(m.list)
}
func (m *simMachine) Snapshot() []byte { return bytes.Clone(m.list) }
func (m *simMachine) Restore(b []byte) error {
	m.list = bytes.Clone(b)
	return nil
}

func (m *simMeta) reset() *simMachine {
	m.machine = &simMachine{}
	return m.machine
}

func (m *simMeta) propose() {
	m.next++
	n := m.next
	cmd := fmt.Sprintf("%04d%s", n, strings.Repeat("x", m.s.rng.IntN(60)))
	m.r.submit(context.Background(), &proposal{
		kind: propCommand, payload: append(control(subCommand), cmd...),
		applied: func(result any, err error) {
			if err == nil {
				m.s.counts.commands++
				m.acked[n] = true
				if result.(int) == 0 {
					m.s.fatalf("command %d has no result", n)
				}
			}
		},
	})
}

func (m *simMeta) check() {
	list := string(m.machine.list)
	if !strings.HasPrefix(list, m.list) {
		m.s.fatalf("the machine forgot: %q does not begin with %q", list, m.list)
	}
	m.list = list
	last := 0
	for cmd := range strings.FieldsSeq(list) {
		var n int
		if _, err := fmt.Sscanf(cmd[:4], "%d", &n); err != nil || n <= last {
			m.s.fatalf("command %q after %d", cmd, last)
		}
		last = n
		delete(m.acked, n)
	}
	for n := range m.acked {
		m.s.fatalf("command %d was acknowledged and is gone", n)
	}
}

// The log start is committed, and in the same step a new segment begins whose
// header is not durable: nothing may be deleted yet. It once was, and a power
// cut took the header and with it all that the log knew.
func TestTrimWaitsForTheNextHeader(t *testing.T) {
	for seed := range uint64(20) {
		s := newSim(t, seed)
		p := s.parts[0]
		p.clients[0].send()
		s.settle()
		hw := p.r.Offsets().HighWatermark
		acked := false
		p.r.submit(context.Background(), &proposal{kind: propControl, control: LogStart{Offset: hw}, failed: func(err error) { acked = err == nil }})
		s.drain(10)
		s.store.Step(s.now)
		p.r.inbox.post(func(b *inbox) { b.mu.rollNow = true })
		s.drain(10)
		if !acked || hw == 0 {
			t.Fatalf("seed %d: the log start %d is not committed", seed, hw)
		}
		p.start, p.starts = hw, []int64{hw}
		s.crash(true)
	}
}
