package files

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// staged is one file of a plan.
type staged struct {
	target string
	tmp    string
	file   pending
	rows   []int // indexes in the batch
	done   bool  // it was published by an earlier execution
	sum    *digest
}

// Write implements connectors.Writer.
func (w *writer) Write(ctx context.Context, plan connectors.Plan, batch connectors.Batch) ([]connectors.RecordError, error) {
	if done, err := w.entered(ctx, plan); done || err != nil {
		return nil, err
	}
	set, refused := w.split(plan, batch.Messages)
	if p := w.pin(plan.Partition.Topic); w.inferred && p.news(batch.Messages) {
		if _, err := p.extend(ctx, batch.Messages); err != nil {
			return nil, err
		}
	}
	for extend := w.inferred; ; {
		more, err := w.stage(ctx, set, batch.Messages, extend)
		if err == nil && len(refused)+len(more) == 0 {
			if done, err := w.begin(ctx, plan); done || err != nil {
				w.drop(ctx, set)
				return nil, err
			}
			if err := w.publish(ctx, set); err != nil {
				return nil, err
			}
			return nil, w.enter(ctx, plan, batch, set)
		}
		w.drop(ctx, set)
		if err == nil {
			refused = append(refused, more...)
			slices.SortFunc(refused, func(a, b connectors.RecordError) int { return a.Index - b.Index })
			return refused, nil
		}
		if _, ok := errors.AsType[*format.UnknownFieldError](err); !ok {
			return nil, err
		}
		// A field without a column. Pin columns for the whole plan, and write
		// all of its files with them. When that gave none, the record is one
		// that cannot have columns, and is refused the next time.
		if extend, err = w.pin(plan.Partition.Topic).extend(ctx, batch.Messages); err != nil {
			return nil, err
		}
	}
}

// split sorts a plan's records into files by their folders.
func (w *writer) split(plan connectors.Plan, messages []connectors.Message) (set []staged, refused []connectors.RecordError) {
	folders := map[string][]int{}
	for i := range messages {
		m := &messages[i]
		if m.Value == nil && w.skipNull {
			continue
		}
		folder, err := "", error(nil)
		if m.Value == nil {
			err = connectors.Poisonf("a tombstone has no row")
		} else {
			folder, err = w.partition.folder(m)
		}
		if err != nil {
			refused = append(refused, connectors.RecordError{Index: i, Offset: m.Offset, Err: err})
			continue
		}
		folders[folder] = append(folders[folder], i)
	}
	for n, folder := range slices.Sorted(maps.Keys(folders)) {
		set = append(set, staged{
			target: path.Join(folder, w.fileName(plan)),
			tmp:    path.Join(w.tmp, w.tmpName(plan, n)), rows: folders[folder],
		})
	}
	return set, refused
}

// stage writes and syncs the files of a plan that are not there yet, under
// their temporary names. It goes on after a record that is refused, to find
// all of them. With extend, a field without a column ends it with an
// UnknownFieldError; without, the record is refused.
func (w *writer) stage(ctx context.Context, set []staged, messages []connectors.Message, extend bool) (refused []connectors.RecordError, err error) {
	for i := range set {
		s := &set[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if s.done, err = w.store.Exists(ctx, s.target); err != nil {
			return nil, w.store.fault("look for", s.target, err)
		}
		if s.done {
			continue
		}
		more, err := w.writeFile(ctx, s, messages, extend)
		if err != nil {
			return nil, err
		}
		refused = append(refused, more...)
	}
	return refused, nil
}

// writeFile fills a file and completes it, unless records are refused: then it
// will not be published.
func (w *writer) writeFile(ctx context.Context, s *staged, messages []connectors.Message, extend bool) (refused []connectors.RecordError, err error) {
	if s.file, err = w.store.Create(ctx, s.tmp, s.target); err != nil {
		s.file = nil
		return nil, w.store.fault("create", s.tmp, err)
	}
	buf := bufio.NewWriterSize(w.summed(s), 256<<10)
	out, finish := io.Writer(buf), func() error { return nil }
	if w.format != "parquet" && w.codec == "gzip" {
		z := gzip.NewWriter(buf)
		out, finish = z, z.Close
	}
	table, err := w.table(ctx, out, messages[s.rows[0]].Partition.Topic, s.target)
	if err != nil {
		return nil, err
	}
	for _, i := range s.rows {
		err := table.Append(&messages[i])
		var unknown *format.UnknownFieldError
		switch isUnknown := errors.As(err, &unknown); {
		case err == nil:
		case isUnknown && extend:
			return nil, err
		case isUnknown && w.format == "avro" && format.CheckAvroName(unknown.Name) != nil:
			refused = append(refused, connectors.RecordError{Index: i, Offset: messages[i].Offset, Err: format.CheckAvroName(unknown.Name)})
		case isUnknown || connectors.ClassOf(err) == connectors.ClassPoison:
			refused = append(refused, connectors.RecordError{Index: i, Offset: messages[i].Offset, Err: connectors.Poison(err)})
		default:
			return nil, w.store.fault("write", s.tmp, err)
		}
	}
	if len(refused) > 0 {
		return refused, nil
	}
	for _, step := range []func() error{table.Close, finish, buf.Flush, func() error { return s.file.Complete(ctx) }} {
		if err := step(); err != nil {
			return nil, w.store.fault("write", s.tmp, err)
		}
	}
	return nil, nil
}

// table begins a file of the format. With inferred columns and none pinned
// yet, it is an UnknownFieldError at once.
func (w *writer) table(ctx context.Context, out io.Writer, topic, name string) (format.Table, error) {
	if w.format == "ndjson" {
		return format.NewNDJSON(out), nil
	}
	schema, lenient := w.schema, w.lenient
	if w.inferred {
		p := w.pin(topic)
		if p.version == 0 {
			if err := p.load(ctx); err != nil {
				return nil, err
			}
		}
		schema, lenient = p.schema, false
		if p.version == 0 {
			return noColumns{}, nil
		}
	}
	switch w.format {
	case "csv":
		return allow(format.NewCSV(out, schema, lenient))(w.lossy)
	case "avro":
		return allow(format.NewAvro(out, schema, w.codec, lenient, name))(w.lossy)
	}
	return allow(format.NewParquet(out, schema, w.codec, lenient))(w.lossy)
}

// allow tells a table what may be lost.
func allow[T interface {
	format.Table
	Allow(format.Lossy)
}](t T, err error) func(format.Lossy) (format.Table, error) {
	return func(l format.Lossy) (format.Table, error) {
		if err != nil {
			return nil, connectors.Fatal(err)
		}
		t.Allow(l)
		return t, nil
	}
}

// noColumns stands for a table as long as no record has had a field.
type noColumns struct{}

func (noColumns) Append(m *connectors.Message) error {
	found := connectors.Poisonf("the record has no field that is not null, and no column is known yet")
	err := format.EachField(m.Value, func(name, raw []byte) bool {
		if raw[0] != 'n' && len(name) > 0 {
			found = &format.UnknownFieldError{Name: string(name)}
			return false
		}
		return true
	})
	if err != nil {
		return err
	}
	return found
}

func (noColumns) Close() error { return nil }

func (w *writer) pin(topic string) *pinned {
	p := w.pins[topic]
	if p == nil {
		p = &pinned{
			store: w.store, topic: topic, base: w.schema,
			tmp:   path.Join(w.tmp, "schema+"+escape(w.task, false)),
			types: w.types, headers: map[string]bool{},
		}
		if w.format == "avro" {
			p.check = format.CheckAvroName
		}
		w.pins[topic] = p
	}
	return p
}
