package replica

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
)

// How long a healed site may take, in ticks: until every group can be written,
// until every member has everything and what was lost is replaced, and until a
// group with nothing to do is quiet.
const (
	healedWithin = 120
	wholeWithin  = 400
	restsWithin  = 40
)

// heal ends all trouble, waits until the site is whole again and looks at
// everything.
func (s *simSite) heal() {
	s.healing = true
	s.note("everything is mended")
	s.cut = [8][8]bool{}
	s.net, s.late = append(s.net, s.late...), nil
	for _, n := range s.nodes {
		n.mem.Uncut()
		n.mem.SetCapacity(0)
		n.paused, n.skew, n.failSync = false, 0, false
		if n.mem.Dead() || n.offline {
			n.crash(true, "")
		}
		n.goOn()
		if n.damaged && !n.repairable() {
			s.wipe(n)
			n.goOn()
		}
	}
	s.waitWritable(nil)
	s.waitWhole()
	s.rest()
	for _, g := range s.groups {
		g.checkReplicas()
		g.checkTransactions()
	}
	s.checkDisks()
}

// goOn starts what does not run on a node.
func (n *siteNode) goOn() {
	if !n.up {
		n.start()
	}
	for _, r := range n.reps {
		if r != nil && r.core == nil && !r.bad {
			r.open()
		}
	}
}

// quiet lets everything that is on its way arrive.
func (s *simSite) quiet() {
	for busy, some := true, 0; busy; {
		busy = false
		for len(s.net) > 0 {
			if some++; some > 20_000 {
				s.fail("the members have been talking for %d messages without anything to say", some)
			}
			p := s.net[0]
			s.net = s.net[1:]
			s.deliver(p)
			busy = true
		}
		for _, n := range s.nodes {
			busy = n.up && n.flush(true) || busy
		}
	}
}

func (s *simSite) tickAll() {
	s.now = s.now.Add(100_000_000)
	for _, n := range s.nodes {
		n.tick(1)
	}
	s.quiet()
}

// waitWritable: every group takes and acknowledges something new, but for those
// that cannot without a node.
func (s *simSite) waitWritable(without *siteNode) {
	done := make([]bool, len(s.groups))
	for i, g := range s.groups {
		done[i] = without != nil && !g.majorityWithout(without)
	}
	for tick := 0; slices.Contains(done, false); tick++ {
		if tick == healedWithin {
			s.fail("not writable %d ticks after everything was mended: %v\n%s", tick, done, s.describe())
		}
		s.tickAll()
		for i, g := range s.groups {
			if r := g.target(); !done[i] && r != nil && r.core.serving() {
				g.probe(r, func(err error) { done[i] = done[i] || err == nil })
			}
		}
		s.quiet()
	}
}

// probe writes something.
func (g *siteGroup) probe(r *siteReplica, done func(error)) {
	switch {
	case g.machine:
		r.submit(&proposal{kind: propCommand, payload: control(subCommand), applied: func(_ any, err error) { done(err) }})
	case g.active:
		r.submit(&proposal{kind: propControl, control: MirrorStart{Link: "probe", Source: "fra", Epoch: r.core.tail.control.mirror.Epoch + 1}, failed: done})
	default:
		g.newBatch(-1, -1, -1, false).fly(g, r, done)
	}
}

// waitWhole: nothing that is lost is counted on, no change is half done, and
// every member has everything.
func (s *simSite) waitWhole() {
	for tick := 0; ; tick++ {
		s.regain()
		whole := s.lost == nil
		for _, g := range s.groups {
			whole = g.settled() && whole
		}
		if whole {
			return
		}
		if tick == wholeWithin {
			s.fail("not whole %d ticks after everything was mended\n%s", tick, s.describe())
		}
		s.tickAll()
		s.repairAll()
		for _, g := range s.groups {
			if r := g.leader(); r != nil && (len(r.core.conf.state.VotersOutgoing) > 0 || g.hasLost(r)) {
				g.changeMembers()
			}
		}
		s.quiet()
	}
}

func (g *siteGroup) hasLost(r *siteReplica) bool {
	_, lost := g.lostMember(&r.core.conf.state)
	return lost
}

func (g *siteGroup) leader() *siteReplica {
	for _, n := range g.s.nodes {
		if r := n.reps[g.at]; r.working() && r.core.serving() && inConf(&g.conf, r.member) {
			return r
		}
	}
	return nil
}

