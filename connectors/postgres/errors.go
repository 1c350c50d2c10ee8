package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Codes of errors are SQLSTATE, appendix A of PostgreSQL's manual. Texts are
// not looked at: they depend on the server's language.

// serverError finds the server's answer in an error.
func serverError(err error) (*pq.Error, bool) {
	var e *pq.Error
	return e, errors.As(err, &e)
}

func hasPrefix(code string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(code, p) {
			return true
		}
	}
	return false
}

// passing are troubles of the server or of other sessions that go away.
func passing(code string) bool {
	return hasPrefix(code, "08", "40", "53", "55P03", "55006", "57", "58", "25006", "25P03", "XX")
}

// aboutRows reports whether a statement that writes rows failed because of
// what is in them. Codes unknown here are of functions and triggers, which
// judge rows as well.
func aboutRows(err error) bool {
	e, ok := serverError(err)
	return ok && !passing(string(e.Code)) && !hasPrefix(string(e.Code), "0A", "25", "26", "28", "34", "3D", "3F", "42", "55", "F0", "HV")
}

// lost reports whether the connection is gone.
func lost(err error) bool {
	if e, ok := serverError(err); ok {
		return hasPrefix(string(e.Code), "08", "57P01", "57P02", "57P03")
	}
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &network)
}

// collided reports whether another session came in between, so that the same
// transaction may just be done again.
func collided(err error) bool {
	e, ok := serverError(err)
	return ok && hasPrefix(string(e.Code), "40")
}

// classify gives an error before the commit its class: nothing has happened.
func classify(ctx context.Context, what string, err error) error {
	if connectors.ClassOf(err) != connectors.ClassRetry { // it has one already
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	err = fmt.Errorf("%s: %w", what, explained(err))
	if e, ok := serverError(err); ok && !passing(string(e.Code)) {
		return connectors.Fatal(err)
	}
	return connectors.Retry(0, err)
}

// classifyConnect does so for a connection that did not come about.
func classifyConnect(ctx context.Context, err error) error {
	var (
		certificate *tls.CertificateVerificationError
		host        x509.HostnameError
		authority   x509.UnknownAuthorityError
	)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("connect: %w", ctx.Err())
	case errors.Is(err, pq.ErrSSLNotSupported):
		return connectors.Fatalf("connect: the server does not speak TLS; when the network between is trusted, add sslmode=disable to the dsn")
	case errors.As(err, &certificate), errors.As(err, &host), errors.As(err, &authority):
		return connectors.Fatal(fmt.Errorf("connect: the server's certificate is not trusted; see sslmode and sslrootcert of the dsn: %w", err))
	}
	return classify(ctx, "connect", err)
}

// hints say what would be right, by code.
var hints = map[string]string{
	"28":    "check user and password of the dsn, and the server's pg_hba.conf",
	"3D000": "check the database in the dsn",
	"42501": "grant the user of the dsn what is missing: SELECT, INSERT, UPDATE (and DELETE for tombstones) on the table, SELECT, INSERT, UPDATE on the offsets table, TEMPORARY on the database, and CREATE on the schema unless both tables are there",
	"42P10": "mode upsert needs a unique index, or a primary key, over exactly the columns of key",
	"25006": "the server takes no writes; is the dsn that of a standby? target_session_attrs=read-write finds the primary among several hosts",
	"53300": "the server has no connection left",
}

// explained adds what would be right, and what the server told beyond the
// message.
func explained(err error) error {
	if errors.Is(err, driver.ErrBadConn) {
		return fmt.Errorf("the connection was lost: %w", err)
	}
	e, ok := serverError(err)
	if !ok {
		return err
	}
	hint := e.Hint
	for prefix, h := range hints {
		if hasPrefix(string(e.Code), prefix) {
			hint = h
		}
	}
	for _, more := range []string{e.Detail, hint} {
		if more != "" {
			err = fmt.Errorf("%w; %s", err, more)
		}
	}
	return err
}

// rowError is why the server refused a row.
func rowError(err error) error {
	e, ok := serverError(err)
	if !ok {
		return connectors.Poison(err)
	}
	text := e.Message
	if e.Detail != "" {
		text += ": " + clip([]byte(e.Detail))
	}
	if e.Column != "" && !strings.Contains(e.Message, e.Column) {
		text = fmt.Sprintf("column %q: %s", e.Column, text)
	}
	return connectors.Poisonf("the server refuses the row: %s (%s)", text, e.Code)
}
