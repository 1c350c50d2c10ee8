package peer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// up counts the classes of a node's links to another that are up.
func upNow(n *testNode, to string) int {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up(to)
}

// A node that does not answer is noticed within the time of Dead, in all
// classes and at both ends, even when only one way is gone, and is connected
// again as soon as it answers.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, nodes := bubble(t, 2, nil)
		a, b := nodes[0], nodes[1]
		for _, gone := range [][]string{{"n1", "n2"}, {"n1"}, {"n2"}} {
			// Keep-alives keep an idle connection.
			step(time.Minute)
			if upNow(a, "n2") != Classes || upNow(b, "n1") != Classes {
				t.Fatal("an idle connection was lost")
			}
			m.stall(gone...)
			step(a.cfg.Dead + a.cfg.KeepAlive)
			if upNow(a, "n2") != 0 || upNow(b, "n1") != 0 {
				t.Fatalf("nothing comes to %v: after %v %d and %d classes are up", gone, a.cfg.Dead, upNow(a, "n2"), upNow(b, "n1"))
			}
			if a.Send(2, Append, net.Buffers{[]byte("x")}) {
				t.Error("sent to a node that is silent")
			}
			step(time.Minute)
			if upNow(a, "n2") != 0 || upNow(b, "n1") != 0 {
				t.Fatalf("nothing comes to %v: after a minute %d and %d classes are up", gone, upNow(a, "n2"), upNow(b, "n1"))
			}
			m.flow()
			at := time.Now()
			a.connected("n2")
			b.connected("n1")
			if took := time.Since(at); took > 2*dialHeartbeat {
				t.Errorf("connected again after %v", took)
			}
		}
		if s := a.log.String(); !strings.Contains(s, "the other node is silent") || strings.Count(s, "cannot be reached") > 6 {
			t.Errorf("log: %s", s)
		}
	})
}

// A network that comes and goes leaves nothing behind: when it stays, all is
// connected at once.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, nodes := bubble(t, 3, nil)
		random := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			m.stall(nodes[random.IntN(3)].id.Name)
			step(time.Duration(random.IntN(3000)+1) * time.Millisecond)
			m.flow()
			step(time.Duration(random.IntN(300)+1) * time.Millisecond)
		}
		at := time.Now()
		for _, from := range nodes {
			for _, to := range nodes {
				if from != to {
					from.connected(to.id.Name)
				}
			}
		}
		if took := time.Since(at); took > time.Second {
			t.Errorf("connected %v after the last time", took)
		}
	})
}

// A node that is started again is connected within tens of milliseconds,
// however long it was away.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, nodes := bubble(t, 2, nil)
		a, b := nodes[0], nodes[1]
		for _, away := range []time.Duration{0, time.Second, time.Hour} {
			b.stop()
			if up := upNow(a, "n2"); up != 0 {
				t.Fatalf("%d classes are up with a node that has gone", up)
			}
			step(away)
			b = newNode(t, m.config("n2", nil), identity(2))
			b.SetNodes(map[int32]Node{1: {Addr: "n1:1"}})
			b.serve(m.listen("n2:1"))
			at := time.Now()
			b.connected("n1")
			a.connected("n2")
			if took := time.Since(at); took > 50*time.Millisecond {
				t.Errorf("away for %v: connected again after %v", away, took)
			}
		}
	})
}

// A node that has moved calls from its new address, and is dialed there as
// soon as that is known.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, nodes := bubble(t, 2, nil)
		a := nodes[0]
		nodes[1].stop()
		b := newNode(t, m.config("n2", nil), identity(2))
		b.SetNodes(map[int32]Node{1: {Addr: "n1:1"}})
		b.serve(m.listen("n2:2"))
		b.connected("n1")
		step(time.Minute)
		if up := upNow(a, "n2"); up != 0 {
			t.Fatalf("%d classes are up with an address where nobody is", up)
		}
		a.SetNodes(map[int32]Node{2: {Addr: "n2:2"}})
		a.connected("n2")
		a.SetNodes(nil)
		if up := upNow(a, "n2"); up != 0 {
			t.Errorf("%d classes are up with a node that is not named any more", up)
		}
		a.SetNodes(map[int32]Node{2: {Addr: "n2:2"}})
		a.connected("n2")
	})
}

