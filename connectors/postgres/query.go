package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Query is the source that asks a table again and again for the rows that are
// new or have changed since.
//
// # How it misses nothing
//
// Rows are read in the order of a timestamp that the database sets (a default,
// or a trigger, of now()), and of the key among equal ones. now() is when a
// transaction began, so a slow one commits rows that are older than rows that
// were read already. Therefore nothing is read from the begin of the oldest
// transaction on that still runs, nor of the last moment (delay): below that
// horizon no row can appear any more. Invariant: position < horizon. Prepared
// transactions do not say when they began; while there are any, the horizon
// stands still.
//
// Without a timestamp rows are read in the order of a growing key, up to the
// first one that was written by, or after, a transaction that still runs. A
// number that was drawn but not yet used by a transaction that has written
// nothing before is not seen by that, so rows can be missed: Validate warns.
//
// Deleted rows, rows whose timestamp is NULL, and states between two polls are
// not seen. CDC sees all of them.
type Query struct{}

// Spec implements connectors.Source.
func (Query) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "postgres",
		Summary:   "Polls a PostgreSQL table for rows that are new or have changed.",
		Guarantee: "exactly-once (timestamp and key of the row, recorded with each record, below the oldest running transaction); deletes are not seen",
		Since:     "0.2",
		Fields:    queryFields(),
	}
}

func queryFields() []connectors.Field {
	cdc := func(name string) connectors.Field {
		i := slices.IndexFunc(cdcFields(), func(f connectors.Field) bool { return f.Name == name })
		return cdcFields()[i]
	}
	return []connectors.Field{
		{
			Name: "dsn", Kind: connectors.KindSecret, Required: true, Example: "${env:SHOP_DSN}",
			Description: "how to connect to the primary, as a user with SELECT on the table who is a member of pg_read_all_stats (to see when the transactions of others began): a URL such as postgres://reader@db.example:5432/shop?sslmode=verify-full, or pairs such as host=db.example user=reader dbname=shop; the PG* variables count",
		},
		{
			Name: "table", Kind: connectors.KindString, Required: true, Check: checkQueryTable, Example: "public.orders",
			Description: "table or view to read, with its schema",
		},
		{
			Name: "timestamp", Kind: connectors.KindString, Check: checkName, Example: "updated_at",
			Description: "column that the database sets to now() whenever a row is written; an index over it and the key makes polls cheap. Without it only rows of a greater key are found, and some may be missed",
		},
		{
			Name: "timezone", Kind: connectors.KindString, Default: "UTC", Example: "Europe/Warsaw",
			Description: "zone of the timestamps, where their column has none",
		},
		{
			Name: "key", Kind: connectors.KindStrings, Check: checkKey, Example: "[id]",
			Description: "columns that tell rows apart, which become the key of the record; the primary key by default, and needed for a view",
		},
		{
			Name: "columns", Kind: connectors.KindStrings, Check: checkKey, Example: "[id, name, updated_at]",
			Description: "columns of the record; all by default",
		},
		{
			Name: "poll", Kind: connectors.KindDuration, Default: 5 * time.Second, Min: int64(10 * time.Millisecond), Max: int64(24 * time.Hour), Example: "30s",
			Description: "how long to wait after everything was read",
		},
		{
			Name: "delay", Kind: connectors.KindDuration, Default: time.Second, Max: int64(24 * time.Hour), Example: "10s",
			Description: "how old a row has to be at least, by the clock of the server. More than the difference of the clocks, where programs set the timestamps and not the server",
		},
		{
			Name: "follow", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "false reads what is there once, and ends",
		},
		cdc("numeric"), cdc("json"), cdc("infinity"), cdc("allow_lossy"), cdc("schema_header"),
	}
}

func checkQueryTable(v any) error {
	if err := checkTable(v); err != nil {
		return err
	}
	if !strings.Contains(v.(string), ".") {
		return fmt.Errorf("%q has no schema, want schema.table such as public.%s", v, v)
	}
	return nil
}

// querySettings are the fields of the config in the form the reader needs.
type querySettings struct {
	table       name
	timestamp   string // "" for none
	zone        string
	key         []string
	columns     []string
	poll, delay time.Duration
	follow      bool
	mapping     mapping
	lossy       []string
	header      bool
}

func querySettingsOf(cfg connectors.Config) querySettings {
	return querySettings{
		table: nameOf(cfg.String("table")), timestamp: cfg.String("timestamp"), zone: cfg.String("timezone"), key: cfg.Strings("key"), columns: cfg.Strings("columns"),
		poll: cfg.Duration("poll"), delay: cfg.Duration("delay"), follow: cfg.Bool("follow"),
		mapping: mappingOf(cfg), lossy: cfg.Strings("allow_lossy"), header: cfg.Bool("schema_header"),
	}
}

func (s querySettings) check() []connectors.Finding {
	all := s.mapping.check(s.lossy)
	if s.timestamp == "" {
		all = append(all, connectors.Finding{
			Field: "timestamp", Warning: true, Message: "without a timestamp, changed rows are not seen, and a row can be missed whose key was drawn long before it was written",
			Hint: "name a column that the database sets to now(), or use source postgres-cdc",
		})
	}
	return all
}

var errNoKey = errors.New("it has no primary key")
