package format

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors"
)

// OpenText begins to read a text, uncompressed, at a byte of it.
type OpenText func(at int64) (io.Reader, error)

// textScan cuts a text into lines and knows where each begins.
type textScan struct {
	open OpenText
	most int // bytes of a record
	src  *bufio.Reader
	at   int64 // of what src gives next
	line []byte
}

func (s *textScan) seek(at int64) error {
	r, err := s.open(at)
	if err != nil {
		return err
	}
	s.at = at
	if s.src == nil {
		s.src = bufio.NewReaderSize(nil, 64<<10)
	}
	s.src.Reset(r)
	return nil
}

// more adds the next line to s.line, with its newline. long says that only its
// beginning is there, because the record has more than the most bytes.
func (s *textScan) more() (long bool, err error) {
	for {
		part, err := s.src.ReadSlice('\n')
		s.at += int64(len(part))
		if room := s.most + 2 - len(s.line); len(part) > room {
			part, long = part[:max(room, 0)], true
		}
		s.line = append(s.line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(s.line) > 0:
			return long, nil
		default:
			return long, err
		}
	}
}

func trimNewline(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}

// begin starts a record, at the beginning of the text behind a mark of its
// encoding.
func (s *textScan) begin() (place Place, long bool, err error) {
	s.line = s.line[:0]
	place = Place{Block: s.at}
	if long, err = s.more(); place.Block == 0 {
		s.line = bytes.TrimPrefix(s.line, []byte("\xef\xbb\xbf"))
	}
	return place, long, err
}

func (s *textScan) tooLong(what string) error {
	return connectors.Poisonf("%s has more than %d bytes, which max_record allows", what, s.most)
}

// NDJSONReader reads JSON values, one a line. Empty lines are no rows.
type NDJSONReader struct{ scan textScan }

// NewNDJSONReader begins at the first line. A line of more than the most bytes
// is poison.
func NewNDJSONReader(open OpenText, most int) (*NDJSONReader, error) {
	n := &NDJSONReader{textScan{open: open, most: most}}
	return n, n.scan.seek(0)
}

// Next implements RowReader.
func (n *NDJSONReader) Next(dst []byte) (Row, error) {
	for {
		place, long, err := n.scan.begin()
		r := Row{Place: place}
		if err != nil {
			return r, err
		}
		text := bytes.TrimSpace(n.scan.line)
		if len(text) == 0 && !long {
			continue
		}
		whole := trimNewline(n.scan.line)
		valid := !long && jsontext.Value(text).IsValid()
		if !valid || len(text) != len(whole) {
			r.Original = bytes.Clone(whole)
		}
		if long {
			return r, n.scan.tooLong("the line")
		}
		if !valid {
			if _, err := Compact(text); err != nil {
				return r, err
			}
			return r, connectors.Poisonf("not JSON")
		}
		r.JSON = append(dst, text...)
		return r, nil
	}
}

// Seek implements RowReader.
func (n *NDJSONReader) Seek(to Place) error { return n.scan.seek(to.Block) }

// Close implements RowReader.
func (*NDJSONReader) Close() error { return nil }
