package storage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// soloLog is a log and what the schedule knows of it: the state that is
// certainly durable, and every operation after that, in the order in which the
// log does them. After a power cut the log must be in the state after some of
// the operations, none left out before them, at least those acknowledged; after
// a kill in the state after all of them.
type soloLog struct {
	sim   *solo
	id    LogID
	log   *Log
	live  bool // Create has returned
	base  simState
	ops   []simOp
	acked int // of ops: durable for certain
	// A round that failed may be there after a stop, in place of what follows,
	// until a later round has succeeded: the operations with each of them.
	ghosts [][]simOp
	// The highest commit that any round had: what is committed is never
	// superseded, even if the node forgot it.
	committed uint64
	// Trims that have returned are durable; one that was cut short may be.
	first, mayFirst uint64
	places          map[uint64]State // where segments began
}

// simOp is one step of a round. Those of a new segment's header come as one.
type simOp struct {
	reset *State
	cut   *uint64 // index that stays the last one
	hard  *HardState
	entry *Entry
}

// simState is a log as it should be.
type simState struct {
	first   State
	entries []Entry
	hard    HardState
}

func (s simState) apply(op simOp) simState {
	switch {
	case op.reset != nil:
		s.first, s.entries = *op.reset, nil
	case op.cut != nil:
		s.entries = slices.Clip(s.entries[:*op.cut-s.first.Index])
	case op.entry != nil:
		s.entries = append(s.entries, *op.entry)
	}
	if op.hard != nil {
		s.hard = *op.hard
	}
	return s
}

func (s simState) last() (index, term uint64, next int64) {
	if n := len(s.entries); n > 0 {
		e := &s.entries[n-1]
		return e.Index, e.Term, e.NextOffset()
	}
	return s.first.Index, s.first.Term, s.first.NextOffset
}

// at is the place after an entry.
func (s simState) at(index uint64) State {
	st := s
	st.entries = s.entries[:index-s.first.Index]
	i, t, n := st.last()
	return State{Index: i, Term: t, NextOffset: n}
}

// now is the state after everything that was appended.
func (l *soloLog) now() simState {
	s := l.base
	s.entries = slices.Clip(s.entries)
	for _, op := range l.ops {
		s = s.apply(op)
	}
	return s
}

func simAux(index uint64) Aux { return Aux{Conf: fmt.Appendf(nil, "conf %d", index)} }

// open opens the log, creating it the first time.
func (l *soloLog) open() (err error) {
	if !l.live {
		return l.create()
	}
	if l.log, err = l.sim.store.OpenLog(l.id); err != nil {
		return err
	}
	return l.adopt()
}

func (l *soloLog) create() error {
	first := State{Hard: HardState{Term: 1}, Aux: simAux(0)}
	l.base = simState{first: first, hard: first.Hard}
	l.ops, l.acked, l.ghosts, l.first, l.mayFirst, l.committed = nil, 0, nil, 0, 0, 0
	l.places = map[uint64]State{0: first}
	var err error
	l.log, err = l.sim.store.Create(l.id, first)
	if errors.Is(err, ErrExists) {
		// A crash came when the log was whole but Create had not returned.
		if l.log, err = l.sim.store.OpenLog(l.id); err == nil {
			err = l.log.Damage()
		}
	}
	l.live = err == nil
	if l.sim.mem.Dead() {
		return nil
	}
	return err
}

// adopt checks the opened log and goes on from what it holds.
func (l *soloLog) adopt() error {
	s, err := l.check(l.log, true)
	if err != nil {
		return err
	}
	l.base, l.ops, l.acked, l.ghosts = s, nil, 0, nil
	l.committed = max(l.committed, s.hard.Commit)
	l.first = s.first.Index
	l.mayFirst = l.first
	return nil
}

// stopped notes how the machine stopped, for the check that follows.
func (l *soloLog) stopped(power, cut bool) {
	if !power && !cut {
		l.acked = len(l.ops) // a kill loses nothing that was written
	}
}

// recovered opens the log on a copy, checks it and tells what it holds.
func (l *soloLog) recovered(st *Store, power bool) (string, error) {
	if !l.live {
		return "", nil
	}
	log, err := st.OpenLog(l.id)
	if err != nil {
		return "", err
	}
	keep := l.acked
	if !power {
		l.acked = len(l.ops)
	}
	s, err := l.check(log, l.sim.rng.IntN(4) == 0)
	l.acked = keep
	if err != nil {
		return "", err
	}
	last, term, next := s.last()
	return fmt.Sprint(s.first, last, term, next, s.hard), nil
}

