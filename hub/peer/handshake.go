package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

// dial connects to an address, shakes hands and returns the connection, of
// which nothing runs yet. want is the node that is expected there.
func (p *Peers) dial(ctx context.Context, addr string, want int32, class Class, callOnly bool, t *traffic) (*conn, error) {
	dialing, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	nc, err := p.cfg.Dial(dialing, addr)
	cancel()
	if err != nil {
		return nil, err
	}
	c, err := p.greet(ctx, nc, addr, want, class, callOnly, t)
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("handshake with %s: %w", addr, err)
	}
	return c, nil
}

// greet is the dialing end's handshake.
func (p *Peers) greet(ctx context.Context, nc net.Conn, addr string, want int32, class Class, callOnly bool, t *traffic) (*conn, error) {
	setUserTimeout(nc, p.cfg.timeout(class))
	raw, done := nc, p.bound(ctx, nc)
	defer done()
	if p.cfg.ClientTLS != nil {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		secured := tls.Client(nc, p.cfg.ClientTLS(host))
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		nc = secured
	}
	own := p.hello(class, callOnly)
	if _, err := nc.Write(appendEnvelope(nil, own.text())); err != nil {
		return nil, err
	}
	other, err := readHello(nc)
	if err != nil {
		return nil, err
	}
	// Both verdicts are told before either counts, so that both ends know why.
	version, mine := judge(own, other, want, p.newest)
	if _, err := nc.Write(appendEnvelope(nil, verdictText(mine))); err != nil && mine == nil {
		return nil, err
	}
	theirs, err := readVerdict(nc)
	if refused := firstRefusal(mine, theirs); refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	if !done() {
		return nil, context.Cause(ctx)
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c := p.newConn(nc, raw, other, version, t)
	c.dialed = true
	return c, nil
}

// welcome is the accepting end's handshake. The hello is returned as far as it
// was read.
func (p *Peers) welcome(ctx context.Context, nc net.Conn) (*conn, hello, error) {
	raw, done := nc, p.bound(ctx, nc)
	defer done()
	var other hello
	if p.cfg.ServerTLS != nil {
		secured := tls.Server(nc, p.cfg.ServerTLS)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, other, fmt.Errorf("TLS: %w", err)
		}
		nc = secured
	}
	other, err := readHello(nc)
	if err != nil {
		return nil, other, err
	}
	ticket := p.tickets.Add(1)
	own := p.hello(other.class, other.callOnly)
	version, mine := judge(own, other, anyNode, p.newest)
	b := appendEnvelope(nil, own.text())
	if _, err := nc.Write(appendEnvelope(b, verdictText(mine))); err != nil && mine == nil {
		return nil, other, err
	}
	theirs, err := readVerdict(nc)
	if refused := firstRefusal(mine, theirs); refused != nil {
		return nil, other, refused
	}
	if err != nil {
		return nil, other, err
	}
	if !done() {
		return nil, other, context.Cause(ctx)
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, other, err
	}
	setUserTimeout(raw, p.cfg.timeout(other.class))
	c := p.newConn(nc, raw, other, version, p.accepted(other))
	c.ticket = ticket
	return c, other, nil
}

func firstRefusal(mine, theirs *RefusedError) error {
	if mine != nil {
		return mine
	}
	if theirs != nil {
		return theirs
	}
	return nil
}

// bound ends the connection with the context, and after the time for a
// handshake. done takes the context's hold off and reports whether it had
// none yet.
func (p *Peers) bound(ctx context.Context, nc net.Conn) (done func() bool) {
	_ = nc.SetDeadline(time.Now().Add(p.cfg.HandshakeTimeout)) // a closed one fails at its next use
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	stopped := false
	return func() bool {
		stopped = stopped || stop()
		return stopped
	}
}

// hello is what this node says of itself.
func (p *Peers) hello(class Class, callOnly bool) hello {
	p.mu.Lock()
	defer p.mu.Unlock()
	return hello{min: p.cfg.MinVersion, max: p.cfg.MaxVersion, class: class, callOnly: callOnly, Identity: p.mu.self}
}

// newConn is the connection with who said hello.
func (p *Peers) newConn(nc, raw net.Conn, other hello, version uint16, t *traffic) *conn {
	c := &conn{
		nc: nc, raw: raw, class: other.class, callOnly: other.callOnly,
		peer:      Peer{Identity: other.Identity, Version: version, Addr: nc.RemoteAddr().String()},
		keepAlive: p.cfg.keepAlive(other.class), timeout: p.cfg.timeout(other.class), maxFrame: p.cfg.MaxFrame, began: time.Now(),
		out: newQueue(p.cfg.Queue[other.class]), traffic: t, closed: make(chan struct{}),
		system: systemConn(nc),
	}
	c.w.c = c
	if !other.Registered() {
		c.maxFrame = min(c.maxFrame, maxUnregistered)
	}
	return c
}

func readHello(nc net.Conn) (hello, error) {
	text, err := readText(nc)
	if err != nil {
		return hello{}, err
	}
	return decodeHello(text)
}

func readVerdict(nc net.Conn) (*RefusedError, error) {
	text, err := readText(nc)
	if err != nil {
		return nil, err
	}
	return decodeVerdict(text)
}

// readText reads one envelope and not a byte more.
func readText(nc net.Conn) ([]byte, error) {
	head := make([]byte, envelopeSize)
	if n, err := io.ReadFull(nc, head); err != nil {
		// A TLS alert is shorter than an envelope.
		if _, _, wrong := decodeEnvelope(append(head[:n:n], make([]byte, envelopeSize-n)...)); n >= 2 && wrong != nil {
			return nil, wrong
		}
		return nil, err
	}
	length, sum, err := decodeEnvelope(head)
	if err != nil {
		return nil, err
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(nc, text); err != nil {
		return nil, err
	}
	if crc32.Checksum(text, crcTable) != sum {
		return nil, errors.New("the handshake is damaged: its CRC32C is wrong")
	}
	return text, nil
}
