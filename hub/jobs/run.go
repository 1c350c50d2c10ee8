package jobs

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/connect"
	"github.com/entrepot-hub/entrepot/stream"
)

// change runs fn while nobody else changes connectors.
func (j *Jobs) change(ctx context.Context, fn func() error) error {
	select {
	case <-j.changing:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { j.changing <- struct{}{} }()
	return fn()
}

// inFile finds a connector of the jobs files.
func (j *Jobs) inFile(name string) (stream.ConnectorSpec, bool) {
	for _, s := range j.files.Connectors {
		if s.Name == name {
			return s, true
		}
	}
	return stream.ConnectorSpec{}, false
}

// spec compiles a flat configuration.
func (j *Jobs) spec(ctx context.Context, name string, flat map[string]string) (stream.ConnectorSpec, []connect.Issue) {
	doc, issues := connect.Nest(j.cfg.Registry, name, flat)
	if len(issues) > 0 {
		return stream.ConnectorSpec{}, issues
	}
	parsed, errs := stream.Parse([]stream.File{{Name: "connector " + name, Text: doc.Text}}, j.cfg.Registry, j.cfg.References)
	if len(errs) == 0 {
		errs, _ = parsed.Validate(ctx, connectors.ProbeNone)
	}
	if len(errs) > 0 {
		return stream.ConnectorSpec{}, doc.Issues(errs)
	}
	return parsed.Connectors[0], nil
}

// all are the connectors to run: those of the jobs files, and those of the
// catalog whose configuration can be read now. broken has the others.
func (j *Jobs) all(ctx context.Context) (specs []stream.ConnectorSpec, broken map[string]error) {
	specs, broken = slices.Clone(j.files.Connectors), map[string]error{}
	kept := j.parts.Catalog.State().Connectors()
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		if s, twice := j.inFile(name); twice {
			j.cfg.Logger.Warn("a connector of the jobs files hides one that was made through the API", "connector", name, "file", s.File)
			continue
		}
		s, issues := j.spec(ctx, name, kept[name])
		if len(issues) > 0 {
			broken[name] = &connect.Rejected{Issues: issues}
			j.cfg.Logger.Error("a connector cannot be started", "connector", name, "error", broken[name])
			continue
		}
		specs = append(specs, s)
	}
	return specs, broken
}

// run hands the connectors of this node to the runner, with what is wanted of
// each.
func (j *Jobs) run(ctx context.Context, wanted map[string]stream.Desired) error {
	specs, broken := j.all(ctx)
	if len(specs) > 0 {
		if err := j.parts.Topics.EnsureInternal(ctx, catalog.CheckpointsTopic); err != nil {
			return err
		}
	}
	j.broken.Store(&broken)
	return j.parts.Runner.Apply(j.mine(specs), wanted)
}

// mine leaves of connectors what this node is to run.
func (j *Jobs) mine(specs []stream.ConnectorSpec) (mine []stream.ConnectorSpec) {
	var names []string
	for _, s := range specs {
		names = append(names, s.Name)
	}
	shares := j.parts.Placing.Mine(names)
	for _, s := range specs {
		if share, some := shares[s.Name]; some {
			s.Share = stream.Share(share)
			mine = append(mine, s)
		}
	}
	return mine
}

// placed is what the runner was last told.
type placed struct {
	connectors map[string]map[string]string
	desired    map[string]string
	mine       []string
}

// placeEvery is the time between two looks at which node runs which job.
const placeEvery = time.Second

// Run shares out and follows until ctx ends.
func (j *Jobs) Run(ctx context.Context) error {
	tick := time.NewTicker(placeEvery)
	defer tick.Stop()
	for {
		_, changed := j.parts.Catalog.Watch()
		if j.parts.Several() {
			j.parts.Placing.Claim(ctx)
			if err := j.change(ctx, func() error { return j.follow(ctx) }); err != nil && ctx.Err() == nil {
				j.cfg.Logger.Error("the jobs of this node are not those that it is to run", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// follow has the runner run what this node has the leases of, if that, the
// connectors or what the operator wants of them has changed. The caller is in
// change.
func (j *Jobs) follow(ctx context.Context) error {
	s := j.parts.Catalog.State()
	now := placed{connectors: s.Connectors(), desired: s.Jobs(), mine: j.parts.Placing.Tasks(s)}
	was := &j.placed
	if slices.Equal(was.mine, now.mine) && maps.Equal(was.desired, now.desired) && maps.EqualFunc(was.connectors, now.connectors, maps.Equal) {
		return nil
	}
	wanted := map[string]stream.Desired{}
	for name := range was.desired {
		if _, still := now.desired[name]; !still {
			wanted[name] = stream.WantRunning
		}
	}
	for name, d := range now.desired {
		if was.desired[name] != d {
			wanted[name] = stream.Desired(d)
		}
	}
	if err := j.run(ctx, wanted); err != nil {
		return err
	}
	*was = now
	return nil
}
