package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// Config is what a Runner needs of its surroundings.
type Config struct {
	// Dial reaches a broker of the hub; nil dials TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Seeds are addresses of brokers, host:port.
	Seeds []string
	// Site is the name of the site that runs the jobs; connectors see it.
	Site string
	// Drain is how long a job that is stopped may take to finish what is in
	// flight; then it is cut off, which loses and doubles nothing but makes
	// the next start look for its traces. The default is 10 s.
	Drain time.Duration
	// Claim grants this node the leases of a job's tasks and returns an epoch
	// that is above floor and above that of every lease of one of them before.
	// nil counts in the checkpoint topic, which is enough where one process
	// alone runs jobs.
	Claim  func(ctx context.Context, job string, tasks Share, floor int64) (epoch int64, err error)
	Logger *slog.Logger
}

// Validate says what is missing.
func (c Config) Validate() error {
	if len(c.Seeds) == 0 {
		return errors.New("stream: no seed brokers")
	}
	return nil
}

const defaultDrain = 10 * time.Second

// shared is what all jobs of a runner use.
type shared struct {
	cluster *cluster
	store   *store
	site    string
	logger  *slog.Logger
	drain   time.Duration
	claim   func(ctx context.Context, job string, tasks Share, floor int64) (int64, error)
}

// of is what a job uses: its secrets are in no line of the log.
func (sh *shared) of(spec ConnectorSpec) *shared {
	own := *sh
	own.logger = slog.New(spec.Config.Redactor().Handler(sh.logger.Handler()))
	return &own
}

// Runner runs jobs.
type Runner struct {
	cfg  Config
	wake chan struct{} // holds a token when mu has changed

	operations sync.WaitGroup // what operators ask for, beside the jobs
	mu         struct {
		sync.Mutex
		specs     map[string]ConnectorSpec
		wanted    map[string]Desired
		jobs      map[string]*running
		replaying map[string]bool
		shared    *shared         // nil unless Run runs
		life      context.Context // Run's
	}
}

// running is a job with the means to end it.
type running struct {
	*job
	cancel context.CancelFunc
	done   chan struct{}
}

// New makes a Runner. Nothing runs until Run.
func New(cfg Config) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.Drain == 0 {
		cfg.Drain = defaultDrain
	}
	r := &Runner{cfg: cfg, wake: make(chan struct{}, 1)}
	r.mu.specs = map[string]ConnectorSpec{}
	r.mu.wanted = map[string]Desired{}
	r.mu.jobs = map[string]*running{}
	r.mu.replaying = map[string]bool{}
	return r, nil
}

// ErrUnknownJob is returned for a name that no job has.
var ErrUnknownJob = errors.New("unknown job")

// Apply makes specs the whole list of jobs: new ones start, those that are no
// longer there stop, those whose config changed stop and start again at the
// same place. wanted holds the wishes known from before; a job without one
// runs. On an error nothing changes.
func (r *Runner) Apply(specs []ConnectorSpec, wanted map[string]Desired) error {
	next := make(map[string]ConnectorSpec, len(specs))
	for _, s := range specs {
		if _, twice := next[s.Name]; twice {
			return fmt.Errorf("stream: two jobs have the name %q", s.Name)
		}
		if (s.Source == nil) == (s.Sink == nil) || s.Pipeline == nil || s.Topic == "" {
			return fmt.Errorf("stream: job %q is not complete", s.Name)
		}
		next[s.Name] = s
	}
	r.mu.Lock()
	r.mu.specs = next
	for name, w := range wanted {
		r.mu.wanted[name] = w
	}
	for name, j := range r.mu.jobs {
		if w, ok := wanted[name]; ok {
			j.set(w)
		}
	}
	r.mu.Unlock()
	r.poke()
	return nil
}

