package stream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Desired is what someone wants of a job. It comes from outside: the site's
// catalog keeps it.
type Desired string

// The wishes.
const (
	WantRunning Desired = "running"
	WantPaused  Desired = "paused"  // keeps its place, holds no connection
	WantStopped Desired = "stopped" // the same, and is meant to stay so
)

// job supervises one connector: it runs sessions one after the other.
type job struct {
	spec    ConnectorSpec
	shared  *shared
	monitor *monitor

	wake chan struct{} // holds a token when mu has changed
	mu   struct {
		sync.Mutex
		want    Desired
		restart bool
		changes int                // of want, and restarts
		cancel  context.CancelFunc // of the present session
	}
}

func newJob(spec ConnectorSpec, want Desired, sh *shared) *job {
	sh = sh.of(spec)
	j := &job{spec: spec, shared: sh, monitor: newMonitor(spec, sh.logger), wake: make(chan struct{}, 1)}
	j.mu.want = want
	return j
}

// set changes what is wanted and ends the present session when that differs
// from running.
func (j *job) set(want Desired) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.want == want {
		return
	}
	j.mu.want = want
	j.mu.changes++
	if want != WantRunning && j.mu.cancel != nil {
		j.mu.cancel()
	}
	j.poke()
}

// restart ends the present session, or the wait for the next one.
func (j *job) restart() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.restart = true
	j.mu.changes++
	if j.mu.cancel != nil {
		j.mu.cancel()
	}
	j.poke()
}

func (j *job) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// run supervises until ctx ends and returns when the last session has drained.
func (j *job) run(ctx context.Context) {
	var pause backoff
	for ctx.Err() == nil {
		want, seen := j.wanted()
		if want != WantRunning {
			j.monitor.state(map[Desired]State{WantPaused: Paused, WantStopped: Stopped}[want])
			j.sleep(ctx, 0, seen)
			pause = backoff{}
			continue
		}
		began := time.Now()
		err := j.session(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			j.monitor.state(Completed)
			j.sleep(ctx, 0, seen)
		case j.interrupted():
		case connectors.ClassOf(err) == connectors.ClassFatal:
			j.park(ctx, err, seen)
			pause = backoff{}
		case errors.Is(err, errGrown), errors.Is(err, errOlder):
			j.shared.logger.Info("a job begins anew", "connector", j.spec.Name, "reason", err)
		default:
			j.monitor.trouble("", time.Now(), err)
			j.retry(ctx, err, pause.next(time.Since(began), connectors.RetryAfter(err)), seen)
		}
	}
	j.monitor.state(Stopped)
}

// session runs the job once.
func (j *job) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j.mu.Lock()
	j.mu.restart = false
	j.mu.cancel = cancel
	if j.mu.want != WantRunning {
		cancel()
	}
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.mu.cancel = nil
	}()
	j.monitor.state(Starting)
	s, err := openSession(ctx, j.shared, j.spec, j.monitor)
	if err != nil {
		return err
	}
	defer s.close()
	return s.guard(j.spec.Name, func() error {
		if j.spec.Source != nil {
			return runSource(s)
		}
		return runSink(s)
	})
}

// wanted is what is wanted, and the number of changes so far.
func (j *job) wanted() (Desired, int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.want, j.mu.changes
}

// interrupted reports whether the session was ended by set or restart.
func (j *job) interrupted() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.restart || j.mu.want != WantRunning
}

// park waits with a failed job until someone restarts it.
func (j *job) park(ctx context.Context, err error, seen int) {
	j.shared.logger.Error("a job has failed and waits for a restart", "connector", j.spec.Name, "error", err)
	j.monitor.fault(err)
	j.monitor.state(Failed)
	j.sleep(ctx, 0, seen)
}

func (j *job) retry(ctx context.Context, err error, wait time.Duration, seen int) {
	j.shared.logger.Warn("a job failed and is tried again", "connector", j.spec.Name, "error", err, "wait", wait)
	j.monitor.fault(err)
	j.monitor.retry(time.Now().Add(wait))
	j.sleep(ctx, wait, seen)
}

// sleep waits until something is wanted that was not when seen changes had
// happened; with a time, at most so long.
func (j *job) sleep(ctx context.Context, most time.Duration, seen int) {
	var due <-chan time.Time
	if most > 0 {
		t := time.NewTimer(most)
		defer t.Stop()
		due = t.C
	}
	for {
		if _, changes := j.wanted(); changes != seen {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-due:
			return
		case <-j.wake:
		}
	}
}
