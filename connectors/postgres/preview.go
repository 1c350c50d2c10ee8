package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// Preview implements connectors.Previewer. The server itself refuses to write
// in its transaction.
func (Sink) Preview(ctx context.Context, task connectors.TaskContext, sample []connectors.Message) (connectors.Preview, error) {
	w, err := newWriter(task)
	if err != nil {
		return connectors.Preview{}, err
	}
	defer w.drop()
	if w.link, err = connect(ctx, w.cfg); err != nil {
		return connectors.Preview{}, classifyConnect(ctx, err)
	}
	p := preview{writer: w, sample: sample}
	p.out.Meant = len(w.settings.columns) > 0 || task.Config.Has("extra")
	err = w.inside(ctx, "look at the table", func(t *tx) error {
		if _, err := t.exec("SET TRANSACTION READ ONLY"); err != nil {
			return err
		}
		p.tx = t
		return p.look(t)
	})
	return p.out, err
}

// Replayed implements connectors.Replayer.
func (Sink) Replayed(cfg connectors.Config, job string, moves []connectors.Move) string {
	s := settingsOf(cfg)
	offsets := s.offsets
	if offsets.schema == "" {
		offsets.schema = s.table.schema
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the rows of %s say what table %s has, and count more than the hub's offsets: nothing is written again until they are moved, too:", offsets, s.table)
	for _, m := range moves {
		b.WriteString("\n")
		fmt.Fprintf(&b, `  UPDATE %s SET next_offset = %d WHERE job = %s AND topic = %s AND "partition" = %d;`,
			offsets.qualified(), m.To, pq.QuoteLiteral(job), pq.QuoteLiteral(m.Partition.Topic), m.Partition.Partition)
	}
	if s.upsert {
		return b.String() + "\nthen each row becomes what it was, and at last what it is now"
	}
	return b.String() + "\nthen mode insert adds the rows a second time, unless they are deleted before"
}

// preview is one look at a table with a sample for it.
type preview struct {
	*writer
	tx       *tx
	sample   []connectors.Message
	required []bool // by column: it takes no NULL
	out      connectors.Preview
}

func (p *preview) look(t *tx) error {
	n, exists, err := p.locate(t)
	if err != nil {
		return err
	}
	if err := p.lookAtOffsets(t); err != nil {
		return err
	}
	if _, there, err := t.schemaOf(p.offsets.name); err != nil {
		return err
	} else if !there {
		p.out.Makes = append(p.out.Makes, p.offsets.create())
	}
	if !exists {
		return p.absent(n)
	}
	p.out.Target = "table " + n.String() + ", which is there"
	return p.present(t, n)
}

// present compares the sample with a table that is there.
func (p *preview) present(t *tx, n name) error {
	target, err := p.plan(t, n)
	if err != nil {
		return err
	}
	table, err := t.describe(n)
	if err != nil {
		return err
	}
	if p.settings.evolve {
		if err := p.evolved(n, table, target); err != nil {
			return err
		}
	}
	for _, c := range target.columns {
		p.use(c, slices.ContainsFunc(table, func(f found) bool { return f.name == c.name && f.notNull }))
	}
	for _, f := range table {
		if !slices.ContainsFunc(target.columns, func(c column) bool { return c.name == f.name }) {
			p.out.Unfilled = append(p.out.Unfilled, f.name+" "+f.typ.shown)
		}
	}
	p.encode(target)
	p.ask(target)
	return nil
}

// evolved brings a target to what the table would be with the sample's columns.
func (p *preview) evolved(n name, table []found, target *target) error {
	wider, added, err := p.tx.needed(table, target.lacks(p.sample))
	if err != nil || len(wider)+len(added) == 0 {
		return err
	}
	p.out.Makes = append(p.out.Makes, alterTable(n, wider, added))
	for _, d := range wider {
		i := slices.IndexFunc(target.columns, func(c column) bool { return c.name == d.name })
		target.columns[i].typ = declaredType(d.typ)
	}
	for _, d := range added {
		target.columns = append(target.columns, column{name: d.name, path: d.path, typ: declaredType(d.typ)})
	}
	return nil
}

// absent tells what would be made of the config, or of the sample.
func (p *preview) absent(n name) error {
	if !p.settings.create {
		return missing(n)
	}
	p.out.Target = "table " + n.String() + ", which is not there and would be made"
	columns := p.settings.columns
	if len(columns) == 0 {
		var err error
		if columns, p.out.Refused, err = p.settings.infer(p.sample); err != nil {
			return err
		}
		if len(p.out.Refused) > 0 {
			columns, _, err = p.settings.infer(p.others())
		}
		if err != nil {
			return err
		}
		if len(columns) == 0 {
			p.out.Notes = append(p.out.Notes, "the columns would be those of the first records, and there are none to look at")
			return nil
		}
		if columns, err = p.tx.retype(columns, p.others()); err != nil {
			return err
		}
	}
	statement, err := p.settings.createTable(n, columns)
	if err != nil {
		return err
	}
	p.out.Makes = append(p.out.Makes, statement)
	target := &target{table: n.qualified(), failOnExtra: p.settings.failOnExtra, tombstones: p.settings.deletes, merge: p.settings.merge}
	for i, d := range columns {
		c := column{name: d.name, path: d.path, typ: declaredType(d.typ), key: slices.Contains(p.settings.key, d.name)}
		if target.columns = append(target.columns, c); c.key {
			target.keys = append(target.keys, i)
		}
		p.use(c, c.key)
	}
	p.encode(target)
	p.ask(target)
	return nil
}

// others is the sample without what is refused already.
func (p *preview) others() []connectors.Message {
	var rest []connectors.Message
	for i, m := range p.sample {
		if !p.refused(i) {
			rest = append(rest, m)
		}
	}
	return rest
}

func (p *preview) use(c column, notNull bool) {
	p.required = append(p.required, notNull)
	p.out.Columns = append(p.out.Columns, connectors.ColumnUse{
		Field: strings.Join(c.path, "."), Column: c.name, Type: c.typ.shown, Is: c.typ.logical(), Required: notNull,
	})
}

// encode makes rows of the sample, each for itself, as a run would.
func (p *preview) encode(t *target) {
	e := newEncoder(t)
	for i := range p.sample {
		if p.refused(i) {
			continue
		}
		m := &p.sample[i]
		_, gone, err := e.appendLine(nil, m, i)
		if err == nil && !gone {
			err = p.checkNull(e)
		}
		if err != nil {
			p.refuse(i, err)
		}
		_ = format.EachField(m.Value, func(field, raw []byte) bool { // what is no object was refused above
			name := string(field)
			if _, taken := e.slots[name]; !taken && raw[0] != 'n' && !strings.HasPrefix(name, "__") && !slices.Contains(p.out.Dropped, name) {
				p.out.Dropped = append(p.out.Dropped, name)
			}
			return true
		})
	}
}

func (p *preview) refused(index int) bool {
	return slices.ContainsFunc(p.out.Refused, func(e connectors.RecordError) bool { return e.Index == index })
}

func (p *preview) refuse(index int, err error) {
	p.out.Refused = append(p.out.Refused, connectors.RecordError{Index: index, Offset: p.sample[index].Offset, Err: connectors.Poison(err)})
}

// checkNull finds what the server would refuse of the row that was encoded last.
func (p *preview) checkNull(e *encoder) error {
	for i, c := range e.columns {
		if !p.required[i] || keeps(string(e.kept), i) {
			continue
		}
		if raw, err := e.raw(i); err == nil && raw == nil {
			return fmt.Errorf("column %q may not be NULL: the record has no value for it", c.name)
		}
	}
	return nil
}

// ask has the server read the texts of those types that only it knows (enums,
// domains, inet and others), as casts without a table.
func (p *preview) ask(t *target) {
	e := newEncoder(t)
	verdicts := map[string]error{}
	for i := range p.sample {
		if p.refused(i) || p.sample[i].Value == nil || e.split(p.sample[i].Value) != nil {
			continue
		}
		for at, c := range e.columns {
			raw, err := e.raw(at)
			if c.typ.kind != kindOther || raw == nil || err != nil {
				continue
			}
			cast := fmt.Sprintf("SELECT %s::%s", pq.QuoteLiteral(string(format.Text(raw))), c.typ.cast)
			if _, known := verdicts[cast]; !known {
				verdicts[cast] = p.tried(cast)
			}
			if err := verdicts[cast]; err != nil {
				p.refuse(i, fmt.Errorf("column %q is %s: %w", c.name, c.typ.shown, err))
				break
			}
		}
	}
}

// tried runs a statement that may fail.
func (p *preview) tried(statement string) error {
	if _, err := p.tx.exec("SAVEPOINT entrepot_look"); err != nil {
		return err
	}
	_, wrong := p.tx.query(statement)
	if _, err := p.tx.exec("ROLLBACK TO SAVEPOINT entrepot_look"); err != nil {
		return err
	}
	return wrong
}

// declaredType is the type of a column that is not there yet, of its name as
// PostgreSQL prints it.
func declaredType(shown string) sqlType {
	cast, typmod := shown, -1
	if m := builtinForm.FindStringSubmatch(shown); m != nil {
		base := m[1] + m[3]
		if free := boundless[base]; free != "" {
			base = free
		}
		if cast = base + m[4]; m[2] != "" {
			typmod = typmodOf(kinds[base], boundsOf(m[2]))
		}
	}
	return typeOf(shown, cast, typmod, true)
}

// boundless are the names without bounds of types that are of length 1 when their
// name has none.
var boundless = map[string]string{"character": "bpchar", "bit": `"bit"`}

// typmodOf is the number in which PostgreSQL keeps a type's bounds.
func typmodOf(k kind, bounds []int) int {
	switch k {
	case kindNumeric:
		return bounds[0]<<16 | bounds[1]&0x7ff + 4
	case kindText:
		return bounds[0] + 4
	}
	return bounds[0]
}

// logical is the type for a comparison with those of other systems.
func (t sqlType) logical() connectors.Logical {
	switch t.kind {
	case kindInt2, kindInt4, kindInt8:
		return connectors.Logical{Kind: connectors.LogicalInt, Bits: 16 << (t.kind - kindInt2)}
	case kindNumeric:
		l := connectors.Logical{Kind: connectors.LogicalDecimal}
		if t.bounded {
			l.Precision, l.Scale = t.precision, t.scale
		}
		return l
	case kindFloat4, kindFloat8:
		return connectors.Logical{Kind: connectors.LogicalFloat, Bits: 32 << (t.kind - kindFloat4)}
	case kindText:
		return connectors.Logical{Kind: connectors.LogicalText, Length: t.runes}
	case kindTimestampTZ:
		return connectors.Logical{Kind: connectors.LogicalInstant, Fraction: t.fraction}
	case kindTimestamp:
		return connectors.Logical{Kind: connectors.LogicalLocal, Fraction: t.fraction}
	}
	return connectors.Logical{Kind: plainKinds[t.kind]}
}

var plainKinds = map[kind]connectors.LogicalKind{
	kindBool: connectors.LogicalBool, kindDate: connectors.LogicalDate, kindJSON: connectors.LogicalJSON,
	kindJSONB: connectors.LogicalJSON, kindBytea: connectors.LogicalBytes,
}
