package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// start opens the node's disk.
func (n *replicaNode) start() error {
	st, err := Open(n.g.plant.wrap(n.mem), simDir, simConfig(n.g.rng, func() time.Time { return n.g.now }))
	if err != nil {
		return err
	}
	st.planted.skipOver = n.g.plant.skipOver
	l, err := st.OpenLog(trioID)
	if errors.Is(err, ErrNotFound) && n.life == 0 {
		l, err = st.Create(trioID, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	}
	if err != nil {
		return err
	}
	if err := l.Damage(); err != nil {
		return fmt.Errorf("taken for damaged: %w", err)
	}
	h := l.Hard()
	if n.g.plant.unclamped {
		h = rawHard(l)
	}
	if h.Term < n.term && n.life == 0 {
		return fmt.Errorf("term %d after %d", h.Term, n.term)
	}
	*n = replicaNode{id: n.id, g: n.g, mem: n.mem, store: st, log: l, term: h.Term, vote: h.Vote, commit: h.Commit, role: "follower", life: n.life + 1, gone: n.gone}
	return errors.Join(n.checkCommitted(l.First().Index), n.checkCompacted())
}

// stop takes the machine down, by power cut or kill, and leaves it with what
// it will find.
func (n *replicaNode) stop() {
	n.down = true
	n.life++
	if n.g.rng.IntN(2) == 0 && !n.g.noSync {
		n.mem = n.mem.CrashClone(n.g.rng)
	} else {
		n.mem = n.mem.KillClone()
	}
}

// flush lets the node's disk catch up.
func (n *replicaNode) flush() {
	n.store.Step(n.g.now)
	if n.store.Disk().Offline != nil && !n.mem.Dead() {
		n.g.fail(fmt.Errorf("node %d: %w", n.id, n.store.Disk().Offline))
	}
}

// full lets the node's disk run full for its next round.
func (n *replicaNode) full() {
	if space, err := n.mem.Space("/"); err == nil {
		n.mem.SetCapacity(space.Total - space.Free + int64(1+n.g.rng.IntN(600)))
		n.propose()
		n.mem.SetCapacity(0)
	}
}

// persist appends a round with what is new of the hard state, and calls then
// once it is durable.
func (n *replicaNode) persist(r Round, then func()) bool {
	if n.dirty {
		r.Hard = &HardState{Term: n.term, Vote: n.vote, Commit: n.commit}
	}
	if r.Before == nil && r.Reset == nil && (n.log.ShouldRoll(n.g.now) || n.g.rng.IntN(12) == 0) {
		last, _ := n.log.Last()
		aux := simAux(last)
		r.Before = &aux
	}
	r.NoSync = n.g.noSync
	life := n.life
	r.Done = func(err error) {
		if err == nil && n.life == life && then != nil {
			then()
		}
	}
	n.g.plant.before(n.log, &r)
	if !n.g.try(n, n.log.Append(r)) {
		return false
	}
	n.dirty = false
	return true
}

func (n *replicaNode) send(m message) {
	m.from, m.term = n.id, n.term
	n.g.net = append(n.g.net, m)
}

func (n *replicaNode) peers() []int { return []int{(n.id + 1) % 3, (n.id + 2) % 3} }

// campaign asks for votes, once the own one is durable.
func (n *replicaNode) campaign() {
	n.term, n.vote, n.dirty, n.role = n.term+1, uint64(n.id)+1, true, "candidate"
	n.votes = map[int]bool{}
	term := n.term
	n.persist(Round{}, func() {
		if n.term != term || n.role != "candidate" {
			return
		}
		n.votes[n.id] = true
		last, lastTerm := n.log.Last()
		for _, p := range n.peers() {
			n.send(message{kind: "vote", to: p, index: last, logT: lastTerm})
		}
	})
}

func (n *replicaNode) receive(m message) {
	if m.term > n.term {
		n.term, n.vote, n.dirty, n.role = m.term, 0, true, "follower"
	}
	switch {
	case m.term < n.term && (m.kind == "append" || m.kind == "snapshot"):
		n.send(message{kind: "appended", to: m.from}) // with the term, so that it steps down
		return
	case m.term < n.term:
		return
	}
	switch m.kind {
	case "vote":
		n.onVote(m)
	case "voted":
		if n.role == "candidate" {
			n.votes[m.from] = true
			if len(n.votes) == 2 {
				n.lead()
			}
		}
	case "append":
		n.onAppend(m)
	case "snapshot":
		n.onSnapshot(m)
	case "appended":
		n.onAppended(m)
	}
}

func (n *replicaNode) onVote(m message) {
	last, lastTerm := n.log.Last()
	upToDate := m.logT > lastTerm || m.logT == lastTerm && m.index >= last
	if !upToDate || n.vote != 0 && n.vote != uint64(m.from)+1 {
		return
	}
	n.vote, n.dirty = uint64(m.from)+1, true
	term := n.term
	n.persist(Round{}, func() {
		if n.term == term {
			n.send(message{kind: "voted", to: m.from})
		}
	})
}

// lead makes the node the leader: it must have everything that was committed.
func (n *replicaNode) lead() {
	if other, ok := n.g.leaders[n.term]; ok && other != n.id {
		n.g.fail(fmt.Errorf("term %d has two leaders, %d and %d", n.term, other, n.id))
	}
	n.g.leaders[n.term] = n.id
	n.role = "leader"
	first, last := n.log.First().Index, uint64(0)
	last, _ = n.log.Last()
	n.g.try(n, n.checkCompacted())
	for i, e := range n.g.committed {
		if i <= first || i+1 < n.log.Whole() {
			continue
		}
		if term, err := n.log.Term(i); err != nil || term != e.Term {
			n.g.fail(fmt.Errorf("node %d leads in term %d with entries %d to %d: committed entry %d of term %d is %d there, %w", n.id, n.term, first+1, last, i, e.Term, term, err))
		}
	}
	for p := range n.next {
		n.next[p], n.match[p] = last+1, 0
	}
	n.propose()
}

// propose appends entries to the leader's log and sends them on before they
// are durable there.
func (n *replicaNode) propose() {
	if n.role != "leader" {
		return
	}
	last, _ := n.log.Last()
	_, next := n.log.Offsets()
	entries := n.g.entries(n.g.rng, 1+n.g.rng.IntN(2), last, n.term, next)
	n.persist(Round{Entries: entries}, n.durable(last+uint64(len(entries))))
	for _, p := range n.peers() {
		n.replicate(p)
	}
}

// durable is what a leader does once its own entries are on its disk.
func (n *replicaNode) durable(index uint64) func() {
	term := n.term
	return func() {
		if n.term == term && n.role == "leader" {
			n.match[n.id] = max(n.match[n.id], index)
			n.advance()
		}
	}
}

// replicate sends a peer what comes next for it.
func (n *replicaNode) replicate(p int) {
	if n.next[p] < n.log.Whole() && !n.g.try(n, n.log.Trim(n.log.Whole()-1)) {
		return // what is compacted cannot be sent as entries
	}
	first := n.log.First()
	if n.next[p] <= first.Index {
		n.send(message{kind: "snapshot", to: p, state: first})
		return
	}
	last, _ := n.log.Last()
	prev := min(n.next[p], last+1) - 1
	m := message{kind: "append", to: p, index: prev, commit: n.commit}
	var err error
	if m.logT, err = n.log.Term(prev); err == nil && prev < last {
		m.entries, err = n.log.Entries(prev+1, last+1, 2000)
	}
	if n.g.try(n, err) {
		n.send(m)
	}
}

func (n *replicaNode) onAppend(m message) {
	n.role = "follower"
	base := n.base()
	last, _ := n.log.Last()
	for m.index < base && len(m.entries) > 0 {
		m.index, m.logT, m.entries = m.entries[0].Index, m.entries[0].Term, m.entries[1:]
	}
	if m.index < base { // all up to there is committed here: the leader has it, too
		n.send(message{kind: "appended", to: m.from, ok: true, match: base})
		return
	}
	if term, err := n.log.Term(m.index); m.index > last || err != nil || term != m.logT {
		n.g.try(n, ignoreRange(err))
		n.send(message{kind: "appended", to: m.from, match: min(last, m.index-min(1, m.index))})
		return
	}
	match := m.index + uint64(len(m.entries))
	fresh, err := n.fresh(m.entries)
	if !n.g.try(n, err) {
		return
	}
	if len(fresh) > 0 && fresh[0].Index <= n.commit {
		n.g.fail(fmt.Errorf("node %d: entry %d ≤ commit %d is to be superseded", n.id, fresh[0].Index, n.commit))
		return
	}
	if c := min(m.commit, match); c > n.commit {
		n.commit, n.dirty = c, true
	}
	r := Round{Entries: fresh}
	if len(fresh) > 0 && fresh[0].Index <= last {
		aux := simAux(fresh[0].Index - 1)
		r.Before = &aux
	}
	term := n.term
	if n.persist(r, func() {
		if n.term == term {
			n.send(message{kind: "appended", to: m.from, ok: true, match: match})
		}
	}) {
		n.g.try(n, n.checkCommitted(base))
	} else {
		n.commit = min(n.commit, n.log.Hard().Commit)
	}
}

func ignoreRange(err error) error {
	if errors.Is(err, ErrCompacted) || errors.Is(err, ErrUnavailable) {
		return nil
	}
	return err
}

// fresh leaves out the entries that the log has already.
func (n *replicaNode) fresh(entries []Entry) ([]Entry, error) {
	for i := range entries {
		term, err := n.log.Term(entries[i].Index)
		if errors.Is(err, ErrUnavailable) || err == nil && term != entries[i].Term {
			return entries[i:], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// onSnapshot begins anew from the leader's state, term and vote its own.
func (n *replicaNode) onSnapshot(m message) {
	n.role = "follower"
	match := m.state.Index
	if term, err := n.log.Term(match); match <= n.commit || err == nil && term == m.state.Term {
		n.persist(Round{}, func() { n.send(message{kind: "appended", to: m.from, ok: true, match: match}) })
		return
	}
	at := m.state
	at.Hard = HardState{Term: n.term, Vote: n.vote, Commit: at.Index}
	before := n.commit
	n.commit, n.dirty = at.Index, false
	if !n.persist(Round{Reset: &at}, func() { n.send(message{kind: "appended", to: m.from, ok: true, match: match}) }) {
		if n.commit = before; n.log.First().Index == at.Index {
			n.commit = at.Index
		}
		n.dirty = true
	}
}

func (n *replicaNode) onAppended(m message) {
	if n.role != "leader" {
		return
	}
	if !m.ok {
		n.next[m.from] = min(n.next[m.from], m.match+1)
		n.replicate(m.from)
		return
	}
	n.match[m.from] = max(n.match[m.from], m.match)
	n.next[m.from] = max(n.next[m.from], n.match[m.from]+1)
	n.advance()
	if last, _ := n.log.Last(); n.next[m.from] <= last {
		n.replicate(m.from)
	}
}

// advance commits what a majority has, if it is of the own term.
func (n *replicaNode) advance() {
	sorted := n.match
	if sorted[0] > sorted[1] {
		sorted[0], sorted[1] = sorted[1], sorted[0]
	}
	c := max(sorted[0], min(sorted[1], sorted[2]))
	if term, err := n.log.Term(c); c <= n.commit || err != nil || term != n.term {
		return
	}
	base := max(n.commit, n.log.First().Index)
	n.commit, n.dirty = c, true
	n.g.try(n, n.checkCommitted(base))
}

// checkCommitted compares what the node says is committed, above an index,
// with what others said.
func (n *replicaNode) checkCommitted(above uint64) error {
	above = max(above, n.base())
	if n.commit <= above {
		return nil
	}
	entries, err := n.log.Entries(above+1, n.commit+1, 1<<30)
	if err != nil {
		return fmt.Errorf("commit %d: %w", n.commit, err)
	}
	for _, e := range entries {
		if _, ok := n.g.committed[e.Index]; !ok {
			n.g.committed[e.Index] = e
		} else if err := n.g.same(e); err != nil {
			return err
		}
	}
	return nil
}

// same compares a committed entry with what others said it is.
func (g *trio) same(e Entry) error {
	if c := g.committed[e.Index]; c.Term != e.Term || c.BaseOffset != e.BaseOffset || c.Kind != e.Kind || !bytes.Equal(c.Payload, e.Payload) {
		return fmt.Errorf("entry %d is committed as term %d at offset %d and as term %d at %d", e.Index, c.Term, c.BaseOffset, e.Term, e.BaseOffset)
	}
	return nil
}

// base is the index above which entries can be read one by one.
func (n *replicaNode) base() uint64 { return max(n.log.First().Index, n.log.Whole()-1) }

// checkCompacted looks at what is left below base: all that was committed, as it
// was committed, but for what the node left out.
func (n *replicaNode) checkCompacted() error {
	if len(n.gone) == 0 && n.log.Whole() <= n.log.First().Index+1 {
		return nil
	}
	all, err := everything(n.log)
	if err != nil {
		return fmt.Errorf("compacted entries: %w", err)
	}
	there := map[uint64]bool{}
	for _, e := range all {
		if there[e.Index] = true; e.Index <= n.base() {
			err = errors.Join(err, n.g.same(e))
		}
		if n.gone[e.Index] {
			err = errors.Join(err, fmt.Errorf("entry %d is back, which was compacted away", e.Index))
		}
	}
	for i := n.log.First().Index + 1; i <= n.base(); i++ {
		if _, may := n.gone[i]; !there[i] && !may {
			err = errors.Join(err, fmt.Errorf("entry %d is missing and was not compacted away", i))
		}
	}
	return err
}

// compact leaves entries out of committed segments, once that is durable.
func (n *replicaNode) compact() {
	if !n.persist(Round{}, nil) {
		return
	}
	n.flush()
	if n.mem.Dead() || n.g.failed != nil {
		return
	}
	infos, rng := n.log.Segments(), n.g.rng
	count := 0
	for count+1 < len(infos) && infos[count].LastIndex <= n.log.Hard().Commit {
		count++
	}
	if count == 0 {
		return
	}
	from := rng.IntN(count)
	to := from + rng.IntN(min(count-from, 3))
	var left []uint64
	_, err := n.log.Rewrite(context.Background(), Rewrite{First: infos[from].Seq, Last: infos[to].Seq, Keep: func(e Entry) ([]byte, error) {
		if rng.IntN(3) > 0 {
			return e.Payload, nil
		}
		n.gone[e.Index] = false
		left = append(left, e.Index)
		return nil, nil
	}})
	for _, i := range left {
		n.gone[i] = err == nil && !n.mem.Dead()
	}
	if !errors.Is(err, ErrNotSealed) {
		n.g.try(n, err)
	}
}

// trim deletes what was applied, so that a follower may be left behind.
func (n *replicaNode) trim() {
	if n.commit > 3 {
		n.g.try(n, n.log.Trim(n.commit-uint64(n.g.rng.IntN(3))))
	}
}
