package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// fakeSource reads lines that a test holds. Positions are the line's number,
// eight bytes, big endian.
type fakeSource struct {
	mu        sync.Mutex
	splits    map[string][]string // lines
	finite    bool                // io.EOF at the end, and the list of splits is final
	rng       *rand.Rand          // sizes and errors of reads; nil: none
	committed map[string]int
	opened    map[string][]int // positions at which readers began
	failOpen  func(split string) error
	failRead  error
	changed   chan struct{}
	openNow   int
	handedOut map[string]int    // lines read so far
	pin       func(n int) int32 // partition of line n; nil: none
}

func newFakeSource(finite bool, splits map[string][]string) *fakeSource {
	return &fakeSource{splits: splits, finite: finite, committed: map[string]int{}, opened: map[string][]int{}, changed: make(chan struct{}, 1), handedOut: map[string]int{}}
}

func (s *fakeSource) Spec() connectors.Spec {
	return connectors.Spec{Type: "lines", Summary: "lines of a test", Guarantee: "exactly-once (position)", Fields: []connectors.Field{
		{Name: "path", Kind: connectors.KindString}, {Name: "password", Kind: connectors.KindSecret}, {Name: "rate", Kind: connectors.KindInt},
	}}
}

func (s *fakeSource) Validate(_ context.Context, cfg connectors.Config, _ connectors.Probe) []connectors.Finding {
	if cfg.String("path") == "/forbidden" {
		return []connectors.Finding{{Field: "path", Message: "this path is forbidden", Hint: "take another"}, {Field: "rate", Message: "rate is slow", Warning: true}}
	}
	return nil
}

