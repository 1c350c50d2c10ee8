package postgres

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// CDC is the source that follows a database by logical replication.
//
// # How it is exact
//
// A position of the stream is a commit's place in the write-ahead log and the
// number of the change in its transaction. The server sends committed
// transactions in the order of their commits, and the same ones again after a
// restart, so a position means the same each time. The slot is told a place
// only when the hub's checkpoint has passed it: the checkpoint is the truth,
// the slot a floor below it. Invariant: confirmed_flush_lsn of the slot <=
// checkpoint. Where it does not hold, somebody else has read from the slot or
// made it anew, and what is between the two is lost: the job stops with
// SLOT_MISMATCH.
//
// # Rows that were there before
//
// The slot is made first; then the tables are read under the snapshot that the
// slot exported, ordered by their key (or, without one, as they lie on disk),
// so that the key of the last row is a position. When the connection is lost
// the exported snapshot is lost with it. Reading then goes on behind the last
// key under a new snapshot, and leaves out rows that were written after the slot
// was made: the stream has them, whole. So a row is read once, as it was when
// the slot was made, or is only in the stream.
//
// A row is read all the same, and its changes follow, where the stream may not
// have it whole: in tables that have large values out of line, which are not
// sent when they are as before, and when a table was rewritten in between. Such
// a row may go back to a state it had, until the stream has passed the moment of
// the restart; then it is as in the table.
//
// While rows are read, their tables cannot be rewritten or truncated: a snapshot
// would find them empty. ALTER TABLE waits.
//
// # What it does to the server
//
// A slot keeps the log of everything that the hub has not committed yet. While
// nothing is to be read, the place that the server says it has gone through is
// made a checkpoint too, and confirmed, so an idle slot does not keep log.
// max_retained_wal bounds what a stopped hub costs.
type CDC struct{}

// Spec implements connectors.Source.
func (CDC) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "postgres-cdc",
		Summary:   "Reads the rows of PostgreSQL tables and then every change of them, by logical replication.",
		Guarantee: "exactly-once (the place of the commit in the log and the number of the change, recorded with each record; the slot follows the hub's checkpoint)",
		Since:     "0.2",
		Fields:    cdcFields(),
	}
}

func cdcFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "dsn", Kind: connectors.KindSecret, Required: true, Example: "${env:SHOP_DSN}",
			Description: "how to connect, as a user with the attribute REPLICATION and SELECT on the tables: a URL such as postgres://cdc@db.example:5432/shop?sslmode=verify-full, or pairs such as host=db.example user=cdc dbname=shop; the PG* variables count",
		},
		{
			Name: "tables", Kind: connectors.KindStrings, Check: checkTables, Example: "[public.orders, public.customers]",
			Description: "tables to follow, each with its schema; all tables of the publication by default. A partitioned table is named by its root",
		},
		{
			Name: "publication", Kind: connectors.KindString, Check: checkName, Example: "shop",
			Description: "publication on the server; entrepot_ and the job's name by default. It is created for the tables when it does not exist, which needs their ownership; one that exists has to publish them via the root of partitions",
		},
		{
			Name: "slot", Kind: connectors.KindString, Check: checkSlot, Example: "entrepot_shop",
			Description: "replication slot, which belongs to this job alone; entrepot_ and the job's name by default. It is created at the first start: one that is there at the first start is made anew. Drop it when the job is removed, else the server keeps its log for ever",
		},
		{
			Name: "snapshot", Kind: connectors.KindString, Options: []string{"initial", "never", "only"}, Default: "initial", Example: "never",
			Description: "initial reads the rows that are there and then the changes; never reads only changes from the first start on; only reads the rows and ends, without a slot",
		},
		{
			Name: "envelope", Kind: connectors.KindString, Options: []string{"flat", "debezium"}, Default: "flat", Example: "debezium",
			Description: "flat makes the columns the fields of the record and adds what meta lists; debezium writes before, after, source and op as Debezium does",
		},
		{
			Name: "meta", Kind: connectors.KindStrings, Default: []string{"op", "table", "lsn", "ts_ms"}, Check: checkMeta, Example: "[op, ts_ms]",
			Description: "what a flat record says of its change, as fields that begin with two underscores: op (r, c, u, d or t), table, lsn (of the commit), tx (the transaction's number), ts_ms (of the commit). __unchanged is always there when the server did not send a large value because it is as before",
		},
		{
			Name: "deletes", Kind: connectors.KindString, Options: []string{"tombstone", "record", "both"}, Example: "both",
			Description: "what a deleted row becomes: a tombstone (a key without a value), a record with op d, or this and then that; tombstone by default for flat, both for debezium. A row of a table without a key is always a record",
		},
		{
			Name: "truncate", Kind: connectors.KindString, Options: []string{"record", "skip", "fail"}, Default: "record", Example: "fail",
			Description: "what to do when a table is emptied by TRUNCATE: record writes one with op t, without a key, so among several partitions its order to the rows is not kept; skip leaves it out; fail stops the job",
		},
		{
			Name: "key", Kind: connectors.KindString, Options: []string{"row", "table_row"}, Default: "row", Example: "table_row",
			Description: "the key of a record: row is the columns of the table's key as an object; table_row has the table's name in it too, which several tables in one compacted topic need",
		},
		{
			Name: "numeric", Kind: connectors.KindString, Options: []string{"string", "number", "double"}, Default: "string", Example: "number",
			Description: "how numeric is written: as a string, as a JSON number with all its digits, or rounded to a double, which allow_lossy has to name",
		},
		{
			Name: "json", Kind: connectors.KindString, Options: []string{"embed", "string"}, Default: "embed", Example: "string",
			Description: "how json and jsonb are written: as they are inside of the record, or as a string. A json with the same name twice in an object cannot be embedded and is a dead letter, as is a JSON null, which could not be told from NULL",
		},
		{
			Name: "infinity", Kind: connectors.KindString, Options: []string{"string", "null", "fail"}, Default: "string", Example: "fail",
			Description: "what an infinite date or timestamp becomes: the string infinity or -infinity, null, which allow_lossy has to name, or a dead letter",
		},
		{
			Name: "allow_lossy", Kind: connectors.KindStrings, Check: checkLossy, Example: "[numeric_to_double]",
			Description: "losses that are wanted: numeric_to_double, infinity_to_null, json_null_to_null. What loses anything and is not named here is refused",
		},
		{
			Name: "schema_header", Kind: connectors.KindBool, Example: "true",
			Description: "true adds a header pg-schema to each record: the table and its columns with PostgreSQL's types, as JSON",
		},
		{
			Name: "streaming", Kind: connectors.KindBool, Example: "true",
			Description: "true has the server send large transactions while they are in progress, so that they are here soon after their commit; until then they are kept in files in the system's folder for temporary ones. false leaves them on the server until they are committed",
		},
		{
			Name: "heartbeat", Kind: connectors.KindDuration, Default: 10 * time.Second, Max: int64(time.Hour), Example: "30s",
			Description: "how often, while no change comes, a message is written to the server's log so that the slot goes on; 0s writes none",
		},
		{
			Name: "max_retained_wal", Kind: connectors.KindSize, Max: 1 << 50, Example: "64GiB",
			Description: "how much log the slot may keep on the server, in bytes; no bound by default",
		},
		{
			Name: "over_budget", Kind: connectors.KindString, Options: []string{"warn", "stop", "drop"}, Default: "warn", Example: "stop",
			Description: "what to do when the slot keeps more than max_retained_wal: warn in the log, stop the job, or stop it and drop the slot, after which only a new snapshot helps",
		},
	}
}
