package clickhouse

import (
	"context"
	"strings"

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
	return w.warnings()
}

// warnings are what records can meet that the table does not rule out.
func (w *writer) warnings() []connectors.Finding {
	if w.target == nil {
		return nil
	}
	var strict []string
	for _, c := range w.target.columns {
		if c.meta == metaNone && !c.typ.nullable && !c.key {
			strict = append(strict, c.name)
		}
	}
	if len(strict) == 0 {
		return nil
	}
	return []connectors.Finding{{
		Field: "columns", Warning: true,
		Message: "a record without a value for " + strings.Join(strict, ", ") + " goes to the dead letters: the columns are not Nullable",
		Hint:    "make them Nullable if that is not meant",
	}}
}

// fieldOf guesses the field that an error of the live check is about.
func fieldOf(err error) string {
	switch text := err.Error(); {
	case strings.HasPrefix(text, "connect"), strings.HasPrefix(text, "dsn"):
		return "dsn"
	case strings.Contains(text, "exactly_once"):
		return "exactly_once"
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
	opts, err := optionsOf(task)
	if err != nil {
		return nil, err
	}
	return &writer{settings: s, opts: opts, clock: task.Clock, sure: map[record.TopicPartition]int64{}}, nil
}
