package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Validate implements connectors.Sink.
func (Sink) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s := settingsOf(cfg)
	findings := s.check()
	if len(findings) > 0 || probe != connectors.ProbeLive {
		return findings
	}
	w, err := newWriter(connectors.TaskContext{Job: "check", Config: cfg})
	if err == nil {
		defer w.drop()
		err = w.look(ctx)
	}
	if err != nil {
		return []connectors.Finding{{Field: fieldOf(err), Message: err.Error(), Warning: connectors.ClassOf(err) == connectors.ClassRetry}}
	}
	return nil
}

// fieldOf guesses the field that an error of the live check is about.
func fieldOf(err error) string {
	if strings.HasPrefix(err.Error(), "connect") || strings.HasPrefix(err.Error(), "dsn") {
		return "dsn"
	}
	return "table"
}

// Batching implements connectors.Sink.
func (Sink) Batching(cfg connectors.Config) connectors.Limits {
	b := cfg.Object("batch")
	return connectors.Limits{Records: int(b.Int("rows")), Bytes: int(b.Size("bytes")), Wait: b.Duration("every")}
}

// Open implements connectors.Sink.
func (Sink) Open(ctx context.Context, task connectors.TaskContext, _ []record.TopicPartition) (connectors.Writer, error) {
	w, err := newWriter(task)
	if err != nil {
		return nil, err
	}
	if err := w.ready(ctx); err != nil {
		w.drop()
		return nil, err
	}
	return w, nil
}

// newWriter makes a writer that is not connected yet.
func newWriter(task connectors.TaskContext) (*writer, error) {
	s := settingsOf(task.Config)
	if wrong := s.check(); len(wrong) > 0 {
		return nil, connectors.Fatalf("%s: %s", wrong[0].Field, wrong[0].Message)
	}
	dsn, err := task.Config.Secret("dsn").Reveal()
	if err != nil {
		return nil, connectors.Fatal(fmt.Errorf("dsn: %w", err))
	}
	// The parser's error may have the password in it.
	cfg, err := pq.NewConfig(dsn)
	if err != nil {
		return nil, connectors.Fatalf("dsn: it cannot be read, want postgres://user:password@host:5432/database?sslmode=verify-full or host=… user=… dbname=…")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.ApplicationName == "" {
		cfg.ApplicationName = "entrepot " + task.Job
	}
	return &writer{settings: s, offsets: offsets{name: s.offsets, job: task.Job}, cfg: cfg}, nil
}
