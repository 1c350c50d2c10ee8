package postgres

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
		// see is asked about each chunk from the writer.
		see   func(chunk []byte) verb
		conns map[net.Conn]bool
	}
}

type verb int

const (
	pass     verb = iota
	cutHere       // the server does not get the chunk, the writer no answer
	cutAfter      // the server gets the chunk, the writer no answer
	swallow       // from now on nothing goes through, and nothing is closed
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
		p.l.Close()
		p.closeAll()
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

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.mu.conns {
		c.Close()
	}
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.conns[c] = true
}

func (p *proxy) serve() {
	for {
		front, err := p.l.Accept()
		if err != nil {
			return
		}
		back, err := net.Dial("tcp", p.server)
		if err != nil {
			front.Close()
			continue
		}
		p.keep(front)
		p.keep(back)
		quiet := make(chan struct{})
		p.wg.Go(func() { p.toServer(front, back, quiet) })
		p.wg.Go(func() { p.toWriter(front, back, quiet) })
	}
}

func (p *proxy) toServer(front, back net.Conn, quiet chan struct{}) {
	defer back.Close()
	buf := make([]byte, 1<<17)
	muted := false
	for {
		n, err := front.Read(buf)
		if err != nil {
			return
		}
		if muted {
			continue
		}
		p.mu.Lock()
		see := p.mu.see
		p.mu.Unlock()
		do := pass
		if see != nil {
			do = see(buf[:n])
		}
		switch do {
		case cutHere:
			front.Close()
			return
		case swallow:
			close(quiet)
			muted = true
			continue
		case cutAfter:
			close(quiet)
			muted = true
		}
		if _, err := back.Write(buf[:n]); err != nil {
			return
		}
		if do == cutAfter {
			front.Close()
			return
		}
	}
}

func (p *proxy) toWriter(front, back net.Conn, quiet chan struct{}) {
	defer front.Close()
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
