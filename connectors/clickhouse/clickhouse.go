// Package clickhouse writes JSON records into ClickHouse tables and reads tables
// that grow (see Source), over the native protocol or, as a proxy or ClickHouse
// Cloud may want it, over HTTP.
//
// # How the sink is exact
//
// A plan is one INSERT of one block. ClickHouse has no transaction to put an
// offset in, so a plan whose outcome is not known is written again, and the
// table itself has to tell. There are three ways, and the sink refuses to start
// where none of them holds (unless the config says exactly_once: none):
//
//   - offsets: the table has the columns _topic, _partition and _offset, which
//     the sink fills. The first plan of each partition after a start may have
//     been written before; the table is asked which of its offsets are in, and
//     only the others are written. That holds however long ago the first try
//     was and whatever others have written since. While the first try still
//     runs in the server the question waits: both have the plan's ID as their
//     query_id. The engine has to keep every row (MergeTree and its replicated
//     forms), and rows of the plan must not be deleted meanwhile.
//   - token: the INSERT has the plan's ID as insert_deduplication_token, and
//     the table a window of tokens that it remembers. ClickHouse drops a block
//     of a token in the window, for each value of PARTITION BY by itself, so
//     a plan over several values that came in by half is completed. It holds as
//     long as fewer blocks than the window were written in between, and, where
//     the table is replicated, within replicated_deduplication_window_seconds.
//     A plan from before a restart for which that may be over is refused, and
//     the job stops: it is not written a second time.
//   - version: the table is a ReplacingMergeTree with a version column. Rows
//     that come again have the same key and version, and readers with FINAL see
//     one of them.
//
// auto uses offsets, and the token too where there is a window: the token also
// stops a former owner that wakes up with the plan it held. Without a window
// such an owner can write that one plan a second time.
//
// # How a bad record is found
//
// Every value is converted here, before anything is sent, and nothing is
// rounded, cut or guessed: a number out of range or with more digits than are
// kept, a time before 1970 in a DateTime, a label that an enum does not have,
// null where the column is not Nullable. The record goes to the dead letters
// with the column, what it wants and what came. A constraint of the table is
// judged by the server for the whole block; the runtime halves the plan until
// the record is alone.
//
// # What it expects of the table
//
// With create: true it makes what is missing. Columns that are not declared
// are those of the table, or what the records that come first say of theirs, or
// their fields. A materialized view over the table gets a plan once, also when
// it is written again whole. When the server ended within an INSERT, the table
// is completed and the view may not be: it knows the plan's token from what it
// had already. async_insert is always off here.
//
// Goroutines: none of the package's own outlive a call. The driver has one while
// it waits for an answer, which ends with the answer or the connection, and one
// for its pool, which ends with Close.
package clickhouse

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Sink is the ClickHouse sink.
type Sink struct{}

// Spec implements connectors.Sink.
func (Sink) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "clickhouse",
		Summary:   "Writes JSON records into a ClickHouse table.",
		Guarantee: "exactly-once (offset columns that are asked before a plan is repeated, with a deduplication token where the table has a window; or the token alone, within its window; or a version column, for readers with FINAL)",
		Since:     "0.2",
		Fields:    fields(),
	}
}

