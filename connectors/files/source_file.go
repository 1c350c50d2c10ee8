package files

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// open opens the file and goes to where the last row was.
func (r *reader) open(ctx context.Context) error {
	e, err := r.library.Stat(ctx, r.name)
	if err != nil {
		return err
	}
	if r.resume && e.print() != r.at.print {
		return connectors.Fatalf("%s is not the file that was read up to %s; it is %s now. A file must not change once it is there; "+
			"to read it from its beginning, reset the offsets of the job, or give it another name", r.whole(r.name), r.at, e)
	}
	r.was = e
	v, err := r.library.Open(ctx, e)
	if err != nil {
		return err
	}
	r.file = &bound{volume: v, ctx: ctx}
	kind, packed, err := r.kindOf(r.name)
	if err != nil {
		return err
	}
	if r.rows, err = r.reader(ctx, kind, packed); err != nil {
		r.rows = nil
		return err
	}
	if !r.resume {
		return nil
	}
	if err := r.rows.Seek(r.at.Place); err != nil {
		return err
	}
	if _, err := r.rows.Next(nil); err != nil && connectors.ClassOf(err) != connectors.ClassPoison {
		return noEOF(err)
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// reader is the one of the format.
func (r *reader) reader(ctx context.Context, kind string, packed bool) (format.RowReader, error) {
	size := r.was.size
	switch kind {
	case "parquet":
		return orNil(format.NewParquetReader(r.file, size))
	case "avro":
		return orNil(format.NewAvroReader(r.file, size))
	case "ndjson":
		return orNil(format.NewNDJSONReader(r.text(packed), r.most))
	}
	types, err := r.csvTypes(ctx)
	if err != nil {
		return nil, err
	}
	return orNil(format.NewCSVReader(r.text(packed), r.most, r.cfg.String("delimiter")[0], types))
}

func orNil[T format.RowReader](r T, err error) (format.RowReader, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// textChunk is how much of a text is asked for at a time.
const textChunk = 1 << 20

// text opens the file's text at a byte of it. Of a packed one everything before
// is unpacked again.
func (r *reader) text(packed bool) format.OpenText {
	return func(at int64) (io.Reader, error) {
		if !packed {
			return bufio.NewReaderSize(io.NewSectionReader(r.file, at, max(r.was.size-at, 0)), textChunk), nil
		}
		z, err := gzip.NewReader(bufio.NewReaderSize(io.NewSectionReader(r.file, 0, r.was.size), textChunk))
		if err != nil {
			return nil, noEOF(err)
		}
		r.packed = z
		if _, err := io.CopyN(io.Discard, z, at); err != nil {
			return nil, noEOF(err)
		}
		return z, nil
	}
}

// csvTypes are the types of columns: of the config, or those that the sink has
// pinned for the topic whose name the file bears.
func (r *reader) csvTypes(ctx context.Context) (map[string]format.Type, error) {
	if r.types != nil {
		return r.types, nil
	}
	o, ok := parseName(path.Base(r.name))
	if !ok {
		return nil, nil
	}
	_, schema, err := readPinned(ctx, r.library, o.Topic, 0)
	if err != nil {
		return nil, err
	}
	types := map[string]format.Type{}
	for _, c := range schema {
		types[c.Name] = c.Type
	}
	return types, nil
}

// finish makes the record of a row's JSON.
func (r *reader) finish(m *connectors.Message, value []byte) error {
	if len(r.meta) == 0 && !r.omit || len(value) == 0 || value[0] != '{' {
		m.Value = value
		return nil
	}
	out := append(make([]byte, 0, len(value)), '{')
	var bad error
	err := format.EachField(value, func(name, raw []byte) bool {
		if meta, ok := r.meta[string(name)]; ok {
			bad = restore(m, meta, raw)
			return bad == nil
		}
		if r.omit && raw[0] == 'n' {
			return true
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = format.AppendName(out, name)
		out = append(out, raw...)
		return true
	})
	if err == nil {
		err = bad
	}
	m.Value = append(out, '}')
	return err
}

// restore gives the record what the sink has written of it.
func restore(m *connectors.Message, meta format.Meta, raw []byte) error {
	if raw[0] == 'n' {
		return nil
	}
	text := format.Text(raw)
	switch meta {
	case format.MetaKey:
		if raw[0] != '"' || !utf8.Valid(text) {
			return connectors.Poisonf("column _key: want a text, got %s", raw)
		}
		m.Key = append([]byte{}, text...)
	case format.MetaTimestamp:
		ms, err := format.ParseMillis(text)
		if err != nil {
			return connectors.Poison(fmt.Errorf("column _timestamp: %w", err))
		}
		m.Timestamp = ms
	}
	return nil
}
