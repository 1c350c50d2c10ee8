// Package pipe lets a node's own jobs reach its Kafka server without a socket:
// they stay ordinary Kafka clients, so idempotence, limits and leader redirects
// hold for them as for anyone.
//
// Goroutines: the served side of each connection; Wait waits for all of them, and
// the context of Begin ends them.
package pipe

import (
	"context"
	"net"
	"slices"
	"sync"
)

// Pipe dials. Its methods may be called from any goroutine once it has begun.
type Pipe struct {
	serve func(context.Context, net.Conn)
	own   []string
	ctx   context.Context // of the server
	wg    sync.WaitGroup
}

// New is a pipe to a server, for the addresses own that mean this node.
func New(serve func(context.Context, net.Conn), own ...string) *Pipe {
	return &Pipe{serve: serve, own: own}
}

// Begin has connections served until ctx ends.
func (p *Pipe) Begin(ctx context.Context) { p.ctx = ctx }

// Dial connects with the node's server, and over TCP with every other address.
func (p *Pipe) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !slices.Contains(p.own, addr) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	client, server := net.Pipe()
	p.wg.Go(func() { p.serve(p.ctx, server) })
	return client, nil
}

// Wait returns when every served side has ended.
func (p *Pipe) Wait() { p.wg.Wait() }
