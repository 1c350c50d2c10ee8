package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Codes of the server's errors, from ErrorCodes.cpp of ClickHouse.
const (
	codeTimeout       = 159
	codeTooMany       = 202 // simultaneous queries
	codeNetwork       = 210
	codeSameID        = 216 // a query of this ID is running
	codeMemory        = 241
	codeReadOnly      = 242 // a replica without its coordinator
	codeSpace         = 243
	codeTooManyParts  = 252
	codeQuorum        = 286
	codeQuorumBefore  = 289
	codeUnknownInsert = 319
	codeCancelled     = 394
	codeConstraint    = 469
	codeKeeper        = 999
)

// passing are troubles that go away.
var passing = map[int32]bool{
	codeTimeout: true, codeTooMany: true, codeNetwork: true, codeSameID: true, codeMemory: true, codeReadOnly: true, codeSpace: true,
	codeTooManyParts: true, codeQuorum: true, codeQuorumBefore: true, codeUnknownInsert: true, codeCancelled: true, codeKeeper: true,
	173: true, 209: true, 225: true, 236: true, 285: true, 425: true, 439: true, 473: true, 745: true, 1000: true, 1001: true,
}

// hints say what would be right.
var hints = map[int32]string{
	81:  "check the database in the dsn",
	497: "grant the user of the dsn SELECT and INSERT on the table, and SELECT on system.tables and system.columns (and CREATE TABLE with create: true)",
	192: "check user and password of the dsn", 193: "check user and password of the dsn", 516: "check user and password of the dsn",
	164: "the user of the dsn may not write",
}

// partsWait is how long to wait when the server merges too slowly.
const partsWait = 10 * time.Second

// tooManyValues tells the other trouble of code 252: one block has more values
// of PARTITION BY than the server takes. Its texts are always English.
func tooManyValues(e *ch.Exception) bool {
	return e.Code == codeTooManyParts && strings.Contains(e.Message, "single INSERT block")
}

// classify gives an error its class when nothing of a plan was sent.
func classify(ctx context.Context, what string, err error) error {
	if connectors.ClassOf(err) != connectors.ClassRetry { // it has one already
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	var e *ch.Exception
	if !errors.As(err, &e) {
		return connectors.Retry(0, fmt.Errorf("%s: %w", what, withoutURL(err)))
	}
	err = explained(what, e)
	switch {
	case tooManyValues(e):
		return connectors.Fatal(err)
	case e.Code == codeTooManyParts:
		return connectors.Retry(partsWait, err)
	case passing[e.Code]:
		return connectors.Retry(0, err)
	}
	return connectors.Fatal(err)
}

// classifySent gives an error its class when the block was sent, or may have
// been. A block goes in by parts, one for each value of PARTITION BY, so the
// server's refusal does not say that nothing is in, unless it judges a block
// before it writes any.
func classifySent(what string, err error) error {
	var e *ch.Exception
	if !errors.As(err, &e) {
		return connectors.Unknown(fmt.Errorf("%s: %w", what, withoutURL(err)))
	}
	err = explained(what, e)
	switch {
	case tooManyValues(e):
		return connectors.Fatal(err)
	case e.Code == codeConstraint:
		return connectors.Poison(err)
	case e.Code == codeTooManyParts: // it is found before anything is written
		return connectors.Retry(partsWait, err)
	case passing[e.Code]:
		return connectors.Unknown(err)
	}
	return connectors.Fatal(err)
}

// withoutURL leaves out of an HTTP error the URL, which has all settings in it.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("over HTTP: %w", u.Err)
	}
	return err
}

func explained(what string, e *ch.Exception) error {
	text := e.Message
	if i := strings.Index(text, ", e.what()"); i > 0 { // older servers say more than anybody wants
		text = text[:i]
	}
	hint := hints[e.Code]
	if tooManyValues(e) {
		hint = "make batch.rows smaller, the partition key coarser, or raise max_partitions_per_insert_block in settings"
	}
	if hint != "" {
		text += "; " + hint
	}
	return fmt.Errorf("%s: the server says: %s (code %d)", what, text, e.Code)
}
