package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// readOnly is a config for sessions in which the server refuses to write.
func readOnly(cfg *pgconn.Config) *pgconn.Config {
	c := cfg.Copy()
	c.RuntimeParams["default_transaction_read_only"] = "on"
	return c
}

// Sample implements connectors.Sampler: the rows that a first poll reads.
func (Query) Sample(ctx context.Context, task connectors.TaskContext, most int) (connectors.Sample, error) {
	out := connectors.Sample{Allowed: task.Config.Strings("allow_lossy")}
	r := &queryReader{querySettings: querySettingsOf(task.Config), clock: task.Clock, rows: most}
	if err := fatal(r.check()); err != nil {
		return out, err
	}
	defer func() { r.session.close() }()
	p, err := r.open(ctx, task, readOnly)
	if err != nil {
		return out, err
	}
	if err := r.prepare(p, task.Job); err != nil {
		return out, err
	}
	if out.Fields, err = r.mapping.fields(ctx, r.session, p.oid, r.form.columns[:r.form.shown]); err != nil {
		return out, err
	}
	if _, err := r.ask(ctx); err != nil {
		return out, err
	}
	out.Messages = r.pending
	if r.horizon.held() {
		out.Notes = append(out.Notes, fmt.Sprintf("%s holds back the rows that are newer", r.horizon.blocker))
	}
	return out, nil
}

