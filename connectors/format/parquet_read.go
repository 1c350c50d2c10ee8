package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

const (
	// parquetReadBuffer is the memory for each column, beside its page.
	parquetReadBuffer = 256 << 10
	// maxFooter bounds what a length in a damaged file can ask for.
	maxFooter = 64 << 20
	// parquetRead is how many rows are decoded at once.
	parquetRead = 64
)

// ParquetReader reads the rows of one file as JSON objects, from whichever
// program it comes. It holds a page of each column, however large a row group.
type ParquetReader struct {
	file  *parquet.File
	root  *parquetPlace
	group int
	rows  parquet.Rows // of the group; nil before the first
	index int64        // of the next row in the group
	buf   []parquet.Row
	ready []parquet.Row // of buf, not yet handed out
	cols  [][]parquet.Value
	loose bool // what is no text, or no JSON, is written as a string
}

// NewParquetReader reads the footer. size is the file's, in bytes. Its errors
// are about the file, but for those of r.
func NewParquetReader(r io.ReaderAt, size int64) (_ *ParquetReader, err error) {
	defer damaged(&err)
	if err := checkFooter(r, size); err != nil {
		return nil, err
	}
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(parquetReadBuffer))
	if err != nil {
		return nil, fmt.Errorf("read the Parquet footer: %w", err)
	}
	if err := checkPhysical(f, leavesOf(f.Root())); err != nil {
		return nil, err
	}
	p := &ParquetReader{file: f, group: -1, buf: make([]parquet.Row, parquetRead)}
	leaves := 0
	if p.root, err = p.place(f.Root(), 0, 0, &leaves, 0); err != nil {
		return nil, err
	}
	p.cols = make([][]parquet.Value, leaves)
	return p, nil
}

func checkFooter(r io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < 12 {
		return fmt.Errorf("it is no Parquet file: %d bytes are too few", size)
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the Parquet footer: %w", err)
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if string(tail[4:]) != "PAR1" {
		return fmt.Errorf("it is no whole Parquet file: it ends with %q, want PAR1", tail[4:])
	}
	if n > size-12 || n > maxFooter {
		return fmt.Errorf("it is no whole Parquet file: its footer has %d bytes, the file %d", n, size)
	}
	return nil
}

// damaged makes an error of a panic of the library, which a damaged file can
// cause.
func damaged(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the file is damaged: %v", p)
	}
}

// Rows is the number of rows that the footer states.
func (p *ParquetReader) Rows() int64 { return p.file.NumRows() }

// Groups is the number of row groups.
func (p *ParquetReader) Groups() int { return len(p.file.RowGroups()) }

// Before is the number of rows in the groups before one.
func (p *ParquetReader) Before(group int) (n int64) {
	for _, g := range p.file.RowGroups()[:group] {
		n += g.NumRows()
	}
	return n
}

// Seek implements RowReader.
func (p *ParquetReader) Seek(to Place) (err error) {
	defer damaged(&err)
	if to.Block < 0 || to.Block >= int64(p.Groups()) || to.Row < 0 || to.Row > p.file.RowGroups()[to.Block].NumRows() {
		return fmt.Errorf("there is no row %d in row group %d", to.Row, to.Block)
	}
	if err := p.open(int(to.Block)); err != nil {
		return err
	}
	p.index = to.Row
	return p.rows.SeekToRow(to.Row)
}

func (p *ParquetReader) open(group int) error {
	if err := p.Close(); err != nil {
		return err
	}
	p.group, p.index, p.ready = group, 0, nil
	p.rows = p.file.RowGroups()[group].Rows()
	return nil
}

// Next implements RowReader.
func (p *ParquetReader) Next(dst []byte) (r Row, err error) {
	defer damaged(&err)
	for len(p.ready) == 0 {
		if err := p.more(); err != nil {
			return Row{Place: Place{int64(p.group), p.index}}, err
		}
	}
	one := p.ready[0]
	p.ready = p.ready[1:]
	r.Place = Place{int64(p.group), p.index}
	p.index++
	if r.JSON, err = p.assemble(dst, one); connectors.ClassOf(err) == connectors.ClassPoison {
		p.loose = true // for the dead letter: bytes in base64 where they are no text
		r.JSON = nil
		r.Original, _ = p.assemble(nil, one)
		p.loose = false
	}
	return r, err
}

// more decodes the next rows.
func (p *ParquetReader) more() error {
	if p.rows != nil {
		n, err := p.rows.ReadRows(p.buf)
		p.ready = p.buf[:n]
		if n > 0 {
			return nil
		}
		if !errors.Is(err, io.EOF) {
			if err == nil {
				err = io.ErrNoProgress
			}
			return err
		}
		if want := p.file.RowGroups()[p.group].NumRows(); p.index != want {
			return fmt.Errorf("the file is damaged: row group %d ends after %d rows, its footer says %d", p.group, p.index, want)
		}
	}
	if p.group+1 >= p.Groups() {
		return io.EOF
	}
	return p.open(p.group + 1)
}

// assemble cuts a row into its columns.
func (p *ParquetReader) assemble(dst []byte, row parquet.Row) ([]byte, error) {
	for i := range p.cols {
		p.cols[i] = nil
	}
	for begin := 0; begin < len(row); {
		end, column := begin+1, row[begin].Column()
		for end < len(row) && row[end].Column() == column {
			end++
		}
		if column < 0 || column >= len(p.cols) || p.cols[column] != nil {
			return dst, errors.New("the file is damaged: a row has a column twice")
		}
		p.cols[column] = row[begin:end]
		begin = end
	}
	return p.root.body(dst, p.cols)
}

// Close releases the pages that are held.
func (p *ParquetReader) Close() error {
	if p.rows == nil {
		return nil
	}
	rows := p.rows
	p.rows = nil
	return rows.Close()
}