func (s *fakeSource) Splits(ctx context.Context, _ connectors.Config) (<-chan []connectors.Split, error) {
	out := make(chan []connectors.Split)
	go func() {
		defer close(out)
		for {
			select {
			case out <- s.list():
			case <-ctx.Done():
				return
			}
			if s.finite {
				return
			}
			select {
			case <-s.changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (s *fakeSource) list() []connectors.Split {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []connectors.Split
	for _, id := range sortedNames(s.splits) {
		all = append(all, connectors.Split{ID: id})
	}
	return all
}

func (s *fakeSource) append(split string, lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.splits[split]
	s.splits[split] = append(s.splits[split], lines...)
	if !known {
		s.changed <- struct{}{}
	}
}

func (s *fakeSource) Open(_ context.Context, _ connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failOpen != nil {
		if err := s.failOpen(split.ID); err != nil {
			return nil, err
		}
	}
	next := 0
	if from != nil {
		next = int(binary.BigEndian.Uint64(from)) + 1
	}
	s.opened[split.ID] = append(s.opened[split.ID], next)
	s.openNow++
	return &fakeReader{source: s, split: split.ID, next: next}, nil
}

type fakeReader struct {
	source *fakeSource
	split  string
	next   int
}

func position(n int) connectors.Position { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func (r *fakeReader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	b, err := r.read(limits)
	if len(b.Messages) > 0 || err != nil {
		return b, err
	}
	t := time.NewTimer(limits.Wait)
	defer t.Stop()
	select {
	case <-t.C:
		return connectors.Batch{}, nil
	case <-ctx.Done():
		return connectors.Batch{}, ctx.Err()
	}
}

func (r *fakeReader) read(limits connectors.Limits) (connectors.Batch, error) {
	s := r.source
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failRead != nil {
		return connectors.Batch{}, s.failRead
	}
	n := limits.Records
	if s.rng != nil {
		n = 1 + s.rng.IntN(40)
		if s.rng.IntN(200) == 0 {
			return connectors.Batch{}, connectors.Retry(0, errors.New("the source stumbles"))
		}
		if s.rng.IntN(8) == 0 { // nothing now: time passes
			return connectors.Batch{}, nil
		}
	}
	var b connectors.Batch
	all := s.splits[r.split]
	for ; n > 0 && r.next < len(all); n-- {
		text := []byte(all[r.next])
		m := connectors.Message{Value: text, Original: text, Position: position(r.next), Timestamp: connectors.NoTimestamp,
			Origin: connectors.Origin{Name: r.split, Line: int64(r.next + 1)}}
		if s.pin != nil {
			m.Pinned, m.Partition.Partition = true, s.pin(r.next)
		}
		if string(text) == "too long" {
			m.Err = connectors.Poisonf("the line is over the limit")
		}
		b.Messages = append(b.Messages, m)
		r.next++
		s.handedOut[r.split] = r.next
	}
	if len(b.Messages) == 0 && s.finite {
		return b, io.EOF
	}
	return b, nil
}

func (r *fakeReader) Committed(_ context.Context, upTo connectors.Position) error {
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	n := int(binary.BigEndian.Uint64(upTo))
	if n < r.source.committed[r.split] {
		return connectors.Fatalf("committed goes back from %d to %d", r.source.committed[r.split], n)
	}
	r.source.committed[r.split] = n
	return nil
}

func (r *fakeReader) Close(context.Context) error {
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	r.source.openNow--
	return nil
}

// fakeSink is a destination that a test holds: it survives the runner. It
// takes each plan once, by its bounds, as a file named after them would be,
// or it keeps the offset itself.
type fakeSink struct {
	mu     sync.Mutex
	limits connectors.Limits
	own    bool
	next   map[record.TopicPartition]int64
	epoch  int64
	last   connectors.Plan // of another site, until it was written
	plans  map[record.TopicPartition][]connectors.Plan
	rows   map[record.TopicPartition][]int64
	values []string
	refuse func(m connectors.Message) bool // record errors
	poison func(m connectors.Message) bool // the whole plan fails
	before func(p connectors.Plan) error   // called before anything happens
	after  func(p connectors.Plan) error   // called when all has happened
	writes int
	faults []string
	opened int
}

func newFakeSink(own bool, limits connectors.Limits) *fakeSink {
	return &fakeSink{own: own, limits: limits, next: map[record.TopicPartition]int64{},
		plans: map[record.TopicPartition][]connectors.Plan{}, rows: map[record.TopicPartition][]int64{}}
}

func (s *fakeSink) Spec() connectors.Spec {
	return connectors.Spec{Type: "shelf", Summary: "a test's destination", Guarantee: "exactly-once (named file)", Fields: []connectors.Field{
		{Name: "path", Kind: connectors.KindString, Required: true, Description: "where to"},
	}}
}

func (s *fakeSink) Validate(context.Context, connectors.Config, connectors.Probe) []connectors.Finding {
	return nil
}

func (s *fakeSink) Batching(connectors.Config) connectors.Limits { return s.limits }

func (s *fakeSink) Open(context.Context, connectors.TaskContext, []record.TopicPartition) (connectors.Writer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return &fakeWriter{s}, nil
}

type fakeWriter struct{ *fakeSink }

func (w *fakeWriter) Close(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened--
	return nil
}

func (w *fakeWriter) Resume(_ context.Context, tp record.TopicPartition) (int64, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next, known := w.next[tp]
	return next, w.own && known, nil
}

func (w *fakeWriter) Last(_ context.Context, tp record.TopicPartition) (connectors.Plan, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.last.ID != "" && w.last.Partition == tp, nil
}

func (w *fakeWriter) Write(_ context.Context, p connectors.Plan, b connectors.Batch) ([]connectors.RecordError, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	if w.before != nil {
		if err := w.before(p); err != nil {
			return nil, err
		}
	}
	var refused []connectors.RecordError
	for i, m := range b.Messages {
		if w.poison != nil && w.poison(m) {
			return nil, connectors.Poisonf("something in here cannot be written")
		}
		if w.refuse != nil && w.refuse(m) {
			refused = append(refused, connectors.RecordError{Index: i, Offset: m.Offset, Err: connectors.Poisonf("column n: %s is odd", m.Value)})
		}
	}
	if len(refused) > 0 {
		return refused, nil
	}
	w.apply(p, b)
	if w.after != nil {
		return nil, w.after(p)
	}
	return nil, nil
}

// apply is the moment at which the plan is visible.
func (w *fakeWriter) apply(p connectors.Plan, b connectors.Batch) {
	fault := func(format string, args ...any) { w.faults = append(w.faults, fmt.Sprintf(format, args...)) }
	for _, m := range b.Messages {
		if m.Offset < p.From || m.Offset >= p.To {
			fault("%v holds offset %d", p, m.Offset)
		}
	}
	if w.own {
		if next, ok := w.next[p.Partition]; ok && next != p.From {
			fault("%v, but the destination is at %d", p, next)
		}
		w.next[p.Partition] = p.To
	} else if slices.ContainsFunc(w.plans[p.Partition], func(q connectors.Plan) bool { return q.From == p.From && q.To == p.To && q.ID == p.ID }) {
		return // the file is there
	}
	for _, q := range w.plans[p.Partition] {
		if p.From < q.To && q.From < p.To {
			fault("%v overlaps %v", p, q)
		}
	}
	w.plans[p.Partition] = append(w.plans[p.Partition], p)
	for _, m := range b.Messages {
		w.rows[p.Partition] = append(w.rows[p.Partition], m.Offset)
		w.values = append(w.values, string(m.Value))
	}
}

func registry(src *fakeSource, snk *fakeSink) connectors.Registry {
	r := connectors.Registry{Sources: map[string]connectors.Source{}, Sinks: map[string]connectors.Sink{}}
	if src != nil {
		r.Sources["lines"] = src
	}
	if snk != nil {
		r.Sinks["shelf"] = snk
	}
	return r
}
