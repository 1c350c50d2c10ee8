package format

import (
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
