package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memNet is a network in memory, for bubbles of synctest, where sockets do not
// count as waiting. Each connection has some room in each direction, as those
// of the system have.
type memNet struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	gates     map[string]chan struct{} // by the node that is sent to; closed: it flows
	wg        sync.WaitGroup
	faults    *faults // nil: none
}

func newMemNet() *memNet {
	m := &memNet{listeners: map[string]*memListener{}, gates: map[string]chan struct{}{}}
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
		id := identity(int32(i + 1))
		n := newNode(t, m.config(id.Name, change), id)
		n.serve(m.listen(n.id.Name + ":1"))
		all = append(all, n)
	}
	join(all...)
	return m, all
}

// step lets the clock of the bubble go on. It never sleeps: outside of a bubble
// synctest.Wait panics.
func step(d time.Duration) {
	synctest.Wait()
	<-time.After(d)
}

// config is the default one of a node over this network.
func (m *memNet) config(name string, change func(*Config)) Config {
	cfg := Default()
	cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return m.dial(ctx, name, addr) }
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// stall holds up what is sent to the nodes, as when the network is gone or a
// process is stopped; flow lets what was held up arrive.
func (m *memNet) stall(to ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range to {
		m.gates[name] = make(chan struct{})
	}
}

func (m *memNet) flow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, gate := range m.gates {
		close(gate)
		delete(m.gates, name)
	}
}

// pass waits while what is sent to a node is held up.
func (m *memNet) pass(to string, done <-chan struct{}) bool {
	m.mu.Lock()
	gate := m.gates[to]
	m.mu.Unlock()
	if gate == nil {
		return true
	}
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

// dial connects the node called name; addresses are NAME:PORT. Both ways are
// needed, as TCP needs them.
func (m *memNet) dial(ctx context.Context, name, addr string) (net.Conn, error) {
	to, _, _ := net.SplitHostPort(addr)
	if !m.pass(to, ctx.Done()) || !m.pass(name, ctx.Done()) {
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
	m.wg.Go(func() { m.pump(a, b, to) })
	m.wg.Go(func() { m.pump(b, a, name) })
	return near, nil
}

// pumpRoom is how many reads of up to 4 KiB a direction holds.
const pumpRoom = 64

// pump carries bytes from one pipe to another, which is a node's of that name,
// until either ends.
func (m *memNet) pump(from, to net.Conn, name string) {
	held := make(chan []byte, pumpRoom)
	done := make(chan struct{})
	m.wg.Go(func() {
		defer close(done)
		for b := range held {
			m.pass(name, nil)
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
