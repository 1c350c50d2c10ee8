package format

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// ErrDifferentColumns says that files cannot be merged: the columns of one are
// not the first ones of another.
var ErrDifferentColumns = errors.New("the files have different columns")

// Part is a file to be merged.
type Part interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// MergeParquet writes the rows of n files, in their order, as one. Files whose
// columns are only the first of those of another get nulls for the rest. open
// is called twice for each: for the footer, and for the whole.
func MergeParquet(w io.Writer, codec string, n int, open func(i int, whole bool) (Part, error)) (rows int64, err error) {
	schema, err := widest(n, open)
	if err != nil {
		return 0, err
	}
	c, err := parquetCodec(codec)
	if err != nil {
		return 0, err
	}
	out := newParquetWriter(w, schema, c)
	columns := len(schema.Columns())
	for i := range n {
		part, err := open(i, true)
		if err != nil {
			return 0, err
		}
		got, err := appendRows(out, part, columns)
		if err = errors.Join(err, part.Close()); err != nil {
			return 0, err
		}
		rows += got
	}
	return rows, out.Close()
}

// widest is the schema of the file with the most columns, which those of all
// others have to begin.
func widest(n int, open func(i int, whole bool) (Part, error)) (schema *parquet.Schema, err error) {
	var wide []string
	var all [][]string
	for i := range n {
		part, err := open(i, false)
		if err != nil {
			return nil, err
		}
		f, err := parquet.OpenFile(part, part.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
		if err = errors.Join(err, part.Close()); err != nil {
			return nil, fmt.Errorf("read the Parquet footer: %w", err)
		}
		leaves := leaves(f.Schema())
		if all = append(all, leaves); schema == nil || len(leaves) > len(wide) {
			schema, wide = f.Schema(), leaves
		}
	}
	for _, leaves := range all {
		for i, l := range leaves {
			if l != wide[i] {
				return nil, fmt.Errorf("%w: %s, and %s", ErrDifferentColumns, l, wide[i])
			}
		}
	}
	return schema, nil
}

// leaves describes the columns of a schema.
func leaves(s *parquet.Schema) (all []string) {
	for _, path := range s.Columns() {
		l, _ := s.Lookup(path...)
		all = append(all, fmt.Sprintf("column %s of type %s, levels %d and %d", strings.Join(path, "."), l.Node.Type(), l.MaxRepetitionLevel, l.MaxDefinitionLevel))
	}
	return all
}

func appendRows(out *parquet.GenericWriter[any], part Part, columns int) (rows int64, err error) {
	f, err := parquet.OpenFile(part, part.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return 0, fmt.Errorf("read the Parquet footer: %w", err)
	}
	have := len(f.Schema().Columns())
	buf := make([]parquet.Row, parquetChunk)
	for _, g := range f.RowGroups() {
		in := g.Rows()
		for {
			n, err := in.ReadRows(buf)
			for i := range buf[:n] {
				for c := have; c < columns; c++ {
					buf[i] = append(buf[i], parquet.NullValue().Level(0, 0, c))
				}
			}
			if _, werr := out.WriteRows(buf[:n]); werr != nil {
				return rows, errors.Join(werr, in.Close())
			}
			rows += int64(n)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return rows, errors.Join(fmt.Errorf("read rows: %w", err), in.Close())
			}
		}
		if err := in.Close(); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// CountLines is the number of rows of an NDJSON file.
func CountLines(r io.Reader) (rows int64, err error) {
	return copyLines(io.Discard, bufio.NewReaderSize(r, 256<<10), false)
}

// CountCSV is the number of records of a CSV file after its header, which is
// given too. A line may go on within quotes.
func CountCSV(r io.Reader) (header string, rows int64, err error) {
	return MergeCSV(io.Discard, r, "")
}

// MergeCSV copies a CSV file's records. Its header has to be the one given;
// with none, it is copied too, and returned.
func MergeCSV(w io.Writer, r io.Reader, header string) (string, int64, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	var first bytes.Buffer
	if err := copyRecord(&first, in); err != nil && !errors.Is(err, io.EOF) {
		return "", 0, err
	}
	switch {
	case header == "":
		header = first.String()
		if _, err := io.WriteString(w, header); err != nil {
			return "", 0, err
		}
	case header != first.String():
		return header, 0, ErrDifferentColumns
	}
	rows, err := copyLines(w, in, true)
	return header, rows, err
}

// MergeLines copies an NDJSON file's rows.
func MergeLines(w io.Writer, r io.Reader) (rows int64, err error) {
	return copyLines(w, bufio.NewReaderSize(r, 256<<10), false)
}

func copyLines(w io.Writer, in *bufio.Reader, quoted bool) (rows int64, err error) {
	for {
		one := copyLine
		if quoted {
			one = copyRecord
		}
		err := one(w, in)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows++
	}
}

// copyLine copies up to a line's end; io.EOF is the end of the file, and a
// last line without an end is an error, as this package writes none.
func copyLine(w io.Writer, in *bufio.Reader) error {
	for begun := false; ; begun = true {
		text, err := in.ReadSlice('\n')
		if len(text) == 0 && errors.Is(err, io.EOF) && !begun {
			return io.EOF
		}
		if _, werr := w.Write(text); werr != nil {
			return werr
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// copyRecord copies lines until the quotes of them are even.
func copyRecord(w io.Writer, in *bufio.Reader) error {
	q := quotes{w: w}
	for first := true; ; first = false {
		err := copyLine(&q, in)
		if errors.Is(err, io.EOF) && !first {
			return io.ErrUnexpectedEOF
		}
		if err != nil || q.n%2 == 0 {
			return err
		}
	}
}

type quotes struct {
	w io.Writer
	n int
}

func (q *quotes) Write(b []byte) (int, error) {
	q.n += bytes.Count(b, []byte{'"'})
	return q.w.Write(b)
}
