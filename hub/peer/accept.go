package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// mostGreeting bounds handshakes under way at the accepting end; others wait
// in the system's queue.
const mostGreeting = 64

// acceptAgain is when a listener that failed for a moment (too many open
// files) is asked again.
const acceptAgain = 50 * time.Millisecond

// maxUnregistered bounds the frames of who belongs to no cluster, bytes.
const maxUnregistered = 1 << 20

// inbound is a connection that another node dialed.
type inbound struct {
	c     *conn
	ended chan struct{} // closed when nothing of it reaches the handler any more
}

// accept serves connections until the listener is closed. Its error is nil if
// that was because of ctx.
func (p *Peers) accept(ctx context.Context, ln net.Listener, wg *sync.WaitGroup) error {
	greeting := make(chan struct{}, mostGreeting)
	for {
		nc, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = nc.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("peer: accept on %s: %w", ln.Addr(), err)
		}
		if err != nil {
			if p.told.isNew("accept", err.Error()) {
				p.log.Error("connections of other nodes cannot be accepted", "error", err)
			}
			select {
			case <-time.After(acceptAgain):
			case <-ctx.Done():
			}
			continue
		}
		greeting <- struct{}{}
		wg.Go(func() {
			c, err := p.receive(ctx, nc)
			<-greeting
			if err != nil {
				_ = nc.Close()
				return
			}
			p.serve(ctx, c)
		})
	}
}

// receive shakes hands, and tells once why it did not end well.
func (p *Peers) receive(ctx context.Context, nc net.Conn) (*conn, error) {
	c, other, err := p.welcome(ctx, nc)
	host, _, _ := net.SplitHostPort(nc.RemoteAddr().String())
	who := "from " + host + " " + other.Name
	switch {
	case err == nil:
		p.told.isNew(who, "")
	case ctx.Err() != nil, errors.Is(err, io.EOF): // who says nothing looks whether the port is open
	case p.told.isNew(who, reason(err)):
		p.log.Warn("a connection of another node was not taken", "addr", nc.RemoteAddr().String(), "node", other.Name, "node_id", other.Node, "error", err)
	}
	return c, err
}

// serve answers over a connection until it ends.
func (p *Peers) serve(ctx context.Context, c *conn) {
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	defer stop()
	if !c.callOnly {
		in := &inbound{c: c, ended: make(chan struct{})}
		defer close(in.ended)
		if !p.admit(in) {
			return
		}
		defer p.leave(in)
	}
	err := newAnswerer(c, p.handler).run(ctx)
	if c.class == Heartbeat && errors.Is(err, errSilent) && ctx.Err() == nil {
		p.cut(c.peer.Node, err)
	}
}

// errReplaced ends a connection when the other node has dialed anew.
var errReplaced = errors.New("the other node has made a new connection")

// admit takes the place of the connection before, and waits until nothing of
// that one reaches the handler any more: what was sent first must not come
// second.
func (p *Peers) admit(in *inbound) bool {
	if err := p.met(in.c); err != nil {
		in.c.fail(err)
		return false
	}
	p.mu.Lock()
	n := p.node(in.c.peer.Node)
	before := n.in[in.c.class]
	n.in[in.c.class] = in
	if in.c.class == Heartbeat {
		n.knock()
	}
	p.mu.Unlock()
	if before != nil {
		before.c.fail(errReplaced)
		<-before.ended
	}
	return true
}

// leave gives up the connection's place, if it still has it.
func (p *Peers) leave(in *inbound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.node(in.c.peer.Node); n.in[in.c.class] == in {
		n.in[in.c.class] = nil
	}
}
