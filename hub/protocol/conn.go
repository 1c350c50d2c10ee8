package protocol

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/hub/auth"
)

// conn is one client's connection. Requests are read ahead, handled one after
// the other and answered in order. Only produce requests overlap: they are
// proposed in order at once, and the answer waits for the commit while the
// next one is handled.
type conn struct {
	s      *Server
	nc     net.Conn
	frames frameReader
	host   string
	door   *Listener // nil: a pipe of the hub's own jobs
	who    auth.Principal
	login  *login // nil: the listener asks for none; once let in, of handle alone

	fetches fetches       // of handle alone
	shares  shareSessions // likewise

	queue chan *request // read, not yet handled
	out   chan *pending // handled, not yet answered
	slots chan struct{} // one for each request read and not yet answered
	bytes *budget       // their bytes
	due   atomic.Int32  // their number

	cut     context.Context // ends when answers are no longer waited for
	cutNow  context.CancelFunc
	closing atomic.Bool // a fault was logged, or the end is wanted
}

// pending is a handled request whose answer is to be written.
type pending struct {
	r *request
	a answer
}

func newConn(s *Server, door *Listener, nc net.Conn) *conn {
	l := s.cfg.Limits
	return &conn{
		s: s, nc: nc, host: remoteIP(nc), door: door, fetches: fetches{nc: nc},
		frames: frameReader{nc: nc, br: bufio.NewReaderSize(nc, 8<<10), limits: l, budget: s.requests, least: requestHeader},
		queue:  make(chan *request, l.Pipeline),
		out:    make(chan *pending, l.Pipeline),
		slots:  make(chan struct{}, l.Pipeline),
		bytes:  newBudget(l.Pending),
	}
}

// serve runs the connection to its end. When ctx ends, no more requests are
// read, those that were are answered within Limits.Drain.
func (c *conn) serve(ctx context.Context) {
	c.cut, c.cutNow = context.WithCancel(context.WithoutCancel(ctx))
	defer c.cutNow()
	parked, unpark := context.WithCancel(ctx) // long polls and joins
	defer unpark()
	raw := c.nc
	leave := context.AfterFunc(ctx, func() { _ = raw.SetReadDeadline(time.Unix(1, 0)) })
	err := c.enter(ctx)
	leave()
	if err != nil {
		c.fault(err)
		_ = c.nc.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() { c.drain() })
	defer stop()

	var wg sync.WaitGroup
	wg.Go(func() {
		defer unpark() // nobody is there any more to wait for
		defer close(c.queue)
		c.read(ctx)
	})
	wg.Go(func() {
		defer close(c.out)
		c.handle(parked)
	})
	c.write()
	// The writer ends last of its own will, or first because the client is
	// gone: then the others have to end too.
	_ = c.nc.Close()
	c.cutNow()
	unpark()
	for p := range c.out {
		c.release(p)
	}
	wg.Wait()
	c.s.endSession(&c.fetches.session)
	c.s.endShareSessions(c.shares)
}

// drain stops the reader, and everything else a while later.
func (c *conn) drain() {
	c.closing.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	t := time.AfterFunc(c.s.cfg.Limits.Drain, func() {
		c.cutNow()
		_ = c.nc.Close()
	})
	context.AfterFunc(c.cut, func() { t.Stop() })
}

// read reads requests until the connection or ctx ends.
func (c *conn) read(ctx context.Context) {
	for ctx.Err() == nil {
		r, err := c.readOne(ctx)
		if err != nil {
			c.fault(err)
			return
		}
		select {
		case c.queue <- r:
		case <-c.cut.Done():
			c.free(r)
			return
		}
	}
}

func (c *conn) readOne(ctx context.Context) (*request, error) {
	select {
	case c.slots <- struct{}{}:
	case <-c.cut.Done():
		return nil, io.EOF
	}
	f, err := c.frames.next(ctx, func() bool { return c.due.Load() > 0 })
	if err != nil {
		<-c.slots
		return nil, err
	}
	held, err := c.bytes.take(c.cut, int64(len(f.bytes)))
	if err != nil {
		c.s.requests.give(f.taken)
		<-c.slots
		return nil, err
	}
	c.due.Add(1)
	r, err := parseRequest(f)
	r.held = held
	c.introduce(r)
	if err != nil {
		c.free(r)
		return nil, err
	}
	return r, nil
}

// free gives back what an unanswered request holds.
func (c *conn) free(r *request) {
	c.s.requests.give(r.frame.taken)
	c.bytes.give(r.held)
	c.due.Add(-1)
	<-c.slots
}

// release is free for a handled request. One whose appends are still under way
// keeps its share of the memory of all connections until they are done.
func (c *conn) release(p *pending) {
	if p.a.fetch != nil {
		c.s.answers.Add(-p.a.fetch.held)
		p.a.fetch.giveBack()
	}
	if p.a.later != nil {
		taken := p.r.frame.taken
		p.r.frame.taken = 0
		p.a.later.whenDone(func() { c.s.requests.give(taken) })
	}
	c.free(p.r)
}

// handle acts on the requests in order.
func (c *conn) handle(ctx context.Context) {
	for r := range c.queue {
		c.s.counts[r.api.key].Add(1)
		begin := c.s.cfg.Clock()
		a, err := answer{}, c.admit(r)
		if err == nil {
			a, err = r.api.handle(c.s, ctx, r)
		}
		var quiet time.Duration
		switch {
		case err != nil:
			c.fault(err)
			a = answer{close: true}
		case c.door != nil:
			quiet = c.s.throttle(r, a, c.s.cfg.Clock().Sub(begin))
		}
		select {
		case c.out <- &pending{r, a}:
		case <-c.cut.Done():
			c.release(&pending{r, a})
		}
		if a.close || quiet > 0 && !pause(ctx, quiet) {
			break
		}
	}
	for r := range c.queue { // after a fault: what was read ahead is dropped
		c.free(r)
	}
}

// fault logs why a connection ends, unless it is no fault.
func (c *conn) fault(err error) {
	if c.closing.Swap(true) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
		return
	}
	if isTimeout(err) {
		c.s.log.Debug("closed an idle connection", "client", c.host, "error", err)
		return
	}
	if more, ok := c.s.loud.now(c.s.cfg.Clock()); ok {
		c.s.log.Warn("closed a connection", "client", c.host, "error", err, "more", more)
	}
}
