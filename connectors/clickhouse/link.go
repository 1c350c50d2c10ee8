package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/entrepot-hub/entrepot/connectors"
)

// connectTimeout is for a connection, unless the dsn says.
const connectTimeout = 10 * time.Second

// optionsOf reads the dsn. The driver's error may have the password in it, and
// is not shown.
func optionsOf(task connectors.TaskContext) (*ch.Options, error) {
	dsn, err := task.Config.Secret("dsn").Reveal()
	if err != nil {
		return nil, connectors.Fatal(fmt.Errorf("dsn: %w", err))
	}
	opts, err := ch.ParseDSN(dsn)
	if err != nil {
		return nil, connectors.Fatalf("dsn: it cannot be read, want clickhouse://user:password@host:9000/database, or https://user:password@host:8443/database")
	}
	if opts.DialTimeout == 0 {
		opts.DialTimeout = connectTimeout
	}
	if opts.Compression == nil {
		opts.Compression = &ch.Compression{Method: ch.CompressionLZ4}
	}
	if opts.Auth.Username == "" {
		opts.Auth.Username = "default"
	}
	opts.MaxOpenConns, opts.MaxIdleConns = 1, 1
	opts.ClientInfo.Products = append(opts.ClientInfo.Products, struct{ Name, Version string }{"entrepot", task.Job})
	return opts, nil
}

// link is a connection to one server.
type link struct{ driver.Conn }

func connect(ctx context.Context, opts *ch.Options) (*link, error) {
	conn, err := ch.Open(opts)
	if err != nil {
		return nil, connectors.Fatal(fmt.Errorf("connect: %w", err))
	}
	if err := conn.Ping(ctx); err != nil {
		_ = conn.Close()
		return nil, classify(ctx, "connect", err)
	}
	return &link{conn}, nil
}

// texts returns all rows of a query whose columns are texts.
func (l *link) texts(ctx context.Context, query string) ([][]string, error) {
	rows, err := l.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all [][]string
	for rows.Next() {
		row := make([]string, len(rows.Columns()))
		refs := make([]any, len(row))
		for i := range row {
			refs[i] = &row[i]
		}
		if err := rows.Scan(refs...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, errors.Join(rows.Err(), rows.Close())
}
