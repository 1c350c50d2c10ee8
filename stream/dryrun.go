package stream

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/stream/expr"
)

// DryOptions say how far a dry run goes.
type DryOptions struct {
	Live   bool     // connect to the real systems, and only read
	Sample int      // records to look at in each job
	Allow  []string // kinds of losses that are accepted
	Site   string
	// Read gives some of the newest records of a topic of a running site, for
	// sinks whose topic no source of the files fills. nil: there is no site.
	Read func(ctx context.Context, topic string, most int) ([]connectors.Message, error)
	// Clock is the time of the jobs.
	Clock func() time.Time
}

// DryJob is what would become of one job.
type DryJob struct {
	Description
	File string `json:"file"`
	Line int    `json:"line"`
	// Steps are the transforms in order, with their expressions.
	Steps  []string   `json:"steps"`
	Sample *DrySample `json:"sample,omitempty"` // nil unless records were looked at
	Target string     `json:"target,omitempty"`
	// Makes are statements that the first start would run at the system.
	Makes   []string    `json:"makes"`
	Mapping []DryColumn `json:"mapping"`
	Losses  []Loss      `json:"losses"`
	Notes   []string    `json:"notes"`

	known   []connectors.FieldType // of the source's system
	allowed []string
	hide    connectors.Redactor // of what a system says
}

// DrySample counts what the job's transforms did to the sample.
type DrySample struct {
	From     string            `json:"from"` // where the records were read
	Read     int               `json:"read"`
	Filtered int               `json:"filtered"`
	Failed   int               `json:"failed"` // they would be dead letters
	Records  int               `json:"records"`
	Example  string            `json:"example,omitempty"` // the value of the first that came through
	Kinds    map[string]string `json:"kinds,omitempty"`   // of JSON, by field
}

// DryColumn is a row of the type mapping. What is not known is empty.
type DryColumn struct {
	Field      string `json:"field"`
	SourceType string `json:"source_type,omitempty"`
	JSON       string `json:"json,omitempty"`
	Column     string `json:"column,omitempty"`
	Type       string `json:"type,omitempty"`
}

// dryRun is one call of DryRun.
type dryRun struct {
	DryOptions
	filled map[string]*flow // by topic: what the sources of the files bring
}

// flow is what is in a topic, as far as it is known.
type flow struct {
	from    []string
	records []connectors.Message
	fields  map[string]connectors.FieldType
	allowed []string
}