func (g *siteGroup) settled() bool {
	l := g.leader()
	if l == nil || len(g.conf.VotersOutgoing) > 0 || l.core.applied != l.core.tail.index {
		return false
	}
	for _, id := range append(slices.Clone(g.conf.Voters), g.conf.Learners...) {
		r := g.s.nodes[brokerOf(id)-1].reps[g.at]
		if !r.working() || r.member != id || r.core.applied != l.core.applied {
			return false
		}
	}
	return true
}

// describe says where everybody is.
func (s *simSite) describe() string {
	var b bytes.Buffer
	for _, g := range s.groups {
		for _, n := range s.nodes {
			r := n.reps[g.at]
			switch {
			case r == nil:
			case r.core == nil:
				b.WriteString(r.String() + ": no core\n")
			default:
				c := r.core
				b.WriteString(r.String() + ": " + c.rn.Status().String() + "\n")
				b.WriteString("   " + c.conf.state.String() + "\n")
			}
		}
		b.WriteString(g.id.String() + " committed: " + g.conf.String() + "\n")
	}
	return b.String()
}

// checkReplicas compares the state of every member with the leader's, and with
// what is known to be committed.
func (g *siteGroup) checkReplicas() {
	l := g.leader()
	if l.core.applied != g.last() {
		g.s.fail("%s: has applied %d, committed is %d: something is lost", l, l.core.applied, g.last())
	}
	for _, id := range append(slices.Clone(g.conf.Voters), g.conf.Learners...) {
		r := g.s.nodes[brokerOf(id)-1].reps[g.at]
		if got, want := stateOf(r.core), stateOf(l.core); got != want {
			g.s.fail("%s: its state is\n%s\nthe leader's is\n%s", r, got, want)
		}
		if r.core.hw != l.core.hw || r.core.offsets() != l.core.offsets() && r.core.term == l.core.term {
			g.s.fail("%s: offsets %+v, the leader's are %+v", r, r.core.offsets(), l.core.offsets())
		}
		if got, want := confText(&r.core.conf.state), confText(&g.conf); got != want {
			g.s.fail("%s: configuration %s, committed is %s", r, got, want)
		}
		if g.machine && (r.machine.chain != l.machine.chain || !bytes.Equal(r.machine.Snapshot(), l.machine.Snapshot())) {
			g.s.fail("%s: the machine is not in the leader's state", r)
		}
	}
}

func confText(c *pb.ConfState) string {
	d := *c
	for _, ids := range []*[]uint64{&d.Voters, &d.Learners, &d.VotersOutgoing, &d.LearnersNext} {
		*ids = slices.Sorted(slices.Values(*ids))
	}
	return d.String()
}

// siteTB turns what a check of the stories reports into the end of a seed.
type siteTB struct {
	testing.TB
	s *simSite
}

func (t siteTB) Helper()                        {}
func (t siteTB) Errorf(format string, v ...any) { t.s.fail(format, v...) }
func (t siteTB) Fatal(v ...any)                 { t.s.fail("%v", v...) }

// checkTransactions compares what every member knows of transactions with the
// batches, and what clients were told with the markers.
func (g *siteGroup) checkTransactions() {
	if g.machine {
		return
	}
	t, o := siteTB{s: g.s}, txnOracle(g.data)
	for _, n := range g.s.nodes {
		r := n.reps[g.at]
		if r == nil || r.core == nil || !inConf(&g.conf, r.member) {
			continue
		}
		o.checkCore(t, r.core)
		off := r.core.offsets()
		for range 4 {
			if off.LastStable <= off.Start {
				break
			}
			from := off.Start + g.s.rng.Int64N(off.LastStable-off.Start)
			to := from + 1 + g.s.rng.Int64N(off.LastStable-from)
			if list := &r.core.tail.producers.aborted; from >= list.from {
				o.checkReader(t, from, to, listed(list.overlapping(from, to)))
			}
		}
	}
	at := map[int64]int{}
	for i, b := range g.data {
		at[b.BaseOffset()] = i
	}
	for _, c := range g.clients {
		if c.txn == nil {
			continue
		}
		for _, d := range c.txn.decided {
			for _, b := range d.batches {
				if b.index == 0 && d.commit {
					g.s.fail("%s: %s is missing, its transaction is committed", g.id, b.value)
				}
				if b.index == 0 {
					continue
				}
				m := o.markerOf(at[b.offset])
				if m < 0 {
					g.s.fail("%s: %s at offset %d has no marker, its transaction has ended", g.id, b.value, b.offset)
				}
				if commit, _, err := o[m].Marker(); err != nil || commit != d.commit {
					g.s.fail("%s: %s at offset %d: committed %v, the marker says %v, %v", g.id, b.value, b.offset, d.commit, commit, err)
				}
			}
		}
	}
}

