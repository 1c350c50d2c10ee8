package replica

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
)

// siteBatch is a batch of a client and what became of it.
type siteBatch struct {
	value  string
	bytes  record.Batch // as it is sent; each attempt sends a copy
	seq    int32
	number int // of its client's batches
	flying int // attempts without an answer
	never  string
	index  uint64 // committed there
	offset int64
}

// siteClient is a producer: idempotent with up to five batches in flight, sent
// again in order after a failure, and perhaps with transactions.
type siteClient struct {
	g     *siteGroup
	pid   int64
	epoch int16
	next  int32
	sent  []*siteBatch // not acknowledged, in order
	count int          // batches so far
	known bool
	txn   *siteTxn
}

// siteTxn is what a transactional client and its coordinator know.
type siteTxn struct {
	open        []*siteBatch
	ending      *simEnd
	coordinator int32
	decided     []siteDecision
}

type siteDecision struct {
	batches []*siteBatch
	commit  bool
}

func (g *siteGroup) addClients(idempotent, transactional int) {
	for i := range idempotent + transactional {
		c := &siteClient{g: g, pid: int64(1)<<48 | int64(i)}
		if i >= idempotent {
			c.txn = &siteTxn{}
		}
		g.clients = append(g.clients, c)
	}
}

// newBatch is a batch that no other equals.
func (g *siteGroup) newBatch(pid int64, epoch int16, seq int32, txn bool) *siteBatch {
	g.serial++
	rng := g.s.rng
	count, size := 1+rng.IntN(3), 10+rng.IntN(200)
	value := fmt.Sprintf("%s-%d", g.id.Topic, g.serial)
	keys := make([][]byte, count)
	dead := make([]bool, count)
	if g.keyed {
		for i := range keys {
			keys[i], dead[i] = fmt.Appendf(nil, "k%d", rng.IntN(6)), rng.IntN(5) == 0
		}
	}
	w := record.NewBuilder(record.None)
	w.ProducerID, w.ProducerEpoch, w.BaseSequence, w.Transactional = pid, epoch, seq, txn
	for i := range count {
		v := append(fmt.Appendf(nil, "%s/%d ", value, i), bytes.Repeat([]byte("."), size)...)
		if dead[i] {
			v = nil
		}
		// The time makes the batch's checksum its own, whatever is in it.
		if err := w.Append(record.Record{Timestamp: 1_000_000 + int64(g.serial), Key: keys[i], Value: v}); err != nil {
			panic(err)
		}
	}
	built, err := w.Build()
	if err != nil {
		panic(err)
	}
	b := &siteBatch{value: value, seq: seq, bytes: bytes.Clone(built)}
	if g.sent[b.bytes.CRC()] != nil {
		panic("two batches have one checksum")
	}
	g.sent[b.bytes.CRC()] = b
	return b
}

// target is where a client sends to: a leader, if it knows one.
func (g *siteGroup) target() *siteReplica {
	var leaders, others []*siteReplica
	for _, n := range g.s.nodes {
		r := n.reps[g.at]
		switch {
		case !r.working():
		case r.core.role == raft.StateLeader:
			leaders = append(leaders, r)
		default:
			others = append(others, r)
		}
	}
	rng := g.s.rng
	if len(leaders) > 0 && (len(others) == 0 || rng.IntN(12) > 0) {
		return leaders[rng.IntN(len(leaders))]
	}
	if len(others) > 0 {
		return others[rng.IntN(len(others))]
	}
	return nil
}

// submit hands a proposal to a replica, which steps now or later.
func (r *siteReplica) submit(p *proposal) {
	r.in.props = append(r.in.props, p)
	if r.n.s.rng.IntN(4) > 0 || r.n.s.healing {
		r.step()
	}
}

