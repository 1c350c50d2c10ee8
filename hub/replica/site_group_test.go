package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// siteGroup is a group, and what is known of it: above all what was committed,
// which is what the first replica to apply an entry found there.
type siteGroup struct {
	s       *simSite
	at      int
	id      storage.LogID
	topic   TopicConfig
	machine bool
	mirror  *siteMirror // a mirrored partition
	keyed   bool        // a compacted one
	born    []uint64

	committed []storage.Entry // of index 2 and above
	offset    int64           // next one
	epoch     int32           // leader epoch of the last batch
	start     int64           // log start
	active    bool            // a link holds it
	conf      pb.ConfState    // as committed
	confAt    uint64          // index of the last change
	ever      map[uint64]bool // members of any committed configuration
	leaders   map[uint64]uint64
	exposed   map[uint64]int64 // term: highest high watermark that its leader showed
	hashes    map[uint64]uint64
	sent      map[uint32]*siteBatch // by checksum
	clients   []*siteClient
	commands  map[string]bool // acknowledged: true
	serial    int
	data      []record.Batch // committed batches, for the oracle of transactions
}

// entry is a committed entry.
func (g *siteGroup) entry(index uint64) *storage.Entry { return &g.committed[index-2] }

// last is the highest index that is known to be committed.
func (g *siteGroup) last() uint64 { return uint64(len(g.committed)) + 1 }

func newSiteGroups(s *simSite) []*siteGroup {
	rng := s.rng
	var groups []*siteGroup
	add := func(name string) *siteGroup {
		g := &siteGroup{
			s: s, at: len(groups), id: storage.LogID{Topic: name, ID: record.TopicID{byte(len(groups) + 1)}},
			ever: map[uint64]bool{}, leaders: map[uint64]uint64{}, exposed: map[uint64]int64{},
			hashes: map[uint64]uint64{}, sent: map[uint32]*siteBatch{}, commands: map[string]bool{}, epoch: -1,
		}
		for _, b := range rng.Perm(s.mood.nodes)[:3] {
			g.born = append(g.born, siteMember(int32(b+1), 0))
			g.ever[g.born[len(g.born)-1]] = true
		}
		g.conf = pb.ConfState{Voters: g.born}
		groups = append(groups, g)
		return g
	}
	if s.mood.narrow && rng.IntN(3) > 0 {
		add("orders").addClients(2, 2)
		return groups
	}
	if s.mood.narrow {
		meta := add("__meta")
		meta.id.ID, meta.machine = record.TopicID{}, true
		return groups
	}
	add("orders").addClients(2, 2)
	if rng.IntN(2) == 0 {
		add("clicks").addClients(2, 1)
	} else {
		g := add("written")
		g.addClients(2, 0)
		g.topic.Replicated = true
		s.mood.power = false
	}
	switch rng.IntN(3) {
	case 0:
		k := add("keyed")
		k.keyed, k.topic.Keep = true, true
		k.addClients(1, 1)
	case 1:
		m := add("mirrored")
		m.mirror = newSiteMirror(m)
	}
	meta := add("__meta")
	meta.id.ID, meta.machine = record.TopicID{}, true
	return groups
}

// compare looks at what the replica has applied since the last time.
func (r *siteReplica) compare() {
	g, c := r.g, r.core
	if c == nil || c.failed != nil {
		return
	}
	r.checked = max(r.checked, log0(r.log))
	if c.applied > r.checked {
		if last, _ := r.log.Last(); c.applied <= last {
			entries, err := r.log.Entries(r.checked+1, c.applied+1, 1<<30)
			if err != nil && !r.n.damaged && !r.n.mem.Dead() {
				g.s.fail("%s: read what is applied, %d to %d: %v", r, r.checked+1, c.applied, err)
			}
			r.unread = err != nil
			for i := range entries {
				g.isCommitted(r, &entries[i])
				r.checked = entries[i].Index
			}
		}
	}
	if c.hw < r.hw || c.hard.Commit < r.commit {
		g.s.fail("%s: high watermark %d < %d, or commit %d < %d", r, c.hw, r.hw, c.hard.Commit, r.commit)
	}
	if c.serving() && (c.hw != g.exposed[c.term] || r.hw != c.hw) {
		for term, hw := range g.exposed {
			if term <= c.term && hw > c.hw {
				g.s.fail("%s: leads in term %d and shows the high watermark %d, the leader of term %d had shown %d", r, c.term, c.hw, term, hw)
			}
		}
		g.exposed[c.term] = c.hw
	}
	r.hw, r.commit = c.hw, c.hard.Commit
	if c.conf.index <= c.durableCommit || c.inflight.len() == 0 {
		// Otherwise it is a snapshot's, and not on the disk yet.
		r.confAt = max(r.confAt, c.conf.index)
	}
}