// A newer incarnation takes the place of the older one, which is refused from
// then on, by who has seen the newer one and by who was told.
func TestIncarnations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, nodes := bubble(t, 3, nil)
		a, old, c := nodes[0], nodes[1], nodes[2]
		id := old.id
		id.Incarnation = 1
		next := newNode(t, m.config("next", nil), id)
		next.SetNodes(map[int32]Node{1: {Addr: "n1:1"}})
		next.serve(m.listen("next:1"))
		next.connected("n1")
		step(time.Minute)
		if up := upNow(old, "n1"); up != 0 {
			t.Errorf("an older incarnation has %d classes up", up)
		}
		c.SetNodes(map[int32]Node{1: {Addr: "n1:1"}, 2: {Addr: "n2:1", Incarnation: 1}})
		step(time.Minute)
		if up, back := upNow(old, "n3"), upNow(c, "n2"); up != 0 || back != 0 {
			t.Errorf("an older incarnation has %d and %d classes up", up, back)
		}
		if n := strings.Count(old.log.String(), "comes as incarnation 0, and 1 is known"); n < 1 || n > 4 {
			t.Errorf("the older incarnation was told %d times:\n%s", n, old.log)
		}
		if n := strings.Count(a.log.String(), "comes as incarnation 0, and 1 is known"); n < 1 || n > 2 {
			t.Errorf("the other node told %d times:\n%s", n, a.log)
		}
	})
}

// Two clusters, two versions: refused at both ends, said once at both.
func TestRefused(t *testing.T) {
	other := identity(2)
	other.Cluster[0]++
	for name, test := range map[string]struct {
		id     Identity
		change func(*Config)
		want   string
	}{
		"cluster": {other, nil, "of another site"},
		"version": {identity(2), func(c *Config) { c.MinVersion, c.MaxVersion = 3, 4 }, "node n1 speaks 1 to 1, node n2 3 to 4"},
		"self":    {identity(1), nil, "both ends are called n1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemNet()
				t.Cleanup(m.wg.Wait)
				a, b := newNode(t, m.config("a", nil), identity(1)), newNode(t, m.config("b", test.change), test.id)
				a.serve(m.listen("a:1"))
				b.serve(m.listen("b:1"))
				// Only a dials, so that each has one reason to tell.
				a.SetNodes(map[int32]Node{2: {Addr: "b:1"}})
				step(5 * time.Minute)
				if up := upNow(a, test.id.Name); up != 0 {
					t.Errorf("%d classes are up", up)
				}
				for _, n := range []*testNode{a, b} {
					s := n.log.String()
					if strings.Count(s, "\n") != 1 || !strings.Contains(s, test.want) && !strings.Contains(s, strings.Replace(test.want, "node n1 speaks 1 to 1, node n2 3 to 4", "node n2 speaks 3 to 4, node n1 1 to 1", 1)) {
						t.Errorf("node %s: want one line with %q:\n%s", n.id.Name, test.want, s)
					}
				}
				if !a.Send(2, Append, net.Buffers{[]byte("x")}) {
					return
				}
				t.Error("sent to a node that was refused")
			})
		})
	}
}

