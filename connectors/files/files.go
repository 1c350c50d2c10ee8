// Package files is the sink that loads records into files: Parquet, Avro,
// NDJSON or CSV, in folders named as Hive names partitions, on a disk, in S3 or
// in HDFS; and the source that reads such files, whoever has made them.
//
// A plan becomes one set of files, one for each folder that its records
// belong to, named TOPIC+PARTITION+FROM+TO.EXT after its range of offsets.
// They are completed without a name, and only then published, which never
// overwrites. So a file is there with all of its rows or not at all; a plan
// that is executed again finds its files done; and no listing of folders is
// needed to know. See publish.go for the order of the steps, and for what a
// store does in each:
//
//	         without a name       publish                      a crash leaves
//	file     under _tmp, synced   link                         a file under _tmp
//	s3       multipart upload     complete with If-None-Match  an open upload
//	         (small ones: memory) (small ones: put)
//	webhdfs  under _tmp           rename with option NONE      a file under _tmp
//	hdfs     under _tmp           look, then rename            a file under _tmp
//
// What a crash leaves is removed by the next Open, and nobody sees it before.
//
// Inferred columns are pinned in _schema beside the data before a file uses
// them, so that all files of a topic agree. A new field adds a column at the
// end; a value that no longer fits its column is a dead letter, never a silent
// change. The same plan gives the same bytes, but for columns that the table
// gained in between.
//
// The source has a split for each file. A position is the place of a row (row
// group and row, block and record, or byte) with what the file looked like: its
// size, time and tag. A file that looks otherwise is refused, while it is read
// and when it is opened again. It cannot see what changes while the job is
// stopped in files that were read to their end.
//
// Goroutines: one that looks for new files of a source that follows; it ends with
// the context of Splits. One for each file that is being written over WebHDFS; it sends
// the file and ends when the file is complete or discarded, which await it.
// The driver of HDFS has one for each connection, which Close ends.
package files

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// Sink is the files sink.
type Sink struct{}

// Spec implements connectors.Sink.
func (Sink) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "files",
		Summary:   "Loads records into Parquet, Avro, NDJSON or CSV files in Hive-style folders, on a disk, in S3 or in HDFS.",
		Guarantee: "exactly-once (named file: one set of files for each durable plan, published without overwriting)",
		Since:     "0.1",
		Fields:    fields(),
	}
}

func fields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "url", Kind: connectors.KindString, Required: true, Check: checkURL, Example: "file:///lake/clicks",
			Description: "the folder to load into: " + schemeForms + "; it is made when it is not there, a bucket is not",
		},
		{Name: "s3", Kind: connectors.KindObject, Description: "how to reach an s3:// URL", Fields: s3Fields()},
		{Name: "hdfs", Kind: connectors.KindObject, Description: "whom to be at an hdfs://, webhdfs:// or swebhdfs:// URL", Fields: hdfsFields()},
		{
			Name: "format", Kind: connectors.KindString, Default: "parquet", Options: []string{"parquet", "avro", "ndjson", "csv"}, Example: "ndjson",
			Description: "parquet, avro (object container files) and csv need records that are JSON objects, ndjson takes any JSON",
		},
		{
			Name: "partition_by", Kind: connectors.KindString, Check: checkTemplate, Example: "dt={date(ts)}/hr={hour(ts)}",
			Description: "folders below the URL: text and {…} with topic, partition, key, value.FIELD, or date, hour, year, month, day of ts (the record's time, UTC) or of a value.FIELD that holds RFC 3339; null becomes __HIVE_DEFAULT_PARTITION__",
		},
		{Name: "roll", Kind: connectors.KindObject, Description: "when to complete a set of files, by what comes first", Fields: []connectors.Field{
			{Name: "every", Kind: connectors.KindDuration, Default: time.Minute, Min: int64(10 * time.Millisecond), Max: int64(24 * time.Hour), Example: "5m", Description: "age of the oldest record that is waiting"},
			{Name: "bytes", Kind: connectors.KindSize, Default: int64(64 << 20), Min: 1, Max: 1 << 30, Example: "128MiB", Description: "size of the records' keys and values, before they are written; so much is held in memory for each partition"},
			{Name: "rows", Kind: connectors.KindInt, Min: 0, Max: 1 << 31, Example: "1000000", Description: "number of records; 0 does not count them"},
		}},
		{
			Name: "schema", Kind: connectors.KindString, Default: "inferred", Options: []string{"inferred", "combined", "common"}, Example: "combined",
			Description: "parquet, avro, csv: inferred finds the columns in the records and keeps them in _schema, with the types of the header pg-schema where the records have one; combined and common are the columns of these log formats",
		},
		{
			Name: "types", Kind: connectors.KindStringMap, Check: checkTypes, Example: "{price: 'decimal(12,2)'}",
			Description: "with inferred columns, the types of some fields, whatever header and values say: " + format.TypeForms,
		},
		{
			Name: "allow_lossy", Kind: connectors.KindStrings, Check: checkLossy, Example: "[infinity_to_null]",
			Description: "losses that are wanted: infinity_to_null (of dates and times), nan_to_null (of decimals, also infinite ones), numeric_to_double (a number or a text of one is rounded to a column of type double or float), nanoseconds_to_microseconds, unchanged_to_null (columns that a record leaves as they were, where there is no column __unchanged). A record that would lose anything and is not named here is a dead letter",
		},
		{Name: "columns", Kind: connectors.KindObjects, Example: "[{name: id, type: int64}]", Description: "parquet, avro, csv: the columns, instead of schema; each may be null", Fields: []connectors.Field{
			{Name: "name", Kind: connectors.KindString, Required: true, Example: "city", Description: "name of the column"},
			{Name: "type", Kind: connectors.KindString, Required: true, Check: checkType, Example: "decimal(12,2)", Description: format.TypeForms + "; the page of this connector says what goes into each"},
			{Name: "from", Kind: connectors.KindString, Example: "address.city", Description: "field of the record, dotted for nested ones; the column's name when not given"},
		}},
		{
			Name: "metadata_columns", Kind: connectors.KindStrings, Check: checkMetadata, Example: "[partition, offset]",
			Description: "parquet, avro, csv: columns _topic, _partition, _offset, _timestamp, _key to add",
		},
		{
			Name: "extra", Kind: connectors.KindString, Default: "ignore", Options: []string{"ignore", "fail"}, Example: "fail",
			Description: "with columns or a named schema, what to do with a field that has no column: ignore leaves it out, fail sends the record to the dead letters",
		},
		{
			Name: "tombstones", Kind: connectors.KindString, Default: "reject", Options: []string{"reject", "skip"}, Example: "skip",
			Description: "records without a value: reject sends them to the dead letters, skip leaves them out",
		},
		{
			Name: "compression", Kind: connectors.KindString, Options: []string{"zstd", "snappy", "gzip", "deflate", "none"}, Example: "snappy",
			Description: "of the pages of parquet (zstd, snappy, gzip or none; zstd when not given), of the blocks of avro (deflate, snappy, zstd or none; deflate when not given), or of whole files of ndjson and csv (gzip or none; none when not given)",
		},
		manifestField(), compactField(),
	}
}
