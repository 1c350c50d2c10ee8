package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/lib/pq"
)

// How long to wait for what is not bounded by the caller.
const (
	connectTimeout = 10 * time.Second // for a connection, unless the dsn says
	cancelGrace    = 2 * time.Second  // for the server to give up after a cancel, and to take that
	closeTimeout   = time.Second
)

// link is one connection. The driver is used directly, without a pool: a
// writer has to know which connection holds its transaction, and that nothing
// was tried twice behind its back.
type link struct {
	cn   driver.Conn
	sock net.Conn
}

// connect opens a connection. Its error has no class yet.
func connect(ctx context.Context, cfg pq.Config) (*link, error) {
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, err
	}
	d := &dialer{}
	connector.Dialer(d)
	stop := context.AfterFunc(ctx, func() { d.cut(time.Now()) })
	defer stop()
	cn, err := connector.Connect(ctx)
	if err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	return &link{cn: cn, sock: d.taken()}, nil
}

// dialer remembers the socket of the connection it was made for, so that a
// peer that does not answer can be given up. The driver also dials it to send
// a cancel; those sockets are only kept from living forever.
type dialer struct {
	mu struct {
		sync.Mutex
		sock net.Conn
		done bool
	}
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var plain net.Dialer
	c, err := plain.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.done {
		return c, c.SetDeadline(time.Now().Add(cancelGrace))
	}
	d.mu.sock = c
	return c, nil
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d *dialer) taken() net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.done = true
	return d.mu.sock
}

func (d *dialer) cut(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.sock != nil {
		_ = d.mu.sock.SetDeadline(at)
	}
}

// close ends the connection; the server rolls back what is open.
func (l *link) close() {
	_ = l.sock.SetDeadline(time.Now().Add(closeTimeout))
	_ = l.cn.Close()
}

// tx is a transaction. ctx bounds all of it: when it ends the driver asks the
// server to cancel, and if that does not help soon the socket is cut. After
// an error of a statement only rollback, or back to a savepoint, makes sense.
type tx struct {
	*link
	driver.Tx
	release func() bool
}

func (l *link) begin(ctx context.Context) (*tx, error) {
	release := context.AfterFunc(ctx, func() { _ = l.sock.SetDeadline(time.Now().Add(cancelGrace)) })
	t, err := l.cn.(driver.ConnBeginTx).BeginTx(ctx, driver.TxOptions{Isolation: driver.IsolationLevel(sql.LevelReadCommitted)})
	if err != nil {
		release()
		return nil, err
	}
	return &tx{link: l, Tx: t, release: release}, nil
}

func (t *tx) commit() error {
	defer t.release()
	return t.Tx.Commit()
}

// rollback reports whether the connection is good for more.
func (t *tx) rollback() bool {
	defer t.release()
	return t.Tx.Rollback() == nil
}

// exec runs statements and returns how many rows the last one changed.
func (t *tx) exec(statements string) (int64, error) {
	res, err := t.cn.(driver.ExecerContext).ExecContext(context.Background(), statements, nil)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query returns all rows of a query whose columns are texts; NULL is "".
func (t *tx) query(statement string) ([][]string, error) {
	rows, err := t.cn.(driver.QueryerContext).QueryContext(context.Background(), statement, nil)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all [][]string
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		row := make([]string, len(values))
		for i, v := range values {
			switch x := v.(type) {
			case nil:
			case []byte:
				row[i] = string(x)
			default:
				row[i] = fmt.Sprint(x)
			}
		}
		all = append(all, row)
	}
}

// copyChunk is how much of COPY's data is handed to the driver at a time.
const copyChunk = 60 << 10

// copyIn sends lines of COPY text.
func (t *tx) copyIn(statement string, r *rows) error {
	stmt, err := t.cn.Prepare(statement)
	if err != nil {
		return err
	}
	in, ok := stmt.(interface {
		CopyData(ctx context.Context, line string) (driver.Result, error)
	})
	if !ok {
		return fmt.Errorf("the driver has no COPY")
	}
	chunk := make([]byte, 0, copyChunk)
	for i, l := range r.lines {
		chunk = append(chunk, r.text[l.start:l.end]...)
		if i+1 < len(r.lines) && len(chunk)+r.lines[i+1].end-r.lines[i+1].start <= copyChunk {
			continue
		}
		if _, err := in.CopyData(context.Background(), string(chunk[:len(chunk)-1])); err != nil { // it adds the newline
			return errors.Join(err, stmt.Close())
		}
		chunk = chunk[:0]
	}
	_, err = stmt.Exec(nil) //nolint:staticcheck // ends COPY and waits; the form with a context does not know about COPY
	return err
}
