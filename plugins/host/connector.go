package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
	"github.com/entrepot-hub/entrepot/record"
)

// half is what sources and sinks of a program have in common.
type half struct {
	plugin *plugin
	spec   connectors.Spec
	kind   wire.Kind
}

// Spec implements connectors.Source and connectors.Sink.
func (h half) Spec() connectors.Spec { return h.spec }

// use names the connector with a config. reveal is as for wire.FromConfig.
func (h half) use(cfg connectors.Config, reveal func(connectors.Secret) (string, error)) (*wire.Use, error) {
	object, err := wire.FromConfig(h.spec.Fields, cfg, reveal)
	if err != nil {
		return nil, err
	}
	return &wire.Use{Kind: h.kind, Type: h.spec.Type, Config: object}, nil
}

// NotAnswered is the hint of a finding that says why the program has not
// answered, in place of what it finds.
const NotAnswered = "the log has what the plugin printed"

// Validate implements connectors.Source and connectors.Sink. Secrets are
// revealed to a check that may look at the system only.
func (h half) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	out, err := h.validate(ctx, cfg, probe)
	if err != nil {
		return []connectors.Finding{{Message: err.Error(), Hint: NotAnswered}}
	}
	var found []connectors.Finding
	for _, f := range out.GetFindings() {
		found = append(found, connectors.Finding{Field: f.GetField(), Message: f.GetMessage(), Hint: f.GetHint(), Warning: f.GetWarning()})
	}
	return found
}

func (h half) validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) (*wire.ValidateResponse, error) {
	s, err := h.plugin.session(ctx)
	if err != nil {
		return nil, err
	}
	live, limit := probe == connectors.ProbeLive, askTimeout
	var reveal func(connectors.Secret) (string, error)
	if live {
		reveal, limit = s.reveal, h.plugin.cfg.timeout()
	}
	use, err := h.use(cfg, reveal)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err := s.calls.Validate(ctx, &wire.ValidateRequest{Use: use, Live: live})
	if err != nil {
		return nil, s.fault(err)
	}
	for _, f := range out.GetFindings() {
		f.Message, f.Hint = s.redact(f.GetMessage()), s.redact(f.GetHint())
	}
	return out, nil
}

// settings asks what the runtime wants to know of a config. It has no context
// of its own, so it is short, and what it cannot learn is left to a default.
func (h half) settings(cfg connectors.Config) (*wire.SettingsResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	s, err := h.plugin.session(ctx)
	if err != nil {
		return nil, err
	}
	use, err := h.use(cfg, nil)
	if err != nil {
		return nil, err
	}
	out, err := s.calls.Settings(ctx, &wire.SettingsRequest{Use: use})
	if err != nil {
		return nil, s.fault(err)
	}
	return out, nil
}

// source is a source of a program.
type source struct{ half }

// What a source is besides: the runtime asks by these interfaces.
type (
	pacedSource struct{ source }
	queueSource struct{ source }
	pacedQueue  struct{ queueSource }
)

// newSource gives the source the interfaces that it says it has.
func newSource(p *plugin, spec connectors.Spec, about *wire.Connector) (connectors.Source, error) {
	s := source{half{p, spec, wire.Kind_KIND_SOURCE}}
	f, ok := spec.Field(dedupField)
	switch {
	case about.GetQueue() && (!ok || f.Kind != connectors.KindInt):
		return nil, fmt.Errorf("source %q is a queue and has no field %s, a whole number: how many message IDs the hub remembers", spec.Type, dedupField)
	case about.GetQueue() && about.GetPaced():
		return pacedQueue{queueSource{s}}, nil
	case about.GetQueue():
		return queueSource{s}, nil
	case about.GetPaced():
		return pacedSource{s}, nil
	}
	return s, nil
}

const dedupField = "dedup_window"

// Dedup implements connectors.Queue. It is read from the config and not asked
// for: a window must not shrink because a process does not answer.
func (s queueSource) Dedup(cfg connectors.Config) connectors.Window {
	return connectors.Window{IDs: int(cfg.Int(dedupField))}
}

// Pace implements connectors.Paced.
func (s pacedSource) Pace(cfg connectors.Config) connectors.Limits { return s.pace(cfg) }

// Pace implements connectors.Paced.
func (s pacedQueue) Pace(cfg connectors.Config) connectors.Limits { return s.pace(cfg) }