// isCommitted compares an entry that a replica has applied with what others
// have applied.
func (g *siteGroup) isCommitted(r *siteReplica, e *storage.Entry) {
	if e.Index <= g.last() {
		if w := g.entry(e.Index); w.Term != e.Term || w.Kind != e.Kind || w.BaseOffset != e.BaseOffset || w.LeaderEpoch != e.LeaderEpoch || !bytes.Equal(w.Payload, e.Payload) {
			g.s.fail("%s: entry %d is %s, committed is %s", r, e.Index, describe(e), describe(w))
		}
		return
	}
	if e.Index != g.last()+1 {
		g.s.fail("%s: entry %d is applied, committed is known up to %d", r, e.Index, g.last())
	}
	if e.Index > 2 && g.entry(e.Index-1).Term > e.Term {
		g.s.fail("%s: entry %d of term %d after one of term %d", r, e.Index, e.Term, g.entry(e.Index-1).Term)
	}
	// Its own bytes: what a log hands out may be the memory of a client.
	c := *e
	c.Payload = bytes.Clone(e.Payload)
	g.committed = append(g.committed, c)
	if g.s.tracing {
		g.s.note("%s commits %s", r, describe(e))
	}
	if e.Kind == storage.KindData {
		g.committedBatch(r, record.Batch(c.Payload), e)
		return
	}
	g.committedControl(r, &c)
}

func (g *siteGroup) committedBatch(r *siteReplica, b record.Batch, e *storage.Entry) {
	if b.BaseOffset() != e.BaseOffset || e.BaseOffset < g.offset || !g.active && e.BaseOffset != g.offset {
		g.s.fail("%s: entry %d at offset %d, the batch at %d, the partition was at %d", r, e.Index, e.BaseOffset, b.BaseOffset(), g.offset)
	}
	if b.LeaderEpoch() < g.epoch {
		g.s.fail("%s: entry %d of leader epoch %d after %d", r, e.Index, b.LeaderEpoch(), g.epoch)
	}
	g.offset, g.epoch = b.NextOffset(), b.LeaderEpoch()
	g.data = append(g.data, b)
	if g.active {
		g.mirror.committed(r, b)
		return
	}
	if b.IsControl() {
		return
	}
	sent := g.sent[b.CRC()]
	switch {
	case sent == nil:
		g.s.fail("%s: entry %d holds a batch that nobody sent", r, e.Index)
	case sent.never != "":
		g.s.fail("%s: entry %d holds a batch that must be refused: %s", r, e.Index, sent.never)
	case sent.index != 0:
		g.s.fail("%s: %s is committed twice, as entry %d and as %d", r, sent.value, sent.index, e.Index)
	}
	sent.index, sent.offset = e.Index, b.BaseOffset()
}

func (g *siteGroup) committedControl(r *siteReplica, e *storage.Entry) {
	if isConfChange(e.Payload) {
		cc, err := decodeConfChange(e.Payload)
		if err == nil {
			g.conf, err = applyConfChange(g.conf, cc, e.Index)
		}
		if err != nil {
			g.s.fail("%s: entry %d: %v", r, e.Index, err)
		}
		g.confAt = e.Index
		g.s.counts.changes++
		for _, ids := range [][]uint64{g.conf.Voters, g.conf.Learners, g.conf.VotersOutgoing, g.conf.LearnersNext} {
			for _, id := range ids {
				g.ever[id] = true
			}
		}
		return
	}
	ctl, err := decodeControl(e.Payload)
	if err != nil {
		g.s.fail("%s: entry %d: %v", r, e.Index, err)
	}
	switch c := ctl.(type) {
	case LogStart:
		g.start, g.offset = max(g.start, c.Offset), max(g.offset, c.Offset)
	case MirrorStart:
		g.active = true
	case MirrorStop:
		g.active = false
	}
}

