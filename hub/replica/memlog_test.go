package replica

import (
	"bytes"
	"slices"

	"github.com/entrepot-hub/entrepot/storage"
)

// memLog is a log in memory whose rounds become durable when the test says so.
type memLog struct {
	written, durable memState
	rounds           []storage.Round // written, not durable
	damage           error           // of what is read from the disk
}

// memState is what a log holds: segments, the last of which is written to.
type memState struct {
	segments []memSegment
	hard     storage.HardState
}

type memSegment struct {
	header  storage.State
	entries []storage.Entry
}

func newMemLog(first storage.State) *memLog {
	s := memState{segments: []memSegment{{header: first}}, hard: first.Hard}
	return &memLog{written: s.clone(), durable: s.clone()}
}

func (s *memState) clone() memState {
	c := memState{hard: s.hard, segments: slices.Clone(s.segments)}
	for i := range c.segments {
		c.segments[i].entries = slices.Clone(c.segments[i].entries)
	}
	return c
}

func (s *memState) tip() *memSegment { return &s.segments[len(s.segments)-1] }

func (s *memState) all() (es []storage.Entry) {
	for _, g := range s.segments {
		if n := g.header.Index + 1; len(es) > 0 {
			es = es[:min(int(n-es[0].Index), len(es))] // superseded
		}
		es = append(es, g.entries...)
	}
	return es
}

func (s *memState) last() (index, term uint64) {
	if es := s.all(); len(es) > 0 && es[len(es)-1].Index > s.tip().header.Index {
		return es[len(es)-1].Index, es[len(es)-1].Term
	}
	return s.tip().header.Index, s.tip().header.Term
}

func (s *memState) append(r storage.Round) {
	if r.Hard != nil {
		s.hard = *r.Hard
	}
	last, term := s.last()
	switch {
	case r.Reset != nil:
		s.segments = []memSegment{{header: *r.Reset}}
	case r.Before != nil:
		h := storage.State{Index: last, Term: term, Hard: s.hard, Aux: *r.Before}
		if len(r.Entries) > 0 {
			h.Index = r.Entries[0].Index - 1
		}
		for _, e := range s.all() {
			if e.Index <= h.Index {
				h.Term, h.NextOffset = e.Term, e.NextOffset()
			}
		}
		if first := s.segments[0].header; h.Index == first.Index {
			h.Term, h.NextOffset = first.Term, first.NextOffset
		}
		s.segments = append(s.segments, memSegment{header: h})
	case len(r.Entries) > 0 && r.Entries[0].Index != last+1:
		panic("a round that does not follow the log has no state before it")
	}
	s.tip().entries = append(s.tip().entries, r.Entries...)
}

// write appends a round; flush makes the n oldest durable.
func (l *memLog) write(r storage.Round) {
	l.written.append(r)
	l.rounds = append(l.rounds, r)
}

func (l *memLog) flush(n int) {
	for _, r := range l.rounds[:n] {
		l.durable.append(r)
	}
	l.rounds = slices.Clone(l.rounds[n:])
}

// crash loses what is not durable.
func (l *memLog) crash() {
	l.rounds, l.written = nil, l.durable.clone()
}

// trim deletes the segments before the newest that begins at or below index.
func (l *memLog) trim(index uint64) {
	for _, s := range []*memState{&l.written, &l.durable} {
		for len(s.segments) > 1 && s.segments[1].header.Index <= index {
			s.segments = s.segments[1:]
		}
	}
}

func (l *memLog) First() storage.State    { return l.written.segments[0].header }
func (l *memLog) Tip() storage.State      { return l.written.tip().header }
func (l *memLog) Hard() storage.HardState { return l.written.hard }

func (l *memLog) Last() (index, term uint64) { return l.written.last() }

func (l *memLog) Term(i uint64) (uint64, error) {
	if f := l.First(); i == f.Index {
		return f.Term, nil
	}
	es, err := l.Entries(i, i+1, 0)
	if err != nil {
		return 0, err
	}
	return es[0].Term, nil
}

func (l *memLog) Entries(lo, hi uint64, maxBytes int) ([]storage.Entry, error) {
	first := l.First().Index + 1
	last, _ := l.Last()
	switch {
	case l.damage != nil:
		return nil, l.damage
	case lo < first:
		return nil, storage.ErrCompacted
	case hi > last+1:
		return nil, storage.ErrUnavailable
	}
	es := l.written.all()[lo-first : hi-first]
	size := 0
	for i, e := range es {
		if size += len(e.Payload); size > maxBytes && i > 0 {
			es = es[:i]
			break
		}
	}
	return slices.Clone(es), nil
}

func (l *memLog) Replay(from uint64, fn func(storage.Entry) error) error {
	last, _ := l.Last()
	es, err := l.Entries(from, last+1, 1<<30)
	if err != nil {
		return err
	}
	for _, e := range es {
		if e.Kind == storage.KindData && !e.Batch().IsControl() {
			e.Payload = e.Payload[:61:61] // a replay may give no more than the header
		}
		e.Payload = bytes.Clone(e.Payload)
		if err := fn(e); err != nil {
			return err
		}
		for i := range e.Payload {
			e.Payload[i] = 0xee // nor anything that lasts
		}
	}
	return nil
}

func (l *memLog) Whole() uint64 { return l.First().Index + 1 }

func (l *memLog) StateBefore(index uint64) (storage.State, error) {
	at := l.First()
	for _, g := range l.written.segments {
		if g.header.Index <= index { // a later one supersedes
			at = g.header
		}
	}
	return at, nil
}