func (s source) pace(cfg connectors.Config) connectors.Limits {
	out, err := s.settings(cfg)
	if err != nil {
		return connectors.Limits{} // the runtime's own
	}
	return out.GetPace().Limits()
}

// Splits implements connectors.Source. A list that breaks off with its process
// is asked for again: a closed channel would say that it is final.
func (s source) Splits(ctx context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	ctx, cancel := context.WithCancel(ctx)
	next, first, err := s.lists(ctx, cfg)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan []connectors.Split)
	go func() {
		defer close(out)
		defer cancel()
		list := first
		for {
			select {
			case out <- list:
			case <-ctx.Done():
				return
			}
			if list, err = next(); err == nil {
				continue
			}
			for err != nil && !errors.Is(err, errFinal) && ctx.Err() == nil {
				s.plugin.opts.Logger.Warn("a list of splits broke off", "plugin", s.plugin.cfg.Name, "source", s.spec.Type, "error", err)
				_ = connectors.Pause(ctx, max(firstPause, connectors.RetryAfter(err)))
				next, list, err = s.lists(ctx, cfg)
			}
			if err != nil {
				return
			}
		}
	}()
	return out, nil
}

// errFinal says that no list comes after the last one.
var errFinal = errors.New("the list is final")

// lists asks for the splits and returns the first list and a way to the next.
func (s source) lists(ctx context.Context, cfg connectors.Config) (next func() ([]connectors.Split, error), first []connectors.Split, err error) {
	sess, err := s.plugin.session(ctx)
	if err != nil {
		return nil, nil, err
	}
	use, err := s.use(cfg, sess.reveal)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := sess.calls.Splits(ctx, &wire.SplitsRequest{Use: use})
	if err != nil {
		cancel()
		return nil, nil, sess.fault(err)
	}
	next = func() ([]connectors.Split, error) {
		out, err := stream.Recv()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case isEOF(err):
			return nil, errFinal
		case err != nil:
			return nil, sess.fault(err)
		case out.GetError() != nil:
			cancel() // nothing more is received, and so the stream would stay
			return nil, sess.remote(out.GetError())
		}
		list := []connectors.Split{}
		for _, sp := range out.GetSplits() {
			list = append(list, sp.Split())
		}
		return list, nil
	}
	late := time.AfterFunc(s.plugin.cfg.timeout(), func() {
		sess.kill(fmt.Sprintf("it did not list its splits within %s", s.plugin.cfg.timeout()))
	})
	defer late.Stop()
	first, err = next()
	if errors.Is(err, errFinal) {
		return next, []connectors.Split{}, nil
	}
	return next, first, err
}

// sink is a sink of a program.
type sink struct{ half }

// Batching implements connectors.Sink.
func (s sink) Batching(cfg connectors.Config) connectors.Limits {
	out, err := s.settings(cfg)
	l := out.GetBatching().Limits()
	if err != nil || l.Wait <= 0 || l.Records <= 0 && l.Bytes <= 0 {
		return connectors.Limits{Records: 1000, Bytes: 1 << 20, Wait: time.Second}
	}
	return l
}

// Open implements connectors.Source.
func (s source) Open(ctx context.Context, task connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	sess, err := s.plugin.session(ctx)
	if err != nil {
		return nil, err
	}
	use, err := s.use(task.Config, sess.reveal)
	if err != nil {
		return nil, err
	}
	return openReader(ctx, sess, &wire.OpenRead{Use: use, Task: toTask(task), Split: wire.FromSplit(split), From: from}, from)
}

// Open implements connectors.Sink.
func (s sink) Open(ctx context.Context, task connectors.TaskContext, partitions []record.TopicPartition) (connectors.Writer, error) {
	sess, err := s.plugin.session(ctx)
	if err != nil {
		return nil, err
	}
	use, err := s.use(task.Config, sess.reveal)
	if err != nil {
		return nil, err
	}
	open := &wire.OpenWrite{Use: use, Task: toTask(task)}
	for _, p := range partitions {
		open.Partitions = append(open.Partitions, wire.FromPartition(p))
	}
	return openWriter(ctx, sess, task, open)
}

func toTask(t connectors.TaskContext) *wire.Task {
	return &wire.Task{Job: t.Job, Task: t.Task, Site: t.Site}
}
