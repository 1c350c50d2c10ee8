package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Times between attempts to dial. A refused dial costs little, and a node that
// was restarted is to be reached at once: its own call knocks, and a heartbeat
// that is up knocks for the other classes.
const (
	dialFirst     = 10 * time.Millisecond
	dialHeartbeat = 200 * time.Millisecond
	dialOther     = 2 * time.Second
)

// link keeps the connection of a class to a node: it dials, runs it, and dials
// again.
type link struct {
	p       *Peers
	node    int32
	class   Class
	cancel  context.CancelFunc
	ended   chan struct{} // closed when run has returned
	knocked chan struct{} // has a token when to dial now
	current atomic.Pointer[caller]
	traffic traffic
	dials   atomic.Int64 // successful

	mu struct {
		sync.Mutex
		err  error // why it is not connected
		last Peer
	}
}

func newLink(p *Peers, node int32, class Class, cancel context.CancelFunc) *link {
	return &link{p: p, node: node, class: class, cancel: cancel, ended: make(chan struct{}), knocked: make(chan struct{}, 1)}
}

func (l *link) knock() {
	select {
	case l.knocked <- struct{}{}:
	default:
	}
}

// run dials until ctx ends. It begins when the link before has ended, so that
// nothing overtakes what that one sent.
func (l *link) run(ctx context.Context, before <-chan struct{}) {
	defer close(l.ended)
	defer l.cancel()
	if before != nil {
		<-before
	}
	wait := backoff{first: dialFirst, most: dialOther}
	if l.class == Heartbeat {
		wait.most = dialHeartbeat
	}
	for ctx.Err() == nil {
		if l.connect(ctx) {
			wait.reset()
		}
		if _, refused := errors.AsType[*RefusedError](l.lastError()); refused {
			wait.next = dialOther // it will be so for a while; if it changes, the other node knocks
		}
		// A knock shortens the wait and does not leave it out, or two nodes
		// that cut each other off would do nothing else.
		pause(ctx, dialFirst/2, nil)
		pause(ctx, wait.after(rand.Float64()), l.knocked)
	}
}

// pause waits for so long, or until ctx ends or something is in early.
func pause(ctx context.Context, d time.Duration, early <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-ctx.Done():
	}
}

// connect dials once and runs the connection to its end. It reports whether
// there was one that lasted.
func (l *link) connect(ctx context.Context) (lasted bool) {
	addr, ok := l.p.addr(l.node)
	if !ok {
		return false
	}
	c, err := l.p.dial(ctx, addr, l.node, l.class, false, &l.traffic)
	if err != nil {
		l.failed(ctx, err)
		return false
	}
	k := newCaller(c)
	if err := l.p.met(c); err != nil {
		c.fail(err)
		l.failed(ctx, err)
		return false
	}
	l.up(k)
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	defer stop()
	// What the handler does when it hears of the connection may need it.
	var running sync.WaitGroup
	running.Go(func() {
		err = c.run(k.take)
		l.current.Store(nil)
		k.end()
	})
	l.p.handler.Link(c.peer, l.class, true)
	running.Wait()
	l.p.handler.Link(c.peer, l.class, false)
	l.down(ctx, c, err)
	return time.Since(c.began) > l.p.cfg.Dead
}

// up makes a connection the current one.
func (l *link) up(k *caller) {
	l.mu.Lock()
	l.mu.err, l.mu.last = nil, k.c.peer
	l.mu.Unlock()
	l.dials.Add(1)
	l.current.Store(k)
	if l.class == Heartbeat {
		l.p.told.isNew(l.who(), "")
		l.p.log.Info("connected to node", "node", k.c.peer.Name, "node_id", l.node, "addr", k.c.peer.Addr, "version", k.c.peer.Version)
		l.p.reached(l.node)
	}
}

// down notes why a connection ended. A heartbeat that was not answered takes
// the others with it: the node is dead, stopped or cut off.
func (l *link) down(ctx context.Context, c *conn, err error) {
	l.setError(err)
	if ctx.Err() != nil || l.class != Heartbeat {
		return
	}
	l.p.log.Warn("the connection to a node was lost", "node", c.peer.Name, "node_id", l.node, "error", err)
	if errors.Is(err, errSilent) {
		l.p.cut(l.node, err)
	}
}

// failed notes and tells, once, why a node cannot be reached. The other
// classes' reasons are the heartbeat's.
func (l *link) failed(ctx context.Context, err error) {
	l.setError(err)
	if ctx.Err() == nil && l.class == Heartbeat && l.p.told.isNew(l.who(), reason(err)) {
		l.p.log.Warn("a node cannot be reached", "node_id", l.node, "error", err)
	}
}

func (l *link) who() string { return "node " + strconv.Itoa(int(l.node)) }

// reason is what of an error is always the same: ports of this end are not.
func reason(err error) string {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Error()
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

func (l *link) setError(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.err = err
}

func (l *link) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// stat is the link's part of a Stat.
func (l *link) stat() Stat {
	s := Stat{
		Node: l.node, Class: l.class, Connects: l.dials.Load(),
		RoundTrip: time.Duration(l.traffic.roundTrip.Load()), Dropped: l.traffic.dropped.Load(),
	}
	k := l.current.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Name, s.Version, s.Incarnation = l.mu.last.Name, l.mu.last.Version, l.mu.last.Incarnation
	if k != nil {
		s.Since, s.QueueBytes = k.c.began, k.c.out.bytes()
	} else if l.mu.err != nil {
		s.Error = l.mu.err.Error()
	}
	return s
}

// backoff is the time between attempts: twice as long each time.
type backoff struct {
	first, most, next time.Duration
}

// after is how long to wait now, between half of a step and a whole one;
// random is from 0 to below 1.
func (b *backoff) after(random float64) time.Duration {
	d := max(b.next, b.first)
	b.next = min(2*d, b.most)
	return d/2 + time.Duration(random*float64(d/2))
}

func (b *backoff) reset() { b.next = b.first }
