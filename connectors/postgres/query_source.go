package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Validate implements connectors.Source.
func (Query) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s := querySettingsOf(cfg)
	findings := s.check()
	if probe != connectors.ProbeLive || fatal(findings) != nil {
		return findings
	}
	r := &queryReader{querySettings: s}
	err := r.start(ctx, connectors.TaskContext{Job: "check", Config: cfg})
	r.session.close()
	if err != nil {
		field := "table"
		if fieldOf(err) == "dsn" {
			field = "dsn"
		}
		findings = append(findings, connectors.Finding{Field: field, Message: err.Error(), Warning: connectors.ClassOf(err) == connectors.ClassRetry})
	}
	return findings
}

// Splits implements connectors.Source: one table.
func (Query) Splits(_ context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	out := make(chan []connectors.Split, 1)
	out <- []connectors.Split{{ID: cfg.String("table")}}
	close(out)
	return out, nil
}

// Open implements connectors.Source.
func (Query) Open(ctx context.Context, task connectors.TaskContext, _ connectors.Split, from connectors.Position) (connectors.Reader, error) {
	r := &queryReader{querySettings: querySettingsOf(task.Config), log: task.Logger, clock: task.Clock}
	if err := fatal(r.check()); err != nil {
		return nil, err
	}
	err := r.start(ctx, task)
	if err == nil && from != nil {
		r.after, err = r.decode(from)
	}
	if err != nil {
		r.session.close()
		return nil, err
	}
	return r, nil
}

// start connects and looks at the table.
func (r *queryReader) start(ctx context.Context, task connectors.TaskContext) error {
	p, err := r.open(ctx, task, func(c *pgconn.Config) *pgconn.Config { return c })
	if err != nil {
		return err
	}
	return r.prepare(p, task.Job)
}

// open connects, as adapt says, and finds the table.
func (r *queryReader) open(ctx context.Context, task connectors.TaskContext, adapt func(*pgconn.Config) *pgconn.Config) (*published, error) {
	conf, err := cdcConnection(task.Job, task.Config)
	if err != nil {
		return nil, err
	}
	if r.session, err = openSession(ctx, adapt(conf)); err != nil {
		return nil, err
	}
	row, err := r.one(ctx, "look at the server", `SELECT pg_is_in_recovery(), (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
		coalesce(to_regclass(`+pq.QuoteLiteral(r.table.qualified())+`)::oid, 0)`)
	switch {
	case err != nil:
		return nil, err
	case string(row[0]) == "t":
		return nil, connectors.Fatalf("the server is a standby, which does not know the transactions that run on the primary: the dsn has to lead to the primary")
	case string(row[1]) != "t" && r.timestamp != "":
		return nil, connectors.Fatalf("the user of the dsn cannot see when the transactions of others began: GRANT pg_read_all_stats TO it")
	case string(row[2]) == "0":
		return nil, connectors.Fatalf("table %s does not exist", r.table)
	}
	p := &published{name: r.table}
	if _, err := fmt.Sscan(string(row[2]), &p.oid); err != nil {
		return nil, fmt.Errorf("table %s: %w", r.table, err)
	}
	c := &catalog{session: r.session, types: map[uint32]*wireType{}}
	return p, c.describe(ctx, p, "")
}

// prepare decides what is read and in which order.
func (r *queryReader) prepare(p *published, job string) error {
	find := func(column string) (int, error) {
		i := slices.IndexFunc(p.columns, func(c formColumn) bool { return c.name == column })
		if i < 0 {
			return 0, connectors.Fatalf("table %s has no column %q", r.table, column)
		}
		return i, nil
	}
	if len(r.key) > 0 {
		p.order = nil
		for _, k := range r.key {
			i, err := find(k)
			if err != nil {
				return err
			}
			p.order = append(p.order, i)
		}
	}
	if len(p.order) == 0 {
		return connectors.Fatal(fmt.Errorf("table %s: %w: name the columns that tell rows apart in key", r.table, errNoKey))
	}
	r.order = orderOf(p)
	if r.timestamp != "" {
		i, err := find(r.timestamp)
		if err != nil {
			return err
		}
		quoted := pq.QuoteIdentifier(r.timestamp)
		switch p.columns[i].typ.shape {
		case shapeInstant:
			r.at, r.literal = quoted, "(timestamptz 'epoch' + %d * interval '1 microsecond')"
		case shapeLocal:
			zone := pq.QuoteLiteral(r.zone)
			r.at, r.literal = quoted, "((timestamptz 'epoch' + %d * interval '1 microsecond') AT TIME ZONE "+zone+")"
			r.epoch = "(" + quoted + " AT TIME ZONE " + zone + ")"
		default:
			return connectors.Fatalf("column %q of table %s is %s, want a timestamp", r.timestamp, r.table, p.columns[i].shown)
		}
		if r.epoch == "" {
			r.epoch = quoted
		}
	}
	return r.shape(p, job, find)
}

// shape makes the form of the records.
func (r *queryReader) shape(p *published, job string, find func(string) (int, error)) (err error) {
	wanted := make([]int, len(p.columns))
	for i := range wanted {
		wanted[i] = i
	}
	if len(r.columns) > 0 {
		wanted = wanted[:0]
		for _, c := range r.columns {
			i, err := find(c)
			if err != nil {
				return err
			}
			wanted = append(wanted, i)
		}
	}
	// The columns of the key are needed for it, also when the record has not
	// got them; they stand behind the others then.
	var columns []formColumn
	for _, i := range wanted {
		columns = append(columns, p.columns[i])
	}
	shown := len(columns)
	var keys []int
	for _, i := range p.keys() {
		at := slices.Index(wanted, i)
		if at < 0 {
			at = len(columns)
			columns = append(columns, p.columns[i])
		}
		keys = append(keys, at)
	}
	r.envelope = envelope{job: job, mapping: &r.querySettings.mapping, schemaHeader: r.header}
	if r.form, err = r.envelope.newForm(r.table, columns, keys); err != nil {
		return err
	}
	r.form.shown = shown
	return nil
}

// Positions: with a timestamp, 3, microseconds since 1970 with the sign turned
// round (8), the key as in rowOrder; without one, 4 and the key.
const (
	byTime byte = 3
	byKey  byte = 4
)

// row is where a reader stands: after this row.
type row struct {
	set bool
	at  int64 // microseconds since 1970
	key []byte
}

func (r *queryReader) encode(w row) connectors.Position {
	if r.timestamp == "" {
		return append([]byte{byKey}, w.key...)
	}
	b := binary.BigEndian.AppendUint64([]byte{byTime}, uint64(w.at)^1<<63)
	return append(b, w.key...)
}

func (r *queryReader) decode(pos connectors.Position) (row, error) {
	w := row{set: true}
	ok := len(pos) > 1
	switch {
	case ok && r.timestamp == "" && pos[0] == byKey:
		w.key = pos[1:]
	case ok && r.timestamp != "" && pos[0] == byTime && len(pos) > 9:
		w.at, w.key = int64(binary.BigEndian.Uint64(pos[1:])^1<<63), pos[9:]
	default:
		ok = false
	}
	if ok {
		_, err := r.order.after(w.key)
		ok = err == nil
	}
	if !ok {
		return w, connectors.Fatalf("the position %x is not of this source, or of another key or timestamp: reset the job's offsets", []byte(pos))
	}
	return w, nil
}
