package stream

import (
	"context"
	"errors"
	"fmt"
)

// Errors of what an operator asks for.
var (
	ErrNotRunning = errors.New("the runner does not run")
	ErrBusy       = errors.New("the job is not in a state for this")
)

// operate runs fn for a job. It ends when ctx or the runner does; Run waits
// for it.
func (r *Runner) operate(ctx context.Context, name string, fn func(ctx context.Context, sh *shared, spec ConnectorSpec) error) error {
	r.mu.Lock()
	spec, ok := r.mu.specs[name]
	sh, life := r.mu.shared, r.mu.life
	if ok && sh != nil {
		r.operations.Add(1)
	}
	r.mu.Unlock()
	switch {
	case !ok:
		return fmt.Errorf("%w %q", ErrUnknownJob, name)
	case sh == nil:
		return ErrNotRunning
	}
	defer r.operations.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	return spec.Config.Redactor().Error(fn(ctx, sh.of(spec), spec))
}

// serve lets operations in until the end of ctx.
func (r *Runner) serve(ctx context.Context, sh *shared) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.shared, r.mu.life = sh, ctx
}

// refuse lets no more operations in and waits for those that are under way.
func (r *Runner) refuse() {
	r.mu.Lock()
	r.mu.shared = nil
	r.mu.Unlock()
	r.operations.Wait()
}

// idle fails unless the job is paused, stopped or parked and has drained.
func (r *Runner) idle(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.mu.jobs[name]
	if j == nil {
		return nil
	}
	switch s := j.monitor.status().State; s {
	case Paused, Stopped, Failed, Completed:
		return nil
	default:
		return fmt.Errorf("%w: job %q is %s; stop it first", ErrBusy, name, s)
	}
}
