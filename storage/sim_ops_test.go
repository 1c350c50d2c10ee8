package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// append gives the log a round that does ops, and notes what came of it.
func (l *soloLog) append(r Round, ops []simOp) error {
	l.sim.plant.before(l.log, &r)
	if r.Hard != nil {
		l.committed = max(l.committed, r.Hard.Commit)
	}
	end := len(l.ops) + len(ops)
	keep := append(slices.Clip(l.ops), ops...)
	r.Done = func(err error) {
		switch {
		case err == nil && !r.NoSync:
			l.acked = max(l.acked, end)
		case err != nil && !l.sim.mem.Dead() && !errors.Is(err, record.ErrOffline):
			panic(err)
		}
	}
	seq := l.log.last().header.seq
	err := l.log.Append(r)
	switch {
	case err == nil:
		l.ops, l.ghosts = keep, nil
		return nil
	case l.sim.mem.Dead():
		// It may have come anywhere: all of it is possible, none is certain,
		// and neither is that a failed round before it is gone for good.
		l.ops = keep
		return nil
	case !errors.Is(err, record.ErrDiskFull):
		return err
	}
	if now := l.log.last().header; now.seq != seq && now.isSynced() && len(ops) > 0 && ops[0].entry == nil {
		// The new segment is there, with what its header does by itself; the
		// round's frames are not.
		l.ops, ops, l.ghosts = append(l.ops, ops[0]), ops[1:], nil
	}
	l.ghosts = append(l.ghosts, slices.Concat(l.ops, ops))
	return nil
}

func entryOps(entries []Entry) (ops []simOp) {
	for i := range entries {
		ops = append(ops, simOp{entry: &entries[i]})
	}
	return ops
}

// nextHard draws a hard state that may follow: often nothing new, sometimes a
// commit, a vote, a term.
func (l *soloLog) nextHard(s simState) *HardState {
	h := s.hard
	last, _, _ := s.last()
	switch l.sim.rng.IntN(6) {
	case 0, 1:
		h.Commit = max(h.Commit, min(last, h.Commit+uint64(l.sim.rng.IntN(4))))
	case 2:
		h.Term, h.Vote = h.Term+1, uint64(1+l.sim.rng.IntN(3))
	case 3:
		h.Vote = uint64(1 + l.sim.rng.IntN(3))
	default:
		return nil
	}
	return &h
}

// appendRound continues the log.
func (l *soloLog) appendRound() error {
	s, rng := l.now(), l.sim.rng
	last, term, next := s.last()
	r := Round{Hard: l.nextHard(s), NoSync: rng.IntN(5) == 0}
	h := s.hard
	var ops []simOp
	if r.Hard != nil {
		h = *r.Hard
		ops = append(ops, simOp{hard: r.Hard})
	}
	r.Entries = l.sim.entries(rng, rng.IntN(4), last, max(term, h.Term-uint64(rng.IntN(2))%h.Term), next)
	if rng.IntN(6) == 0 || l.log.ShouldRoll(l.sim.now) {
		aux := simAux(last)
		r.Before = &aux
		l.places[last] = State{Index: last, Term: term, NextOffset: next, Aux: aux}
	}
	return l.append(r, append(ops, entryOps(r.Entries)...))
}

// supersede replaces a suffix that is not committed.
func (l *soloLog) supersede() error {
	s, rng := l.now(), l.sim.rng
	last, _, _ := s.last()
	low := max(l.committed, l.mayFirst, s.first.Index, l.log.First().Index) + 1
	if low > last {
		return l.appendRound()
	}
	k := low + uint64(rng.IntN(int(last-low+1)))
	at := s.at(k - 1)
	hard := HardState{Term: s.hard.Term + 1, Vote: uint64(rng.IntN(3)), Commit: s.hard.Commit}
	r := Round{Hard: &hard, Entries: l.sim.entries(rng, 1+rng.IntN(3), at.Index, hard.Term, at.NextOffset)}
	if rng.IntN(2) == 0 {
		hard.Commit = min(k-1+uint64(len(r.Entries)), max(hard.Commit, k))
	}
	aux := simAux(at.Index)
	at.Aux, r.Before = aux, &aux
	l.places[at.Index] = at
	ops := append([]simOp{{cut: &at.Index, hard: &hard}}, entryOps(r.Entries)...)
	return l.append(r, ops)
}

// reset begins from a state further on, as a follower behind the log start.
func (l *soloLog) reset() error {
	s, rng := l.now(), l.sim.rng
	if rng.IntN(3) > 0 {
		return l.appendRound()
	}
	last, term, next := s.last()
	hard := s.hard
	hard.Commit = last + 5
	at := State{Index: last + 5, Term: max(term, 1), NextOffset: next + int64(rng.IntN(30)), Hard: hard, Aux: simAux(last + 5)}
	hard.Term = max(hard.Term, at.Term)
	at.Hard = hard
	r := Round{Reset: &at, Entries: l.sim.entries(rng, rng.IntN(3), at.Index, max(at.Term, hard.Term), at.NextOffset)}
	l.places[at.Index] = at
	return l.append(r, append([]simOp{{reset: &at, hard: &hard}}, entryOps(r.Entries)...))
}