// checkRole: one leader a term.
func (r *siteReplica) checkRole() {
	c := r.core
	if c.role != raft.StateLeader {
		return
	}
	term := c.rn.BasicStatus().Term
	if r.led == term {
		return
	}
	r.led = term
	r.n.s.counts.elections++
	r.n.s.note("%s leads in term %d", r, term)
	if other, ok := r.g.leaders[term]; ok && other != r.member {
		r.n.s.fail("%s: leads in term %d, as member %d/%d does", r, term, other>>32, brokerOf(other))
	}
	r.g.leaders[term] = r.member
}

func (r *siteReplica) vote(term, to uint64) {
	if was, ok := r.votes[term]; ok && was != to {
		r.n.s.fail("%s: votes in term %d for member %d/%d and for %d/%d", r, term, was>>32, brokerOf(was), to>>32, brokerOf(to))
	}
	r.votes[term] = to
	r.term = max(r.term, term)
}

// checkMessage notes what a message promises: it must be true after a crash. Who
// asks for votes, and who leads by them, has voted for itself.
func (r *siteReplica) checkMessage(m *pb.Message) {
	if m.Reject {
		return
	}
	switch m.Type {
	case pb.MsgVoteResp:
		r.vote(m.Term, m.To)
	case pb.MsgVote, pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		r.vote(m.Term, r.member)
	case pb.MsgAppResp:
		r.term = max(r.term, m.Term)
		index := m.Index
		for _, c := range r.cuts { // it was on the disk, and a later leader has superseded it meanwhile
			if m.Term < c.term {
				index = min(index, c.index)
			}
		}
		if index >= r.acked {
			r.acked, r.ackedIn = index, m.Term
		}
	}
}

// checkReopened compares a log that was just opened with what was promised.
func (r *siteReplica) checkReopened() {
	s, h := r.n.s, r.log.Hard()
	last, _ := r.log.Last()
	if h.Term < r.term {
		s.fail("%s: comes back in term %d, it has voted or acknowledged in %d (power cut %v)", r, h.Term, r.term, r.power)
	}
	if to, ok := r.votes[h.Term]; ok && h.Vote != to {
		s.fail("%s: comes back in term %d with vote %d, it has voted for %d (power cut %v)", r, h.Term, h.Vote, to, r.power)
	}
	if last < r.acked {
		s.fail("%s: comes back with entries to %d, it has acknowledged %d (power cut %v)", r, last, r.acked, r.power)
	}
}

// checkFailed: a core gives up only when its disk has failed or is damaged.
func (r *siteReplica) checkFailed() {
	if r.core == nil || r.core.failed == nil || r.n.mem.Dead() {
		return
	}
	err := r.core.failed
	switch {
	case r.n.damaged && r.isDamage(err):
		r.quarantine()
	case r.n.offline && errors.Is(err, record.ErrOffline):
		r.n.s.note("%s has failed: %v", r, err)
		r.stop()
	default:
		r.n.s.fail("%s: has failed: %v", r, err)
	}
}

func (r *siteReplica) isDamage(err error) bool {
	_, corrupt := errors.AsType[*record.CorruptionError](err)
	return corrupt || errors.Is(err, record.ErrQuarantined)
}

// siteMachine is the machine of a group without records: a catalog, and beside
// it a hash over all commands in their order, which no command leaves as it
// was. What comes of an entry must be the same on every replica.
type siteMachine struct {
	r     *siteReplica
	chain uint64
	inner *catalog.Machine
}

func newSiteMachine(r *siteReplica) *siteMachine {
	return &siteMachine{r: r, inner: catalog.NewMachine()}
}

func (m *siteMachine) Apply(index uint64, cmd []byte) any {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(nil, m.chain))
	h.Write(cmd)
	m.chain = h.Sum64()
	if _, err := catalog.Decode(cmd); err == nil {
		m.inner.Apply(index, cmd)
	}
	g := m.r.g
	if was, ok := g.hashes[index]; ok && was != m.chain {
		g.s.fail("%s: the machine is in another state after entry %d than others were: a command was left out or applied twice", m.r, index)
	}
	g.hashes[index] = m.chain
	return fmt.Sprintf("%d", index)
}

func (m *siteMachine) Snapshot() []byte {
	return append(binary.BigEndian.AppendUint64(nil, m.chain), m.inner.Snapshot()...)
}

func (m *siteMachine) Restore(b []byte) error {
	if len(b) == 0 {
		m.chain = 0
		return m.inner.Restore(nil)
	}
	m.chain = binary.BigEndian.Uint64(b)
	return m.inner.Restore(b[8:])
}
