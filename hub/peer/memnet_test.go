package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// memNet is a network in memory, for bubbles of synctest, where sockets do not
// count as waiting. Each connection has some room in each direction, as those
// of the system have.
type memNet struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	gate      chan struct{} // closed: everything flows; open: nothing does
	wg        sync.WaitGroup
	faults    *faults // nil: none
}

func newMemNet() *memNet {
	m := &memNet{listeners: map[string]*memListener{}, gate: make(chan struct{})}
	close(m.gate)
	return m
}

// bubble is two nodes and more on a network in memory, all connected. It is
// for the inside of synctest.Test.
func bubble(t *testing.T, nodes int, change func(*Config)) (*memNet, []*testNode) {
	t.Helper()
	m := newMemNet()
	t.Cleanup(m.wg.Wait)
	var all []*testNode
	for i := range nodes {
		n := newNode(t, m.config(change), identity(int32(i+1)))
		n.serve(m.listen(n.id.Name + ":1"))
		all = append(all, n)
	}
	join(all...)
	return m, all
}

// config is the default one over this network.
func (m *memNet) config(change func(*Config)) Config {
	cfg := Default()
	cfg.Dial = m.dial
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// stall holds everything up, as when the network is gone or a process is
// stopped; flow lets what was held up arrive.
func (m *memNet) stall() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate = make(chan struct{})
}

func (m *memNet) flow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.gate)
}

// pass waits while the network is stalled.
func (m *memNet) pass(done <-chan struct{}) bool {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	select {
	case <-gate:
		return true
	case <-done:
		return false
	}
}

func (m *memNet) listen(addr string) net.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &memListener{net: m, addr: addr, conns: make(chan net.Conn, 128), done: make(chan struct{})}
	m.listeners[addr] = l
	return l
}

func (m *memNet) dial(ctx context.Context, addr string) (net.Conn, error) {
	if !m.pass(ctx.Done()) {
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	l := m.listeners[addr]
	m.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	near, a := net.Pipe()
	b, far := net.Pipe()
	select {
	case l.conns <- far:
	case <-l.done:
		return nil, errors.New("connection refused")
	}
	m.wg.Go(func() { m.pump(a, b) })
	m.wg.Go(func() { m.pump(b, a) })
	return near, nil
}

// pumpRoom is how many reads of up to 4 KiB a direction holds.
const pumpRoom = 64

// pump carries bytes from one pipe to another until either ends.
func (m *memNet) pump(from, to net.Conn) {
	held := make(chan []byte, pumpRoom)
	done := make(chan struct{})
	m.wg.Go(func() {
		defer close(done)
		for b := range held {
			m.pass(nil)
			m.mu.Lock()
			f := m.faults
			m.mu.Unlock()
			if !f.allow(b) {
				break
			}
			if _, err := to.Write(b); err != nil {
				break
			}
		}
		_, _ = from.Close(), to.Close()
	})
	defer close(held)
	for {
		b := make([]byte, 4096)
		n, err := from.Read(b)
		if err != nil {
			return // what is held is written, then the other end is closed
		}
		select {
		case held <- b[:n]:
		case <-done:
			return
		}
	}
}

// faults are what goes wrong with what is carried, as often as one in so many
// chunks.
type faults struct {
	mu                      sync.Mutex
	random                  *rand.Rand
	cut, flip, delay        int
	cuts, flips, delays, ok int
	off                     bool
}

// allow damages, delays or cuts.
func (f *faults) allow(b []byte) bool {
	if f == nil {
		return true
	}
	f.mu.Lock()
	one := func(in int) bool { return !f.off && in > 0 && f.random.IntN(in) == 0 }
	cut, wait := one(f.cut), time.Duration(0)
	switch {
	case cut:
		f.cuts++
	case one(f.flip):
		f.flips++
		b[f.random.IntN(len(b))] ^= 1 << f.random.IntN(8)
	case one(f.delay):
		f.delays++
		wait = time.Duration(f.random.Int64N(int64(3 * time.Second)))
	default:
		f.ok++
	}
	f.mu.Unlock()
	idle(wait)
	return !cut
}

// idle lets so much of a bubble's time pass. (A channel whose time has already
// come crashes Go 1.26 in a bubble under the race detector.)
func idle(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

func (f *faults) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
}

type memListener struct {
	net   *memNet
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		if l.net.listeners[l.addr] == l {
			delete(l.net.listeners, l.addr)
		}
		l.net.mu.Unlock()
		for {
			select {
			case nc := <-l.conns:
				_ = nc.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr(l.addr) }

type memAddr string

func (memAddr) Network() string  { return "mem" }
func (a memAddr) String() string { return string(a) }