func (s *simSite) evClient() {
	g := s.groups[s.rng.IntN(len(s.groups))]
	if s.at%2 == 0 {
		defer g.confirm()
	}
	switch {
	case g.machine:
		g.command()
	case g.mirror != nil && !g.mirror.over:
		g.mirror.act()
	case len(g.clients) == 0 || s.rng.IntN(5) == 0:
		g.sendLoose(nil)
	default:
		g.clients[s.rng.IntN(len(g.clients))].act()
	}
}

// confirm asks a replica whether it leads: of several that think so the one with the
// oldest term. Says it so and serves, it knows of everything that was committed when
// it was asked, whatever another leader has done since it was heard last.
func (g *siteGroup) confirm() {
	r := g.target()
	if r == nil {
		return
	}
	for _, n := range g.s.nodes {
		if o := n.reps[g.at]; o.working() && o.core.role == raft.StateLeader && r.core.role == raft.StateLeader && o.core.term < r.core.term {
			r = o
		}
	}
	from := g.last()
	r.submit(&proposal{kind: propConfirm, failed: func(err error) {
		if err != nil {
			return
		}
		g.s.counts.confirms++
		if commit := r.core.rn.BasicStatus().Commit; r.core.serving() && commit < from {
			g.s.fail("%s: it says that it leads and knows entries to %d, entry %d was committed before it was asked", r, commit, from)
		}
	}})
}

// sendLoose sends a batch without idempotence, once.
func (g *siteGroup) sendLoose(done func(error)) {
	r := g.target()
	if r == nil {
		return
	}
	b := g.newBatch(-1, -1, -1, false)
	b.fly(g, r, func(err error) {
		if done != nil {
			done(err)
		}
	})
}

// fly sends a batch and checks what an acknowledgement says.
func (b *siteBatch) fly(g *siteGroup, r *siteReplica, done func(error)) {
	b.flying++
	r.submit(&proposal{kind: propAppend, batches: []record.Batch{bytes.Clone(b.bytes)}, appended: func(a []record.Appended, err error) {
		b.flying--
		if err != nil {
			if uncertain(err) {
				g.s.counts.lostAcks++
			}
			done(err)
			return
		}
		g.s.counts.acks++
		if a[0].Duplicate {
			g.s.counts.duplicates++
		}
		if !r.unread && (b.index == 0 || b.offset != a[0].BaseOffset) {
			g.s.fail("%s: %s is acknowledged at offset %d, committed is it as entry %d at offset %d", r, b.value, a[0].BaseOffset, b.index, b.offset)
		}
		done(nil)
	}})
}