func fields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "dsn", Kind: connectors.KindSecret, Required: true, Example: "${env:CLICKHOUSE_DSN}",
			Description: "how to connect: clickhouse://loader:password@ch.example:9440/warehouse?secure=true over the native protocol, or https://loader:password@ch.example:8443/warehouse over HTTP, to a server of 22.7 or later; several hosts with commas between are tried in order; the parameters are those of clickhouse-go, any other is a setting of the server",
		},
		{
			Name: "table", Kind: connectors.KindString, Required: true, Check: checkTable, Example: "warehouse.orders",
			Description: "table to write, with or without its database; a local table, not one of the engine Distributed",
		},
		{
			Name: "columns", Kind: connectors.KindObjects, Fields: columnFields(),
			Description: "columns to write; without them those of the table, or, when the table is created, those that the first records bring: by the header pg-schema (schema_header of the PostgreSQL sources), with types that keep every value, or else by their fields. A missing field and a JSON null are both NULL",
		},
		{
			Name: "exactly_once", Kind: connectors.KindString, Options: []string{onceAuto, onceOffsets, onceToken, onceVersion, onceNever}, Default: onceAuto, Example: "token",
			Description: "how a plan is kept from being written twice: offsets asks the columns _topic, _partition and _offset; token relies on the table's deduplication window, which others that write to the table use up too; version relies on a ReplacingMergeTree; auto is offsets, with the token where there is a window; none is at-least-once",
		},
		{
			Name: "create", Kind: connectors.KindBool, Example: "true",
			Description: "true creates the table when it does not exist, with the columns _topic, _partition and _offset and a deduplication window of 10000",
		},
		{
			Name: "engine", Kind: connectors.KindString, Default: "MergeTree", Example: "ReplacingMergeTree(_offset)",
			Description: "engine of a table that is created",
		},
		{
			Name: "order_by", Kind: connectors.KindStrings, Check: checkNames, Example: "[customer, at]",
			Description: "sorting key of a table that is created; its columns are not Nullable; by default _topic, _partition, _offset, and of a ReplacingMergeTree the key in the header pg-schema",
		},
		{
			Name: "partition_by", Kind: connectors.KindString, Example: "toYYYYMM(at)",
			Description: "partition key of a table that is created, as an expression; none by default",
		},
		{
			Name: "deleted", Kind: connectors.KindString, Check: checkName, Example: "_deleted",
			Description: "column of type UInt8 or Bool that is 1 in a row of a record without a value (a tombstone), by the record's key, or with __op \"d\" (op in Debezium's envelope), and 0 in others; the other columns of such a row are NULL or the type's zero, or as they were last. Without it such a record goes to the dead letters",
		},
		{
			Name: "extra", Kind: connectors.KindString, Options: []string{"ignore", "fail"}, Default: "ignore", Example: "fail",
			Description: "what to do with a field that no column takes: ignore leaves it out, fail sends the record to the dead letters; names that begin with __ are always left out",
		},
		{
			Name: "allow_lossy", Kind: connectors.KindStrings, Check: checkLossy, Example: "[numeric_to_double]",
			Description: "losses that are allowed, where a record goes to the dead letters otherwise: numeric_to_double lets a Float32 or Float64 hold the nearest number, also of a decimal that comes as a string; time_to_precision cuts the digits of a second that a time does not keep; null_to_empty makes an Array or Map empty that is null",
		},
		{
			Name: "settings", Kind: connectors.KindStringMap, Example: "{insert_quorum: auto}",
			Description: "settings of the server for each INSERT",
		},
		{
			Name: "batch", Kind: connectors.KindObject, Fields: batchFields(),
			Description: "when to write what has come, by what is reached first; ClickHouse likes few and large ones, about one a second for each table",
		},
	}
}

func columnFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "name", Kind: connectors.KindString, Required: true, Check: checkName, Example: "id",
			Description: "column of the table",
		},
		{
			Name: "type", Kind: connectors.KindString, Example: "Decimal(12, 2)",
			Description: "type of the column as ClickHouse prints it, for a table that is created; of one that exists it has to be the same; without it the table's type counts",
		},
		{
			Name: "from", Kind: connectors.KindString, Example: "customer.id",
			Description: "field of the record to take, with dots for fields inside of fields; the name of the column by default",
		},
		{
			Name: "as", Kind: connectors.KindString, Options: []string{"json", "base64"}, Example: "json",
			Description: "of a String column: json takes any value as JSON text, base64 takes bytes; without it only a string is taken",
		},
	}
}

func batchFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "rows", Kind: connectors.KindInt, Default: int64(100_000), Min: 1, Max: 1_000_000, Example: "50000",
			Description: "records in one INSERT",
		},
		{
			Name: "bytes", Kind: connectors.KindSize, Default: int64(16 << 20), Min: 1, Max: 1 << 30, Example: "64MiB",
			Description: "bytes of keys and values in one INSERT",
		},
		{
			Name: "every", Kind: connectors.KindDuration, Default: 2 * time.Second, Min: int64(time.Millisecond), Max: int64(24 * time.Hour), Example: "10s",
			Description: "how long a record waits at most for others to come",
		},
	}
}