// check compares a log that was just opened with what it may be:
//   - a power cut or a kill is never taken for damage;
//   - the log begins where it did, or where a trim in progress left it;
//   - it holds every entry that was acknowledged, with the same bytes at the
//     same index and offset, and of the others a prefix;
//   - its hard state is the one that belongs to that prefix, its commit within
//     the log.
func (l *soloLog) check(log *Log, deep bool) (simState, error) {
	if err := log.Damage(); err != nil {
		return simState{}, fmt.Errorf("taken for damaged: %w", err)
	}
	first := log.First()
	last, _ := log.Last()
	var got []Entry
	if last > first.Index {
		var err error
		if got, err = log.Entries(first.Index+1, last+1, 1<<30); err != nil {
			return simState{}, err
		}
	}
	hard := log.Hard()
	if l.sim.plant.unclamped {
		hard = rawHard(log)
	}
	found := simState{first: first, entries: got, hard: hard}
	if why := l.match(found, l.ops); why != nil && !slices.ContainsFunc(l.ghosts, func(ops []simOp) bool { return l.match(found, ops) == nil }) {
		return found, fmt.Errorf("recovered entries %d to %d, hard state %v: it is no state that the log could be in; acknowledged %d of %d operations; %q",
			first.Index+1, last, hard, l.acked, len(l.ops), why)
	}
	if deep {
		return found, checkReads(log, found)
	}
	return found, nil
}

// match returns why a recovered log is in none of the states that operations
// lead to, for each of them; nil when it is in one.
func (l *soloLog) match(found simState, ops []simOp) (why []string) {
	s := l.base
	s.entries = slices.Clip(s.entries)
	for i := 0; ; i++ {
		if i >= l.acked {
			reason := l.differs(found, s)
			if reason == "" {
				return nil
			}
			why = append(why, reason)
		}
		if i == len(ops) {
			return why
		}
		s = s.apply(ops[i])
	}
}

// differs returns why a recovered log is not in a state.
func (l *soloLog) differs(found, want simState) string {
	first := found.first.Index
	if want.first.Index > l.first { // a reset
		if first != want.first.Index {
			return fmt.Sprintf("begins after %d, reset to %d", first, want.first.Index)
		}
	} else if first < l.first || first > l.mayFirst {
		return fmt.Sprintf("begins after %d, trimmed to %d, at most %d", first, l.first, l.mayFirst)
	}
	if p := l.places[first]; p.Term != found.first.Term || p.NextOffset != found.first.NextOffset || !bytes.Equal(p.Conf, found.first.Conf) {
		return fmt.Sprintf("begins from %v, want %v", found.first, p)
	}
	skip := int(first - want.first.Index)
	if skip > len(want.entries) || len(want.entries)-skip != len(found.entries) {
		return fmt.Sprintf("%d entries, want %d", len(found.entries), len(want.entries)-skip)
	}
	for i, e := range want.entries[skip:] {
		g := found.entries[i]
		if g.Index != e.Index || g.Term != e.Term || g.Kind != e.Kind || g.BaseOffset != e.BaseOffset || !bytes.Equal(g.Payload, e.Payload) {
			return fmt.Sprintf("entry %d of term %d at offset %d, want %d of term %d at %d", g.Index, g.Term, g.BaseOffset, e.Index, e.Term, e.BaseOffset)
		}
	}
	last, _, _ := want.last()
	if h := clamp(want.hard, first, last); found.hard != h {
		return fmt.Sprintf("hard state %v, want %v", found.hard, h)
	}
	return ""
}

// checkReads compares the other ways to read with the entries.
func checkReads(log *Log, want simState) error {
	var data []record.Batch
	for _, e := range want.entries {
		if e.Kind == KindData {
			data = append(data, e.Batch())
		}
		if term, err := log.Term(e.Index); err != nil || term != e.Term {
			return fmt.Errorf("term of index %d: %d, %w; want %d", e.Index, term, err, e.Term)
		}
	}
	i := 0
	err := log.Replay(log.First().Index+1, func(e Entry) error {
		w := want.entries[i]
		i++
		if e.Index != w.Index || e.Term != w.Term || e.Kind != w.Kind || e.BaseOffset != w.BaseOffset || !bytes.HasPrefix(w.Payload, e.Payload) {
			return fmt.Errorf("replayed index %d of term %d, want %d of term %d", e.Index, e.Term, w.Index, w.Term)
		}
		return nil
	})
	if err != nil || i != len(want.entries) {
		return fmt.Errorf("replayed %d of %d entries: %w", i, len(want.entries), err)
	}
	start, next := log.Offsets()
	if _, _, n := want.last(); next != n || start != want.first.NextOffset {
		return fmt.Errorf("offsets %d to %d, want %d to %d", start, next, want.first.NextOffset, n)
	}
	for offset := start; ; {
		got, err := log.Read(offset, next, 1500)
		if err != nil {
			return err
		}
		if len(got) == 0 {
			break
		}
		for _, b := range got {
			if len(data) == 0 || !bytes.Equal(b, data[0]) {
				return fmt.Errorf("read at offset %d returned a batch at %d that should not be there", offset, b.BaseOffset())
			}
			data = data[1:]
			offset = b.NextOffset()
		}
	}
	if len(data) != 0 {
		return fmt.Errorf("read to the end without the batch at offset %d", data[0].BaseOffset())
	}
	return nil
}
