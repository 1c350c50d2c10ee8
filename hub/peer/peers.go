package peer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
)

// Peers are the other nodes of the site and the connections with them.
type Peers struct {
	cfg     Config
	log     *slog.Logger
	handler Handler
	bulk    *throttle
	changed chan struct{} // has a token when Run has to look at the nodes
	told    told

	callOnly chan struct{} // a token for each accepted connection that is for one call
	tickets  atomic.Int64  // given to accepted connections

	mu struct {
		sync.Mutex
		self  Identity
		nodes map[int32]*node
	}
}

// New makes the connections' end at this node, which is self; its cluster may
// be set later.
func New(cfg Config, self Identity, handler Handler) (*Peers, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	p := &Peers{cfg: cfg, log: cfg.Logger, handler: handler, bulk: newThrottle(), changed: make(chan struct{}, 1), callOnly: make(chan struct{}, mostCallOnly)}
	p.mu.nodes = map[int32]*node{}
	return p, p.SetSelf(self)
}

// SetSelf says who this node is, when it has been given its cluster and ID.
func (p *Peers) SetSelf(self Identity) error {
	if self.Name == "" || len(self.Name) > 255 {
		return fmt.Errorf("peer: node name of %d bytes, want 1 to 255", len(self.Name))
	}
	if self.Registered() != (self.Node > 0) {
		return fmt.Errorf("peer: node ID %d and cluster %x: want both or neither", self.Node, self.Cluster)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.self = self
	p.wake()
	return nil
}

// SetNodes says which nodes there are, by broker ID; this one may be among
// them. Connections to those that are not named any more end; one to a node
// whose address has changed stays as long as it works.
func (p *Peers) SetNodes(nodes map[int32]Node) {
	var older []*conn
	p.mu.Lock()
	for id, n := range p.mu.nodes {
		if _, ok := nodes[id]; !ok {
			n.addr = ""
		}
	}
	for id, want := range nodes {
		n := p.node(id)
		if n.addr != want.Addr {
			n.addr = want.Addr
			n.knock()
		}
		n.newest = max(n.newest, want.Incarnation)
		older = append(older, n.older()...)
	}
	p.mu.Unlock()
	p.wake()
	failAll(older, errNewer)
}

// wake has Run look at the nodes.
func (p *Peers) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Run accepts connections on ln, which it owns, and keeps those to the nodes
// of SetNodes, until ctx ends or ln fails; then it ends all connections and
// waits for whatever still answers. nil after ctx. ln may be nil. It runs once.
func (p *Peers) Run(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var err error
	if ln != nil {
		stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
		defer stop()
		wg.Go(func() {
			err = p.accept(ctx, ln, &wg)
			cancel()
		})
	}
	for ctx.Err() == nil {
		p.startLinks(ctx, &wg)
		select {
		case <-p.changed:
		case <-ctx.Done():
		}
	}
	wg.Wait()
	return err
}

// startLinks starts the links that are wanted and ends those that are not.
func (p *Peers) startLinks(ctx context.Context, wg *sync.WaitGroup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.mu.nodes {
		wanted := n.addr != "" && p.mu.self.Registered() && n.id != p.mu.self.Node
		for class, l := range n.links {
			switch {
			case wanted && l == nil:
				linkCtx, cancel := context.WithCancel(ctx)
				l = newLink(p, n.id, Class(class), cancel)
				before := n.ended[class]
				n.links[class], n.ended[class] = l, l.ended
				wg.Go(func() { l.run(linkCtx, before) })
			case !wanted && l != nil:
				l.cancel()
				n.links[class] = nil
			}
		}
	}
}

// addr is where a node is; false: it is not named.
func (p *Peers) addr(id int32) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.mu.nodes[id]
	if n == nil || n.addr == "" {
		return "", false
	}
	return n.addr, true
}

// link is the link to a node in a class, or nil.
func (p *Peers) link(id int32, class Class) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.mu.nodes[id]; n != nil {
		return n.links[class]
	}
	return nil
}

// Send hands a message to a node; it never waits. The parts, and what they
// point to, must not be changed any more. False: it was not taken, because
// there is no connection or the queue is full. True says nothing about its
// arrival.
func (p *Peers) Send(node int32, class Class, parts net.Buffers) bool {
	l := p.link(node, class)
	if l == nil {
		return false
	}
	f := frame{kind: kindMessage, payload: parts, unsummed: p.cfg.OwnSums[class]}
	if k := l.current.Load(); k != nil && f.size()-headerSize <= p.cfg.MaxFrame && k.c.send(f) {
		return true
	}
	l.traffic.dropped.Add(1)
	return false
}

// caller is the connection to a node in a class.
func (p *Peers) caller(node int32, class Class) (*caller, error) {
	if l := p.link(node, class); l != nil {
		if k := l.current.Load(); k != nil {
			return k, nil
		}
		if err := l.lastError(); err != nil {
			return nil, fmt.Errorf("node %d: %w: %w", node, ErrNotConnected, err)
		}
	}
	return nil, fmt.Errorf("node %d: %w", node, ErrNotConnected)
}

// Call asks a node and waits for its answer. body must not be changed any
// more, also after an error. The error is ErrNotConnected (nothing was sent),
// ErrDisconnected or the context's (it may have been done), or a *RemoteError.
func (p *Peers) Call(ctx context.Context, node int32, method string, body []byte) ([]byte, error) {
	k, err := p.caller(node, Control)
	if err != nil {
		return nil, fmt.Errorf("%s at %w", method, err)
	}
	return k.call(ctx, method, body)
}

// CallAddr asks whoever answers at an address, over a connection of its own.
// It does not need Run, and neither end has to belong to a cluster.
func (p *Peers) CallAddr(ctx context.Context, addr, method string, body []byte) ([]byte, error) {
	c, err := p.dial(ctx, addr, anyNode, Control, true, new(traffic))
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", method, addr, err)
	}
	k := newCaller(c)
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.run(k.take) })
	defer wg.Wait()
	defer c.fail(errClosed)
	return k.call(ctx, method, body)
}

// Open opens a stream of bytes from a node. Whether the other node takes it
// is told by the first Read. The stream ends with ctx; Close it.
func (p *Peers) Open(ctx context.Context, node int32, method string, body []byte) (io.ReadCloser, error) {
	k, err := p.caller(node, Bulk)
	if err != nil {
		return nil, fmt.Errorf("%s at %w", method, err)
	}
	return k.open(ctx, method, body, p.cfg.Window, p.bulk)
}

// SetBulkRate bounds what this node reads from all streams together, in bytes
// a second, from now on; 0 is no bound. A sender may be ahead by a window.
func (p *Peers) SetBulkRate(bytesPerSecond int64) { p.bulk.setRate(bytesPerSecond) }

// BulkRate is what SetBulkRate set last.
func (p *Peers) BulkRate() int64 { return p.bulk.rate() }
