// Package postgres reads and writes PostgreSQL, each record exactly once: Sink
// writes JSON records into a table, CDC follows tables by logical replication,
// Query polls one. What the sources guarantee, and by what, is said there; the
// rest of this text is about the sink. It needs PostgreSQL 12 or later, the
// sources 14 or later.
//
// # How the sink is exact
//
// A plan is one transaction. The rows and the row in entrepot_offsets that
// says how far the partition was loaded become visible together or not at all.
// The steps, and what is left when the writer, the network or the server ends
// after each:
//
//	BEGIN; temporary table   nothing
//	COPY into it             nothing
//	the fence                nothing
//	INSERT … SELECT          nothing
//	COMMIT                   everything, or nothing: of class Unknown, and the
//	                         same plan asks the fence
//
// The fence is one statement: it moves next_offset from the plan's first
// offset to the one after its last, if it is there and of no later epoch. A
// plan that is in already finds next_offset at its end and is done. A former
// owner that wakes up finds a later epoch and stops (ErrFenced). An owner that
// finds another offset but no later epoch, because its predecessor's last
// commit came through late, asks again where to go on (class Retry). Rows are
// copied before the fence is passed, so a writer that freezes while it sends
// holds no lock that its successor would wait for.
//
// In the modes upsert and merge the last record of a key wins, also within a batch. Keys are
// compared as the server does: where equal keys may have different texts (a
// collation that ignores case, floats), the server picks the last one. Rows go
// in the order of their keys, so that writers do not deadlock; what collides
// all the same is done again.
//
// A record may say that columns stay as they are: by its field __unchanged, as
// the CDC source does for large values that were not sent, or, in mode merge, by
// not having their fields. What the batch has written of the key before counts.
// A row for __unchanged has to be there; a record without one is a bad record.
// Records of the CDC source that say of themselves that a row is gone (__op d)
// are tombstones here; those of a TRUNCATE are bad records.
//
// # How a bad record is found
//
// A value that its column cannot hold without loss is told before a
// transaction begins, with the column and what would fit: a number out of
// range or with more digits, text with U+0000, a time with more digits than
// are kept. What only the server can judge (constraints, triggers, other types)
// is found by bisection over the copied rows, with savepoints; deferred
// constraints are checked at once for that. The records are named, everything
// is rolled back, and the runtime writes the plan again without them. A
// tombstone deletes the row of its key if the config says so and is a bad
// record otherwise.
//
// # What it expects of the table
//
// With create: true it makes what is missing. Columns that are not declared
// are those of the table, or of the records that come first. Nothing is
// guessed where a table fills a column itself: the config has to say which
// columns to write. Types that the config cannot name (enums, domains, inet,
// arrays and others) work in tables that exist: the server reads the text.
// Row-level security, triggers and the rules of partitions apply as to any
// INSERT.
//
// To load a topic again, stop the job and set next_offset of its rows in
// entrepot_offsets to where it shall begin: the destination's word counts more
// than the hub's. Where there is no row the hub's offset counts.
//
// Goroutines: none of the sink's own outlive a call of the writer. The driver
// has one per transaction, to send a cancel, and one during COPY, to hear the
// server; both end with the transaction or the connection. CDC has two while it
// follows changes (see wal), which end with the reader or the connection.
package postgres

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Sink is the PostgreSQL sink.
type Sink struct{}

// Spec implements connectors.Sink.
func (Sink) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "postgres",
		Summary:   "Writes JSON records into a PostgreSQL table, by insert or upsert.",
		Guarantee: "exactly-once (destination transaction)",
		Since:     "0.1",
		Fields:    fields(),
	}
}

func fields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "dsn", Kind: connectors.KindSecret, Required: true, Example: "${env:WAREHOUSE_DSN}",
			Description: "how to connect: a URL such as postgres://loader@db.example:5432/warehouse?sslmode=verify-full, or pairs such as host=db.example user=loader dbname=warehouse; lib/pq's parameters and the PG* variables count",
		},
		{
			Name: "table", Kind: connectors.KindString, Required: true, Check: checkTable, Example: "sales.orders",
			Description: "table to write, with or without its schema; names are taken as written, upper and lower case are kept",
		},
		{
			Name: "mode", Kind: connectors.KindString, Options: []string{"insert", "upsert", "merge"}, Default: "insert", Example: "upsert",
			Description: "insert adds a row for each record; upsert keeps one row for each key, and the last record of a key wins; merge does the same and leaves columns as they are whose fields a record does not have. In both a column that the record's field __unchanged lists stays as it is",
		},
		{
			Name: "key", Kind: connectors.KindStrings, Check: checkKey, Example: "[id]",
			Description: "columns that identify a row in mode upsert; the table needs a unique index over exactly these",
		},
		{
			Name: "columns", Kind: connectors.KindObjects, Fields: columnFields(),
			Description: "columns to write; without them those of the table, or, when the table is created, the fields of the first records that come, with the types of their header pg-schema if they have one. A missing field and a JSON null are both NULL",
		},
		{
			Name: "create", Kind: connectors.KindBool, Example: "true",
			Description: "true creates the table when it does not exist, with the key as its primary key",
		},
		{
			Name: "evolve", Kind: connectors.KindBool, Example: "true",
			Description: "true changes the table for records with a header pg-schema (schema_header of the PostgreSQL sources): a column that a record has and the table has not is added, nullable, with the type of the header, and one whose type is wider there is made as wide, for which PostgreSQL may write the table anew. Nothing is dropped or made narrower. An enum or domain is itself where the database has it, and else what its values are",
		},
		{
			Name: "extra", Kind: connectors.KindString, Options: []string{"ignore", "fail"}, Default: "ignore", Example: "fail",
			Description: "what to do with a field that no column takes: ignore leaves it out, fail sends the record to the dead letters",
		},
		{
			Name: "delete_on_tombstone", Kind: connectors.KindBool, Example: "true",
			Description: "true deletes the row when a record without a value comes, by the record's key (modes upsert and merge); false sends such a record to the dead letters",
		},
		{
			Name: "offsets_table", Kind: connectors.KindString, Default: "entrepot_offsets", Check: checkTable, Example: "etl.entrepot_offsets",
			Description: "table that keeps how far each topic was loaded, in the same database; without a schema it is in that of the table; it is created when it does not exist",
		},
		{
			Name: "batch", Kind: connectors.KindObject, Fields: batchFields(),
			Description: "when to write what has come, by what is reached first",
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
			Name: "type", Kind: connectors.KindString, Check: checkType, Example: "numeric(12,2)",
			Description: "bigint, integer, smallint, numeric, numeric(precision,scale), double precision, real, text, boolean, timestamptz, timestamp, date, jsonb, json, uuid or bytea; it has to be the table's; without it the table's type counts, of whatever kind",
		},
		{
			Name: "from", Kind: connectors.KindString, Example: "customer.id",
			Description: "field of the record to take, with dots for fields inside of fields; the name of the column by default",
		},
	}
}

func batchFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "rows", Kind: connectors.KindInt, Default: int64(5000), Min: 1, Max: 1_000_000, Example: "2000",
			Description: "records in one transaction",
		},
		{
			Name: "bytes", Kind: connectors.KindSize, Default: int64(8 << 20), Min: 1, Max: 1 << 30, Example: "16MiB",
			Description: "bytes of keys and values in one transaction",
		},
		{
			Name: "every", Kind: connectors.KindDuration, Default: time.Second, Min: int64(time.Millisecond), Max: int64(24 * time.Hour), Example: "10s",
			Description: "how long a record waits at most for others to come",
		},
	}
}
