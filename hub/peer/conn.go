package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// ErrDisconnected: the connection was lost. What was asked over it may have
// been done or not.
var ErrDisconnected = errors.New("the connection to the other node was lost")

// ErrNotConnected: there is no connection. Nothing was sent.
var ErrNotConnected = errors.New("not connected to the other node")

// errSilent ends a connection that nothing came from.
var errSilent = errors.New("the other node is silent")

// readBuffer holds headers and small frames; larger payloads are read past it.
const readBuffer = 32 << 10

// conn is a connection after its handshake, at either end.
type conn struct {
	nc        net.Conn
	raw       net.Conn // nc without TLS, which would say goodbye and wait for it
	peer      Peer
	class     Class
	dialed    bool  // by this end
	callOnly  bool  // for one call, beside the lasting connections
	ticket    int64 // of an accepted one: in the order in which hellos were read
	keepAlive time.Duration
	timeout   time.Duration
	maxFrame  int
	began     time.Time
	out       *queue
	traffic   *traffic
	system    syscall.RawConn // nil: only the writer writes

	writing sync.Mutex
	w       writer // of who has the lock

	closed chan struct{} // no more is written; err is set
	once   sync.Once
	err    error
}

// fail ends the connection; the first reason counts.
func (c *conn) fail(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.closed)
		_ = c.raw.Close()
		c.traffic.dropped.Add(int64(c.out.close()))
	})
}

// run reads and writes until the connection ends, and returns why. take is
// handed every frame in order; its error ends the connection.
func (c *conn) run(take func(h header, payload []byte) error) error {
	var wg sync.WaitGroup
	wg.Go(c.write)
	c.fail(c.read(take))
	wg.Wait()
	return c.err
}

// read hands frames to take until something is wrong.
func (c *conn) read(take func(h header, payload []byte) error) error {
	r := bufio.NewReaderSize(timedReader{c}, readBuffer)
	var head [headerSize]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return ioError("read", err)
		}
		h, err := decodeHeader(head[:], c.maxFrame)
		if err != nil {
			return err
		}
		payload := buffer(h)
		if _, err := io.ReadFull(r, payload); err != nil {
			return ioError("read", err)
		}
		if err := h.check(payload); err != nil {
			return err
		}
		c.traffic.receivedFrames.Add(1)
		if err := take(h, payload); err != nil {
			return err
		}
	}
}

// chunks are buffers of chunkBytes for what comes of streams: new ones for every
// megabyte of a copy would have to be cleared and collected.
var chunks sync.Pool

// buffer is one of its own for a frame's payload: it belongs to whom the frame is
// for, who may recycle it.
func buffer(h header) []byte {
	if h.kind != kindData || h.length < chunkBytes/2 || h.length > chunkBytes {
		return make([]byte, h.length)
	}
	if b, ok := chunks.Get().(*[chunkBytes]byte); ok {
		return b[:h.length]
	}
	return make([]byte, h.length, chunkBytes)
}

// recycle takes a buffer that nobody looks at any more.
func recycle(b []byte) {
	if cap(b) == chunkBytes {
		chunks.Put((*[chunkBytes]byte)(b[:chunkBytes]))
	}
}

// ioError says what went wrong, and tells silence from the rest.
func ioError(doing string, err error) error {
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return fmt.Errorf("%s: %w", doing, errSilent)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// timedReader reads with a deadline for each read, so that it is progress that
// counts.
type timedReader struct{ c *conn }

func (r timedReader) Read(p []byte) (int, error) {
	if err := r.c.nc.SetReadDeadline(time.Now().Add(r.c.timeout)); err != nil {
		return 0, err
	}
	n, err := r.c.nc.Read(p)
	r.c.traffic.receivedBytes.Add(int64(n))
	return n, err
}
