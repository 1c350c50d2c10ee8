package hub

import (
	"context"
	"net"
	"slices"
	"sync"
)

// pipe lets the node's own jobs reach its Kafka server without a socket: they
// stay ordinary Kafka clients, so idempotence, limits and leader redirects hold
// for them as for anyone. Every other address is dialled over TCP.
type pipe struct {
	serve func(context.Context, net.Conn)
	ctx   context.Context // of the server: ends the served side
	own   []string        // addresses that mean this node
	wg    sync.WaitGroup
}

func (p *pipe) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !slices.Contains(p.own, addr) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	client, server := net.Pipe()
	p.wg.Go(func() { p.serve(p.ctx, server) })
	return client, nil
}

// wait returns when every served side has ended.
func (p *pipe) wait() { p.wg.Wait() }
