package rabbitmq

import (
	"context"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Source reads queues.
type Source struct{}

// Spec implements connectors.Source.
func (Source) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "rabbitmq",
		Summary:   "Reads classic and quorum queues of RabbitMQ.",
		Guarantee: "at-least-once (acknowledged after the hub's commit); exactly-once within dedup_window (message ID in the same hub transaction as the record)",
		Since:     "0.1",
		Fields:    sourceFields(),
	}
}

// Dedup implements connectors.Queue.
func (Source) Dedup(cfg connectors.Config) connectors.Window {
	return connectors.Window{IDs: int(cfg.Int("dedup_window"))}
}

// Pace implements connectors.Paced: the broker waits for acknowledgements.
func (Source) Pace(cfg connectors.Config) connectors.Limits {
	return connectors.Limits{Records: max(1, int(cfg.Int("prefetch"))/2), Wait: commitAfter}
}

// Validate implements connectors.Source.
func (Source) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s := sourceSettingsOf(cfg)
	findings := s.check()
	if probe != connectors.ProbeLive || fatal(findings) != nil {
		return findings
	}
	return append(findings, probeLive(ctx, cfg, func(l *link) error {
		for _, name := range s.queues {
			if err := l.look(ctx, name); err != nil && !s.declare {
				return err
			}
		}
		return nil
	})...)
}

// probeLive connects, and looks.
func probeLive(ctx context.Context, cfg connectors.Config, look func(*link) error) []connectors.Finding {
	finding := func(field string, err error) []connectors.Finding {
		return []connectors.Finding{{Field: field, Message: err.Error(), Warning: connectors.ClassOf(err) == connectors.ClassRetry}}
	}
	l, err := connect(ctx, connectors.TaskContext{Job: "check", Config: cfg})
	if err != nil {
		return finding("url", err)
	}
	defer l.close()
	if err := look(l); err != nil {
		return finding("", err)
	}
	return nil
}

// Splits implements connectors.Source: each queue is one.
func (Source) Splits(_ context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	return splitsOf(cfg.Strings("queues")), nil
}

func splitsOf(names []string) <-chan []connectors.Split {
	var all []connectors.Split
	for _, name := range names {
		all = append(all, connectors.Split{ID: name})
	}
	out := make(chan []connectors.Split, 1)
	out <- all
	close(out)
	return out
}

// Open implements connectors.Source.
func (Source) Open(ctx context.Context, task connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	s := sourceSettingsOf(task.Config)
	if err := fatal(s.check()); err != nil {
		return nil, err
	}
	base, err := numberOf(queuePosition, from)
	if err != nil {
		return nil, err
	}
	l, err := connect(ctx, task)
	if err != nil {
		return nil, err
	}
	r := &reader{sourceSettings: s, name: split.ID, consumer: consumer{link: l}, base: base}
	if err := r.start(ctx); err != nil {
		r.end()
		return nil, err
	}
	return r, nil
}

// start makes the queue ready and begins to consume.
func (r *reader) start(ctx context.Context) error {
	if r.declare {
		if err := r.link.declare(ctx, r.queue(r.name)); err != nil {
			return err
		}
	}
	if err := r.link.vacant(ctx, r.name); err != nil {
		return err
	}
	r.narrow = r.prefetch > 1
	return r.consume(ctx, r.name, 1, nil)
}

// describe says which consumer an error is about.
func describe(queue string) string { return fmt.Sprintf("consume queue %q", queue) }
