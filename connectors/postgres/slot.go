package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

// ErrSlotMismatch says that the slot is not the one that the checkpoint is of:
// changes between the two are lost. It comes wrapped in a FatalError.
var ErrSlotMismatch = errors.New("SLOT_MISMATCH")

// slotState is what the server says of a slot.
type slotState struct {
	name      string
	plugin    string
	database  string // "" for a physical slot
	here      bool   // the database is ours
	pid       string // of who reads from it; "" for nobody
	confirmed pgoutput.LSN
	status    string // reserved, extended, unreserved or lost
	retained  int64  // bytes of log that it keeps
}

// slot looks a slot up; nil when there is none.
func (s *session) slot(ctx context.Context, slot string) (*slotState, error) {
	rows, err := s.query(ctx, "look for the slot", `SELECT plugin, database, database = current_database(), active_pid, confirmed_flush_lsn, wal_status,
		CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - restart_lsn FROM pg_replication_slots WHERE slot_name = `+pq.QuoteLiteral(slot))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	r := rows[0]
	st := &slotState{name: slot, plugin: string(r[0]), database: string(r[1]), here: string(r[2]) == "t", pid: string(r[3]), status: string(r[5])}
	if r[4] != nil {
		if st.confirmed, err = pgoutput.ParseLSN(string(r[4])); err != nil {
			return nil, err
		}
	}
	if r[6] != nil {
		if st.retained, err = strconv.ParseInt(string(r[6]), 10, 64); err != nil {
			return nil, fmt.Errorf("slot %s: %w", slot, err)
		}
	}
	return st, nil
}

// usable tells a slot that can never be ours.
func (st *slotState) usable() error {
	switch {
	case st.plugin != "pgoutput":
		return connectors.Fatalf("slot %s has the plugin %q, want pgoutput: name another slot", st.name, st.plugin)
	case !st.here:
		return connectors.Fatalf("slot %s is of database %s: name another slot, or correct the dsn", st.name, st.database)
	case st.status == "lost":
		return connectors.Fatal(fmt.Errorf("%w: the server has thrown away the log that slot %s kept (see max_slot_wal_keep_size): drop the slot and reset the job's offsets to read all rows anew", ErrSlotMismatch, st.name))
	}
	return nil
}

// matches tells whether the slot still has all that comes after a checkpoint.
// Invariant: confirmed_flush_lsn <= checkpoint, as only Committed moves the
// slot. The same server is a matter of IDENTIFY_SYSTEM, as places of two
// servers cannot be compared.
func matches(st *slotState, slot string, at place, system uint64) error {
	const mend = "drop the slot and reset the job's offsets to read all rows anew"
	switch {
	case at.system != system:
		return connectors.Fatal(fmt.Errorf("%w: the checkpoint is of server %d, the dsn leads to server %d: correct the dsn, or %s", ErrSlotMismatch, at.system, system, mend))
	case st == nil:
		return connectors.Fatal(fmt.Errorf("%w: slot %s is gone, and with it the changes after %s: reset the job's offsets to read all rows anew", ErrSlotMismatch, slot, at.floor()))
	}
	if err := st.usable(); err != nil {
		return err
	}
	if st.confirmed > at.floor() {
		return connectors.Fatal(fmt.Errorf("%w: slot %s is at %s, beyond the checkpoint at %s; somebody else has read from it or made it anew: %s", ErrSlotMismatch, slot, st.confirmed, at.floor(), mend))
	}
	return nil
}

// slotPatience is how long a slot may be held by our former self, whose end
// the server has not noticed yet.
const slotPatience = 5 * time.Second

// idleSlot looks a slot up, and waits a little until nobody reads from it.
func (s *session) idleSlot(ctx context.Context, slot string) (*slotState, error) {
	for deadline := time.Now().Add(slotPatience); ; {
		st, err := s.slot(ctx, slot)
		if err != nil || st == nil || st.pid == "" {
			return st, err
		}
		if time.Now().After(deadline) {
			return nil, connectors.Retry(time.Second, fmt.Errorf("slot %s is read from by the server's process %s", slot, st.pid))
		}
		if err := connectors.Pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// identify asks a replication connection which server it leads to.
func (s *session) identify(ctx context.Context) (system uint64, err error) {
	row, err := s.one(ctx, "identify the server", "IDENTIFY_SYSTEM")
	if err != nil {
		return 0, err
	}
	if system, err = strconv.ParseUint(string(row[0]), 10, 64); err != nil {
		return 0, fmt.Errorf("identify the server: %w", err)
	}
	return system, nil
}

// createSlot makes a slot. What was committed before start is seen under the
// snapshot, which lives until the connection is used for anything else; what
// is committed later comes in the stream.
func (s *session) createSlot(ctx context.Context, slot string) (start pgoutput.LSN, snapshot string, err error) {
	row, err := s.one(ctx, "create slot "+slot, "CREATE_REPLICATION_SLOT "+pq.QuoteIdentifier(slot)+" LOGICAL pgoutput EXPORT_SNAPSHOT")
	if err != nil {
		return 0, "", err
	}
	start, err = pgoutput.ParseLSN(string(row[1]))
	return start, string(row[2]), err
}

func (s *session) dropSlot(ctx context.Context, slot string) error {
	_, err := s.query(ctx, "drop slot "+slot, "SELECT pg_drop_replication_slot("+pq.QuoteLiteral(slot)+")")
	return err
}
