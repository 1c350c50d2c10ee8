package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// Sample implements connectors.Sampler: the first rows of each file.
func (s Source) Sample(ctx context.Context, task connectors.TaskContext, most int) (connectors.Sample, error) {
	all, err := connectors.ReadSample(ctx, s, task, most)
	return connectors.Sample{Messages: all}, err
}

// Preview implements connectors.Previewer: it reads the pinned columns and
// writes tables to nowhere.
func (Sink) Preview(ctx context.Context, task connectors.TaskContext, sample []connectors.Message) (out connectors.Preview, err error) {
	s, err := settingsOf(task.Config)
	if err != nil {
		return out, connectors.Fatal(err)
	}
	l, err := openLibrary(ctx, sourceSettings{location: s.location, cfg: task.Config})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, l.Close("")) }()
	w := &writer{settings: s, job: task.Job, pins: map[string]*pinned{}}
	out.Target = fmt.Sprintf("%s files below %s", s.format, s.location)
	out.Meant = !s.inferred || task.Config.Has("extra")
	schema := s.schema
	if s.inferred && len(sample) > 0 {
		if schema, err = w.foresee(ctx, l, sample, &out); err != nil {
			return out, err
		}
	}
	for _, c := range schema {
		if c.Meta == "" {
			from := strings.Join(c.From, ".")
			if from == "" {
				from = c.Name
			}
			out.Columns = append(out.Columns, connectors.ColumnUse{Field: from, Column: c.Name, Type: c.Type.String(), Is: logical(c.Type)})
		}
	}
	return out, w.tryAll(ctx, sample, schema, &out)
}

// foresee finds the columns that would be pinned for the sample.
func (w *writer) foresee(ctx context.Context, l library, sample []connectors.Message, out *connectors.Preview) (format.Schema, error) {
	topic := sample[0].Partition.Topic
	version, schema, err := readPinned(ctx, l, topic, 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if schema == nil {
		schema = w.schema
	}
	p := w.pin(topic)
	in := format.NewInference(schema)
	in.Typed(p.types, p.check)
	for i := range sample {
		_ = in.Add(&sample[i]) // what is no record is refused below
	}
	next := in.Schema()
	if len(next) > len(schema) {
		out.Makes = append(out.Makes, fmt.Sprintf("%s with %d columns, %d of them new", p.file(version+1), len(next), len(next)-len(schema)))
	}
	p.version, p.schema = version+1, next
	return next, nil
}

// tryAll writes the sample to nowhere, each record for itself.
func (w *writer) tryAll(ctx context.Context, sample []connectors.Message, schema format.Schema, out *connectors.Preview) error {
	set, refused := w.split(connectors.Plan{}, sample)
	out.Refused = refused
	for _, s := range set {
		table, err := w.table(ctx, io.Discard, sample[s.rows[0]].Partition.Topic, s.target)
		if err != nil {
			return err
		}
		for _, i := range s.rows {
			if err := table.Append(&sample[i]); err != nil {
				out.Refused = append(out.Refused, connectors.RecordError{Index: i, Offset: sample[i].Offset, Err: connectors.Poison(err)})
			}
		}
		_ = table.Close() // it goes nowhere
	}
	if w.format != "ndjson" {
		out.Dropped = dropped(sample, schema)
	}
	if len(sample) > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("the sample would be in %d of the folders", len(set)))
	}
	return nil
}

// dropped are the fields that no column takes.
func dropped(sample []connectors.Message, schema format.Schema) (names []string) {
	for i := range sample {
		_ = format.EachField(sample[i].Value, func(field, raw []byte) bool { // what is no object was refused
			name := string(field)
			taken := slices.ContainsFunc(schema, func(c format.Column) bool {
				return c.Meta == "" && (c.Name == name && len(c.From) == 0 || len(c.From) > 0 && c.From[0] == name)
			})
			if !taken && raw[0] != 'n' && !strings.HasPrefix(name, "__") && !slices.Contains(names, name) {
				names = append(names, name)
			}
			return true
		})
	}
	return names
}

// logical is a column's type for a comparison with those of other systems.
func logical(t format.Type) connectors.Logical {
	switch t.Kind {
	case format.TypeInt64:
		return connectors.Logical{Kind: connectors.LogicalInt, Bits: 64}
	case format.TypeInt32:
		return connectors.Logical{Kind: connectors.LogicalInt, Bits: 32}
	case format.TypeDouble:
		return connectors.Logical{Kind: connectors.LogicalFloat, Bits: 64}
	case format.TypeFloat:
		return connectors.Logical{Kind: connectors.LogicalFloat, Bits: 32}
	case format.TypeLocal:
		return connectors.Logical{Kind: connectors.LogicalLocal, Fraction: 6}
	case format.TypeDecimal:
		return connectors.Logical{Kind: connectors.LogicalDecimal, Precision: t.Precision, Scale: t.Scale}
	case format.TypeTimestamp:
		return connectors.Logical{Kind: connectors.LogicalInstant, Fraction: 6}
	}
	return connectors.Logical{Kind: plainKinds[t.Kind]}
}

var plainKinds = map[format.TypeKind]connectors.LogicalKind{
	format.TypeString: connectors.LogicalText, format.TypeBool: connectors.LogicalBool,
	format.TypeDate: connectors.LogicalDate, format.TypeJSON: connectors.LogicalJSON, format.TypeBytes: connectors.LogicalBytes,
}

// Replayed implements connectors.Replayer.
func (Sink) Replayed(cfg connectors.Config, job string, moves []connectors.Move) string {
	w := &writer{job: job}
	var b strings.Builder
	notes := planFolder
	if cfg.Has("manifest") {
		notes += " and " + ledgerFolder
	}
	fmt.Fprintf(&b, "the folder says in %s how far it is, and counts more than the hub's offsets: nothing is written again until that is taken away, and with it the files that would hold the records twice, below %s:", notes, cfg.String("url"))
	for _, m := range moves {
		fmt.Fprintf(&b, "\n  %s, and files of %s from offset %d on", w.plansOf(m.Partition), m.Partition, m.To)
	}
	if cfg.Has("manifest") {
		fmt.Fprintf(&b, "\n  the entries of these offsets in %s", ledgerOf(job))
	}
	return b.String()
}
