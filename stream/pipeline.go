package stream

import (
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream/expr"
	"github.com/go-json-experiment/json/jsontext"
)

// Pipeline is the compiled transforms, key and timestamp of one connector. It
// never changes and may be used by many goroutines.
type Pipeline struct {
	steps     []stepMaker
	key       *expr.Program // nil: the key stays as it is
	timestamp *expr.Program // nil: the timestamp stays as it is
}

// step is one transform. It changes the message in place and says whether to
// keep it. An error means that this record can never pass: it is poison.
type step interface {
	apply(m *connectors.Message, in *expr.Input) (keep bool, err error)
	String() string
}

// stepMaker is a compiled transform; make gives one goroutine its own.
type stepMaker interface {
	make() step
	String() string
}

// stepError says which step refused a record.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// run is one goroutine's use of a pipeline.
type run struct {
	*Pipeline
	steps []step
	in    expr.Input
	rec   record.Record
}

func (p *Pipeline) start() *run {
	r := &run{Pipeline: p}
	r.in.Record = &r.rec
	r.in.Partition = -1
	r.rec.Offset = -1
	for _, m := range p.steps {
		r.steps = append(r.steps, m.make())
	}
	return r
}

// see points the expressions at the message as it now is.
func (r *run) see(m *connectors.Message) {
	r.rec.Timestamp, r.rec.Key, r.rec.Value, r.rec.Headers = m.Timestamp, m.Key, m.Value, m.Headers
	if m.Partition.Topic != "" {
		r.rec.Offset, r.in.Topic, r.in.Partition = m.Offset, m.Partition.Topic, m.Partition.Partition
	}
	r.in.Reset()
}

// apply runs all steps over one message. A step that panics over it has not
// done anything yet: the message is poison.
func (r *run) apply(m *connectors.Message) (keep bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			keep, err = false, fmt.Errorf("a transform panicked: %v", p)
		}
	}()
	r.see(m)
	for _, s := range r.steps {
		if keep, err = s.apply(m, &r.in); err != nil {
			return false, &stepError{s.String(), err}
		}
		if !keep {
			return false, nil
		}
		if _, reads := s.(*filterStep); !reads {
			r.see(m)
		}
	}
	if r.timestamp != nil {
		if m.Timestamp, err = r.time(); err != nil {
			return false, &stepError{"timestamp", err}
		}
	}
	if r.key != nil {
		if m.Key, err = r.key.Text(&r.in); err != nil {
			return false, &stepError{"key", err}
		}
	}
	return true, nil
}

// time evaluates the timestamp: a time, or whole milliseconds since 1970.
func (r *run) time() (int64, error) {
	out, err := r.timestamp.Eval(&r.in)
	if err != nil {
		return 0, err
	}
	switch t := out.(type) {
	case time.Time:
		return t.UnixMilli(), nil
	case int:
		return int64(t), nil
	}
	return 0, fmt.Errorf("expression %q gave %v (%T); a timestamp has to be a time or whole milliseconds", r.timestamp, out, out)
}

// filterStep keeps the records for which the expression is true.
type filterStep struct{ keep *expr.Program }

func (s *filterStep) String() string { return "filter" }

func (s *filterStep) make() step { return s } // it holds nothing that changes

func (s *filterStep) apply(_ *connectors.Message, in *expr.Input) (bool, error) {
	return s.keep.Bool(in)
}

// mapStep sets fields of a JSON object. All expressions see the value as it
// was before the step.
type mapStep struct {
	names    []string
	programs []*expr.Program
}

func (s *mapStep) String() string { return "map" }

func (s *mapStep) make() step { return s }

func (s *mapStep) apply(m *connectors.Message, in *expr.Input) (bool, error) {
	values := make([]jsontext.Value, len(s.names))
	for i, p := range s.programs {
		v, err := p.JSON(in)
		if err != nil {
			return false, fmt.Errorf("field %q: %w", s.names[i], err)
		}
		values[i] = v
	}
	text, err := expr.Assign(m.Value, s.names, values)
	if err != nil {
		return false, err
	}
	m.SetValue(text)
	return true, nil
}
