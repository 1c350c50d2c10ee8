package postgres

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

// cdcReader reads the rows that are there, then follows the changes.
type cdcReader struct {
	cdcSettings
	log   *slog.Logger
	clock func() time.Time
	cfg   *pgconn.Config

	catalog *catalog
	repl    *session  // until it follows
	snap    *snapshot // while rows are read
	wal     *wal      // while changes are followed
	pieces  []walItem // taken from wal and not yet used
	asm     pgoutput.Assembler
	spool   *spool // nil unless transactions come while they are in progress
	forms   map[*pgoutput.Relation]*form

	from    place // where it was opened, or where the rows ended
	at      place // after the last message that was made
	pending []connectors.Message
	barrier connectors.Position // has to be committed before rows are given
	cared   time.Time
	heard   time.Time // when the last change came
	ended   bool
}

// Read implements connectors.Reader.
func (r *cdcReader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	deadline := r.clock().Add(limits.Wait)
	for {
		if err := ctx.Err(); err != nil {
			return connectors.Batch{}, err
		}
		if len(r.pending) > 0 {
			var b connectors.Batch
			b.Messages, r.pending = limits.Cut(r.pending)
			return b, nil
		}
		if r.ended {
			return connectors.Batch{}, io.EOF
		}
		if r.barrier != nil {
			return connectors.Batch{}, connectors.Pause(ctx, deadline.Sub(r.clock()))
		}
		if err := r.care(ctx); err != nil {
			return connectors.Batch{}, err
		}
		if r.snap != nil {
			if err := r.readRows(ctx); err != nil {
				return connectors.Batch{}, err
			}
			continue
		}
		left := deadline.Sub(r.clock())
		came, err := r.readChanges(ctx, limits, left)
		if err != nil {
			return connectors.Batch{}, err
		}
		if !came && left <= 0 {
			return connectors.Batch{}, nil
		}
	}
}

// add makes a message pending, with its position.
func (r *cdcReader) add(m connectors.Message, at place) {
	pos, size := at.position()
	m.Position, m.Place = pos, pos[:size]
	r.pending = append(r.pending, m)
	r.at = at
}

// readRows takes the next chunk of rows; after the last one come the changes.
func (r *cdcReader) readRows(ctx context.Context) error {
	got, err := r.snap.fetch(ctx, func(p *published) (*form, error) {
		return r.envelope.newForm(p.name, p.columns, p.keys())
	})
	if err != nil {
		return err
	}
	if got == nil {
		return r.rowsRead(ctx)
	}
	r.pending = make([]connectors.Message, 0, len(got.tuples))
	for i, t := range got.tuples {
		ev := event{op: 'r', after: t, lsn: r.from.start, ts: connectors.NoTimestamp}
		at := place{system: r.from.system, start: r.from.start, table: got.name.String(), key: got.keys[i], seen: r.snap.seen}
		r.add(r.envelope.message(got.form, &ev), at)
	}
	return nil
}

// rowsRead ends the snapshot. A mark makes durable that all rows were read.
func (r *cdcReader) rowsRead(ctx context.Context) error {
	r.snap.close()
	r.snap = nil
	if r.only {
		r.ended = true
		return nil
	}
	r.from = place{system: r.from.system, streaming: true, lsn: r.from.start}
	r.log.Info("all rows are read, the changes follow", "slot", r.slot, "lsn", r.from.lsn.String())
	r.mark(r.from.lsn)
	return r.follow(ctx)
}

// mark makes a place in the stream a position, without a record.
func (r *cdcReader) mark(lsn pgoutput.LSN) {
	r.add(connectors.Message{Mark: true, Timestamp: connectors.NoTimestamp, Origin: connectors.Origin{Name: "log at " + lsn.String()}},
		place{system: r.from.system, streaming: true, lsn: lsn})
}

