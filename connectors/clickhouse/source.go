package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Source reads the rows of a table in the order of a key, and goes on with
// those that come behind.
//
// # What it sees
//
// ClickHouse has no order of commits to follow: a row is where its key is. The
// source reads in the order of a key that grows, such as the time of an event
// and its ID, from the row after the last one that is in the hub. A row is seen
// once, with its key as its position, which is committed in one transaction
// with the record.
//
// Not seen are rows that become visible with a key below one that was read
// already (an event that comes late, a part that a replica fetches late),
// changes of rows, and deletes: so the table has to be one to which rows are
// only added. lag gives late rows time: nothing is read above the greatest key
// that was visible that long ago. Of a replicated table only what all quorum
// INSERTs before have written is read (select_sequential_consistency).
//
// Two rows of one key are an error, not a choice: their order is not defined,
// and at the border of a read one of them would be lost.
type Source struct{}

// Spec implements connectors.Source.
func (Source) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "clickhouse",
		Summary:   "Reads the rows of a ClickHouse table in the order of a growing key, and those that are added.",
		Guarantee: "exactly-once for the rows it sees (key of the row, recorded with each record); rows that appear later than lag behind a greater key, changes and deletes are not seen",
		Since:     "0.2",
		Fields:    sourceFields(),
	}
}

func sourceFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "dsn", Kind: connectors.KindSecret, Required: true, Example: "${env:CLICKHOUSE_DSN}",
			Description: "how to connect: clickhouse://reader:password@ch.example:9440/warehouse?secure=true over the native protocol, or https://reader:password@ch.example:8443/warehouse over HTTP, to a server of 22.7 or later",
		},
		{
			Name: "table", Kind: connectors.KindString, Required: true, Check: checkTable, Example: "warehouse.events",
			Description: "table or view to read, with or without its database; rows are only ever added to it",
		},
		{
			Name: "key", Kind: connectors.KindStrings, Required: true, Check: checkKey, Example: "[event_time, id]",
			Description: "columns by whose order rows are read: together they tell rows apart, and new rows have greater ones; numbers without fraction, dates, times, texts and UUIDs that are not Nullable. A table whose sorting key begins with them is read without sorting. They become the key of the record",
		},
		{
			Name: "columns", Kind: connectors.KindStrings, Check: checkNames, Example: "[id, event_time, page]",
			Description: "columns of the record; all by default",
		},
		{
			Name: "json", Kind: connectors.KindStrings, Check: checkNames, Example: "[details]",
			Description: "String columns that hold JSON, which is put into the record as it is; what is not JSON goes to the dead letters",
		},
		{
			Name: "base64", Kind: connectors.KindStrings, Check: checkNames, Example: "[payload]",
			Description: "String or FixedString columns that hold bytes, written as base64; others have to be UTF-8, or the row goes to the dead letters",
		},
		{
			Name: "final", Kind: connectors.KindBool, Example: "true",
			Description: "true reads with FINAL: of the rows that an engine merges into one (ReplacingMergeTree and others) that one. A row that replaces another after it was read is not seen",
		},
		{
			Name: "lag", Kind: connectors.KindDuration, Default: 10 * time.Second, Max: int64(24 * time.Hour), Example: "1m",
			Description: "how long a row may become visible after one with a greater key, and still be read",
		},
		{
			Name: "poll", Kind: connectors.KindDuration, Default: 5 * time.Second, Min: int64(10 * time.Millisecond), Max: int64(24 * time.Hour), Example: "30s",
			Description: "how long to wait after everything was read",
		},
		{
			Name: "follow", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "false reads what is there when it begins, and ends",
		},
		{
			Name: "rows", Kind: connectors.KindInt, Default: int64(10_000), Min: 1, Max: 1_000_000, Example: "50000",
			Description: "the most rows of one query; they are held in memory, at most about 16 MiB of them",
		},
	}
}