// Sample implements connectors.Sampler: rows that are there, as a first start
// reads them. Changes cannot be looked at without a slot.
func (CDC) Sample(ctx context.Context, task connectors.TaskContext, most int) (connectors.Sample, error) {
	s := cdcSettingsOf(task.Job, task.Config)
	out := connectors.Sample{Allowed: s.lossy}
	if err := fatal(s.check()); err != nil {
		return out, err
	}
	cfg, err := cdcConnection(task.Job, task.Config)
	if err != nil {
		return out, err
	}
	one, err := openSession(ctx, readOnly(cfg))
	if err != nil {
		return out, err
	}
	defer one.close()
	s.envelope.db, s.envelope.mapping = cfg.Database, &s.mapping
	c := &catalog{session: one, types: map[uint32]*wireType{}}
	tables, err := s.listed(ctx, c, &out)
	if err != nil {
		return out, err
	}
	if !s.only {
		slot, err := c.slot(ctx, s.slot)
		if err != nil {
			return out, err
		}
		if slot == nil {
			out.Makes = append(out.Makes, "CREATE_REPLICATION_SLOT "+pq.QuoteIdentifier(s.slot)+" LOGICAL pgoutput")
		}
		out.Notes = append(out.Notes, "rows were read, not changes: a look at the log needs a slot")
	}
	for i, p := range tables {
		share := (most - len(out.Messages)) / (len(tables) - i)
		if err := s.sample(ctx, c, p, max(1, share), &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// listed are the tables that would be read; a publication that is not there
// yet has those of the config.
func (s *cdcSettings) listed(ctx context.Context, c *catalog, out *connectors.Sample) ([]*published, error) {
	rows, err := c.query(ctx, "look for the publication", "SELECT 1 FROM pg_publication WHERE pubname = "+pq.QuoteLiteral(s.publication))
	if err != nil {
		return nil, err
	}
	if len(rows) > 0 {
		return c.tables(ctx, s)
	}
	if len(s.tables) == 0 {
		return nil, connectors.Fatalf("there is no publication %q: name the tables to publish in tables", s.publication)
	}
	out.Makes = append(out.Makes, s.createPublication())
	var all []*published
	for _, t := range s.tables {
		p := &published{name: t}
		row, err := c.one(ctx, "look at table "+t.String(), "SELECT coalesce(to_regclass("+pq.QuoteLiteral(t.qualified())+")::oid, 0)")
		if err != nil {
			return nil, err
		}
		oid, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil || oid == 0 {
			return nil, connectors.Fatalf("table %s does not exist", t)
		}
		p.oid = uint32(oid)
		if err := c.describe(ctx, p, ""); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// sample reads rows of one table.
func (s *cdcSettings) sample(ctx context.Context, c *catalog, p *published, most int, out *connectors.Sample) error {
	f, err := s.envelope.newForm(p.name, p.columns, p.keys())
	if err != nil {
		return err
	}
	fields, err := s.mapping.fields(ctx, c.session, p.oid, f.columns)
	if err != nil {
		return err
	}
	if s.envelope.debezium { // the fields of the table are within before and after
		fields = nil
	}
	for _, one := range fields {
		if !slices.ContainsFunc(out.Fields, func(f connectors.FieldType) bool { return f.Field == one.Field }) {
			out.Fields = append(out.Fields, one)
		}
	}
	columns := make([]string, len(p.columns))
	for i, col := range p.columns {
		columns[i] = pq.QuoteIdentifier(col.name)
	}
	statement := fmt.Sprintf("SELECT %s FROM %s", strings.Join(columns, ", "), p.name.qualified())
	if p.filter != "" {
		statement += " WHERE (" + p.filter + ")"
	}
	rows, err := c.query(ctx, "read rows of "+p.name.String(), fmt.Sprintf("%s LIMIT %d", statement, most))
	if err != nil {
		return err
	}
	for _, r := range rows {
		out.Messages = append(out.Messages, s.envelope.message(f, &event{op: 'r', after: tupleOf(r), ts: connectors.NoTimestamp}))
	}
	return nil
}

// fields tells what columns hold, and which may be NULL.
func (m *mapping) fields(ctx context.Context, s *session, oid uint32, columns []formColumn) ([]connectors.FieldType, error) {
	rows, err := s.query(ctx, "read which columns may be NULL", fmt.Sprintf(
		"SELECT attname FROM pg_attribute WHERE attrelid = %d AND attnum > 0 AND NOT attisdropped AND attnotnull", oid))
	if err != nil {
		return nil, err
	}
	required := map[string]bool{}
	for _, r := range rows {
		required[string(r[0])] = true
	}
	all := make([]connectors.FieldType, len(columns))
	for i, c := range columns {
		all[i] = connectors.FieldType{Field: c.name, Type: c.shown, Is: c.logical(), Nullable: !required[c.name]}
	}
	return all, nil
}

// logical is what a column holds. Its printed type has the bounds.
func (c *formColumn) logical() connectors.Logical {
	base, bounds, _ := strings.Cut(c.shown, "(")
	var a, b int
	_, _ = fmt.Sscanf(bounds, "%d,%d", &a, &b) // none are 0
	switch c.typ.shape {
	case shapeInt:
		return connectors.Logical{Kind: connectors.LogicalInt, Bits: widths[base]}
	case shapeFloat:
		return connectors.Logical{Kind: connectors.LogicalFloat, Bits: widths[base]}
	case shapeNumeric:
		return connectors.Logical{Kind: connectors.LogicalDecimal, Precision: a, Scale: b}
	case shapeInstant, shapeLocal:
		l := connectors.Logical{Kind: connectors.LogicalInstant, Fraction: 6}
		if c.typ.shape == shapeLocal {
			l.Kind = connectors.LogicalLocal
		}
		if bounds != "" {
			l.Fraction = a
		}
		return l
	case shapeText:
		if base != "character varying" && base != "character" {
			a = 0 // of intervals and bits it is something else
		}
		return connectors.Logical{Kind: connectors.LogicalText, Length: a}
	}
	return connectors.Logical{Kind: shapeKinds[c.typ.shape]}
}

// widths are in bits.
var widths = map[string]int{"smallint": 16, "integer": 32, "bigint": 64, "oid": 64, "real": 32, "double precision": 64}

var shapeKinds = map[shape]connectors.LogicalKind{
	shapeBool: connectors.LogicalBool, shapeDate: connectors.LogicalDate, shapeJSON: connectors.LogicalJSON,
	shapeArray: connectors.LogicalJSON, shapeBytes: connectors.LogicalBytes,
}

// At implements connectors.Timed, by the timestamp of the rows: one microsecond
// before it, and before all keys.
func (Query) At(ctx context.Context, task connectors.TaskContext, _ connectors.Split, at time.Time) (connectors.Found, error) {
	r := &queryReader{querySettings: querySettingsOf(task.Config), clock: task.Clock}
	if r.timestamp == "" {
		return connectors.Found{}, connectors.Fatalf("%w: the source has no timestamp to look for a time in: reset its offsets to read all of the table", record.ErrInvalidRequest)
	}
	defer func() { r.session.close() }()
	p, err := r.open(ctx, task, readOnly)
	if err == nil {
		err = r.prepare(p, task.Job)
	}
	if err != nil {
		return connectors.Found{}, err
	}
	w := row{set: true, at: at.UnixMicro() - 1}
	for _, kind := range r.order.kinds {
		size, fixed := map[keyKind]int{keyInt: 8, keyUUID: 16}[kind]
		if !fixed {
			size = 1 // the end of an empty text
		}
		w.key = append(w.key, make([]byte, size)...)
	}
	return connectors.Found{Position: r.encode(w), Where: r.table.String() + " before " + at.UTC().Format(time.RFC3339Nano)}, nil
}
