package clickhouse

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/entrepot-hub/entrepot/connectors"
)

// The first query takes so many rows, the next ones more, as long as they stay
// within so many bytes.
const (
	firstRows = 1000
	pageBytes = 16 << 20
)

// tableReader reads one table.
type tableReader struct {
	reading
	link  *link
	clock func() time.Time

	order       keyOrder
	keys, shown []readColumn
	sortingKey  string
	sequential  bool // queries are to see all that a quorum has

	after   []keyValue // the last row that was read; nil is before all
	horizon []keyValue // rows up to here may be read
	marks   []mark     // greatest keys, as they were found
	pending []connectors.Message
	rows    int // to ask for next time
	next    time.Time
}

// mark is the greatest key that was visible before a moment; nil when there was
// no row.
type mark struct {
	at  time.Time
	key []keyValue
}

// Read implements connectors.Reader.
func (r *tableReader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
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
			return connectors.Batch{}, classify(ctx, "read table "+r.table.String(), err)
		case all && !r.follow && len(r.pending) == 0:
			return connectors.Batch{}, io.EOF
		case all && r.follow:
			r.next = r.clock().Add(r.poll)
		}
	}
}

// ask reads the next rows up to the horizon; all tells that there are no more.
func (r *tableReader) ask(ctx context.Context) (all bool, err error) {
	if err := r.look(ctx); err != nil {
		return false, err
	}
	if r.horizon == nil {
		return true, nil
	}
	if r.rows == 0 {
		r.rows = min(firstRows, r.most)
	}
	rows, err := r.link.Query(r.context(ctx), r.statement(r.rows))
	if err != nil {
		return false, err
	}
	read, bytes, err := r.take(rows)
	if err != nil {
		return false, err
	}
	full := read > r.rows
	if full {
		r.rows = max(1, min(r.most, r.rows*2, pageBytes/(bytes/read+1)))
	}
	return !full, nil
}

// look finds how far may be read: up to the greatest key that was visible lag
// ago. A reader that does not follow reads what is there when it begins. One
// that does asks once in each poll, not for each page of what it has to catch
// up with.
func (r *tableReader) look(ctx context.Context) error {
	if n := len(r.marks); n == 0 || r.follow && !r.clock().Before(r.marks[n-1].at.Add(r.poll)) {
		key, err := r.greatest(ctx)
		if err != nil {
			return err
		}
		r.marks = append(r.marks, mark{at: r.clock(), key: key})
	}
	now, settled := r.clock(), -1
	for i, m := range r.marks {
		if !r.follow || !m.at.Add(r.lag).After(now) {
			settled = i
		}
	}
	if settled >= 0 {
		r.horizon = r.marks[settled].key
		r.marks = slices.Delete(r.marks, 0, settled) // the settled one stays
	}
	return nil
}

// greatest is the greatest key that is visible; nil when there is no row.
func (r *tableReader) greatest(ctx context.Context) (key []keyValue, err error) {
	rows, err := r.link.Query(r.context(ctx), r.newest())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		targets := r.targets(rows, nil)
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		if key, err = r.keyOf(targets); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return key, rows.Close()
}

func (r *tableReader) context(ctx context.Context) context.Context {
	if !r.sequential {
		return ctx
	}
	return ch.Context(ctx, ch.WithSettings(ch.Settings{"select_sequential_consistency": 1}))
}

// targets are where the driver puts a row: the key, then the columns.
func (r *tableReader) targets(rows driver.Rows, shown []readColumn) []any {
	types := rows.ColumnTypes()
	all := make([]any, 0, len(types))
	for _, columns := range [][]readColumn{r.keys, shown} {
		for _, c := range columns {
			all = append(all, c.typ.target(types[len(all)].ScanType()))
		}
	}
	return all
}

func (r *tableReader) keyOf(targets []any) ([]keyValue, error) {
	key := make([]keyValue, len(r.keys))
	for i := range key {
		var err error
		if key[i], err = r.order.value(i, deref(targets[i])); err != nil {
			return nil, connectors.Fatal(fmt.Errorf("column %q: %w", r.keys[i].name, err))
		}
	}
	return key, nil
}

// take makes messages of all rows but the one above what was asked for, which
// only shows that it has another key.
func (r *tableReader) take(rows driver.Rows) (read, bytes int, err error) {
	defer func() { _ = rows.Close() }()
	last := connectors.Position(nil)
	if r.after != nil {
		last = r.order.encode(r.after)
	}
	var messages []connectors.Message
	after := r.after
	for rows.Next() {
		targets := r.targets(rows, r.shown)
		if err := rows.Scan(targets...); err != nil {
			return 0, 0, err
		}
		key, err := r.keyOf(targets)
		if err != nil {
			return 0, 0, err
		}
		pos := r.order.encode(key)
		switch c := last.Compare(pos); {
		case c == 0:
			return 0, 0, connectors.Fatalf("table %s has two rows of the key %s: key has to name columns that tell rows apart (or write final: true, if the engine makes one of them)", r.table, r.order.tuple(key))
		case c > 0:
			return 0, 0, connectors.Fatalf("table %s: the key %s came out of order", r.table, r.order.tuple(key))
		}
		last = pos
		if read++; read > r.rows {
			continue
		}
		m := r.message(key, pos, targets)
		bytes += m.Size() + 64
		messages, after = append(messages, m), key
	}
	if err := rows.Err(); err != nil {
		return 0, 0, err
	}
	if err := rows.Close(); err != nil {
		return 0, 0, err
	}
	r.pending, r.after = messages, after
	return read, bytes, nil
}

// message makes a record of a row, or says why it cannot be one.
func (r *tableReader) message(key []keyValue, pos connectors.Position, targets []any) connectors.Message {
	m := connectors.Message{Position: pos, Timestamp: connectors.NoTimestamp, Origin: connectors.Origin{Name: r.table.String()}}
	if t := r.keys[0].typ; t.kind == kindDate || t.kind == kindDateTime {
		m.Timestamp = max(t.at(key[0].n).UnixMilli(), connectors.NoTimestamp)
	}
	var err error
	if m.Key, err = appendObject(r.keys, targets[:len(r.keys)]); err == nil {
		m.Value, err = appendObject(r.shown, targets[len(r.keys):])
	}
	m.Original = m.Value
	if err != nil {
		m.Key, m.Value = nil, nil
		m.Original = fmt.Appendf(nil, "%s: (%s) = %s", r.table, strings.Join(r.order.exprs, ", "), r.order.tuple(key)) // where it is
		m.Err = connectors.Poison(fmt.Errorf("table %s: %w", r.table, err))
	}
	return m
}

// deref is what a target of the driver holds.
func deref(target any) any { return reflect.ValueOf(target).Elem().Interface() }

func appendObject(columns []readColumn, values []any) (_ []byte, err error) {
	dst := []byte{'{'}
	for i := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, columns[i].field...)
		if dst, err = columns[i].appendValue(dst, values[i]); err != nil {
			return dst, fmt.Errorf("column %q, %s: %w", columns[i].name, columns[i].typ.shown, err)
		}
	}
	return append(dst, '}'), nil
}

// Committed implements connectors.Reader. A table does not care.
func (r *tableReader) Committed(context.Context, connectors.Position) error { return nil }

// Close implements connectors.Reader.
func (r *tableReader) Close(context.Context) error {
	if r.link != nil {
		_ = r.link.Close()
		r.link = nil
	}
	return nil
}