// Validate implements connectors.Source.
func (Source) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s := readingOf(cfg)
	findings := s.check()
	if probe != connectors.ProbeLive || len(findings) > 0 {
		return findings
	}
	r, err := s.open(ctx, connectors.TaskContext{Job: "check", Config: cfg})
	if err != nil {
		return []connectors.Finding{{Field: fieldOf(err), Message: err.Error(), Warning: connectors.ClassOf(err) == connectors.ClassRetry}}
	}
	defer func() { _ = r.Close(ctx) }()
	if why := r.slow(); why != "" {
		return []connectors.Finding{{Field: "key", Warning: true, Message: why, Hint: "begin key with the columns of the table's ORDER BY, if they grow"}}
	}
	return nil
}

// Splits implements connectors.Source: one table.
func (Source) Splits(_ context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	out := make(chan []connectors.Split, 1)
	out <- []connectors.Split{{ID: cfg.String("table")}}
	close(out)
	return out, nil
}

// Open implements connectors.Source.
func (Source) Open(ctx context.Context, task connectors.TaskContext, _ connectors.Split, from connectors.Position) (connectors.Reader, error) {
	r, err := readingOf(task.Config).open(ctx, task)
	if err != nil {
		return nil, err
	}
	if from != nil {
		if r.after, err = r.order.decode(from); err != nil {
			_ = r.Close(ctx)
			return nil, err
		}
	}
	return r, nil
}

// Sample implements connectors.Sampler: the first rows that there are.
func (Source) Sample(ctx context.Context, task connectors.TaskContext, most int) (connectors.Sample, error) {
	s := readingOf(task.Config)
	s.follow, s.most = false, max(1, most)
	r, err := s.open(ctx, task)
	if err != nil {
		return connectors.Sample{}, err
	}
	defer func() { _ = r.Close(ctx) }()
	var out connectors.Sample
	for _, c := range r.shown {
		use := targetColumn{typ: c.typ, as: c.as}
		out.Fields = append(out.Fields, connectors.FieldType{Field: c.name, Type: c.typ.shown, Is: use.logical(), Nullable: c.typ.nullable})
	}
	if _, err := r.ask(ctx); err != nil {
		return out, classify(ctx, "read table "+r.table.String(), err)
	}
	out.Messages = r.pending[:min(most, len(r.pending))]
	return out, nil
}

// reading is the config in the form the reader needs.
type reading struct {
	table         name
	key, columns  []string
	json, base64  []string
	final, follow bool
	lag, poll     time.Duration
	most          int // rows of one query
}

func readingOf(cfg connectors.Config) reading {
	return reading{
		table: nameOf(cfg.String("table")), key: cfg.Strings("key"), columns: cfg.Strings("columns"), json: cfg.Strings("json"), base64: cfg.Strings("base64"),
		final: cfg.Bool("final"), follow: cfg.Bool("follow"), lag: cfg.Duration("lag"), poll: cfg.Duration("poll"), most: int(cfg.Int("rows")),
	}
}

// check finds what the single fields cannot tell.
func (s reading) check() []connectors.Finding {
	var all []connectors.Finding
	for field, names := range map[string][]string{"json": s.json, "base64": s.base64} {
		for _, c := range names {
			if len(s.columns) > 0 && !slices.Contains(s.columns, c) {
				all = append(all, connectors.Finding{Field: field, Message: fmt.Sprintf("%q is not one of the columns", c), Hint: "add it to columns"})
			}
			if field == "json" && slices.Contains(s.base64, c) {
				all = append(all, connectors.Finding{Field: field, Message: fmt.Sprintf("%q is in base64 too", c), Hint: "take it out of one of them"})
			}
		}
	}
	return all
}

func checkKey(v any) error {
	if len(v.([]string)) == 0 {
		return fmt.Errorf("it is empty, want columns such as [event_time, id]")
	}
	return checkNames(v)
}
