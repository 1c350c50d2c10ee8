package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// horizon is up to where rows can be read: below it none can appear any more.
type horizon struct {
	known bool
	at    int64 // microseconds since 1970
	// Of a table without a timestamp: transactions from xmin on may run, and
	// none from xmax on has begun.
	xmin, xmax uint32

	lag     time.Duration // how far it is behind the server's clock
	blocker string        // what holds it up; "" when only the delay does
}

// held reports whether a transaction keeps rows back that may be there.
func (h horizon) held() bool { return !h.known || h.blocker != "" }

// open reports whether a transaction may still run. Rows carry 32 bits of its
// number: what does not lie between the two is of long ago.
func (h horizon) open(xid uint32) bool { return xid-h.xmin < h.xmax-h.xmin }

// lateAfter is how long a transaction may hold up the reading before it is
// told, and how long it is until that is told again.
const lateAfter = time.Minute

// look finds the horizon. Sessions of this database that can write rows count,
// but our own; a prepared transaction does not say when it began, only that it
// was after an earlier horizon.
func (r *queryReader) look(ctx context.Context) error {
	row, err := r.one(ctx, "look for the oldest transaction", fmt.Sprintf(`WITH oldest AS (
			SELECT pid, xact_start FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
			AND backend_type NOT IN ('walsender', 'autovacuum worker') ORDER BY xact_start LIMIT 1),
		edge AS (SELECT clock_timestamp() - %d * interval '1 microsecond' AS at),
		clock AS (SELECT clock_timestamp() AS now)
		SELECT (extract(epoch FROM least(edge.at, oldest.xact_start)) * 1000000)::bigint, (extract(epoch FROM clock.now) * 1000000)::bigint,
		CASE WHEN oldest.xact_start < edge.at THEN oldest.pid END,
		(SELECT min(gid) FROM pg_prepared_xacts WHERE database = current_database()),
		pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295, pg_snapshot_xmax(pg_current_snapshot())::text::bigint & 4294967295
		FROM edge CROSS JOIN clock LEFT JOIN oldest ON true`, r.delay.Microseconds()))
	if err != nil {
		return err
	}
	var n [4]int64
	for i, v := range [][]byte{row[0], row[1], row[4], row[5]} {
		if n[i], err = strconv.ParseInt(string(v), 10, 64); err != nil {
			return fmt.Errorf("look for the oldest transaction: %w", err)
		}
	}
	h := horizon{known: true, at: n[0], xmin: uint32(n[2]), xmax: uint32(n[3])}
	if row[2] != nil {
		h.blocker = "the transaction of pid " + string(row[2])
	}
	if row[3] != nil {
		h.blocker = "the prepared transaction " + string(row[3])
		h.known, h.at = r.horizon.known, r.horizon.at
	}
	h.lag = time.Duration(n[1]-h.at) * time.Microsecond
	r.horizon = h
	r.tell()
	return nil
}

// tell names what holds up the reading for long.
func (r *queryReader) tell() {
	h := r.horizon
	if r.log == nil || h.blocker == "" || h.known && h.lag < lateAfter || r.clock().Sub(r.warned) < lateAfter {
		return
	}
	r.warned = r.clock()
	r.log.Warn("a transaction that has not ended holds up the reading of newer rows", "table", r.table.String(), "blocker", h.blocker, "lag", h.lag.Round(time.Second).String())
}
