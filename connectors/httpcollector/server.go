package httpcollector

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// maxHeader bounds the headers of one request, in bytes. net/http adds 4 KiB
// of its own.
const maxHeader = 12 << 10

// server is the open address with all its connections.
type server struct {
	settings
	intake *intake
	log    *slog.Logger
	clock  func() time.Time
	http   *http.Server
	addr   string
	served chan error // the end of the goroutine that accepts

	mu struct {
		sync.Mutex
		closed   bool
		requests sync.WaitGroup
		failure  error
	}
}

// listen opens the address.
func listen(ctx context.Context, s settings, task connectors.TaskContext, q *intake) (*server, error) {
	out := &server{settings: s, intake: q, log: task.Logger, clock: task.Clock, served: make(chan error, 1)}
	var secure *tls.Config
	if s.cert != "" {
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return nil, connectors.Fatalf("tls: the certificate %s with the key %s: %w", s.cert, s.key, err)
		}
		secure = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.listen, err)
	}
	out.addr = l.Addr().String()
	l = &gate{Listener: l, room: make(chan struct{}, s.limits.connections)}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	out.http = &http.Server{
		Handler: out.routes(), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: s.limits.read, ReadTimeout: s.limits.read, IdleTimeout: s.limits.idle,
		WriteTimeout: s.limits.read + s.patience + writeSlack,
		ErrorLog:     slog.NewLogLogger(task.Logger.Handler(), slog.LevelDebug),
	}
	go func() {
		err := out.http.Serve(l)
		if !errors.Is(err, http.ErrServerClosed) {
			out.fail(fmt.Errorf("accept on %s: %w", out.addr, err))
		}
		out.served <- err
	}()
	task.Logger.Info("collector listens", "addr", out.addr)
	return out, nil
}

// writeSlack is what a client may take to read its answer.
const writeSlack = 10 * time.Second

func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.failure = err
}

// failed is why nothing more can come.
func (s *server) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.failure
}

// enter counts a request in, unless the server is closing.
func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return false
	}
	s.mu.requests.Add(1)
	return true
}

func (s *server) leave() { s.mu.requests.Done() }

// drainTime is how long answers may take to be written when the server ends.
const drainTime = 500 * time.Millisecond

// close ends the server. The intake has to be closed, so that nobody waits for
// a commit any more.
func (s *server) close(ctx context.Context) error {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil { // some client is slow
		err = s.http.Close()
	}
	<-s.served
	s.mu.requests.Wait()
	return err
}

// busy is the answer to a connection that is one too many.
const busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

// gate lets so many connections in as it has room for. The others are told to
// come again: a client that waits in the kernel's queue would learn nothing.
type gate struct {
	net.Listener
	room chan struct{}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case g.room <- struct{}{}:
			return &guest{Conn: c, room: g.room}, nil
		default:
		}
		// The answer fits into the socket's buffer, so this does not wait.
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte(busy))
		_ = c.Close()
	}
}

// guest is a connection that gives its place back once.
type guest struct {
	net.Conn
	room chan struct{}
	once sync.Once
}

// Close implements net.Conn.
func (g *guest) Close() error {
	err := g.Conn.Close()
	g.once.Do(func() { <-g.room })
	return err
}
