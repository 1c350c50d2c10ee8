package format

import (
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Table writes records as rows of one file. The same records in the same
// order give the same bytes.
type Table interface {
	// Append adds one record. An error of class Poison or an
	// *UnknownFieldError means that nothing of it was written; any other
	// comes from the file below and ends the table.
	Append(m *connectors.Message) error
	// Close completes the file. It does not close the writer below.
	Close() error
}

// parquetWriter is what stands in a file's created_by. It is no build
// version: the same rows have to give the same bytes after an upgrade too.
const parquetWriter = "entrepot parquet writer"

const (
	parquetRowGroup = 256 << 10 // rows, the bound on memory until a flush
	parquetChunk    = 256       // rows handed over at once
)

// ParquetCodecs are the names that NewParquet knows.
var ParquetCodecs = []string{"zstd", "snappy", "gzip", "none"}

// Parquet writes one Parquet file.
type Parquet struct {
	schema Schema
	split  *splitter
	w      *parquet.GenericWriter[any]
	rows   []parquet.Row
	values []parquet.Value
}

// NewParquet begins a file. codec is one of ParquetCodecs. lenient leaves out
// fields that have no column; else they are an UnknownFieldError.
func NewParquet(w io.Writer, s Schema, codec string, lenient bool) (*Parquet, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	c, err := parquetCodec(codec)
	if err != nil {
		return nil, err
	}
	return &Parquet{
		schema: s, split: newSplitter(s, lenient),
		rows: make([]parquet.Row, 0, parquetChunk), values: make([]parquet.Value, 0, parquetChunk*len(s)),
		w: newParquetWriter(w, parquet.NewSchema("record", orderedGroup(s)), c),
	}, nil
}

// newParquetWriter is the same for files that are written and files that are
// merged.
func newParquetWriter(w io.Writer, s *parquet.Schema, c compress.Codec) *parquet.GenericWriter[any] {
	return parquet.NewGenericWriter[any](w, &parquet.WriterConfig{
		Schema: s, CreatedBy: parquetWriter, Compression: c,
		MaxRowsPerRowGroup: parquetRowGroup, DataPageStatistics: true, DictionaryMaxBytes: 1 << 20,
	})
}

func parquetCodec(name string) (compress.Codec, error) {
	switch name {
	case "zstd":
		return &parquet.Zstd, nil
	case "snappy":
		return &parquet.Snappy, nil
	case "gzip":
		return &parquet.Gzip, nil
	case "none":
		return &parquet.Uncompressed, nil
	}
	return nil, fmt.Errorf("unknown compression %q, want one of %v", name, ParquetCodecs)
}

// Append implements Table. The message's memory must stay as it is until
// Close.
func (p *Parquet) Append(m *connectors.Message) error {
	raws, err := p.split.split(m)
	if err != nil {
		return err
	}
	begin := len(p.values)
	if p.values, err = p.schema.appendRow(p.values, m, raws, p.split.lossy); err != nil {
		p.values = p.values[:begin]
		return err
	}
	p.rows = append(p.rows, parquet.Row(p.values[begin:len(p.values):len(p.values)]))
	if len(p.rows) < parquetChunk {
		return nil
	}
	return p.flush()
}

// Allow says what may be lost.
func (p *Parquet) Allow(l Lossy) { p.split.lossy = l }

// appendRow adds the values of a record, column by column.
func (s Schema) appendRow(dst []parquet.Value, m *connectors.Message, raws [][]byte, l Lossy) (_ []parquet.Value, err error) {
	for i, c := range s {
		if c.Meta == "" {
			if dst, err = c.appendCells(dst, raws[i], i, l); err != nil {
				return dst, err
			}
			continue
		}
		v, err := c.metaCell(m)
		if err != nil {
			return dst, err
		}
		level := 1
		if v.IsNull() {
			level = 0
		}
		dst = append(dst, v.Level(0, level, i))
	}
	return dst, nil
}

func (p *Parquet) flush() error {
	_, err := p.w.WriteRows(p.rows)
	p.rows, p.values = p.rows[:0], p.values[:0]
	return err
}

// Close implements Table.
func (p *Parquet) Close() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.w.Close()
}

// group is a Parquet group whose columns keep the order of the schema, where
// the library's own sorts them by name.
type group struct {
	parquet.Group
	fields []parquet.Field
}

func orderedGroup(s Schema) parquet.Node {
	g := group{Group: parquet.Group{}}
	for _, c := range s {
		g.Group[c.Name] = c.node()
	}
	sorted := g.Group.Fields()
	for _, c := range s {
		i := slices.IndexFunc(sorted, func(f parquet.Field) bool { return f.Name() == c.Name })
		g.fields = append(g.fields, sorted[i])
	}
	return g
}

func (g group) Fields() []parquet.Field { return g.fields }

// GoType is only asked for by readers into Go values, which this is not for.
func (g group) GoType() reflect.Type { return reflect.TypeFor[map[string]any]() }
