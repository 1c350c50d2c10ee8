package hubtest

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// Forwarder stands in front of a server that is killed and started again: its
// port stays open, and what a client sees of a kill is that its connections
// break, never that one is refused. It adds nothing to how they break: an end
// is passed on as an end and a reset as a reset, at once, and what was on its
// way then is lost, as it may be without the forwarder.
type Forwarder struct {
	// Addr is where it listens, host:port.
	Addr string

	to string
	mu struct {
		sync.Mutex
		closed bool
		open   map[*net.TCPConn]bool
	}
}

// Forward begins to pass connections on to a server, host:port. It ends with
// the test.
func Forward(t testing.TB, to string) *Forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Forwarder{Addr: l.Addr().String(), to: to}
	f.mu.open = map[*net.TCPConn]bool{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.pass(client.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.closeAll()
		wg.Wait()
	})
	return f
}

// pass serves one client until either side ends.
func (f *Forwarder) pass(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	conn, err := net.Dial("tcp", f.to)
	if err != nil {
		return // the server is down: the client sees its connection end
	}
	server := conn.(*net.TCPConn)
	defer func() { _ = server.Close() }()
	if !f.keep(client, server) {
		return
	}
	defer f.drop(client, server)
	var wg sync.WaitGroup
	wg.Go(func() { flow(server, client) })
	flow(client, server)
	wg.Wait()
}

// flow copies until the source ends, and then ends both.
func flow(to, from *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		_ = to.SetLinger(0) // closed with a reset
	}
	_, _ = to.Close(), from.Close()
}

func (f *Forwarder) keep(conns ...*net.TCPConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		f.mu.open[c] = true
	}
	return !f.mu.closed
}

func (f *Forwarder) drop(conns ...*net.TCPConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		delete(f.mu.open, c)
	}
}

func (f *Forwarder) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.closed = true
	for c := range f.mu.open {
		_ = c.Close()
	}
}
