package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Validate implements connectors.Source.
func (CDC) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s := cdcSettingsOf("check", cfg)
	findings := s.check()
	if probe != connectors.ProbeLive || fatal(findings) != nil {
		return findings
	}
	if err := s.look(ctx, cfg); err != nil {
		field := "tables"
		if fieldOf(err) == "dsn" {
			field = "dsn"
		}
		findings = append(findings, connectors.Finding{Field: field, Message: err.Error(), Warning: connectors.ClassOf(err) == connectors.ClassRetry})
	}
	return findings
}

// fatal is the first finding that is not only a warning, as an error.
func fatal(findings []connectors.Finding) error {
	for _, f := range findings {
		if !f.Warning {
			return connectors.Fatalf("%s: %s; %s", f.Field, f.Message, f.Hint)
		}
	}
	return nil
}

// look is the live check. It only reads: a publication that is missing could
// be made.
func (s cdcSettings) look(ctx context.Context, cfg connectors.Config) error {
	conf, err := cdcConnection("check", cfg)
	if err != nil {
		return err
	}
	control, err := openSession(ctx, conf)
	if err != nil {
		return err
	}
	defer control.close()
	row, err := control.one(ctx, "look at the server", "SELECT current_setting('wal_level'), (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)")
	switch {
	case err != nil:
		return err
	case s.only:
	case string(row[0]) != "logical":
		return connectors.Fatalf("the server's wal_level is %s: set it to logical and restart the server", row[0])
	case string(row[1]) != "t":
		return connectors.Fatalf("the user of the dsn lacks the attribute REPLICATION: ALTER ROLE … REPLICATION")
	}
	for _, t := range s.tables {
		if _, err := control.query(ctx, "look at table "+t.String(), "SELECT 1 FROM "+t.qualified()+" LIMIT 0"); err != nil {
			return err
		}
	}
	return nil
}

// Splits implements connectors.Source: a slot is one sequence.
func (CDC) Splits(_ context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	id := cfg.String("slot")
	if id == "" {
		id = "slot"
	}
	out := make(chan []connectors.Split, 1)
	out <- []connectors.Split{{ID: id}}
	close(out)
	return out, nil
}

// Open implements connectors.Source.
func (CDC) Open(ctx context.Context, task connectors.TaskContext, _ connectors.Split, from connectors.Position) (connectors.Reader, error) {
	r := &cdcReader{cdcSettings: cdcSettingsOf(task.Job, task.Config), log: task.Logger, clock: task.Clock}
	if err := fatal(r.check()); err != nil {
		return nil, err
	}
	var err error
	if r.cfg, err = cdcConnection(task.Job, task.Config); err != nil {
		return nil, err
	}
	if from != nil {
		if r.from, err = placeOf(from); err != nil {
			return nil, err
		}
	}
	if err := r.start(ctx, from == nil); err != nil {
		_ = r.Close(ctx)
		return nil, err
	}
	return r, nil
}

// start connects and finds out where to go on.
func (r *cdcReader) start(ctx context.Context, fresh bool) error {
	control, err := openSession(ctx, r.cfg)
	if err != nil {
		return err
	}
	r.catalog = &catalog{session: control, types: map[uint32]*wireType{}}
	r.envelope.db, r.envelope.mapping = r.cfg.Database, &r.cdcSettings.mapping
	if r.repl, err = openSession(ctx, replicating(r.cfg)); err != nil {
		return err
	}
	system, err := r.repl.identify(ctx)
	if err != nil {
		return err
	}
	if err := r.catalog.publish(ctx, &r.cdcSettings); err != nil {
		return err
	}
	if r.from.streaming {
		if r.only {
			return connectors.Fatalf("the checkpoint is of changes: with snapshot: only, reset the job's offsets")
		}
		if _, err := r.begin(ctx, false, system); err != nil {
			return err
		}
		r.at = r.from
		return r.follow(ctx)
	}
	return r.startRows(ctx, fresh, system)
}

// startRows begins with the rows. The tables are described, and the slot is
// made, while none of them can be rewritten.
func (r *cdcReader) startRows(ctx context.Context, fresh bool, system uint64) error {
	tables, err := r.catalog.tables(ctx, &r.cdcSettings)
	if err != nil {
		return err
	}
	if _, err := r.catalog.query(ctx, "lock the tables against rewriting", "BEGIN; "+lockTables(tables)); err != nil {
		return err
	}
	if tables, err = r.catalog.tables(ctx, &r.cdcSettings); err != nil {
		return err
	}
	exported := ""
	switch {
	case !r.only:
		if exported, err = r.begin(ctx, fresh, system); err != nil {
			return err
		}
	case fresh:
		r.from = place{system: system}
	case r.from.system != system:
		return connectors.Fatalf("the checkpoint is of another server: with snapshot: only, reset the job's offsets")
	}
	if r.at = r.from; r.from.streaming {
		err = r.follow(ctx)
	} else {
		r.snap, err = openSnapshot(ctx, r.cfg, tables, r.from, exported)
	}
	if err == nil {
		_, err = r.catalog.query(ctx, "unlock the tables", "COMMIT")
	}
	if err == nil && fresh && r.snap != nil && !r.only {
		// A mark makes durable under which snapshot reading began. Until it is,
		// no row is given: so without a position, nothing is in the topic.
		r.add(connectors.Message{Mark: true, Timestamp: connectors.NoTimestamp, Origin: connectors.Origin{Name: "the beginning"}},
			place{system: system, start: r.from.start, seen: r.snap.seen})
		r.barrier = r.pending[0].Position
	}
	return err
}

// begin makes the slot, or makes sure that it is the one of the checkpoint.
func (r *cdcReader) begin(ctx context.Context, fresh bool, system uint64) (exported string, err error) {
	st, err := r.catalog.idleSlot(ctx, r.slot)
	if err != nil {
		return "", err
	}
	if !fresh {
		return "", matches(st, r.slot, r.from, system)
	}
	r.from = place{system: system, streaming: !r.initial}
	if st != nil {
		// An earlier start has not come to its first checkpoint, or someone
		// has made it for us; what its snapshot was, nobody knows.
		if err := st.usable(); err != nil && !errors.Is(err, ErrSlotMismatch) {
			return "", err
		}
		r.log.Info("a slot of this name is there and is made anew", "slot", r.slot, "lsn", st.confirmed.String())
		if err := r.catalog.dropSlot(ctx, r.slot); err != nil {
			return "", err
		}
	}
	start, exported, err := r.repl.createSlot(ctx, r.slot)
	r.from.start, r.from.lsn = start, start
	return exported, err
}

// follow begins with the changes after r.from.
func (r *cdcReader) follow(ctx context.Context) (err error) {
	if r.repl == nil {
		return fmt.Errorf("the connection for replication is gone")
	}
	if r.wal, err = startWAL(ctx, r.repl, r.slot, r.options(), r.from.floor()); err != nil {
		return err
	}
	r.repl = nil
	return nil
}

// options are those of pgoutput. Version 1 gives a transaction after its
// commit; from version 2 on it may come while it is in progress.
func (r *cdcReader) options() string {
	publication := "publication_names " + pq.QuoteLiteral(pq.QuoteIdentifier(r.publication))
	if !r.streaming {
		return "proto_version '1', " + publication
	}
	r.spool = newSpool()
	r.asm.Spool = r.spool
	return "proto_version '2', streaming 'on', " + publication
}
