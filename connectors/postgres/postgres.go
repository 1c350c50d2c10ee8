// Package postgres is the sink that writes JSON records into a PostgreSQL
// table, each exactly once.
//
// Goroutines: none that outlive a call of the writer's methods.
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
			Name: "mode", Kind: connectors.KindString, Options: []string{"insert", "upsert"}, Default: "insert", Example: "upsert",
			Description: "insert adds a row for each record; upsert keeps one row for each key, and the last record of a key wins",
		},
		{
			Name: "key", Kind: connectors.KindStrings, Check: checkKey, Example: "[id]",
			Description: "columns that identify a row in mode upsert; the table needs a unique index over exactly these",
		},
		{
			Name: "columns", Kind: connectors.KindObjects, Fields: columnFields(),
			Description: "columns to write; without them those of the table, or, when the table is created, the fields of the first records that come. A missing field and a JSON null are both NULL",
		},
		{
			Name: "create", Kind: connectors.KindBool, Example: "true",
			Description: "true creates the table when it does not exist, with the key as its primary key",
		},
		{
			Name: "extra", Kind: connectors.KindString, Options: []string{"ignore", "fail"}, Default: "ignore", Example: "fail",
			Description: "what to do with a field that no column takes: ignore leaves it out, fail sends the record to the dead letters",
		},
		{
			Name: "delete_on_tombstone", Kind: connectors.KindBool, Example: "true",
			Description: "true deletes the row when a record without a value comes, by the record's key (mode upsert); false sends such a record to the dead letters",
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
