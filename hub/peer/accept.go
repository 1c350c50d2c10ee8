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
	ended chan struct{} // closed when no message of it reaches the handler any more
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
	end, err := p.admit(c)
	if err != nil {
		c.fail(err)
		return
	}
	a := newAnswerer(c, p.handler)
	err = a.run(ctx)
	end()
	if c.class == Heartbeat && errors.Is(err, errSilent) && ctx.Err() == nil {
		p.cut(c.peer.Node, err)
	}
	a.wg.Wait()
}

// errReplaced ends a connection when the other node has dialed anew.
var errReplaced = errors.New("the other node has made a new connection")

// mostCallOnly bounds the connections that others made for one call.
const mostCallOnly = 256

// admit gives a connection its place; end gives it up, when no message of it
// reaches the handler any more. A lasting one takes the place of the one
// before and waits for its end: what was sent first must not come second.
func (p *Peers) admit(c *conn) (end func(), err error) {
	if c.callOnly {
		select {
		case p.callOnly <- struct{}{}:
			return func() { <-p.callOnly }, nil
		default:
			return nil, errors.New("too many connections for one call")
		}
	}
	if err := p.met(c); err != nil {
		return nil, err
	}
	in := &inbound{c: c, ended: make(chan struct{})}
	before, err := p.place(in)
	if err != nil {
		return nil, err
	}
	if before != nil {
		before.c.fail(errReplaced)
		<-before.ended
	}
	return func() { p.leave(in); close(in.ended) }, nil
}

// place puts a connection into its place and returns the one that was there.
//
// The end of a handshake can be late:
//
//  1. the other node takes the handshake for done, sends, and is cut off;
//  2. it dials again, shakes hands and sends more, which arrives;
//  3. now the first one's last word arrives, and what was sent with it.
//
// So a connection that said hello before the newest one is refused. A dialing
// end says its last word only after this one has read its hello, and dials
// again only after that, so hellos are read in the order that counts.
func (p *Peers) place(in *inbound) (before *inbound, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, class := p.node(in.c.peer.Node), in.c.class
	if in.c.ticket < n.ticket[class] {
		return nil, errReplaced
	}
	n.ticket[class] = in.c.ticket
	before, n.in[class] = n.in[class], in
	if class == Heartbeat {
		n.knock()
	}
	return before, nil
}

// leave gives up the connection's place, if it still has it.
func (p *Peers) leave(in *inbound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.node(in.c.peer.Node); n.in[in.c.class] == in {
		n.in[in.c.class] = nil
	}
}
