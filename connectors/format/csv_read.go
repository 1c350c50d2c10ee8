package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors"
)

// CSVReader reads RFC 4180 with a header line, as CSV writes it: an empty
// column is null, and "" an empty text.
type CSVReader struct {
	scan  textScan
	comma byte
	names [][]byte // quoted, with a colon
	types []Column
	cells []csvCell
}

type csvCell struct {
	text   []byte
	quoted bool
}

// NewCSVReader reads the header. types gives those of columns that are no
// strings. A record of more than the most bytes is poison.
func NewCSVReader(open OpenText, most int, comma byte, types map[string]Type) (*CSVReader, error) {
	c := &CSVReader{scan: textScan{open: open, most: most}, comma: comma}
	if err := c.scan.seek(0); err != nil {
		return nil, err
	}
	if _, err := c.record(); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("it is empty, want a line with the names of the columns")
		}
		return nil, fmt.Errorf("the header: %w", err)
	}
	for i, cell := range c.cells {
		name := string(cell.text)
		quoted, err := jsontext.AppendQuote(nil, cell.text)
		if err != nil || name == "" {
			return nil, fmt.Errorf("the header: column %d has the name %q, want one that is not empty, in UTF-8", i+1, clip(cell.text))
		}
		if slices.ContainsFunc(c.types, func(other Column) bool { return other.Name == name }) {
			return nil, fmt.Errorf("the header: column %q is there twice", name)
		}
		t, ok := types[name]
		if !ok {
			t = Type{Kind: TypeString}
		}
		c.names, c.types = append(c.names, append(quoted, ':')), append(c.types, Column{Name: name, Type: t})
	}
	return c, nil
}

// record takes the next one apart. Its error is of class Poison when the one
// after it can be found.
func (c *CSVReader) record() (Place, error) {
	place, long, err := c.scan.begin()
	if err != nil {
		return place, err
	}
	for begin, state := 0, csvStart; ; {
		state = state.over(c.scan.line[begin:], c.comma)
		switch begin = len(c.scan.line); {
		case state != csvQuoted && long:
			return place, c.scan.tooLong("the record")
		case state != csvQuoted:
			return place, c.split(trimNewline(c.scan.line))
		case long:
			return place, fmt.Errorf("the record at byte %d has a quote that is not closed within %d bytes, which max_record allows", place.Block, c.scan.most)
		}
		if long, err = c.scan.more(); err == nil && begin == len(c.scan.line) {
			err = io.EOF
		}
		if errors.Is(err, io.EOF) {
			return place, connectors.Poisonf("the record has a quote that is not closed")
		}
		if err != nil {
			return place, err
		}
	}
}

// csvState is where in a record a byte stands. A quote opens a column at its
// beginning alone.
type csvState uint8

const (
	csvStart  csvState = iota // of a column
	csvPlain                  // in a column without quotes, or behind what is wrong
	csvQuoted                 // within quotes
	csvClosed                 // behind a quote that closes, or is the first of two
)

func (s csvState) over(part []byte, comma byte) csvState {
	for _, b := range part {
		switch {
		case s == csvQuoted && b == '"':
			s = csvClosed
		case s == csvQuoted:
		case b == '"' && (s == csvStart || s == csvClosed):
			s = csvQuoted
		case b == comma:
			s = csvStart
		default:
			s = csvPlain
		}
	}
	return s
}

// split takes a whole record apart.
func (c *CSVReader) split(s []byte) error {
	c.cells = c.cells[:0]
	for more := true; more; {
		var cell csvCell
		if len(s) == 0 || s[0] != '"' {
			cell.text, s, more = bytes.Cut(s, []byte{c.comma})
			if bytes.IndexByte(cell.text, '"') >= 0 {
				return connectors.Poisonf("column %d has a quote in the middle, want all of it in quotes and \"\" for a quote", len(c.cells)+1)
			}
		} else {
			var err error
			if cell, s, more, err = c.quoted(s[1:]); err != nil {
				return err
			}
		}
		c.cells = append(c.cells, cell)
	}
	return nil
}

// quoted takes a column whose opening quote is taken.
func (c *CSVReader) quoted(s []byte) (cell csvCell, rest []byte, more bool, err error) {
	cell.quoted = true
	for {
		i := bytes.IndexByte(s, '"')
		if i < 0 {
			return cell, nil, false, connectors.Poisonf("column %d has no closing quote", len(c.cells)+1)
		}
		cell.text = append(cell.text, s[:i]...)
		switch s = s[i+1:]; {
		case len(s) == 0:
			return cell, nil, false, nil
		case s[0] == '"':
			cell.text, s = append(cell.text, '"'), s[1:]
		case s[0] == c.comma:
			return cell, s[1:], true, nil
		default:
			return cell, nil, false, connectors.Poisonf("column %d goes on after its closing quote", len(c.cells)+1)
		}
	}
}

// Next implements RowReader. An empty line is no row.
func (c *CSVReader) Next(dst []byte) (Row, error) {
	for {
		place, err := c.record()
		r := Row{Place: place}
		if err != nil && connectors.ClassOf(err) != connectors.ClassPoison {
			return r, err
		}
		r.Original = bytes.Clone(trimNewline(c.scan.line))
		if err != nil {
			return r, err
		}
		if len(r.Original) == 0 && len(c.names) > 1 {
			continue
		}
		if len(c.cells) != len(c.names) {
			return r, connectors.Poisonf("%d columns, want %d", len(c.cells), len(c.names))
		}
		r.JSON, err = c.row(dst)
		return r, err
	}
}

func (c *CSVReader) row(dst []byte) (_ []byte, err error) {
	dst = append(dst, '{')
	for i, cell := range c.cells {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, c.names[i]...)
		if len(cell.text) == 0 && !cell.quoted {
			dst = append(dst, "null"...)
			continue
		}
		if dst, err = c.types[i].appendText(dst, cell.text); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// appendText writes the text of a CSV column as JSON of the column's type.
func (c Column) appendText(dst, text []byte) ([]byte, error) {
	begin, bare := len(dst), c.Type.List || c.Type.Kind == TypeJSON
	switch c.Type.Kind {
	case TypeInt32, TypeInt64, TypeBool:
		bare = true
	case TypeFloat, TypeDouble:
		bare = bare || isNumberText(text)
	}
	if !bare {
		var err error
		if dst, err = appendUTF8(dst, text, c.Name, false); err != nil {
			return dst, err
		}
		if c.Type == (Type{Kind: TypeString}) {
			return dst, nil // which takes every text
		}
	} else if dst = append(dst, text...); !jsontext.Value(text).IsValid() {
		return dst, c.misfit(text, errWantJSON)
	}
	_, err := c.appendCells(nil, dst[begin:], 0, 0)
	return dst, err
}

func isNumberText(text []byte) bool {
	return len(text) > 0 && text[len(text)-1] >= '0' && text[len(text)-1] <= '9'
}

// Seek implements RowReader.
func (c *CSVReader) Seek(to Place) error { return c.scan.seek(to.Block) }

// Close implements RowReader.
func (*CSVReader) Close() error { return nil }
