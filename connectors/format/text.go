package format

import (
	"bytes"
	"io"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// NDJSON writes one JSON value a line, digits and order kept.
type NDJSON struct{ w io.Writer }

// NewNDJSON begins a file.
func NewNDJSON(w io.Writer) *NDJSON { return &NDJSON{w: w} }

// Append implements Table.
func (n *NDJSON) Append(m *connectors.Message) error {
	if m.Value == nil {
		return connectors.Poisonf("a tombstone has no JSON")
	}
	line, err := Compact(m.Value)
	if err != nil {
		return err
	}
	_, err = n.w.Write(append(line, '\n'))
	return err
}

// Close implements Table.
func (n *NDJSON) Close() error { return nil }

// CSV writes RFC 4180 with a header line and \n line ends. null is an empty
// column and an empty text is "", so that they can be told apart. Values are
// checked against the columns' types, and written as they are in JSON.
type CSV struct {
	w      io.Writer
	schema Schema
	split  *splitter
	line   []byte
	cells  []parquet.Value
}

// NewCSV begins a file and writes the header.
func NewCSV(w io.Writer, s Schema, lenient bool) (*CSV, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	c := &CSV{w: w, schema: s, split: newSplitter(s, lenient)}
	for i, col := range s {
		c.column(i, []byte(col.Name))
	}
	_, err := w.Write(append(c.line, '\n'))
	return c, err
}

// Append implements Table.
func (c *CSV) Append(m *connectors.Message) error {
	raws, err := c.split.split(m)
	if err != nil {
		return err
	}
	c.line = c.line[:0]
	for i, col := range c.schema {
		var text []byte
		switch {
		case col.Meta != "":
			if _, err := col.metaCell(m); err != nil {
				return err
			}
			text = col.metaText(m)
		case raws[i] != nil:
			if c.cells, err = col.appendCells(c.cells[:0], raws[i], i, c.split.lossy); err != nil {
				return err
			}
			if c.cells[0].IsNull() && !col.Type.List { // a loss that is wanted
				break
			}
			if text = raws[i]; col.Type.Kind != TypeJSON || col.Type.List {
				text = Text(raws[i])
			}
		}
		c.column(i, text)
	}
	_, err = c.w.Write(append(c.line, '\n'))
	return err
}

// Allow says what may be lost.
func (c *CSV) Allow(l Lossy) { c.split.lossy = l }

// column adds a text to the line; nil is null.
func (c *CSV) column(i int, text []byte) {
	if i > 0 {
		c.line = append(c.line, ',')
	}
	if text == nil || len(text) > 0 && !bytes.ContainsAny(text, "\",\r\n") && text[0] != ' ' && text[len(text)-1] != ' ' {
		c.line = append(c.line, text...)
		return
	}
	c.line = append(c.line, '"')
	for _, b := range text {
		if b == '"' {
			c.line = append(c.line, '"')
		}
		c.line = append(c.line, b)
	}
	c.line = append(c.line, '"')
}

// Close implements Table.
func (c *CSV) Close() error { return nil }

// metaText is metaCell as text.
func (c Column) metaText(m *connectors.Message) []byte {
	switch c.Meta {
	case MetaTopic:
		return []byte(m.Partition.Topic)
	case MetaPartition:
		return strconv.AppendInt(nil, int64(m.Partition.Partition), 10)
	case MetaOffset:
		return strconv.AppendInt(nil, m.Offset, 10)
	case MetaTimestamp:
		if m.Timestamp != connectors.NoTimestamp {
			return time.UnixMilli(m.Timestamp).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z")
		}
	case MetaKey:
		return m.Key
	}
	return nil
}