// DryRun tells what jobs would do, and writes nothing anywhere. Sources come
// first: what they would bring is the sample of the sinks behind them.
func DryRun(ctx context.Context, jobs *Jobs, opts DryOptions) []DryJob {
	d := &dryRun{DryOptions: opts, filled: map[string]*flow{}}
	order := slices.Clone(jobs.Connectors)
	slices.SortStableFunc(order, func(a, b ConnectorSpec) int { return btoi(a.Sink != nil) - btoi(b.Sink != nil) })
	out := make([]DryJob, 0, len(order))
	for _, spec := range order {
		j := newDryJob(spec)
		if d.Live {
			d.validate(ctx, spec, &j)
			if spec.Source != nil {
				d.source(ctx, jobs, spec, &j)
			} else {
				d.sink(ctx, spec, &j)
			}
		}
		out = append(out, j)
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func newDryJob(spec ConnectorSpec) DryJob {
	j := DryJob{Description: Describe(spec), File: spec.File, Line: spec.Pos.Line, Steps: []string{}, Makes: []string{}, Mapping: []DryColumn{}, Losses: []Loss{}, Notes: []string{}, hide: spec.Config.Redactor()}
	for _, s := range spec.Pipeline.steps {
		j.Steps = append(j.Steps, detail(s))
	}
	return j
}

// detail is a transform with what it does.
func detail(s stepMaker) string {
	switch s := s.(type) {
	case *filterStep:
		return "filter " + s.keep.String()
	case *mapStep:
		parts := make([]string, len(s.names))
		for i, name := range s.names {
			parts[i] = name + ": " + s.programs[i].String()
		}
		return "map " + strings.Join(parts, ", ")
	case parseMaker:
		if f, ok := s.cfg.Shown()["format"].(string); ok {
			return "parse " + f
		}
	}
	return s.String()
}

// task is what a connector gets to look with.
func (d *dryRun) task(spec ConnectorSpec) connectors.TaskContext {
	return connectors.TaskContext{
		Job: spec.Name, Task: spec.Name + "/dry-run", Site: d.Site, Config: spec.Config, Logger: slog.New(slog.DiscardHandler), Clock: d.Clock,
	}
}

// validate asks the connector to look at its config with the real system.
func (d *dryRun) validate(ctx context.Context, spec ConnectorSpec, j *DryJob) {
	for _, f := range spec.validate(ctx, connectors.ProbeLive) {
		l := Loss{Kind: "config", Field: f.Field, Message: f.Message, Hint: f.Hint, Severity: Impossible}
		if f.Warning {
			l.Severity = Caution
		}
		j.Losses = append(j.Losses, l)
	}
}

// source looks into a source's system and takes what it brings to its topic.
func (d *dryRun) source(ctx context.Context, jobs *Jobs, spec ConnectorSpec, j *DryJob) {
	in := &flow{from: []string{spec.Name}, fields: map[string]connectors.FieldType{}}
	from, sample := d.sample(ctx, jobs, spec, j)
	if len(sample) > 0 {
		j.Sample = &DrySample{From: from}
	}
	for _, f := range j.known {
		in.fields[f.Field] = f
	}
	in.records, in.allowed = sample, slices.Concat(d.Allow, j.allowed)
	through(spec.Pipeline, in, j)
	describeFields(in, j)
	j.judge(in.allowed)
	if have := d.filled[spec.Topic]; have != nil {
		have.add(in)
		return
	}
	d.filled[spec.Topic] = in
}

// add joins what another source brings to the same topic. A field that has
// another type there is of none that is known.
func (f *flow) add(other *flow) {
	f.from, f.allowed = append(f.from, other.from...), append(f.allowed, other.allowed...)
	f.records = append(f.records, other.records...)
	for name, t := range other.fields {
		if have, ok := f.fields[name]; ok && have.Is != t.Is {
			delete(f.fields, name)
			continue
		}
		f.fields[name] = t
	}
}

// sample reads some messages, from the system if it can be looked into, else
// from the tests of the file.
func (d *dryRun) sample(ctx context.Context, jobs *Jobs, spec ConnectorSpec, j *DryJob) (from string, all []connectors.Message) {
	if s, ok := spec.Source.(connectors.Sampler); ok {
		got, err := s.Sample(ctx, d.task(spec), d.Sample)
		if err != nil {
			j.cannot(err)
			return "", nil
		}
		j.Makes, j.Notes, j.known, j.allowed = append(j.Makes, got.Makes...), append(j.Notes, got.Notes...), got.Fields, got.Allowed
		if len(got.Messages) > 0 {
			return "the source", got.Messages[:min(len(got.Messages), d.Sample)]
		}
	} else {
		j.Notes = append(j.Notes, notSampled(spec))
	}
	for _, t := range jobs.Tests {
		for _, line := range t.Input {
			if t.Target == spec.Name && len(all) < d.Sample {
				all = append(all, connectors.Message{Value: []byte(line), Original: []byte(line), Timestamp: connectors.NoTimestamp})
			}
		}
	}
	if len(all) == 0 {
		j.Notes = append(j.Notes, "there are no records to look at; lines below tests: of the file would be taken")
	}
	return "the tests of the file", all
}

// notSampled says why a source was not looked into.
func notSampled(spec ConnectorSpec) string {
	if _, queue := spec.Source.(connectors.Queue); queue {
		return fmt.Sprintf("%s hands a message out to take it: it cannot be looked into without taking some, so it was not", spec.Type)
	}
	return fmt.Sprintf("a source of type %s does not give samples", spec.Type)
}

// cannot says that a job would not run.
func (j *DryJob) cannot(err error) {
	l := Loss{Kind: "cannot_run", Message: j.hide.Text(err.Error()), Severity: Impossible}
	if slices.ContainsFunc(j.Losses, func(other Loss) bool { return other.Message == l.Message }) {
		return // the live check has said so
	}
	j.Losses = append(j.Losses, l)
}

// through runs a sample through a job's transforms, in place.
func through(p *Pipeline, f *flow, j *DryJob) {
	var kept []connectors.Message
	pipe := p.start()
	for i := range f.records {
		m := f.records[i]
		m.Value = slices.Clone(m.Value)
		j.Sample.Read++
		if m.Mark {
			j.Sample.Filtered++
			continue
		}
		keep, err := false, m.Err
		if err == nil {
			keep, err = pipe.apply(&m)
		}
		switch {
		case err != nil:
			j.Sample.Failed++
			j.refused("dead_letter", err)
		case keep:
			kept = append(kept, m)
		default:
			j.Sample.Filtered++
		}
	}
	f.records = kept
	if j.Sample != nil {
		j.Sample.Records = len(kept)
	}
	f.fields = traced(p, f.fields)
}

// refused adds a record that cannot pass; equal complaints are counted.
func (j *DryJob) refused(kind string, err error) {
	text := j.hide.Text(err.Error())
	shape := digits.ReplaceAllString(text, "0")
	for i := range j.Losses {
		if l := &j.Losses[i]; l.Kind == kind && l.shape == shape {
			l.Records++
			return
		}
	}
	j.Losses = append(j.Losses, Loss{Kind: kind, Message: text, Severity: Impossible, Records: 1, shape: shape})
}

// traced follows the types of fields through transforms: a parse makes
// another record of it, a map keeps those that it only copies.
func traced(p *Pipeline, fields map[string]connectors.FieldType) map[string]connectors.FieldType {
	for _, s := range p.steps {
		switch s := s.(type) {
		case *mapStep:
			next := maps.Clone(fields)
			for i, name := range s.names {
				delete(next, name)
				if t, ok := fields[copied(s.programs[i])]; ok {
					t.Field = name
					next[name] = t
				}
			}
			fields = next
		case parseMaker:
			fields = map[string]connectors.FieldType{}
		}
	}
	return fields
}

// copied is the field of which an expression is the value, and nothing else.
func copied(p *expr.Program) string {
	name, ok := strings.CutPrefix(p.String(), "value.")
	if !ok || strings.ContainsAny(name, " .[]()+-*/%?:<>=!&|'\"`,") {
		return ""
	}
	return name
}
