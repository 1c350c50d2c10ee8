package conntest

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between a client and a server and sees each message of the
// client before the server does.
type Proxy struct {
	server string
	wg     sync.WaitGroup
	l      net.Listener
	mu     struct {
		sync.Mutex
		see    func(chunk []byte) Verb // asked about each chunk from the client
		conns  []net.Conn
		closed bool
	}
}

// Verb is what a Proxy does with a chunk.
type Verb int

const (
	Pass     Verb = iota
	CutHere       // the server does not get the chunk, the client no answer
	CutAfter      // the server gets the chunk, the client no answer
	Swallow       // from now on nothing goes through, and nothing is closed
)

// NewProxy returns a proxy to the dsn's server, a URL, and the dsn that goes
// through it. It ends with the test.
func NewProxy(t testing.TB, dsn string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{server: u.Host}
	if p.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = p.l.Addr().String()
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		_ = p.l.Close()
		p.closeAll()
		p.wg.Wait()
	})
	return p, u.String()
}

// Watch sets who is asked about chunks; nil passes them all.
func (p *Proxy) Watch(see func(chunk []byte) Verb) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.see = see
}

func (p *Proxy) ask(chunk []byte) Verb {
	p.mu.Lock()
	see := p.mu.see
	p.mu.Unlock()
	if see == nil {
		return Pass
	}
	return see(chunk)
}

func (p *Proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	for _, c := range p.mu.conns {
		_ = c.Close()
	}
}

// keep makes closeAll close a connection; it is closed at once when that is over.
func (p *Proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		_ = c.Close()
	}
	p.mu.conns = append(p.mu.conns, c)
}

func (p *Proxy) serve() {
	for {
		front, err := p.l.Accept()
		if err != nil {
			return
		}
		back, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = front.Close()
			continue
		}
		p.keep(front)
		p.keep(back)
		quiet := make(chan struct{})
		p.wg.Go(func() { p.toServer(front, back, quiet) })
		p.wg.Go(func() { toClient(front, back, quiet) })
	}
}

// toServer ends with the client, or when it cuts. quiet is closed when the
// client is to hear nothing any more.
func (p *Proxy) toServer(front, back net.Conn, quiet chan struct{}) {
	buf := make([]byte, 1<<20)
	muted := false
	for {
		n, err := front.Read(buf)
		if err != nil {
			_ = back.Close()
			return
		}
		if muted {
			continue
		}
		do := p.ask(buf[:n])
		switch do {
		case CutHere:
			_, _ = front.Close(), back.Close()
			return
		case Swallow:
			close(quiet)
			muted = true
			continue
		case CutAfter:
			close(quiet)
		}
		if _, err := back.Write(buf[:n]); err != nil {
			_ = back.Close()
			return
		}
		if do == CutAfter { // the server keeps what it got and finds nobody to tell
			_ = front.Close()
			_ = back.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// toClient ends with the server.
func toClient(front, back net.Conn, quiet chan struct{}) {
	defer func() { _, _ = front.Close(), back.Close() }()
	buf := make([]byte, 1<<16)
	for {
		n, err := back.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-quiet:
			continue
		default:
		}
		if _, err := front.Write(buf[:n]); err != nil {
			return
		}
	}
}