// A receiver that is slow in one class holds up neither its other classes nor
// other nodes, and its sender's memory is bounded.
func TestSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		_, nodes := bubble(t, 3, func(c *Config) { c.Queue[Append] = limit })
		a, b, c := nodes[0], nodes[1], nodes[2]
		hold := make(chan struct{})
		b.onFrame = func(_ Peer, class Class, _ []byte) {
			if class == Append {
				<-hold
			}
		}
		body := make([]byte, 10<<10)
		sent, refused := 0, 0
		for i := range 1000 {
			f := append(binary.BigEndian.AppendUint32(nil, uint32(sent)), body...)
			if a.Send(2, Append, net.Buffers{f}) {
				sent++
			} else {
				refused++
			}
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		if refused == 0 {
			t.Fatal("the queue has no bound")
		}
		for _, s := range a.Stats() {
			if s.Node != 2 || s.Class != Append {
				continue
			}
			if s.QueueBytes > limit || s.QueueBytes < limit-2*len(body) || s.Dropped != int64(refused) {
				t.Errorf("queue of %d bytes, limit %d; dropped %d, want %d", s.QueueBytes, limit, s.Dropped, refused)
			}
		}
		for _, class := range []Class{Heartbeat, Bulk, Control} {
			if !a.Send(2, class, net.Buffers{[]byte("x")}) {
				t.Errorf("class %v is held up", class)
			}
			b.waitFrames("n1", class, 1)
		}
		if !a.Send(3, Append, net.Buffers{[]byte("x")}) || !c.Send(2, Heartbeat, net.Buffers{[]byte("x")}) {
			t.Error("another node is held up")
		}
		c.waitFrames("n1", Append, 1)
		b.waitFrames("n3", Heartbeat, 1)
		close(hold)
		b.waitFrames("n1", Append, sent)
		for i, f := range b.received("n1", Append) {
			if got := binary.BigEndian.Uint32(f); int(got) != i {
				t.Fatalf("frame %d has number %d", i, got)
			}
		}
	})
}

// numbered is frame n of a class, of which any part tells the whole.
func numbered(class Class, n uint32) net.Buffers {
	random := rand.New(rand.NewPCG(uint64(class), uint64(n)))
	size := random.IntN(200)
	if n%17 == 0 {
		size = random.IntN(20_000)
	}
	body := make([]byte, size)
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], random.Uint64())
	_, _ = rand.NewChaCha8(seed).Read(body)
	return net.Buffers{binary.BigEndian.AppendUint32(nil, n), body[:size/3], body[size/3:]}
}

// Over a network that cuts, damages and holds up, every frame that arrives is
// whole, and none comes twice or before an older one.
func TestFaults(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runFaults(t, seed) })
		})
	}
}

func runFaults(t *testing.T, seed uint64) {
	m, nodes := bubble(t, 2, nil)
	a, b := nodes[0], nodes[1]
	slow := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	last := map[Class]uint32{}
	got := 0
	b.onFrame = func(_ Peer, class Class, frame []byte) {
		n := binary.BigEndian.Uint32(frame)
		if want := bytes.Join(numbered(class, n), nil); !bytes.Equal(frame, want) {
			t.Errorf("frame %d of %v is not what was sent", n, class)
		}
		mu.Lock()
		wait := time.Duration(0)
		if slow.IntN(50) == 0 {
			wait = time.Duration(slow.IntN(500)) * time.Millisecond
		}
		mu.Unlock()
		idle(wait)
		mu.Lock()
		defer mu.Unlock()
		if n <= last[class] {
			t.Errorf("frame %d of %v after %d", n, class, last[class])
		}
		last[class] = n
		got++
	}
	f := &faults{random: rand.New(rand.NewPCG(seed, 0)), cut: 300, flip: 300, delay: 300}
	m.mu.Lock()
	m.faults = f
	m.mu.Unlock()
	random := rand.New(rand.NewPCG(seed, 2))
	next := map[Class]uint32{}
	for range 10_000 {
		class := Class(random.IntN(Classes))
		next[class]++
		a.Send(2, class, numbered(class, next[class]))
		idle(time.Duration(random.IntN(20)) * time.Millisecond)
	}
	f.stop()
	a.connected("n2")
	b.connected("n1")
	idle(time.Minute) // what was held up has come or is lost
	for class := range Class(Classes) {
		next[class]++
		if !a.Send(2, class, numbered(class, next[class])) {
			t.Errorf("class %v is not up after the faults", class)
		}
	}
	b.wait("the last frames", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for class := range Class(Classes) {
			if last[class] != next[class] {
				return false
			}
		}
		return true
	})
	if f.cuts == 0 || f.flips == 0 || f.delays == 0 || got < 1000 {
		t.Errorf("of 10000 frames %d came; %d cuts, %d flips, %d delays: this tested little", got, f.cuts, f.flips, f.delays)
	}
	t.Logf("of 10000 frames %d came; %d cuts, %d flips, %d delays", got, f.cuts, f.flips, f.delays)
}
