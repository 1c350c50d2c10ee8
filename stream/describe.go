package stream

import (
	"context"
	"maps"
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Warning is something of a config that will run, but should be looked at.
type Warning struct {
	File string
	connectors.Pos
	Job     string
	Message string
	Hint    string
}

// Validate asks every connector what it thinks of its own config. It does no
// I/O unless probe is connectors.ProbeLive.
func (j *Jobs) Validate(ctx context.Context, probe connectors.Probe) (strict.Errors, []Warning) {
	var (
		errs     strict.Errors
		warnings []Warning
	)
	for _, c := range j.Connectors {
		findings := c.validate(ctx, probe)
		errs = append(errs, c.node.Findings(c.Config, findings)...)
		for _, f := range findings {
			if !f.Warning {
				continue
			}
			pos := c.Pos
			if p := c.Config.Pos(f.Field); p != (connectors.Pos{}) {
				pos = p
			}
			warnings = append(warnings, Warning{File: c.File, Pos: pos, Job: c.Name, Message: f.Message, Hint: f.Hint})
		}
	}
	return errs, warnings
}

func (s ConnectorSpec) validate(ctx context.Context, probe connectors.Probe) []connectors.Finding {
	findings := s.validator()(ctx, s.Config, probe)
	hide := s.Config.Redactor()
	for i := range findings {
		findings[i].Message = hide.Text(findings[i].Message)
	}
	return findings
}

func (s ConnectorSpec) validator() func(context.Context, connectors.Config, connectors.Probe) []connectors.Finding {
	if s.Source != nil {
		return s.Source.Validate
	}
	return s.Sink.Validate
}

// Description is a job as `config check` shows it. Secrets are hidden.
type Description struct {
	Name       string         `json:"name"`
	Kind       string         `json:"kind"`
	Type       string         `json:"type"`
	Topic      string         `json:"topic"`
	Guarantee  string         `json:"guarantee"`
	Transforms []string       `json:"transforms"`
	Key        string         `json:"key,omitempty"`
	Timestamp  string         `json:"timestamp,omitempty"`
	DLQ        string         `json:"dlq"`
	Group      string         `json:"group,omitempty"` // a sink's consumer group
	Memory     int64          `json:"memory"`          // bytes
	Tasks      int            `json:"tasks"`           // that the nodes of a site share
	Config     map[string]any `json:"config"`
}

// Describe tells what a job is.
func Describe(s ConnectorSpec) Description {
	d := Description{
		Name: s.Name, Kind: s.Kind(), Type: s.Type, Topic: s.Topic, Guarantee: s.spec().Guarantee,
		Transforms: []string{}, DLQ: s.DLQ(), Memory: s.memory(), Tasks: s.Parts(), Config: s.Config.Shown(),
	}
	if s.Sink != nil {
		d.Group = Group(s.Name)
	}
	for _, step := range s.Pipeline.steps {
		d.Transforms = append(d.Transforms, step.String())
	}
	if s.Pipeline.key != nil {
		d.Key = s.Pipeline.key.String()
	}
	if s.Pipeline.timestamp != nil {
		d.Timestamp = s.Pipeline.timestamp.String()
	}
	return d
}
