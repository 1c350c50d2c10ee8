package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// writer has one connection, which it makes again when it is lost. What it
// knows of the table is learned anew with each connection.
type writer struct {
	settings settings
	opts     *ch.Options
	clock    func() time.Time

	link   *link   // nil when there is none
	target *target // nil when the table is to be created by the first records
	found  *found
	// sure is how far this writer has seen each partition come in: a plan from
	// there on was not tried before.
	sure map[record.TopicPartition]int64
}

// ready connects, and makes sure that the table is there.
func (w *writer) ready(ctx context.Context) error {
	if w.link != nil {
		return nil
	}
	var err error
	if w.link, err = connect(ctx, w.opts); err != nil {
		return err
	}
	if err := w.prepare(ctx, w.settings.columns); err != nil {
		w.drop()
		return classify(ctx, "prepare table "+w.settings.table.String(), err)
	}
	return nil
}

// drop gives the connection up. What was being written may come in or not.
func (w *writer) drop() {
	if w.link != nil {
		_ = w.link.Close()
	}
	w.link, w.target = nil, nil
	clear(w.sure)
}

// prepare finds or creates the table. Without columns a table that does not
// exist is left to the first records.
func (w *writer) prepare(ctx context.Context, columns []declared) error {
	f, err := w.link.describe(ctx, w.settings.table)
	if err != nil {
		return err
	}
	if f == nil {
		if !w.settings.create {
			return missing(w.settings.table)
		}
		if len(columns) == 0 {
			return nil
		}
		if err := w.create(ctx, columns); err != nil {
			return err
		}
		if f, err = w.link.describe(ctx, w.settings.table); err != nil {
			return err
		}
		if f == nil {
			return fmt.Errorf("table %s is not there after CREATE TABLE", w.settings.table)
		}
	}
	w.found = f
	w.target, err = w.settings.match(f)
	return err
}

func missing(n name) error {
	return connectors.Fatalf("table %s does not exist: create it, or set create: true", n)
}

// look is the live check: it connects and reads, and leaves nothing behind.
func (w *writer) look(ctx context.Context) error {
	var err error
	if w.link, err = connect(ctx, w.opts); err != nil {
		return err
	}
	f, err := w.link.describe(ctx, w.settings.table)
	switch {
	case err != nil:
		return classify(ctx, "look at table "+w.settings.table.String(), err)
	case f == nil && !w.settings.create:
		return missing(w.settings.table)
	case f == nil && len(w.settings.columns) > 0:
		_, err = w.settings.createTable(w.settings.columns, true)
		return err
	case f == nil:
		return nil
	}
	w.found = f
	w.target, err = w.settings.match(f)
	return err
}

// Resume implements connectors.Writer. The table says what it has of a plan,
// but not how far a topic was read: records that were filtered leave no trace.
func (w *writer) Resume(context.Context, record.TopicPartition) (int64, bool, error) {
	return 0, false, nil
}

// Close implements connectors.Writer.
func (w *writer) Close(context.Context) error {
	w.drop()
	return nil
}

// Write implements connectors.Writer.
func (w *writer) Write(ctx context.Context, plan connectors.Plan, batch connectors.Batch) ([]connectors.RecordError, error) {
	if err := w.ready(ctx); err != nil {
		return nil, err
	}
	if w.target == nil {
		wrong, err := w.createFrom(ctx, batch.Messages)
		if err != nil {
			w.drop()
		}
		if len(wrong) > 0 || err != nil {
			return wrong, err
		}
	}
	if w.target == nil || len(batch.Messages) == 0 {
		return nil, nil
	}
	b, wrong := newEncoder(w.target).encode(batch.Messages)
	if len(wrong) > 0 {
		return wrong, nil
	}
	if seen, ok := w.sure[plan.Partition]; !ok || plan.From < seen {
		var err error
		if b, err = w.doubted(ctx, plan, batch.Messages, b); err != nil {
			w.drop()
			return nil, classify(ctx, "ask for what is in of "+plan.String(), err)
		}
	}
	if b.rows > 0 {
		if err := w.insert(ctx, plan, b); err != nil {
			w.drop()
			return nil, err
		}
	}
	w.sure[plan.Partition] = plan.To
	return nil, nil
}

// doubted is what may be written of a plan that may have been tried before.
func (w *writer) doubted(ctx context.Context, plan connectors.Plan, messages []connectors.Message, whole *block) (*block, error) {
	switch {
	case w.target.asks:
		return w.remainder(ctx, plan, messages, whole)
	case w.settings.once == onceToken && plan.Made > 0:
		return whole, w.link.remembered(ctx, w.found, w.target.name, plan, w.clock())
	}
	return whole, nil
}

// remainder is what the table does not have yet of a plan that may have been
// tried before. It goes in under the plan's own ID: a value of PARTITION BY
// that is in has all its rows, so the token can only stop what the question
// missed, and it stops a former owner that wakes up with the whole.
func (w *writer) remainder(ctx context.Context, plan connectors.Plan, messages []connectors.Message, whole *block) (*block, error) {
	have, err := w.link.present(ctx, w.target, plan)
	if err != nil || len(have) == 0 {
		return whole, err
	}
	rest := slices.DeleteFunc(slices.Clone(messages), func(m connectors.Message) bool { return have[m.Offset] })
	b, _ := newEncoder(w.target).encode(rest) // all of them are good, as the whole was
	return b, nil
}

// insert sends one block. Nothing has happened until the block is sent.
func (w *writer) insert(ctx context.Context, plan connectors.Plan, b *block) error {
	what := "write " + plan.String()
	batch, err := w.link.PrepareBatch(w.context(ctx, plan.ID), w.target.insert())
	if err != nil {
		return classify(ctx, what, err)
	}
	for i, c := range b.cells {
		if err := c.send(batch.Column(i)); err != nil {
			_ = batch.Abort()
			return connectors.Fatal(fmt.Errorf("%s: column %q is %s, and the driver does not take its values: %w", what, w.target.columns[i].name, w.target.columns[i].typ.shown, err))
		}
	}
	if err := batch.Send(); err != nil {
		return classifySent(what, err)
	}
	return nil
}

// context carries the plan's ID and the settings of an INSERT.
func (w *writer) context(ctx context.Context, id string) context.Context {
	set := ch.Settings{}
	for key, value := range w.settings.more {
		if n, err := strconv.Atoi(value); err == nil { // older servers take nothing else
			set[key] = n
		} else {
			set[key] = value
		}
	}
	if w.found.tokens {
		set["async_insert"] = 0
	}
	if w.target.token {
		set["insert_deduplicate"] = 1
		set["insert_deduplication_token"] = id
		if w.found.enables {
			set["deduplicate_insert"] = "enable"
		}
	}
	return ch.Context(ctx, ch.WithQueryID(id), ch.WithSettings(set))
}
