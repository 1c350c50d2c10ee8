package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/connect"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream"
)

// connectorsView shows the connectors of the jobs files and those of the
// catalog to the REST API, and makes the latter. One change at a time is
// judged, committed and handed to the runner.
type connectorsView struct {
	h        *Hub
	changing chan struct{} // holds one token: who has it may change connectors
}

func newConnectorsView(h *Hub) connectorsView {
	v := connectorsView{h, make(chan struct{}, 1)}
	v.changing <- struct{}{}
	return v
}

// change runs fn while nobody else changes connectors.
func (v connectorsView) change(ctx context.Context, fn func() error) error {
	select {
	case <-v.changing:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { v.changing <- struct{}{} }()
	return fn()
}

// inFile finds a connector of the jobs files.
func (v connectorsView) inFile(name string) (stream.ConnectorSpec, bool) {
	for _, s := range v.h.jobs.Connectors {
		if s.Name == name {
			return s, true
		}
	}
	return stream.ConnectorSpec{}, false
}

// spec compiles a flat configuration.
func (v connectorsView) spec(ctx context.Context, name string, flat map[string]string) (stream.ConnectorSpec, []connect.Issue) {
	doc, issues := connect.Nest(v.h.deps.Registry, name, flat)
	if len(issues) > 0 {
		return stream.ConnectorSpec{}, issues
	}
	jobs, errs := stream.Parse([]stream.File{{Name: "connector " + name, Text: doc.Text}}, v.h.deps.Registry, v.h.deps.References)
	if len(errs) == 0 {
		errs, _ = jobs.Validate(ctx, connectors.ProbeNone)
	}
	if len(errs) > 0 {
		return stream.ConnectorSpec{}, doc.Issues(errs)
	}
	return jobs.Connectors[0], nil
}

// all are the connectors to run: those of the jobs files, and those of the
// catalog whose configuration can be read now. broken has the others.
func (v connectorsView) all(ctx context.Context) (specs []stream.ConnectorSpec, broken map[string]error) {
	specs, broken = slices.Clone(v.h.jobs.Connectors), map[string]error{}
	kept := v.h.meta.State().Connectors()
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		if s, twice := v.inFile(name); twice {
			v.h.log.Warn("a connector of the jobs files hides one that was made through the API", "connector", name, "file", s.File)
			continue
		}
		s, issues := v.spec(ctx, name, kept[name])
		if len(issues) > 0 {
			broken[name] = &connect.Rejected{Issues: issues}
			v.h.log.Error("a connector cannot be started", "connector", name, "error", broken[name])
			continue
		}
		specs = append(specs, s)
	}
	return specs, broken
}

// run hands the connectors of this node to the runner, with what is wanted of
// each.
func (v connectorsView) run(ctx context.Context, wanted map[string]stream.Desired) error {
	specs, broken := v.all(ctx)
	if len(specs) > 0 {
		if err := v.h.ensureCheckpoints(ctx); err != nil {
			return err
		}
	}
	v.h.broken.Store(&broken)
	return v.h.runner.Apply(v.h.mine(specs), wanted)
}

// Check implements connect.Site.
func (v connectorsView) Check(ctx context.Context, name string, flat map[string]string) []connect.Issue {
	if name == "" {
		return []connect.Issue{{Key: "name", Message: "Missing required configuration \"name\" which has no default value."}}
	}
	_, issues := v.spec(ctx, name, flat)
	return issues
}

// Put implements connect.Site.
func (v connectorsView) Put(ctx context.Context, name string, flat map[string]string, desired string, isNew bool) error {
	return v.change(ctx, func() error {
		if s, ok := v.inFile(name); ok {
			return ofFile(s)
		}
		s, issues := v.spec(ctx, name, flat)
		if len(issues) > 0 {
			return &connect.Rejected{Issues: issues}
		}
		if _, there := v.h.meta.State().Connectors()[name]; there && isNew {
			return fmt.Errorf("%w: %s", connect.ErrExists, name)
		}
		if v.h.cfg.AutoCreateTopics {
			if err := v.h.ensureTopic(ctx, stream.TopicSpec{Name: s.Topic}); err != nil {
				return err
			}
		}
		if isNew && desired == "" {
			desired = catalog.JobRunning
		}
		if _, err := v.h.meta.Propose(ctx, catalog.SetConnector{Name: name, Config: flat, New: isNew, Desired: desired}); err != nil {
			if errors.Is(err, record.ErrInvalidRequest) {
				return &connect.Rejected{Issues: []connect.Issue{{Message: err.Error()}}}
			}
			return err
		}
		return v.run(ctx, map[string]stream.Desired{name: stream.Desired(v.h.meta.State().Job(name))})
	})
}

// Delete implements connect.Site.
func (v connectorsView) Delete(ctx context.Context, name string) error {
	return v.change(ctx, func() error {
		if s, ok := v.inFile(name); ok {
			return ofFile(s)
		}
		if _, there := v.h.meta.State().Connectors()[name]; !there {
			return fmt.Errorf("%w: %s", connect.ErrUnknown, name)
		}
		if _, err := v.h.meta.Propose(ctx, catalog.DeleteConnector{Name: name}); err != nil {
			return err
		}
		return v.run(ctx, map[string]stream.Desired{name: stream.WantRunning})
	})
}

