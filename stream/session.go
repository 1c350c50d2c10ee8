package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// session is one run of a job, from its start to an error, a stop or its end.
// Whatever ended the one before, a session begins with what is durable: the
// way back from a crash and from an error is the same code.
//
// It has two contexts. soft ends when the job should stop: nothing new is
// read. hard ends a while later, or at once after an error: nothing is waited
// for any more.
type session struct {
	soft, hard context.Context
	fail       context.CancelCauseFunc // ends soft with the first error

	cluster *cluster
	store   *store
	kafka   *kgo.Client
	admin   *kadm.Client
	spec    ConnectorSpec
	site    string
	logger  *slog.Logger
	monitor *monitor
	epoch   int64 // number of this start of the job, from 1
	letters *deadLetters
	window  *sharedWindow

	closers []func()
}

// errTooManyFailures parks a job that went over its max_failures.
var errTooManyFailures = errors.New("too many dead letters")

// openSession claims the job and opens what both kinds of job need. On an
// error everything is closed again.
func openSession(ctx context.Context, sh *shared, spec ConnectorSpec, m *monitor) (*session, error) {
	s := &session{
		cluster: sh.cluster, store: sh.store, spec: spec, site: sh.site, monitor: m,
		logger: sh.logger.With("connector", spec.Name),
		window: &sharedWindow{w: newFailureWindow(spec.Errors.MaxFailures, spec.Errors.Window), policy: spec.Errors},
	}
	s.contexts(ctx, sh.drain)
	if err := s.open(sh.claim); err != nil {
		err = s.cause(err) // before close, which ends the contexts itself
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) contexts(ctx context.Context, drain time.Duration) {
	var stopHard context.CancelCauseFunc
	s.soft, s.fail = context.WithCancelCause(ctx)
	s.hard, stopHard = context.WithCancelCause(context.WithoutCancel(ctx))
	var (
		mu    sync.Mutex
		timer *time.Timer
	)
	cut := func() { stopHard(fmt.Errorf("%w: the work in flight was cut off after %v", context.Canceled, drain)) }
	unhook := context.AfterFunc(s.soft, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(drain, cut)
	})
	s.closers = append(s.closers, func() {
		unhook()
		s.fail(context.Canceled)
		stopHard(context.Canceled)
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	})
}

func (s *session) open(lease func(ctx context.Context, job string, tasks Share, floor int64) (int64, error)) error {
	cl, closed, err := s.cluster.client(s.hard, "entrepot-admin-"+s.spec.Name)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, closed)
	s.kafka, s.admin = cl, kadm.NewClient(cl)
	if err := s.store.load(s.soft); err != nil {
		return err
	}
	if err := s.claim(lease); err != nil {
		return err
	}
	letters, closed, err := openDeadLetters(s.hard, s.cluster, s.kafka, s.spec, s.epoch)
	if err != nil {
		return err
	}
	s.letters, s.closers = letters, append(s.closers, closed)
	return nil
}

// claim makes this start of the job the newest: destinations that keep an
// epoch refuse the ones before.
func (s *session) claim(lease func(ctx context.Context, job string, tasks Share, floor int64) (int64, error)) error {
	var last epochCheckpoint
	if _, err := s.store.get(epochKey(s.spec.Name), &last); err != nil {
		return err
	}
	last.Epoch = max(last.Epoch, s.monitor.floor())
	if lease != nil {
		var err error
		if s.epoch, err = lease(s.soft, s.spec.Name, s.spec.Share, last.Epoch); err != nil {
			return fmt.Errorf("claim the job's lease: %w", err)
		}
		return nil
	}
	s.epoch = last.Epoch + 1
	return s.store.put(s.soft, epochKey(s.spec.Name), epochCheckpoint{V: checkpointVersion, Epoch: s.epoch})
}

// close ends what is left, in the reverse order of opening.
func (s *session) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// cause replaces an error that only tells of the end of a context with the
// reason for that end.
func (s *session) cause(err error) error {
	if err == nil || connectors.ClassOf(err) == connectors.ClassStopped || errors.Is(err, kgo.ErrClientClosed) {
		if why := context.Cause(s.soft); why != nil {
			return why
		}
		if why := context.Cause(s.hard); why != nil {
			return why
		}
	}
	return err
}

func (s *session) task(name string) connectors.TaskContext {
	return connectors.TaskContext{
		Job: s.spec.Name, Task: name, Site: s.site, Config: s.spec.Config,
		Logger: s.logger.With("task", name), Clock: time.Now,
	}
}

// topicPoll is how often a job looks for a topic that is not there yet.
const topicPoll = 250 * time.Millisecond

// awaitTopic asks for the job's topic. It waits for one that does not exist:
// a mirror makes its topics by itself.
func (s *session) awaitTopic() (topicInfo, error) {
	tick := time.NewTicker(topicPoll)
	defer tick.Stop()
	for {
		topic, err := askTopic(s.soft, s.admin, s.spec.Topic)
		if err == nil || !errors.Is(err, record.ErrUnknownTopic) {
			return topic, err
		}
		s.monitor.fault(fmt.Errorf("waiting: %w", err))
		select {
		case <-tick.C:
		case <-s.soft.Done():
			return topicInfo{}, context.Cause(s.soft)
		}
	}
}

// guard runs a connector's code so that its panic is an error of the job
// rather than the end of the process.
func (s *session) guard(what string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("a connector panicked", "task", what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = connectors.Fatalf("%s: the connector panicked: %v", what, p)
		}
	}()
	return fn()
}

// sharedWindow is the failure window of all parts of one run.
type sharedWindow struct {
	policy ErrorPolicy
	mu     sync.Mutex
	w      *failureWindow
}

// add counts one record; its error says that the job has to stop.
func (w *sharedWindow) add(failed bool) error {
	if w.policy.Window == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.w.add(failed) {
		return connectors.Fatalf("%w: more than %d of the last %d records (max_failures)", errTooManyFailures, w.policy.MaxFailures, w.policy.Window)
	}
	return nil
}
