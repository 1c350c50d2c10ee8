// Package jobs is the connectors of a node: those of its jobs files and those that
// the catalog has, run where the site places them, and changed one at a time. It
// shows them to the admin server and to the REST API of Kafka Connect.
//
// Goroutines: none.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/connect"
	"github.com/entrepot-hub/entrepot/hub/placing"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/hub/topics"
	"github.com/entrepot-hub/entrepot/stream"
)

// Config is what a node knows of its connectors before it belongs to a site.
type Config struct {
	Globs      []string          // of jobs files
	Texts      map[string][]byte // jobs files given as text, by name
	Registry   connectors.Registry
	References strict.Options // where ${env:…} and ${file:…} are looked up
	AutoCreate bool           // a connector that is made has its topic made
	Logger     *slog.Logger
}

// Catalog is the site's.
type Catalog interface {
	State() *catalog.State
	Watch() (*catalog.State, <-chan struct{})
	Propose(ctx context.Context, cmd catalog.Command) (any, error)
}

// Parts are what the connectors of a node of a site need of it.
type Parts struct {
	Node    int32  // broker ID
	Name    string // node.id
	Catalog Catalog
	Topics  *topics.Topics
	Placing *placing.Placing
	Reach   *reach.Nodes
	Call    reach.Call // asks one other node
	Runner  *stream.Runner
	Several func() bool // whether the site has other nodes
}

// Jobs are the connectors of a node. One change at a time is judged, committed
// and handed to the runner.
type Jobs struct {
	cfg      Config
	files    *stream.Jobs
	changing chan struct{}                    // holds one token: who has it may change connectors
	broken   atomic.Pointer[map[string]error] // connectors of the catalog that cannot be read
	placed   placed                           // of Run alone

	there atomic.Bool // parts are
	parts Parts
}

// Open parses and judges all jobs files; nothing is started if one is wrong. Its
// errors are strict.Errors, or those of reading.
func Open(ctx context.Context, cfg Config) (*Jobs, error) {
	texts, err := cfg.read()
	if err != nil {
		return nil, err
	}
	files, errs := stream.Parse(texts, cfg.Registry, cfg.References)
	if len(errs) > 0 {
		return nil, errs
	}
	errs, warnings := files.Validate(ctx, connectors.ProbeNone)
	if len(errs) > 0 {
		return nil, errs
	}
	for _, w := range warnings {
		cfg.Logger.Warn(w.Message, "file", w.File, "line", w.Line, "job", w.Job, "hint", w.Hint)
	}
	j := &Jobs{cfg: cfg, files: files, changing: make(chan struct{}, 1)}
	j.changing <- struct{}{}
	j.broken.Store(&map[string]error{})
	return j, nil
}

// read reads every file that the config names, each once.
func (c Config) read() ([]stream.File, error) {
	var files []stream.File
	seen := map[string]bool{}
	for _, glob := range c.Globs {
		names, err := filepath.Glob(glob)
		if err != nil {
			return nil, fmt.Errorf("jobs: %q: %w", glob, err)
		}
		if len(names) == 0 && !strings.ContainsAny(glob, "*?[") {
			return nil, fmt.Errorf("jobs: there is no file %s", glob)
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("jobs: %w", err)
			}
			files = append(files, stream.File{Name: name, Text: text})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Texts)) {
		files = append(files, stream.File{Name: name, Text: c.Texts[name]})
	}
	return files, nil
}

// Begin gives the connectors what they need of a node that belongs to a site.
func (j *Jobs) Begin(parts Parts) {
	j.parts = parts
	j.there.Store(true)
}

// InFiles are the connectors of the jobs files, with how many tasks each has.
func (j *Jobs) InFiles() map[string]int {
	all := map[string]int{}
	for _, s := range j.files.Connectors {
		all[s.Name] = s.Parts()
	}
	return all
}

// PartsOf is stream.ConnectorSpec.Parts of a configuration in the catalog, which
// is not compiled for it.
func (j *Jobs) PartsOf(config map[string]string) int {
	n := connect.Tasks(config)
	if n <= 1 {
		return 1
	}
	p, err := connect.FindPlugin(j.cfg.Registry, config["connector.class"])
	if err != nil {
		return 1
	}
	return stream.ConnectorSpec{Sink: j.cfg.Registry.Sinks[p.Type], Tasks: min(n, stream.MaxTasks)}.Parts()
}

// Start makes the topics that the jobs files name, then hands the
// connectors, theirs and the catalog's, to the runner with what the operator last
// wanted of each.
func (j *Jobs) Start(ctx context.Context) error {
	for _, spec := range j.files.Topics {
		if err := j.parts.Topics.Ensure(ctx, topics.Spec{Name: spec.Name, Partitions: spec.Partitions, Replicas: int32(spec.Replicas), Config: spec.Configs}); err != nil {
			return fmt.Errorf("%s:%d:%d: topic %s: %w", spec.File, spec.Pos.Line, spec.Pos.Col, spec.Name, err)
		}
	}
	wanted := map[string]stream.Desired{}
	for name, desired := range j.parts.Catalog.State().Jobs() {
		wanted[name] = stream.Desired(desired)
	}
	return j.change(ctx, func() error { return j.run(ctx, wanted) })
}

// wish keeps what the operator wants of a job, so that it holds after a
// restart, and then does it. Its caller is in change: otherwise
// a change of the connector could come in between the two, and undo it.
func (j *Jobs) wish(ctx context.Context, job, desired string, act func(string) error) error {
	if !slices.ContainsFunc(j.parts.Runner.Status(), func(s stream.JobStatus) bool { return s.Name == job }) {
		return fmt.Errorf("job %q: %w", job, errNoJob)
	}
	if desired != "" {
		if _, err := j.parts.Catalog.Propose(ctx, catalog.SetJob{Name: job, Desired: desired}); err != nil {
			return err
		}
	}
	if err := act(job); err != nil || desired != "" && desired != catalog.JobRunning {
		return err // the others see in the catalog what is wanted
	}
	return j.steerOthers(ctx, steer{Job: job, Restart: desired == ""})
}

var errNoJob = errors.New("there is no such job at this node")
