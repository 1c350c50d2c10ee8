package postgres

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// writer has one connection, which it makes again when it is lost. What it
// knows of the table is learned anew with each connection.
type writer struct {
	settings settings
	offsets  offsets
	cfg      pq.Config

	link   *link   // nil when there is none
	target *target // nil when the table is to be created by the first records
}

// ready connects, and makes sure that both tables are there.
func (w *writer) ready(ctx context.Context) error {
	if w.link != nil {
		return nil
	}
	var err error
	if w.link, err = connect(ctx, w.cfg); err != nil {
		return classifyConnect(ctx, err)
	}
	return w.inside(ctx, "prepare the tables", func(t *tx) error { return w.prepare(t, w.settings.columns) })
}

// drop gives the connection up.
func (w *writer) drop() {
	if w.link != nil {
		w.link.close()
	}
	w.link, w.target = nil, nil
}

// inside runs fn in a transaction of which it does not matter whether it was
// committed when the connection is lost.
func (w *writer) inside(ctx context.Context, what string, fn func(*tx) error) error {
	t, err := w.link.begin(ctx)
	if err == nil {
		if err = fn(t); err != nil {
			t.rollback()
		} else {
			err = t.commit()
		}
	}
	if err != nil {
		w.drop()
		return classify(ctx, what, err)
	}
	return nil
}

// look is the live check: it connects and reads, and leaves nothing behind.
func (w *writer) look(ctx context.Context) error {
	var err error
	if w.link, err = connect(ctx, w.cfg); err != nil {
		return classifyConnect(ctx, err)
	}
	return w.inside(ctx, "look at the table", func(t *tx) error {
		n, exists, err := w.locate(t)
		if err == nil {
			err = w.lookAtOffsets(t)
		}
		switch {
		case err != nil:
			return err
		case exists:
			_, err = w.plan(t, n)
			return err
		case !w.settings.create:
			return missing(n)
		case len(w.settings.columns) > 0:
			_, err = w.settings.createTable(n, w.settings.columns)
			return err
		}
		return nil
	})
}

func (w *writer) lookAtOffsets(t *tx) error {
	if _, exists, err := t.schemaOf(w.offsets.name); err != nil || !exists {
		return err
	}
	if _, err := t.exec("EXPLAIN " + w.offsets.advance(connectors.Plan{})); err != nil {
		return fmt.Errorf("the offsets table %s: %w", w.offsets.name, err)
	}
	return nil
}

func missing(n name) error {
	return connectors.Fatalf("table %s does not exist: create it, or set create: true", n)
}

// locate finds the table's schema; the offsets' table is in the same one
// unless the config says otherwise.
func (w *writer) locate(t *tx) (n name, exists bool, err error) {
	n = w.settings.table
	if n.schema, exists, err = t.schemaOf(n); err != nil {
		return n, false, err
	}
	if w.offsets.name = w.settings.offsets; w.offsets.name.schema == "" {
		w.offsets.name.schema = n.schema
	}
	return n, exists, nil
}

// prepare finds or creates both tables, and has the server check the
// statements that will be used. Without columns a table that does not exist is
// left to the first records.
func (w *writer) prepare(t *tx, columns []declared) error {
	n, exists, err := w.locate(t)
	if err != nil {
		return err
	}
	if err := w.create(t, w.offsets.name, w.offsets.create()); err != nil {
		return err
	}
	if err := w.lookAtOffsets(t); err != nil {
		return err
	}
	if !exists {
		if !w.settings.create {
			return missing(n)
		}
		if len(columns) == 0 {
			w.target = nil
			return nil
		}
		statement, err := w.settings.createTable(n, columns)
		if err != nil {
			return err
		}
		if err := w.create(t, n, statement); err != nil {
			return err
		}
	}
	w.target, err = w.plan(t, n)
	return err
}

// create makes a table unless it exists. A lock keeps others that do the same
// from failing.
func (w *writer) create(t *tx, n name, statement string) error {
	_, exists, err := t.schemaOf(n)
	if err != nil || exists {
		return err
	}
	if err := t.alone(n); err != nil {
		return err
	}
	if _, exists, err = t.schemaOf(n); err != nil || exists {
		return err
	}
	if _, err := t.exec(statement); err != nil {
		return fmt.Errorf("create table %s: %w", n, err)
	}
	return nil
}

// alone waits until nobody else creates or changes the table.
func (t *tx) alone(n name) error {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "entrepot create %s", n)
	_, err := t.exec(fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", int64(h.Sum64())))
	return err
}

// plan decides what is written to a table that exists.
func (w *writer) plan(t *tx, n name) (*target, error) {
	table, err := t.describe(n)
	if err != nil {
		return nil, err
	}
	target, err := w.settings.match(n, table)
	if err != nil {
		return nil, err
	}
	statements := []string{target.insert(target.nothing(), "")}
	if target.tombstones {
		statements = append(statements, target.remove(target.nothing()))
	}
	for _, s := range statements {
		if _, err := t.exec("EXPLAIN " + s); err != nil {
			return nil, fmt.Errorf("table %s: %w", n, err)
		}
	}
	return target, nil
}

// Resume implements connectors.Writer.
func (w *writer) Resume(ctx context.Context, tp record.TopicPartition) (next int64, known bool, err error) {
	if err := w.ready(ctx); err != nil {
		return 0, false, err
	}
	err = w.inside(ctx, "read the offset of "+tp.String(), func(t *tx) error {
		next, _, known, err = w.offsets.row(t, tp)
		return err
	})
	return next, known, err
}

// Last implements connectors.Remembering: a plan is there wholly or not at all.
func (w *writer) Last(ctx context.Context, tp record.TopicPartition) (last connectors.Plan, known bool, err error) {
	if err := w.ready(ctx); err != nil {
		return last, false, err
	}
	err = w.inside(ctx, "read the owner of "+tp.String(), func(t *tx) error {
		var next int64
		next, last.Epoch, known, err = w.offsets.row(t, tp)
		last.Partition, last.From, last.To = tp, next, next
		return err
	})
	return last, known, err
}

// Close implements connectors.Writer.
func (w *writer) Close(context.Context) error {
	w.drop()
	return nil
}
