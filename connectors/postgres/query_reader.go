package postgres

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
)

// queryReader polls one table.
type queryReader struct {
	querySettings
	*session
	log   *slog.Logger
	clock func() time.Time

	envelope envelope
	form     *form
	order    rowOrder
	// The timestamp: the column, the same as an instant, and how a number of
	// microseconds is written to compare with it.
	at, epoch, literal string

	after   row // the last row that was read
	horizon horizon
	pending []connectors.Message
	rows    int // to ask for next time
	next    time.Time
	warned  time.Time
}

// Read implements connectors.Reader.
func (r *queryReader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	deadline := r.clock().Add(limits.Wait)
	for {
		if err := ctx.Err(); err != nil {
			return connectors.Batch{}, err
		}
		if len(r.pending) > 0 {
			var b connectors.Batch
			b.Messages, r.pending = limits.Cut(r.pending)
			return b, nil
		}
		now := r.clock()
		if wait := r.next.Sub(now); wait > 0 {
			left := deadline.Sub(now)
			if left <= 0 {
				return connectors.Batch{}, nil
			}
			if err := connectors.Pause(ctx, min(wait, left)); err != nil {
				return connectors.Batch{}, err
			}
			continue
		}
		all, err := r.ask(ctx)
		switch {
		case err != nil:
			return connectors.Batch{}, err
		case all && !r.follow && len(r.pending) == 0 && !r.horizon.held():
			return connectors.Batch{}, io.EOF
		case all:
			r.next = r.clock().Add(r.poll)
			if !r.follow {
				r.next = r.clock() // to see the end
				if r.horizon.held() {
					r.next = r.clock().Add(min(r.poll, time.Second))
				}
			}
		}
	}
}

// ask reads the next rows below the horizon; all tells that there are no more.
// The horizon is found before the rows: what was over then is seen by a query
// that begins later.
func (r *queryReader) ask(ctx context.Context) (all bool, err error) {
	if err := r.look(ctx); err != nil {
		return false, err
	}
	if r.timestamp != "" && !r.horizon.known {
		return true, nil
	}
	if r.rows == 0 {
		r.rows = 1000
	}
	statement, err := r.statement()
	if err != nil {
		return false, err
	}
	rows, err := r.query(ctx, "read the rows of "+r.table.String(), statement)
	if err != nil {
		return false, err
	}
	size := 1
	r.pending = make([]connectors.Message, 0, len(rows))
	for _, values := range rows {
		settled, err := r.add(values)
		if err != nil {
			return false, err
		}
		if !settled {
			return true, nil
		}
		for _, v := range values {
			size += len(v) + 8
		}
	}
	full := len(rows) == r.rows
	if len(rows) > 0 {
		r.rows = max(1, min(chunkRows, r.rows*2, chunkBytes*len(rows)/size))
	}
	return !full, nil
}

// statement asks for the rows after the last one, in order.
func (r *queryReader) statement() (string, error) {
	selected := r.order.selected()
	exprs := r.order.exprs
	if r.timestamp != "" { // a view has no xmin
		selected[len(selected)-1] = "(extract(epoch FROM " + r.epoch + ") * 1000000)::bigint"
		exprs = append([]string{r.at}, exprs...)
	}
	for _, c := range r.form.columns {
		selected = append(selected, pq.QuoteIdentifier(c.name))
	}
	var where []string
	if r.timestamp != "" {
		where = append(where, r.at+" > '-infinity'", r.at+" < "+fmt.Sprintf(r.literal, r.horizon.at))
	}
	if r.after.set {
		literals, err := r.order.literals(r.after.key)
		if err != nil {
			return "", err
		}
		if r.timestamp != "" {
			literals = append([]string{fmt.Sprintf(r.literal, r.after.at)}, literals...)
		}
		where = append(where, fmt.Sprintf("(%s) > (%s)", strings.Join(exprs, ", "), strings.Join(literals, ", ")))
	}
	statement := "SELECT " + strings.Join(selected, ", ") + " FROM " + r.table.qualified()
	if len(where) > 0 {
		statement += " WHERE " + strings.Join(where, " AND ")
	}
	return fmt.Sprintf("%s ORDER BY %s LIMIT %d", statement, strings.Join(exprs, ", "), r.rows), nil
}

// add makes a message of a row. Without a timestamp, a row that is not older
// than all that still runs is not settled: nothing after it may be read either.
func (r *queryReader) add(values [][]byte) (settled bool, err error) {
	n := len(r.order.kinds)
	key, err := r.order.encode(values[:n])
	if err != nil {
		return false, connectors.Fatal(fmt.Errorf("table %s: the key of a row is NULL or %w", r.table, err))
	}
	extra, err := strconv.ParseInt(string(values[n]), 10, 64)
	if err != nil {
		return false, fmt.Errorf("table %s: %w", r.table, err)
	}
	w := row{set: true, key: key}
	if r.timestamp != "" {
		w.at = extra
	} else if r.horizon.open(uint32(extra)) {
		return false, nil
	}
	ev := event{op: 'r', after: tupleOf(values[n+1:]), ts: connectors.NoTimestamp}
	if r.timestamp != "" {
		ev.ts = max(connectors.NoTimestamp, w.at/1000)
	}
	m := r.envelope.message(r.form, &ev)
	m.Position = r.encode(w)
	r.pending = append(r.pending, m)
	r.after = w
	return true, nil
}

// Committed implements connectors.Reader. A table does not care.
func (r *queryReader) Committed(context.Context, connectors.Position) error { return nil }

// Close implements connectors.Reader.
func (r *queryReader) Close(context.Context) error {
	r.session.close()
	r.session = nil
	return nil
}
