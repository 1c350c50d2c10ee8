package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
	// Entries that compaction has left out, and those that one which was cut
	// short has left out all of, or none.
	gone, maybe map[uint64]bool
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
	entries []Entry // as written: what compaction left out is still there
	hard    HardState
	whole   uint64 // of a log as it was found: Log.Whole
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
	l.places, l.gone, l.maybe = map[uint64]State{0: first}, map[uint64]bool{}, nil
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
	for i := range l.maybe {
		if l.log.Whole() > i && !holds(l.log, i) {
			l.gone[i] = true
		}
	}
	l.maybe = nil
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
	got, err := everything(log)
	if err != nil {
		return simState{}, err
	}
	hard := log.Hard()
	if l.sim.plant.unclamped {
		hard = rawHard(log)
	}
	found := simState{first: first, entries: got, hard: hard, whole: log.Whole()}
	is, why := l.match(found, l.ops)
	for i := 0; why != nil && i < len(l.ghosts); i++ {
		var also []string
		if is, also = l.match(found, l.ghosts[i]); also == nil {
			why = nil
		}
	}
	if why != nil {
		last, _ := log.Last()
		return found, fmt.Errorf("recovered entries %d to %d, hard state %v: it is no state that the log could be in; acknowledged %d of %d operations; %q",
			first.Index+1, last, hard, l.acked, len(l.ops), why)
	}
	// What compaction left out stays known, so that the log's end is.
	is.entries = slices.Clip(is.entries[first.Index-is.first.Index:])
	is.first, is.hard = first, hard
	if deep {
		return is, checkReads(log, found, is)
	}
	return is, nil
}

// everything reads all entries of a log, as far as it can.
func everything(l *Log) (all []Entry, err error) {
	last, _ := l.Last()
	whole := l.Whole()
	l.mu.RLock()
	segs := l.mu.segs
	l.mu.RUnlock()
	for _, s := range segs {
		if s.p.lastIndex >= whole {
			break
		}
		v, err := l.view(s)
		if err != nil {
			return all, err
		}
		w := v.walk(v.seg.header.length, walkChunk)
		for err == nil {
			var f *frame
			if f, _, err = w.head(); err == nil {
				e := entryOf(f, nil)
				entry := f.isEntry()
				if e.Payload, err = w.body(); err == nil && entry {
					all = append(all, e)
				}
			}
		}
		if at := w.pos; !errors.Is(err, io.EOF) {
			err = l.damaged(v.seg, &placeError{at, err})
			v.close()
			return all, err
		}
		v.close()
	}
	for whole <= last {
		entries, err := l.Entries(whole, last+1, 4000)
		if err != nil {
			return all, err
		}
		if len(entries) == 0 {
			return all, fmt.Errorf("entry %d: nothing was read, the last is %d", whole, last)
		}
		all = append(all, entries...)
		whole += uint64(len(entries))
	}
	return all, nil
}

func holds(l *Log, index uint64) bool {
	all, err := everything(l)
	return err == nil && slices.ContainsFunc(all, func(e Entry) bool { return e.Index == index })
}

// match returns why a recovered log is in none of the states that operations
// lead to, for each of them; nil, and the state, when it is in one.
func (l *soloLog) match(found simState, ops []simOp) (is simState, why []string) {
	s := l.base
	s.entries = slices.Clip(s.entries)
	for i := 0; ; i++ {
		if i >= l.acked {
			reason := l.differs(found, s)
			if reason == "" {
				return s, nil
			}
			why = append(why, reason)
		}
		if i == len(ops) {
			return s, why
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
	if first < want.first.Index || skip > len(want.entries) {
		return fmt.Sprintf("begins after %d, the entries end before", first)
	}
	if why := l.differsIn(found.entries, want.entries[skip:]); why != "" {
		return why
	}
	last, _, _ := want.last()
	if h := clamp(want.hard, max(first, found.whole-1), last); found.hard != h {
		return fmt.Sprintf("hard state %v, want %v", found.hard, h)
	}
	return ""
}

// differsIn compares entries, with what compaction leaves out in mind.
func (l *soloLog) differsIn(found, want []Entry) string {
	there, left := 0, 0 // of those that may be left out
	for _, e := range want {
		switch {
		case l.gone[e.Index]:
			continue
		case l.maybe[e.Index] && (len(found) == 0 || found[0].Index != e.Index):
			left++
			continue
		case len(found) == 0:
			return fmt.Sprintf("ends before entry %d", e.Index)
		case l.maybe[e.Index]:
			there++
		}
		g := found[0]
		found = found[1:]
		if g.Index != e.Index || g.Term != e.Term || g.Kind != e.Kind || g.BaseOffset != e.BaseOffset || !bytes.Equal(g.Payload, e.Payload) {
			return fmt.Sprintf("entry %d of term %d at offset %d, want %d of term %d at %d", g.Index, g.Term, g.BaseOffset, e.Index, e.Term, e.BaseOffset)
		}
	}
	switch {
	case len(found) > 0:
		return fmt.Sprintf("%d more entries from %d on", len(found), found[0].Index)
	case there > 0 && left > 0:
		return fmt.Sprintf("half compacted: %d entries are there, %d are not", there, left)
	}
	return ""
}

// checkReads compares the other ways to read with the entries that are there,
// and the end of the log with what it is.
func checkReads(log *Log, want, is simState) error {
	var data []record.Batch
	for _, e := range want.entries {
		if e.Kind == KindData {
			data = append(data, e.Batch())
		}
		if e.Index+1 < want.whole {
			if _, err := log.Entries(e.Index, e.Index+1, 1); !errors.Is(err, ErrCompacted) {
				return fmt.Errorf("entry %d, compacted: %w", e.Index, err)
			}
			continue
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
	if _, _, n := is.last(); next != n || start != want.first.NextOffset {
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
