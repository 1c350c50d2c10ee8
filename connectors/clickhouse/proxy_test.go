package clickhouse

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a writer and the server and sees each message of the
// writer before the server does.
type proxy struct {
	server string
	wg     sync.WaitGroup
	l      net.Listener
	mu     struct {
		sync.Mutex
		see   func(chunk []byte) verb // asked about each chunk from the writer
		conns map[net.Conn]bool
	}
}

type verb int

const (
	pass     verb = iota
	cutHere       // the server does not get the chunk, the writer no answer
	cutAfter      // the server gets the chunk, the writer no answer
)

// newProxy returns a proxy to the dsn's server and the dsn that goes through it.
func newProxy(t testing.TB, dsn string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{server: u.Host}
	p.mu.conns = map[net.Conn]bool{}
	if p.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = p.l.Addr().String()
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		_ = p.l.Close()
		p.mu.Lock()
		for c := range p.mu.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p, u.String()
}

// watch sets who is asked about chunks; nil passes them all.
func (p *proxy) watch(see func(chunk []byte) verb) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.see = see
}

func (p *proxy) serve() {
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
		p.mu.Lock()
		p.mu.conns[front], p.mu.conns[back] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.toServer(front, back) })
		p.wg.Go(func() { copyChunks(back, front) })
	}
}

// copyChunks ends when either side is closed, and then closes both.
func copyChunks(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) toServer(front, back net.Conn) {
	buf := make([]byte, 1<<20)
	for {
		n, err := front.Read(buf)
		if err != nil {
			_ = back.Close()
			return
		}
		p.mu.Lock()
		see := p.mu.see
		p.mu.Unlock()
		do := pass
		if see != nil {
			do = see(buf[:n])
		}
		if do == cutHere {
			_, _ = front.Close(), back.Close()
			return
		}
		if _, err := back.Write(buf[:n]); err != nil {
			return
		}
		if do == cutAfter { // the server keeps what it got and finds nobody to tell
			_ = front.Close()
			_ = back.(*net.TCPConn).CloseWrite()
			return
		}
	}
}
