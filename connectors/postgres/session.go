package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/entrepot-hub/entrepot/connectors"
)

// session is a connection of the CDC source for queries.
type session struct{ conn *pgconn.PgConn }

func openSession(ctx context.Context, cfg *pgconn.Config) (*session, error) {
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, cdcError(ctx, "connect", err)
	}
	return &session{conn}, nil
}

// replicating is the same config for a connection that can replicate.
func replicating(cfg *pgconn.Config) *pgconn.Config {
	c := cfg.Copy()
	c.RuntimeParams["replication"] = "database"
	return c
}

// query runs statements and returns the rows of the last; NULL is nil.
func (s *session) query(ctx context.Context, what, statements string) ([][][]byte, error) {
	results, err := s.conn.Exec(ctx, statements).ReadAll()
	if err != nil {
		return nil, cdcError(ctx, what, err)
	}
	if len(results) == 0 {
		return nil, nil
	}
	return results[len(results)-1].Rows, nil
}

// one is the single row of a query.
func (s *session) one(ctx context.Context, what, statement string) ([][]byte, error) {
	rows, err := s.query(ctx, what, statement)
	if err == nil && len(rows) != 1 {
		return nil, fmt.Errorf("%s: %d rows, want one", what, len(rows))
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

func (s *session) close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.conn.Close(ctx)
	<-s.conn.CleanupDone()
}

// cdcError gives an error of the server or the connection its class.
func cdcError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return connectors.Retry(0, fmt.Errorf("%s: %w", what, err))
	}
	text := e.Message
	hint := e.Hint
	for prefix, h := range cdcHints {
		if hasPrefix(e.Code, prefix) {
			hint = h
		}
	}
	for _, more := range []string{e.Detail, hint} {
		if more != "" {
			text += "; " + more
		}
	}
	err = fmt.Errorf("%s: the server says: %s (%s)", what, text, e.Code)
	if passing(e.Code) {
		return connectors.Retry(0, err)
	}
	return connectors.Fatal(err)
}

// cdcHints say what would be right, by code.
var cdcHints = map[string]string{
	"28":    "check user and password of the dsn, the server's pg_hba.conf, and that the user has the attribute REPLICATION",
	"3D000": "check the database in the dsn",
	"42501": "the user of the dsn needs the attribute REPLICATION, SELECT on the tables, and, to create the publication, to own them and CREATE on the database",
	"53400": "raise max_replication_slots on the server, or drop slots that nobody needs",
	"53300": "the server has no connection left; see also max_wal_senders",
}

// pgError is an answer of the server as an error.
func pgError(m *pgproto3.ErrorResponse) *pgconn.PgError { return pgconn.ErrorResponseToPgError(m) }