func (r *Runner) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run runs the jobs until ctx ends, then lets them drain and returns. Call it
// once.
func (r *Runner) Run(ctx context.Context) error {
	sh := &shared{
		cluster: &cluster{dial: r.cfg.Dial, seeds: r.cfg.Seeds, logger: r.cfg.Logger},
		site:    r.cfg.Site, logger: r.cfg.Logger, drain: r.cfg.Drain, claim: r.cfg.Claim,
	}
	// The store outlives ctx: jobs write their last checkpoints after it.
	outlive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	cl, closed, err := sh.cluster.client(outlive, "entrepot-checkpoints", storeOptions()...)
	if err != nil {
		return err
	}
	defer closed()
	sh.store = newStore(sh.cluster, cl)
	r.serve(ctx, sh)
	defer r.refuse()
	var ends sync.WaitGroup
	ends.Go(func() { r.watchEnds(ctx, sh) })
	defer ends.Wait()
	for {
		r.reconcile(ctx, sh)
		select {
		case <-r.wake:
		case <-ctx.Done():
			r.stopAll()
			return nil
		}
	}
}

// reconcile makes the running jobs those that Apply has asked for.
func (r *Runner) reconcile(ctx context.Context, sh *shared) {
	gone, specs := r.outdated()
	for _, j := range gone {
		j.cancel()
	}
	for name, j := range gone {
		<-j.done
		r.mu.Lock()
		delete(r.mu.jobs, name)
		r.mu.Unlock()
	}
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		r.start(ctx, sh, specs[name])
	}
}

// outdated lists the jobs to end and the specs that have no job.
func (r *Runner) outdated() (gone map[string]*running, missing map[string]ConnectorSpec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone, missing = map[string]*running{}, maps.Clone(r.mu.specs)
	for name, j := range r.mu.jobs {
		if s, ok := r.mu.specs[name]; ok && s.Fingerprint == j.spec.Fingerprint && s.Share.equal(j.spec.Share) {
			delete(missing, name)
			continue
		}
		gone[name] = j
	}
	return gone, missing
}

func (r *Runner) start(ctx context.Context, sh *shared, spec ConnectorSpec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := r.mu.wanted[spec.Name]
	if want == "" {
		want = WantRunning
	}
	ctx, cancel := context.WithCancel(ctx)
	j := &running{job: newJob(spec, want, sh), cancel: cancel, done: make(chan struct{})}
	r.mu.jobs[spec.Name] = j
	go func() { // stopAll and reconcile wait for done
		defer close(j.done)
		defer cancel()
		j.run(ctx)
	}()
}

func (r *Runner) stopAll() {
	r.mu.Lock()
	all := maps.Clone(r.mu.jobs)
	r.mu.Unlock()
	for _, j := range all {
		<-j.done
	}
}

// SetDesired says what is wanted of a job.
func (r *Runner) SetDesired(name string, want Desired) error {
	switch want {
	case WantRunning, WantPaused, WantStopped:
	default:
		return fmt.Errorf("stream: a job can be wanted running, paused or stopped, not %q", want)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.mu.specs[name]; !ok {
		return fmt.Errorf("%w %q", ErrUnknownJob, name)
	}
	r.mu.wanted[name] = want
	if j := r.mu.jobs[name]; j != nil {
		j.set(want)
	}
	return nil
}

// Pause stops a job after what is in flight; it keeps its place.
func (r *Runner) Pause(name string) error { return r.SetDesired(name, WantPaused) }

// Stop is Pause for good: the state in which offsets are set.
func (r *Runner) Stop(name string) error { return r.SetDesired(name, WantStopped) }

// Resume lets a paused, stopped or failed job run.
func (r *Runner) Resume(name string) error {
	if err := r.SetDesired(name, WantRunning); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if j := r.mu.jobs[name]; j != nil && j.monitor.status().State == Failed {
		j.restart()
	}
	return nil
}

// Restart begins a new run of a job at once, whatever state it is in; one
// that is paused stays so.
func (r *Runner) Restart(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.mu.specs[name]; !ok {
		return fmt.Errorf("%w %q", ErrUnknownJob, name)
	}
	if j := r.mu.jobs[name]; j != nil {
		j.restart()
	}
	return nil
}

// Status lists all jobs by name.
func (r *Runner) Status() []JobStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]JobStatus, 0, len(r.mu.specs))
	for _, name := range slices.Sorted(maps.Keys(r.mu.specs)) {
		if j := r.mu.jobs[name]; j != nil {
			out = append(out, j.monitor.status())
			continue
		}
		out = append(out, newMonitor(r.mu.specs[name], r.cfg.Logger).status())
	}
	return out
}