// uncertain reports whether what failed so may have been done all the same, or
// was not done for a reason that is none of the client's.
func uncertain(err error) bool {
	for _, e := range []error{errGone, record.ErrNotLeader, record.ErrLeaderUnknown, record.ErrOffline, record.ErrStopped, record.ErrDiskFull, record.ErrQuarantined} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// outdated reports whether the replica leads on though another has been elected
// since: it does not know of that yet, and what it refuses, it refuses by a log
// that lacks what was acknowledged meanwhile.
func (r *siteReplica) outdated() bool {
	for term := range r.g.leaders {
		if r.core == nil || term > r.core.term {
			return true
		}
	}
	return false
}

func (c *siteClient) act() {
	rng := c.g.s.rng
	r := c.g.target()
	if r == nil || c.txn != nil && c.end(r) {
		return
	}
	for _, b := range c.sent {
		if b.flying == 0 {
			c.fly(b, r)
			return
		}
	}
	switch {
	case len(c.sent) > 0 && rng.IntN(6) == 0: // it has waited long enough
		c.fly(c.sent[rng.IntN(len(c.sent))], r)
		return
	case len(c.sent) > 0 && (!c.known || c.count-c.sent[0].number >= keptBatches):
		// No more than five from the first on that is not acknowledged. And a
		// producer that nobody knows may begin anywhere: its first batch must be
		// in before the second comes.
		return
	case len(c.sent) == 0 && rng.IntN(15) == 0 && c.txn == nil:
		c.epoch, c.next = c.epoch+1, 0
	}
	b := c.g.newBatch(c.pid, c.epoch, c.next, c.txn != nil)
	b.number, c.count = c.count, c.count+1
	c.next += b.bytes.Count()
	c.sent = append(c.sent, b)
	if c.txn != nil {
		c.txn.open = append(c.txn.open, b)
	}
	c.fly(b, r)
}

func (c *siteClient) fly(b *siteBatch, r *siteReplica) {
	b.fly(c.g, r, func(err error) { c.heard(r, b, err) })
}

func (c *siteClient) heard(r *siteReplica, b *siteBatch, err error) {
	i := slices.Index(c.sent, b)
	switch {
	case err == nil:
		c.known = true
		if i >= 0 {
			c.sent = slices.Delete(c.sent, i, i+1)
		}
	case i < 0 || uncertain(err) || r.outdated():
	case errors.Is(err, record.ErrOutOfOrderSequence) && i > 0:
	case errors.Is(err, record.ErrReadOnly) && c.g.mirror != nil:
	case c.txn != nil && c.txn.ending != nil:
		// The marker may have come before it.
	default:
		c.g.s.fail("%s: %s of sequence %d, number %d in flight: %v", r, b.value, b.seq, i, err)
	}
}

// end ends the transaction, and reports whether the client waits for that.
func (c *siteClient) end(r *siteReplica) bool {
	rng, x := c.g.s.rng, c.txn
	if x.ending == nil && len(x.open) > 0 && rng.IntN(4) == 0 && (len(c.sent) == 0 || rng.IntN(8) == 0) {
		commit := len(c.sent) == 0 && rng.IntN(3) > 0
		x.coordinator += rng.Int32N(2)
		x.ending = &simEnd{bump: !commit || rng.IntN(2) == 0, marker: record.TransactionMarker{
			ProducerID: c.pid, ProducerEpoch: c.epoch, Commit: commit, CoordinatorEpoch: x.coordinator,
		}}
		if x.ending.bump {
			x.ending.marker.ProducerEpoch++
		}
	}
	e := x.ending
	if e == nil {
		return false
	}
	r.submit(&proposal{kind: propMarker, marker: e.marker, failed: func(err error) { c.ended(r, e, err) }})
	return true
}

func (c *siteClient) ended(r *siteReplica, e *simEnd, err error) {
	x := c.txn
	switch {
	case x.ending != e || err != nil && (uncertain(err) || errors.Is(err, record.ErrReadOnly) || r.outdated()):
		return
	case err != nil:
		c.g.s.fail("%s: marker %+v: %v", r, e.marker, err)
	}
	if e.marker.Commit {
		c.g.s.counts.commits++
	} else {
		c.g.s.counts.aborts++
	}
	for _, b := range x.open {
		if b.index == 0 && !r.unread { // else it may be committed before the marker
			b.never = "its producer was fenced"
		}
	}
	x.decided = append(x.decided, siteDecision{x.open, e.marker.Commit})
	if e.bump {
		c.epoch, c.next = c.epoch+1, 0
	}
	x.open, x.ending, c.sent = nil, nil, nil
}

// command proposes a command of the machine.
func (g *siteGroup) command() {
	r := g.target()
	if r == nil {
		return
	}
	g.serial++
	name := fmt.Sprintf("job-%d", g.serial)
	var c catalog.Command = catalog.SetJob{Name: fmt.Sprintf("job-%d", g.serial%7), Desired: catalog.JobRunning}
	switch g.serial % 3 {
	case 1:
		c = catalog.RegisterNode{Name: fmt.Sprintf("n%d", g.serial%5), Kafka: name}
	case 2:
		c = catalog.AllocateProducerIDs{Count: int32(g.serial)}
	}
	cmd, err := catalog.Encode(c)
	if err != nil {
		panic(err)
	}
	payload := append(control(subCommand), cmd...)
	r.submit(&proposal{kind: propCommand, payload: payload, applied: func(result any, err error) {
		if err != nil {
			return
		}
		g.s.counts.commands++
		var index uint64
		fmt.Sscanf(result.(string), "%d", &index)
		if !r.unread && (index > g.last() || !bytes.Equal(g.entry(index).Payload, payload)) {
			g.s.fail("%s: command %s is acknowledged as entry %d, which is not it", r, name, index)
		}
	}})
}

// siteMirror is the link that fills a partition from a source with gaps and
// epochs of its own.
type siteMirror struct {
	g      *siteGroup
	source []record.Batch
	at     int // batches committed
	epoch  int64
	held   bool
	over   bool // the stop is acknowledged: it is written here
}

func newSiteMirror(g *siteGroup) *siteMirror {
	m := &siteMirror{g: g}
	rng := g.s.rng
	at, epoch := rng.Int64N(1000), rng.Int32N(30)
	for i := range 120 {
		if rng.IntN(5) == 0 {
			at += rng.Int64N(50)
		}
		if rng.IntN(15) == 0 {
			epoch += rng.Int32N(15)
		}
		w := record.NewBuilder(record.None)
		for j := range 2 {
			if err := w.Append(record.Record{Timestamp: 1000, Value: fmt.Appendf(nil, "source-%d/%d", i, j)}); err != nil {
				panic(err)
			}
		}
		b, err := w.Build()
		if err != nil {
			panic(err)
		}
		b = bytes.Clone(b)
		b.SetBaseOffset(at)
		b.SetLeaderEpoch(epoch)
		m.source = append(m.source, b)
		at = b.NextOffset()
	}
	return m
}

// committed compares a batch that came while the link held the partition.
func (m *siteMirror) committed(r *siteReplica, b record.Batch) {
	if m.at == len(m.source) || !bytes.Equal(b, m.source[m.at]) {
		m.g.s.fail("%s: the batch at %d is not number %d of the source", r, b.BaseOffset(), m.at)
	}
	m.at++
}

func (m *siteMirror) act() {
	g, rng := m.g, m.g.s.rng
	r := g.target()
	if r == nil {
		return
	}
	switch {
	case !m.held || rng.IntN(25) == 0:
		m.epoch, m.held = m.epoch+1, false
		epoch := m.epoch
		r.submit(&proposal{kind: propControl, control: MirrorStart{Link: "m", Source: "fra", Epoch: epoch}, failed: func(err error) {
			m.held = m.held || err == nil && m.epoch == epoch
		}})
	case rng.IntN(80) == 0:
		m.epoch, m.held = m.epoch+1, false
		r.submit(&proposal{kind: propControl, control: MirrorStop{Epoch: m.epoch}, failed: func(err error) {
			m.over = m.over || err == nil && !m.held
		}})
	default:
		m.pull(r)
	}
}

// pull appends the source's next batches, sometimes as a link that was fenced.
func (m *siteMirror) pull(r *siteReplica) {
	if r.core == nil {
		return
	}
	rng, next := m.g.s.rng, r.core.tail.next
	i, _ := slices.BinarySearchFunc(m.source, next, func(b record.Batch, at int64) int { return int(b.BaseOffset() - at) })
	n := min(1+rng.IntN(3), len(m.source)-i)
	if n <= 0 {
		return
	}
	var some []record.Batch
	for _, b := range m.source[i : i+n] {
		some = append(some, bytes.Clone(b))
	}
	guard := MirrorGuard{Link: "m", Epoch: m.epoch, Next: next}
	fenced := rng.IntN(12) == 0
	if fenced {
		guard.Epoch--
	}
	r.submit(&proposal{kind: propMirrored, guard: guard, batches: some, failed: func(err error) {
		switch {
		case err != nil:
		case fenced:
			m.g.s.fail("%s: a link with guard %+v appended, the partition is held with epoch %d", r, guard, m.epoch)
		default:
			m.g.s.counts.mirrored += n
		}
	}})
}
