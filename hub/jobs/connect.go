package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/connect"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/hub/topics"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream"
)

// MethodConnectors is how a node is asked for those that are Here.
const MethodConnectors = "connectors"

// Connect shows the connectors to Kafka Connect's REST API, of a node that
// belongs to a site.
func (j *Jobs) Connect() connect.Site { return site{j} }

type site struct{ j *Jobs }

// Check implements connect.Site.
func (s site) Check(ctx context.Context, name string, flat map[string]string) []connect.Issue {
	if name == "" {
		return []connect.Issue{{Key: "name", Message: "Missing required configuration \"name\" which has no default value."}}
	}
	_, issues := s.j.spec(ctx, name, flat)
	return issues
}

// Put implements connect.Site.
func (s site) Put(ctx context.Context, name string, flat map[string]string, desired string, isNew bool) error {
	return s.j.change(ctx, func() error {
		if spec, ok := s.j.inFile(name); ok {
			return ofFile(spec)
		}
		spec, issues := s.j.spec(ctx, name, flat)
		if len(issues) > 0 {
			return &connect.Rejected{Issues: issues}
		}
		if _, there := s.j.parts.Catalog.State().Connectors()[name]; there && isNew {
			return fmt.Errorf("%w: %s", connect.ErrExists, name)
		}
		if s.j.cfg.AutoCreate {
			if err := s.j.parts.Topics.Ensure(ctx, topics.Spec{Name: spec.Topic}); err != nil {
				return err
			}
		}
		if isNew && desired == "" {
			desired = catalog.JobRunning
		}
		if _, err := s.j.parts.Catalog.Propose(ctx, catalog.SetConnector{Name: name, Config: flat, New: isNew, Desired: desired}); err != nil {
			if errors.Is(err, record.ErrInvalidRequest) {
				return &connect.Rejected{Issues: []connect.Issue{{Message: err.Error()}}}
			}
			return err
		}
		return s.j.run(ctx, map[string]stream.Desired{name: stream.Desired(s.j.parts.Catalog.State().Job(name))})
	})
}

// Delete implements connect.Site.
func (s site) Delete(ctx context.Context, name string) error {
	return s.j.change(ctx, func() error {
		if spec, ok := s.j.inFile(name); ok {
			return ofFile(spec)
		}
		if _, there := s.j.parts.Catalog.State().Connectors()[name]; !there {
			return fmt.Errorf("%w: %s", connect.ErrUnknown, name)
		}
		if _, err := s.j.parts.Catalog.Propose(ctx, catalog.DeleteConnector{Name: name}); err != nil {
			return err
		}
		return s.j.run(ctx, map[string]stream.Desired{name: stream.WantRunning})
	})
}

func ofFile(s stream.ConnectorSpec) error {
	return fmt.Errorf("%w: %s is in %s; change it there and start the node again", connect.ErrOfFile, s.Name, s.File)
}

// Act implements connect.Site.
func (s site) Act(ctx context.Context, name string, a connect.Action) error {
	return s.j.change(ctx, func() error {
		desired, act := map[connect.Action]string{
			connect.Pause: catalog.JobPaused, connect.Resume: catalog.JobRunning, connect.Stop: catalog.JobStopped,
		}[a], map[connect.Action]func(string) error{
			connect.Pause: s.j.parts.Runner.Pause, connect.Resume: s.j.parts.Runner.Resume, connect.Stop: s.j.parts.Runner.Stop, connect.Restart: s.j.parts.Runner.Restart,
		}[a]
		if _, broken := (*s.j.broken.Load())[name]; broken {
			if desired != "" {
				if _, err := s.j.parts.Catalog.Propose(ctx, catalog.SetJob{Name: name, Desired: desired}); err != nil {
					return err
				}
			}
			// What it refers to may be there now.
			return s.j.run(ctx, map[string]stream.Desired{name: stream.Desired(s.j.parts.Catalog.State().Job(name))})
		}
		err := s.j.wish(ctx, name, desired, act)
		if errors.Is(err, errNoJob) {
			return fmt.Errorf("%w: %s", connect.ErrUnknown, name)
		}
		return err
	})
}