// readChanges waits for changes and makes messages of them, until a batch is
// full or no more are there.
func (r *cdcReader) readChanges(ctx context.Context, limits connectors.Limits, wait time.Duration) (came bool, err error) {
	if len(r.pieces) == 0 && !r.asm.Replaying() {
		if r.pieces, err = r.wal.take(ctx, wait); err != nil || len(r.pieces) == 0 {
			return false, err
		}
	}
	r.pending = r.pending[:0:0]
	most, size := limits.Records, 0
	if most == 0 {
		most = chunkRows
	}
	emit := func(c *pgoutput.Change) error { return r.changed(ctx, c) }
	for (len(r.pieces) > 0 || r.asm.Replaying()) && len(r.pending) < most && size < chunkBytes {
		if r.asm.Replaying() {
			if err := r.asm.Step(emit); err != nil {
				return true, err
			}
			continue
		}
		it := r.pieces[0]
		r.pieces[0] = walItem{}
		r.pieces = r.pieces[1:]
		size += len(it.data)
		if it.data == nil {
			// Nothing is half through: all that was committed before is out.
			if !r.asm.Open() && it.end > r.at.lsn {
				r.mark(it.end)
			}
			continue
		}
		if err := r.asm.Push(it.data, emit); err != nil {
			return true, err
		}
	}
	return true, nil
}

// Committed implements connectors.Reader: the slot follows the checkpoint.
func (r *cdcReader) Committed(_ context.Context, upTo connectors.Position) error {
	at, err := placeOf(upTo)
	if err != nil {
		return err
	}
	if r.barrier != nil && upTo.Compare(r.barrier) >= 0 {
		r.barrier = nil
	}
	if at.streaming && r.wal != nil {
		r.wal.confirm(at.lsn)
	}
	return nil
}

// Close implements connectors.Reader.
func (r *cdcReader) Close(context.Context) error {
	if r.wal != nil {
		r.wal.close()
	}
	if r.snap != nil {
		r.snap.close()
	}
	if r.repl != nil {
		r.repl.close()
	}
	if r.catalog != nil {
		r.catalog.close()
	}
	r.wal, r.snap, r.repl, r.catalog = nil, nil, nil, nil
	if r.spool != nil {
		return r.spool.close()
	}
	return nil
}

// care does what has to be done from time to time: a heartbeat while no
// change comes, and a look at how much log the slot keeps. While rows are read
// it keeps all of it, so only the look is of use then.
func (r *cdcReader) care(ctx context.Context) error {
	now := r.clock()
	every := r.heartbeat
	if every == 0 {
		every = statusEvery
	}
	if now.Sub(r.cared) < every {
		return nil
	}
	r.cared = now
	if r.heartbeat > 0 && r.wal != nil && now.Sub(r.heard) >= r.heartbeat {
		if _, err := r.catalog.query(ctx, "write a heartbeat", "SELECT pg_logical_emit_message(false, 'entrepot', '')"); err != nil {
			return err
		}
	}
	if r.budget == 0 || r.only {
		return nil
	}
	st, err := r.catalog.slot(ctx, r.slot)
	if err != nil || st == nil || st.retained <= r.budget {
		return err
	}
	over := fmt.Errorf("slot %s keeps %d bytes of the server's log, more than max_retained_wal: %d", r.slot, st.retained, r.budget)
	switch r.overBudget {
	case "stop":
		return connectors.Fatal(fmt.Errorf("%w; the slot is left as it is: start the job when it can keep up, or drop the slot", over))
	case "drop":
		return r.giveUp(ctx, over)
	}
	r.log.Warn("the slot keeps more of the server's log than max_retained_wal", "slot", r.slot, "bytes", st.retained)
	return nil
}

// giveUp drops the slot, as the config asks for.
func (r *cdcReader) giveUp(ctx context.Context, why error) error {
	if r.wal != nil {
		r.wal.close()
		r.wal = nil
	}
	st, err := r.catalog.idleSlot(ctx, r.slot)
	if err != nil {
		return err
	}
	if st != nil {
		if err := r.catalog.dropSlot(ctx, r.slot); err != nil {
			return err
		}
	}
	return connectors.Fatal(fmt.Errorf("%w; the slot was dropped: reset the job's offsets to read all rows anew", why))
}
