package format

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// RowReader reads the rows of one file as JSON.
type RowReader interface {
	// Next appends the next row's JSON to dst. io.EOF is the end of the file,
	// an error of class Poison about this row alone, and any other about the
	// file from there on, or about what it is read from.
	Next(dst []byte) (Row, error)
	// Seek goes to where a row is that Next gave: it comes next, again.
	Seek(to Place) error
	// Close releases what is held, and leaves the file below open.
	Close() error
}

// Place is where a row begins in its file. Places of one file grow.
type Place struct {
	Block int64 // Parquet: row group; Avro: first byte of the block; text: byte, uncompressed
	Row   int64 // within the block, from 0; 0 for text
}

// Row is one row.
type Row struct {
	Place
	JSON     []byte // what dst has become: nil when the row is poison
	Original []byte // the row as it stands in its file; nil where that is JSON
}

// poisonf is about one column of a row.
func poisonf(path, format string, args ...any) error {
	return connectors.Poison(fmt.Errorf("column %q: "+format, append([]any{path}, args...)...))
}
