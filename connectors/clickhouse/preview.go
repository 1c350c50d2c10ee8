package clickhouse

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// Preview implements connectors.Previewer: it reads the server's system tables
// and nothing else.
func (Sink) Preview(ctx context.Context, task connectors.TaskContext, sample []connectors.Message) (connectors.Preview, error) {
	w, err := newWriter(task)
	if err != nil {
		return connectors.Preview{}, err
	}
	defer w.drop()
	if w.link, err = connect(ctx, w.opts); err != nil {
		return connectors.Preview{}, err
	}
	out := connectors.Preview{Meant: len(w.settings.columns) > 0 || task.Config.Has("extra")}
	p := preview{writer: w, sample: sample}
	err = p.look(ctx, &out)
	return out, classify(ctx, "look at table "+w.settings.table.String(), err)
}

// Replayed implements connectors.Replayer.
func (Sink) Replayed(cfg connectors.Config, _ string, _ []connectors.Move) string {
	switch settingsOf(cfg).once {
	case onceAuto, onceOffsets:
		return "rows whose _topic, _partition and _offset the table has are not written again; to write them anew, delete them first"
	case onceVersion:
		return "rows are written again with the same version: readers with FINAL see each once"
	}
	return "rows are written a second time: the plans have other ranges, and so other tokens, than before"
}

// preview is one look at a table with a sample for it.
type preview struct {
	*writer
	sample []connectors.Message
}

func (p *preview) look(ctx context.Context, out *connectors.Preview) error {
	f, err := p.link.describe(ctx, p.settings.table)
	if err != nil {
		return err
	}
	out.Target = "table " + p.settings.table.String() + ", which is there"
	if f == nil {
		if f, err = p.absent(ctx, out); f == nil || err != nil {
			return err
		}
	}
	t, err := p.settings.match(f)
	if err != nil {
		return err
	}
	for _, c := range t.columns {
		if c.meta == metaNone {
			out.Columns = append(out.Columns, connectors.ColumnUse{
				Field: strings.Join(c.path, "."), Column: c.name, Type: c.typ.shown, Is: c.logical(), Required: !c.typ.nullable,
			})
		}
	}
	for _, c := range f.columns {
		if !slices.ContainsFunc(t.columns, func(used targetColumn) bool { return used.name == c.name }) {
			out.Unfilled = append(out.Unfilled, c.name+" "+c.shown)
		}
	}
	p.encode(t, out)
	return nil
}

// absent is the table that would be made; nil when there are no records to make
// it of.
func (p *preview) absent(ctx context.Context, out *connectors.Preview) (*found, error) {
	if !p.settings.create {
		return nil, missing(p.settings.table)
	}
	out.Target = "table " + p.settings.table.String() + ", which is not there and would be made"
	modern, err := p.link.hasTokens(ctx)
	if err != nil {
		return nil, err
	}
	columns := p.settings.columns
	if len(columns) == 0 {
		good := p.sample
		if columns, out.Refused, err = p.settings.columnsFrom(good, modern); len(out.Refused) > 0 {
			good = nil
			for i, m := range p.sample {
				if !refused(out, i) {
					good = append(good, m)
				}
			}
			columns, _, err = p.settings.columnsFrom(good, modern)
		}
		if err != nil {
			return nil, err
		}
		if len(columns) == 0 {
			out.Notes = append(out.Notes, "the columns would be those of the first records, and there are none to look at")
			return nil, nil
		}
		p.settings.columns = columns
	}
	statement, err := p.settings.createTable(columns, modern)
	if err != nil {
		return nil, err
	}
	out.Makes = append(out.Makes, statement)
	f := &found{engine: p.settings.engine, full: statement, sortingKey: strings.Join(p.settings.orderBy, ", "), zone: time.UTC, tokens: modern}
	f.engine, _, _ = strings.Cut(f.engine, "(")
	if modern && f.mergeTree() {
		f.window = 1 // createTable gives it one
	}
	for _, c := range columns {
		f.columns = append(f.columns, foundColumn{name: c.name, shown: c.typ})
	}
	for _, own := range [][2]string{{topicColumn, "String"}, {partitionColumn, "Int32"}, {offsetColumn, "Int64"}, {p.settings.deleted, "UInt8"}} {
		if own[0] != "" {
			f.columns = append(f.columns, foundColumn{name: own[0], shown: own[1]})
		}
	}
	return f, nil
}

func refused(out *connectors.Preview, index int) bool {
	return slices.ContainsFunc(out.Refused, func(e connectors.RecordError) bool { return e.Index == index })
}

// encode makes rows of the sample, each for itself, as a run would.
func (p *preview) encode(t *target, out *connectors.Preview) {
	e := newEncoder(t)
	for i := range p.sample {
		m := &p.sample[i]
		if refused(out, i) {
			continue
		}
		if err := e.values(m); err != nil {
			out.Refused = append(out.Refused, connectors.RecordError{Index: i, Offset: m.Offset, Err: connectors.Poison(err)})
		}
		_ = format.EachField(e.from, func(field, raw []byte) bool { // what is no object was refused above
			name := string(field)
			if _, taken := e.slots[name]; !taken && raw[0] != 'n' && !strings.HasPrefix(name, "__") && !slices.Contains(out.Dropped, name) {
				out.Dropped = append(out.Dropped, name)
			}
			return true
		})
	}
}

// logical is the type for a comparison with those of other systems.
func (c *targetColumn) logical() connectors.Logical {
	t := c.typ
	switch t.kind {
	case kindInt, kindUInt, kindBigInt:
		l := connectors.Logical{Kind: connectors.LogicalInt, Bits: t.bits}
		if t.kind == kindUInt || t.unsigned {
			l.Kind = connectors.LogicalUint
		}
		return l
	case kindFloat:
		return connectors.Logical{Kind: connectors.LogicalFloat, Bits: t.bits}
	case kindDecimal:
		return connectors.Logical{Kind: connectors.LogicalDecimal, Precision: t.precision, Scale: t.scale}
	case kindDateTime:
		return connectors.Logical{Kind: connectors.LogicalTime, Fraction: t.scale}
	case kindString:
		switch c.as {
		case "json":
			return connectors.Logical{Kind: connectors.LogicalJSON}
		case "base64":
			return connectors.Logical{Kind: connectors.LogicalBytes}
		}
		return connectors.Logical{Kind: connectors.LogicalText}
	case kindBool:
		return connectors.Logical{Kind: connectors.LogicalBool}
	case kindDate:
		return connectors.Logical{Kind: connectors.LogicalDate}
	}
	return connectors.Logical{}
}