// checkDisks cuts the power everywhere and reads every byte of every member's
// log: all that was committed must be there, as it was.
func (s *simSite) checkDisks() {
	for range 8 { // what was only written is synced, logs at rest state it
		s.now = s.now.Add(600_000_000)
		s.quiet()
	}
	for _, n := range s.nodes {
		mem := n.mem.CrashClone(s.rng)
		store, err := n.open(mem, func(*vfs.Op) error { return nil })
		if err != nil {
			s.fail("node %d: open the store at the end: %v", n.broker, err)
		}
		for _, r := range n.reps {
			if r == nil || r.core == nil || !inConf(&r.g.conf, r.member) {
				continue
			}
			log, err := store.OpenLog(r.g.id)
			if err == nil {
				err = log.Damage()
			}
			if err != nil {
				s.fail("%s: at the end: %v", r, err)
			}
			r.checkLog(log)
		}
		if rep, err := storage.Verify(mem.KillClone(), "data"); err != nil && !errors.Is(err, storage.ErrNotFound) || rep.Damaged() {
			s.fail("node %d: at the end: %+v %v", n.broker, rep, err)
		}
	}
}

// checkLog compares all entries that a log has with those that are committed.
func (r *siteReplica) checkLog(log *storage.Log) {
	g := r.g
	last, _ := log.Last()
	if last < g.last() {
		g.s.fail("%s: ends with entry %d, committed is %d", r, last, g.last())
	}
	for from := log0(log) + 1; from <= g.last(); {
		entries, err := log.Entries(from, g.last()+1, 4000)
		if err != nil || len(entries) == 0 {
			g.s.fail("%s: read entry %d: %d entries, %v", r, from, len(entries), err)
		}
		for i := range entries {
			g.isCommitted(r, &entries[i])
		}
		from += uint64(len(entries))
	}
	r.checkReader(log)
}

// checkReader reads the log as a client does, and of a compacted one what its
// keys end as.
func (r *siteReplica) checkReader(log *storage.Log) {
	g := r.g
	start, next := log.Offsets()
	got, want := map[string]string{}, map[string]string{}
	for at := start; at < next; {
		batches, err := log.Read(at, next, 3000)
		if err != nil {
			g.s.fail("%s: read offset %d: %v", r, at, err)
		}
		if len(batches) == 0 {
			break
		}
		for _, b := range batches {
			if err := b.Check(); err != nil || b.NextOffset() <= at {
				g.s.fail("%s: the batch at %d, read from %d: %v", r, b.BaseOffset(), at, err)
			}
			g.keysOf(b, got)
			at = b.NextOffset()
		}
	}
	if !g.keyed {
		return
	}
	for _, b := range g.data {
		g.keysOf(b, want)
	}
	for k, v := range want {
		if got[k] != v {
			g.s.fail("%s: key %s ends as %q, it was written last as %q", r, k, got[k], v)
		}
	}
}

// keysOf notes the keys of a batch, unless its transaction was aborted.
func (g *siteGroup) keysOf(b record.Batch, into map[string]string) {
	if !g.keyed || b.IsControl() {
		return
	}
	o := txnOracle(g.data)
	if b.IsTransactional() {
		i := slices.IndexFunc(g.data, func(d record.Batch) bool { return d.BaseOffset() == b.BaseOffset() })
		m := o.markerOf(i)
		if m < 0 {
			return
		}
		if commit, _, _ := o[m].Marker(); !commit {
			return
		}
	}
	for rec, err := range b.All(1 << 20) {
		if err != nil {
			g.s.fail("records at %d: %v", b.BaseOffset(), err)
		}
		into[string(rec.Key)] = string(rec.Value)
	}
}