func ofFile(s stream.ConnectorSpec) error {
	return fmt.Errorf("%w: %s is in %s; change it there and start the node again", connect.ErrOfFile, s.Name, s.File)
}

// Act implements connect.Site.
func (v connectorsView) Act(ctx context.Context, name string, a connect.Action) error {
	return v.change(ctx, func() error {
		desired, act := map[connect.Action]string{
			connect.Pause: catalog.JobPaused, connect.Resume: catalog.JobRunning, connect.Stop: catalog.JobStopped,
		}[a], map[connect.Action]func(string) error{
			connect.Pause: v.h.runner.Pause, connect.Resume: v.h.runner.Resume, connect.Stop: v.h.runner.Stop, connect.Restart: v.h.runner.Restart,
		}[a]
		if _, broken := (*v.h.broken.Load())[name]; broken {
			if desired != "" {
				if _, err := v.h.meta.Propose(ctx, catalog.SetJob{Name: name, Desired: desired}); err != nil {
					return err
				}
			}
			// What it refers to may be there now.
			return v.run(ctx, map[string]stream.Desired{name: stream.Desired(v.h.meta.State().Job(name))})
		}
		err := v.h.wish(ctx, name, desired, act)
		if errors.Is(err, errNoJob) {
			return fmt.Errorf("%w: %s", connect.ErrUnknown, name)
		}
		return err
	})
}

// Connectors implements connect.Site.
func (v connectorsView) Connectors() []connect.Connector {
	all := v.h.elsewhere(v.here())
	slices.SortFunc(all, func(a, b connect.Connector) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// here are the connectors that this node runs, or cannot run.
func (v connectorsView) here() []connect.Connector {
	kept := v.h.meta.State().Connectors()
	var all []connect.Connector
	for _, j := range v.h.runner.Status() {
		c := connect.Connector{Name: j.Name, Kind: j.Kind, Type: j.Type, State: stateOf(j.State), Trace: j.LastError, Topics: []string{j.Topic}}
		if s, ok := v.inFile(j.Name); ok {
			c.File = s.File
			c.Config, _ = connect.Flat(v.h.deps.Registry, s.Node())
			delete(c.Config, "name")
		} else if c.Config, ok = kept[j.Name]; !ok {
			continue // it is being deleted
		}
		if j.DeadLetters > 0 {
			c.Topics = append(c.Topics, j.DLQ)
		}
		for _, p := range j.Parts {
			c.Tasks = append(c.Tasks, connect.Task{Name: p.Name, Trace: p.Error})
		}
		all = append(all, c)
	}
	for name, err := range *v.h.broken.Load() {
		c := connect.Connector{Name: name, State: connect.Failed, Trace: err.Error(), Config: kept[name]}
		if p, err := connect.FindPlugin(v.h.deps.Registry, kept[name]["connector.class"]); err == nil {
			c.Kind, c.Type = p.Kind, p.Type
		}
		if d := v.h.meta.State().Job(name); d == catalog.JobStopped {
			c.State = connect.Stopped
		}
		all = append(all, c)
	}
	return all
}

// stateOf tells a job's state in Kafka Connect's words. A source that has come
// to its end goes on to be RUNNING there.
func stateOf(s stream.State) connect.State {
	switch s {
	case stream.Running, stream.Completed:
		return connect.Running
	case stream.Paused:
		return connect.Paused
	case stream.Stopped:
		return connect.Stopped
	case stream.BackingOff, stream.Stuck: // it goes on trying, and trace says why in vain
		return connect.Restarting
	case stream.Failed:
		return connect.Failed
	}
	return connect.Unassigned
}

// Offsets implements connect.Site.
func (v connectorsView) Offsets(ctx context.Context, name string) ([]connect.Offset, error) {
	all, err := v.h.runner.Offsets(ctx, name)
	out := make([]connect.Offset, len(all))
	for i, o := range all {
		out[i] = connect.Offset(o)
	}
	return out, asked(err)
}

// SetOffsets implements connect.Site.
func (v connectorsView) SetOffsets(ctx context.Context, name string, to []connect.Offset) error {
	return v.change(ctx, func() error {
		all := make([]stream.Offset, len(to))
		for i, o := range to {
			all[i] = stream.Offset(o)
		}
		return asked(v.h.whileResting(ctx, name, func() error { return v.h.runner.SetOffsets(ctx, name, all) }))
	})
}

// ResetOffsets implements connect.Site.
func (v connectorsView) ResetOffsets(ctx context.Context, name string) error {
	return v.change(ctx, func() error {
		return asked(v.h.whileResting(ctx, name, func() error { return v.h.runner.ResetOffsets(ctx, name) }))
	})
}

// asked tells the runner's errors in the API's words.
func asked(err error) error {
	switch {
	case errors.Is(err, stream.ErrUnknownJob):
		return fmt.Errorf("%w: %w", connect.ErrUnknown, err)
	case errors.Is(err, stream.ErrBusy):
		return fmt.Errorf("%w: %w", connect.ErrNotStopped, err)
	case errors.Is(err, record.ErrInvalidRequest):
		return &connect.Rejected{Issues: []connect.Issue{{Message: err.Error()}}}
	}
	return err
}
