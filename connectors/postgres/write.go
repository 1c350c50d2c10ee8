package postgres

import (
	"context"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// attempts is how often a transaction is tried when another session came in
// between, or when the connection turns out to be dead.
const attempts = 4

// Write implements connectors.Writer.
func (w *writer) Write(ctx context.Context, plan connectors.Plan, batch connectors.Batch) ([]connectors.RecordError, error) {
	for attempt := 1; ; attempt++ {
		if err := w.ready(ctx); err != nil {
			return nil, err
		}
		wrong, err := w.attempt(ctx, plan, batch.Messages)
		again := connectors.ClassOf(err) == connectors.ClassRetry && (collided(err) || lost(err))
		if !again || attempt == attempts {
			return wrong, err
		}
	}
}

func (w *writer) attempt(ctx context.Context, plan connectors.Plan, messages []connectors.Message) ([]connectors.RecordError, error) {
	if w.target == nil {
		if wrong, err := w.createFrom(ctx, messages); len(wrong) > 0 || err != nil {
			return wrong, err
		}
	}
	if w.target != nil && w.settings.evolve {
		if err := w.evolve(ctx, messages); err != nil {
			return nil, err
		}
	}
	r := &rows{}
	if w.target != nil {
		var wrong []connectors.RecordError
		if r, wrong = newEncoder(w.target).encode(messages); len(wrong) > 0 {
			return wrong, nil
		}
	}
	return w.transact(ctx, plan, messages, r)
}

// createFrom creates the table with the columns found in records; if there
// are none it waits for the next.
func (w *writer) createFrom(ctx context.Context, messages []connectors.Message) ([]connectors.RecordError, error) {
	columns, wrong, err := w.settings.infer(messages)
	if len(wrong) > 0 || err != nil {
		return wrong, err
	}
	if len(columns) == 0 {
		return w.settings.columnless(messages), nil
	}
	return nil, w.inside(ctx, "create the table", func(t *tx) error {
		typed, err := t.retype(columns, messages)
		if err != nil {
			return err
		}
		return w.prepare(t, typed)
	})
}

// columnless refuses records that are no deletes and have no field to make a
// column of: to pass over them would lose them.
func (s settings) columnless(messages []connectors.Message) (wrong []connectors.RecordError) {
	for i := range messages {
		if m := &messages[i]; !s.deletes || !s.gone(m) {
			err := connectors.Poisonf("the record has no field, and there is no table yet: declare columns, or create the table")
			wrong = append(wrong, connectors.RecordError{Index: i, Offset: m.Offset, Err: err})
		}
	}
	return wrong
}

// transact does a plan in one transaction: copy the rows to where nobody sees
// them, pass the fence, write them, commit.
func (w *writer) transact(ctx context.Context, plan connectors.Plan, messages []connectors.Message, r *rows) ([]connectors.RecordError, error) {
	what := "write " + plan.String()
	t, err := w.link.begin(ctx)
	if err != nil {
		w.drop()
		return nil, classify(ctx, what, err)
	}
	done, bad, err := w.steps(t, plan, r)
	if err != nil || done || len(bad) > 0 {
		if !t.rollback() || ctx.Err() != nil {
			w.drop()
		}
		switch {
		case err != nil:
			return nil, classify(ctx, what, err)
		case done:
			return nil, nil
		}
		return recordErrors(messages, bad), nil
	}
	if err := t.commit(); err != nil {
		w.drop()
		return nil, classifyCommit(what, err)
	}
	return nil, nil
}

// steps does everything up to the commit. The rows are copied before the fence
// is passed: a writer that freezes while it sends holds no lock that others
// wait for. From the fence on the server ends a transaction whose client is
// silent for a minute, so a frozen writer cannot hold up its successor either.
func (w *writer) steps(t *tx, plan connectors.Plan, r *rows) (done bool, bad []badLine, err error) {
	begin := "SET LOCAL idle_in_transaction_session_timeout = '60s'; SET CONSTRAINTS ALL IMMEDIATE"
	if len(r.lines) > 0 {
		begin += "; " + w.target.createStage()
	}
	if _, err := t.exec(begin); err != nil {
		return false, nil, err
	}
	if len(r.lines) > 0 {
		if err := t.copyIn(w.target.copyStage(), r); err != nil {
			return false, nil, err
		}
	}
	passed, err := t.exec(w.offsets.advance(plan))
	if err != nil {
		return false, nil, err
	}
	if passed == 0 {
		v := w.offsets.refused(t, plan)
		return v.done, nil, v.err
	}
	if len(r.lines) == 0 {
		return false, nil, nil
	}
	a := &applier{tx: t, target: w.target, rows: r, deletes: r.deletes()}
	bad, err = a.apply()
	return false, bad, err
}

// classifyCommit tells what is known after a commit that failed. Only a plain
// refusal of the server means that nothing happened; one that ended its
// session may have committed before.
func classifyCommit(what string, err error) error {
	err = fmt.Errorf("commit of %s: %w", what, explained(err))
	e, ok := serverError(err)
	switch {
	case !ok || lost(err):
		return connectors.Unknown(err)
	case aboutRows(err):
		return connectors.Poison(err)
	case passing(string(e.Code)):
		return connectors.Retry(0, err)
	}
	return connectors.Fatal(err)
}

func recordErrors(messages []connectors.Message, bad []badLine) []connectors.RecordError {
	all := make([]connectors.RecordError, len(bad))
	for i, b := range bad {
		all[i] = connectors.RecordError{Index: b.index, Offset: messages[b.index].Offset, Err: rowError(b.err)}
	}
	return all
}