// Connectors implements connect.Site.
func (s site) Connectors() []connect.Connector {
	all := s.j.elsewhere(s.j.Here())
	slices.SortFunc(all, func(a, b connect.Connector) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Here are the connectors that this node runs, or cannot run.
func (j *Jobs) Here() []connect.Connector {
	s := j.parts.Catalog.State()
	kept := s.Connectors()
	var all []connect.Connector
	for _, job := range j.parts.Runner.Status() {
		c := connect.Connector{Name: job.Name, Kind: job.Kind, Type: job.Type, State: stateOf(job.State), Trace: job.LastError, Topics: []string{job.Topic}}
		if spec, ok := j.inFile(job.Name); ok {
			c.File = spec.File
			c.Config, _ = connect.Flat(j.cfg.Registry, spec.Node())
			delete(c.Config, "name")
		} else if c.Config, ok = kept[job.Name]; !ok {
			continue // it is being deleted
		}
		if job.DeadLetters > 0 {
			c.Topics = append(c.Topics, job.DLQ)
		}
		for _, p := range job.Parts {
			c.Tasks = append(c.Tasks, connect.Task{Name: p.Name, Trace: p.Error})
		}
		all = append(all, c)
	}
	for name, err := range *j.broken.Load() {
		c := j.idle(s, name, connect.Failed)
		c.Trace = err.Error()
		all = append(all, c)
	}
	return all
}

// idle is a connector of the catalog that runs nowhere: in a state, unless it is
// to be stopped.
func (j *Jobs) idle(s *catalog.State, name string, state connect.State) connect.Connector {
	c := connect.Connector{Name: name, State: state, Config: s.Connectors()[name]}
	if s.Job(name) == catalog.JobStopped {
		c.State = connect.Stopped
	}
	if p, err := connect.FindPlugin(j.cfg.Registry, c.Config["connector.class"]); err == nil {
		c.Kind, c.Type = p.Kind, p.Type
	}
	return c
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
func (s site) Offsets(ctx context.Context, name string) ([]connect.Offset, error) {
	all, err := s.j.parts.Runner.Offsets(ctx, name)
	out := make([]connect.Offset, len(all))
	for i, o := range all {
		out[i] = connect.Offset(o)
	}
	return out, asked(err)
}

// SetOffsets implements connect.Site.
func (s site) SetOffsets(ctx context.Context, name string, to []connect.Offset) error {
	return s.j.change(ctx, func() error {
		all := make([]stream.Offset, len(to))
		for i, o := range to {
			all[i] = stream.Offset(o)
		}
		return asked(s.j.whileResting(ctx, name, func() error { return s.j.parts.Runner.SetOffsets(ctx, name, all) }))
	})
}

// ResetOffsets implements connect.Site.
func (s site) ResetOffsets(ctx context.Context, name string) error {
	return s.j.change(ctx, func() error {
		return asked(s.j.whileResting(ctx, name, func() error { return s.j.parts.Runner.ResetOffsets(ctx, name) }))
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

// elsewhere adds to the connectors that this node runs those that it does not,
// or not alone: as those that run them show them, and the others unassigned.
func (j *Jobs) elsewhere(here []connect.Connector) []connect.Connector {
	if !j.parts.Several() {
		return here
	}
	s := j.parts.Catalog.State()
	known, all, at := j.parts.Placing.Divided(s), here, map[string]int{}
	for i, c := range here {
		at[c.Name] = i
	}
	reach.Ask(context.Background(), j.parts.Reach, MethodConnectors, nil, func(node int32, connectors []connect.Connector) {
		for _, c := range connectors {
			i, there := at[c.Name]
			switch {
			case !slices.Contains(known[c.Name].At(s, c.Name), node):
			case !there:
				at[c.Name] = len(all)
				all = append(all, c)
			case known[c.Name].Several():
				all[i].Join(c)
			}
		}
	})
	for name := range s.Connectors() {
		if _, there := at[name]; !there {
			all = append(all, j.idle(s, name, connect.Unassigned))
		}
	}
	return all
}