// trim deletes what is committed.
func (l *soloLog) trim() error {
	s, rng := l.now(), l.sim.rng
	if len(l.ghosts) > 0 || s.hard.Commit <= l.first || l.resetPending() {
		return l.appendRound()
	}
	// What is trimmed was applied, so it was durable on a majority: here that
	// is this one disk.
	l.sim.store.Step(l.sim.now)
	if l.sim.mem.Dead() || l.acked < len(l.ops) {
		return nil
	}
	index := l.first + uint64(rng.IntN(int(s.hard.Commit-l.first)+1))
	for _, info := range l.log.Segments() {
		if info.LastIndex <= index {
			l.mayFirst = max(l.mayFirst, info.LastIndex)
		}
	}
	err := l.log.Trim(index)
	if l.sim.mem.Dead() {
		return nil
	}
	if err != nil {
		return err
	}
	l.first = l.log.First().Index
	l.mayFirst = l.first
	if l.first > index {
		return fmt.Errorf("trimmed to %d, asked for %d", l.first, index)
	}
	return nil
}

// compact leaves entries out of what is committed.
func (l *soloLog) compact() error {
	s, rng := l.now(), l.sim.rng
	if len(l.ghosts) > 0 || s.hard.Commit <= l.first || l.resetPending() {
		return l.appendRound()
	}
	l.sim.store.Step(l.sim.now) // as for trim: what is committed is durable
	if l.sim.mem.Dead() || l.acked < len(l.ops) {
		return nil
	}
	infos := l.log.Segments()
	n := 0
	for n+1 < len(infos) && infos[n].LastIndex <= s.hard.Commit {
		n++
	}
	if n == 0 {
		return l.appendRound()
	}
	from := rng.IntN(n)
	to := from + rng.IntN(min(n-from, 3))
	l.maybe = map[uint64]bool{}
	likely := rng.IntN(5)
	_, err := l.log.Rewrite(context.Background(), Rewrite{First: infos[from].Seq, Last: infos[to].Seq, Keep: func(e Entry) ([]byte, error) {
		if rng.IntN(4) < likely {
			l.maybe[e.Index] = true
			return nil, nil
		}
		return e.Payload, nil
	}})
	switch {
	case l.sim.mem.Dead():
		return nil
	case err == nil:
		maps.Copy(l.gone, l.maybe)
	}
	l.maybe = nil
	if errors.Is(err, ErrNotSealed) || errors.Is(err, record.ErrDiskFull) {
		return nil
	}
	return err
}

// scrub lets a bit flip behind a sealed segment's entries, in its index if there is
// one, and checks all segments. An index that was written anew is durable.
func (l *soloLog) scrub() error {
	rng, mem := l.sim.rng, l.sim.mem
	if segs := l.log.mu.segs; len(segs) > 1 {
		s := segs[rng.IntN(len(segs)-1)]
		name := l.log.path(s.name)
		if info, err := mem.Stat(name); err == nil && info.Size > int64(s.p.end) {
			if err := mem.Flip(name, int64(s.p.end)+rng.Int64N(info.Size-int64(s.p.end)), 1<<rng.IntN(8)); err != nil {
				return err
			}
		}
	}
	for _, info := range l.log.Segments() {
		got, err := l.log.Scrub(context.Background(), info.Seq, nil)
		switch {
		case mem.Dead():
			return nil
		case err != nil:
			return err
		case got.Unmended != nil && !errors.Is(got.Unmended, ErrNotSealed):
			return fmt.Errorf("the index of %s (%w) is not written anew: %w", info.File, got.Index, got.Unmended)
		case got.Index != nil && got.Unmended == nil:
			if err := l.mended(info.File); err != nil {
				return fmt.Errorf("the index of %s was written anew: %w, and after a power cut %w", info.File, got.Index, err)
			}
		}
	}
	return nil
}

// mended returns what a power cut leaves wrong with a segment. It may take the
// segment, when its name is not durable yet.
func (l *soloLog) mended(file string) error {
	mem := l.sim.mem.PowerCut()
	name := l.log.path(file)
	if _, err := mem.Stat(name); err != nil {
		return nil
	}
	f, err := mem.Open(name)
	if err != nil {
		return err
	}
	h, err := readHeader(f)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	footer := false
	_, err = verify(f, begin(&h), uint32(size), func(fr *frame, _ []byte) error {
		footer = fr.kind == kindFooter
		return nil
	})
	if err == nil && !footer {
		err = errNoIndex
	}
	return err
}

// resetPending reports whether a reset is not durable yet.
func (l *soloLog) resetPending() bool {
	for _, op := range l.ops {
		if op.reset != nil {
			return true
		}
	}
	return false
}
