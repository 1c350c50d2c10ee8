package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

const (
	// statusEvery is how often the server hears from us; it gives a silent
	// client up after wal_sender_timeout, a minute by default.
	statusEvery = 5 * time.Second
	// statusGap is the least time between two of them.
	statusGap = 50 * time.Millisecond
	// A server that shuts down waits for us to confirm all of its log, and
	// asks again as soon as it is answered. What is not in the hub is not
	// confirmed; a server that goes on asking is let go.
	shutdownPatience = 2 * time.Second
	// walAhead is how many bytes are read ahead of who takes them.
	walAhead = 8 << 20
)

// walItem is a piece of what the server sends: a message of pgoutput, or nil
// and how far the server has gone through its log.
type walItem struct {
	data []byte
	end  pgoutput.LSN
}

// wal is a connection in the state of replication. Two goroutines serve it:
// one receives, one tells the server what is confirmed. Both end with close,
// or with the connection.
type wal struct {
	sock      net.Conn
	front     *pgproto3.Frontend
	confirmed atomic.Uint64
	nudge     chan struct{} // a status is due
	room      chan struct{} // the queue has got room
	ready     chan struct{} // the queue has got something
	done      chan struct{} // closed by close
	wg        sync.WaitGroup

	asked, askedFirst time.Time // when the server asked for a status, without a pause in between

	mu struct {
		sync.Mutex
		items []walItem
		bytes int
		err   error
	}
}

// startWAL begins to replicate from a place, and takes the session over.
func startWAL(ctx context.Context, s *session, slot, options string, from pgoutput.LSN) (*wal, error) {
	what := "read from slot " + slot
	s.conn.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (%s)",
		pq.QuoteIdentifier(slot), from, options)})
	if err := s.conn.Frontend().Flush(); err != nil {
		return nil, cdcError(ctx, what, err)
	}
	for {
		m, err := s.conn.ReceiveMessage(ctx)
		if err != nil {
			return nil, cdcError(ctx, what, err)
		}
		switch m := m.(type) {
		case *pgproto3.CopyBothResponse:
			hijacked, err := s.conn.Hijack()
			if err != nil {
				return nil, cdcError(ctx, what, err)
			}
			w := &wal{
				sock: hijacked.Conn, front: hijacked.Frontend, nudge: make(chan struct{}, 1),
				room: make(chan struct{}, 1), ready: make(chan struct{}, 1), done: make(chan struct{}),
			}
			w.confirmed.Store(uint64(from))
			w.wg.Go(w.receive)
			w.wg.Go(w.tell)
			return w, nil
		case *pgproto3.ErrorResponse:
			return nil, cdcError(ctx, what, pgError(m))
		}
	}
}

// confirm lets the server forget what is before a place.
func (w *wal) confirm(lsn pgoutput.LSN) {
	if uint64(lsn) > w.confirmed.Load() {
		w.confirmed.Store(uint64(lsn))
		poke(w.nudge)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// tell sends the server what is confirmed, and asks it how far it is.
func (w *wal) tell() {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for ask := byte(1); ; {
		lsn := w.confirmed.Load()
		b := []byte{'d', 0, 0, 0, 4 + 1 + 8*4 + 1, 'r'} // CopyData with a standby status update
		for range 3 {                                   // written, flushed, applied
			b = binary.BigEndian.AppendUint64(b, lsn)
		}
		b = append(binary.BigEndian.AppendUint64(b, 0), ask) // the time is of no use to the server
		if _, err := w.sock.Write(b); err != nil {
			w.fail(fmt.Errorf("tell the server what is confirmed: %w", err))
			return
		}
		select {
		case <-w.done:
			return
		case <-w.nudge:
			ask = 0
			select {
			case <-w.done:
				return
			case <-time.After(statusGap):
			}
		case <-tick.C:
			ask = 1
		}
	}
}

func (w *wal) receive() {
	for {
		m, err := w.front.Receive()
		if err == nil {
			err = w.received(m)
		}
		if err != nil {
			w.fail(err)
			return
		}
	}
}

var errWALEnded = errors.New("the server has ended the replication")

func (w *wal) received(m pgproto3.BackendMessage) error {
	switch m := m.(type) {
	case *pgproto3.CopyData:
		return w.piece(m.Data)
	case *pgproto3.ErrorResponse:
		return pgError(m)
	case *pgproto3.CopyDone, *pgproto3.ReadyForQuery:
		return errWALEnded
	}
	return nil // notices and parameters
}

func (w *wal) piece(b []byte) error {
	const header, alive = 1 + 3*8, 1 + 2*8 + 1
	switch {
	case len(b) > header && b[0] == 'w':
		return w.push(walItem{data: append([]byte(nil), b[header:]...)})
	case len(b) == alive && b[0] == 'k':
		if b[alive-1] == 1 {
			poke(w.nudge)
			if w.insists(time.Now()) {
				return errShutdown
			}
		}
		return w.push(walItem{end: pgoutput.LSN(binary.BigEndian.Uint64(b[1:]))})
	}
	return fmt.Errorf("the server sent %d bytes that are neither a change nor a sign of life", len(b))
}

var errShutdown = errors.New("the server shuts down")

// insists reports whether the server has asked again and again.
func (w *wal) insists(now time.Time) bool {
	if now.Sub(w.asked) > shutdownPatience/2 {
		w.askedFirst = now
	}
	w.asked = now
	return now.Sub(w.askedFirst) > shutdownPatience
}

// push waits until there is room.
func (w *wal) push(it walItem) error {
	for {
		w.mu.Lock()
		full := w.mu.bytes > walAhead
		if !full {
			w.mu.items = append(w.mu.items, it)
			w.mu.bytes += len(it.data) + 64
		}
		w.mu.Unlock()
		if !full {
			poke(w.ready)
			return nil
		}
		select {
		case <-w.room:
		case <-w.done:
			return net.ErrClosed
		}
	}
}

func (w *wal) fail(err error) {
	w.mu.Lock()
	if w.mu.err == nil {
		w.mu.err = err
	}
	w.mu.Unlock()
	_ = w.sock.Close() // the server need not wait until someone reads the error
	poke(w.ready)
}

// take waits for pieces, at most until the deadline. What came before an error
// is given first.
func (w *wal) take(ctx context.Context, wait time.Duration) ([]walItem, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		w.mu.Lock()
		items, err := w.mu.items, w.mu.err
		w.mu.items, w.mu.bytes = nil, 0
		w.mu.Unlock()
		poke(w.room)
		switch {
		case len(items) > 0:
			return items, nil
		case err != nil:
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				err = fmt.Errorf("the connection was lost: %w", err)
			}
			if connectors.ClassOf(err) == connectors.ClassRetry {
				err = cdcError(ctx, "follow the changes", err)
			}
			return nil, err
		case wait <= 0:
			return nil, nil
		}
		select {
		case <-w.ready:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// close ends the connection and waits for both goroutines.
func (w *wal) close() {
	close(w.done)
	_ = w.sock.SetWriteDeadline(time.Now().Add(closeTimeout))
	_, _ = w.sock.Write([]byte{'X', 0, 0, 0, 4}) // Terminate
	_ = w.sock.Close()
	w.wg.Wait()
}
