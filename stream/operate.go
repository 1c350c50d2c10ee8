package stream

import (
	"context"
	"errors"
	"fmt"
	"time"
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

// settled waits for a job that is to pause or stop until it has drained, and
// fails unless it is idle then.
func (r *Runner) settled(ctx context.Context, name string) error {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		err := r.idle(name)
		if err == nil || !r.ending(name) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// settleEvery is how often a job that drains is looked at.
const settleEvery = 20 * time.Millisecond

// ending reports whether a job that runs is to pause or stop.
func (r *Runner) ending(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.mu.jobs[name]
	if j == nil {
		return false
	}
	want, _ := j.wanted()
	return want != WantRunning
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
