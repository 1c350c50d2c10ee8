package format

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// ParquetRows is the number of rows that the footer of a Parquet file states.
// size is the file's, in bytes.
func ParquetRows(r io.ReaderAt, size int64) (int64, error) {
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return 0, fmt.Errorf("read the Parquet footer: %w", err)
	}
	return f.NumRows(), nil
}

// ParquetInts reads one column of 64-bit numbers, leaving out nulls.
func ParquetInts(r io.ReaderAt, size int64, column string) ([]int64, error) {
	f, err := parquet.OpenFile(r, size)
	if err != nil {
		return nil, fmt.Errorf("read the Parquet footer: %w", err)
	}
	leaf, ok := f.Schema().Lookup(column)
	if !ok {
		return nil, fmt.Errorf("there is no column %q", column)
	}
	var all []int64
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		buf := make([]parquet.Row, 256)
		for {
			n, err := rows.ReadRows(buf)
			for _, row := range buf[:n] {
				if v := row[leaf.ColumnIndex]; !v.IsNull() {
					all = append(all, v.Int64())
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				_ = rows.Close()
				return nil, fmt.Errorf("read column %q: %w", column, err)
			}
		}
		if err := rows.Close(); err != nil {
			return nil, fmt.Errorf("read column %q: %w", column, err)
		}
	}
	return all, nil
}
