package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stat is what a node knows of a class with another node.
func stat(t *testing.T, n *testNode, to int32, class Class) Stat {
	t.Helper()
	synctest.Wait()
	for _, s := range n.Stats() {
		if s.Node == to && s.Class == class {
			return s
		}
	}
	t.Fatalf("node %s knows nothing of node %d and class %v", n.id.Name, to, class)
	return Stat{}
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, nodes := bubble(t, 2, nil)
		a, b := nodes[0], nodes[1]
		began := time.Now()
		s, before := stat(t, a, 2, Append), stat(t, b, 1, Append)
		if s.Name != "n2" || s.Version != 1 || s.Since.IsZero() || s.Accepted.IsZero() || s.Connects != 1 || s.Error != "" || s.Dropped != 0 {
			t.Errorf("connected: %+v", s)
		}
		if len(a.Stats()) != Classes {
			t.Errorf("%d states of one node", len(a.Stats()))
		}
		for range 10 {
			a.Send(2, Append, net.Buffers{make([]byte, 1000)})
		}
		if s := stat(t, a, 2, Append); s.SentFrames != 10 || s.SentBytes != 10*(1000+headerSize) || s.QueueBytes != 0 {
			t.Errorf("10 messages of 1000 bytes: %+v", s)
		}
		if s := stat(t, b, 1, Append); s.ReceivedFrames-before.ReceivedFrames != 10 || s.ReceivedBytes-before.ReceivedBytes != 10*(1000+headerSize) {
			t.Errorf("10 messages of 1000 bytes: %+v", s)
		}

		// Keep-alives that take 100 ms.
		step(a.cfg.KeepAlive - time.Since(began)%a.cfg.KeepAlive - time.Millisecond)
		m.stall("n2")
		step(101 * time.Millisecond)
		m.flow()
		if s := stat(t, a, 2, Heartbeat); s.RoundTrip < 90*time.Millisecond || s.RoundTrip > 110*time.Millisecond {
			t.Errorf("a round trip of 100 ms: %v", s.RoundTrip)
		}

		b.stop()
		step(time.Second)
		s = stat(t, a, 2, Append)
		if !s.Since.IsZero() || !s.Accepted.IsZero() || !strings.Contains(s.Error, "refused") || s.SentFrames < 10 {
			t.Errorf("the other node has gone: %+v", s)
		}
		if a.Send(2, Append, net.Buffers{{1}}) || stat(t, a, 2, Append).Dropped != 1 {
			t.Errorf("sent to who has gone: %+v", stat(t, a, 2, Append))
		}
	})
}

// A message above the bound is not taken; a call or an answer above it fails
// and hurts nobody else.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, nodes := bubble(t, 2, func(c *Config) { c.MaxFrame = 10_000 })
		a, b := nodes[0], nodes[1]
		hold := make(chan struct{})
		b.onCall = func(ctx context.Context, _ Peer, method string, _ []byte) ([]byte, error) {
			switch method {
			case "large":
				return make([]byte, 10_001), nil
			case "hold":
				<-hold
			}
			return nil, nil
		}
		if a.Send(2, Append, net.Buffers{make([]byte, 10_001)}) || !a.Send(2, Append, net.Buffers{make([]byte, 10_000)}) {
			t.Error("messages of 10001 and 10000 bytes")
		}
		b.waitFrames("n1", Append, 1)
		if _, err := a.Call(t.Context(), 2, "x", make([]byte, 10_000)); err == nil {
			t.Error("a call above the bound")
		}
		if _, err := a.Call(t.Context(), 2, "large", nil); err == nil || !strings.Contains(err.Error(), "an answer of 10001 bytes") {
			t.Errorf("an answer above the bound: %v", err)
		}
		// More calls than there may be at once are refused and not kept.
		var wg sync.WaitGroup
		var busy atomic.Int64
		for range maxCalls + 10 {
			wg.Go(func() {
				if _, err := a.Call(t.Context(), 2, "hold", nil); err != nil {
					if !strings.Contains(err.Error(), "busy") {
						t.Error(err)
					}
					busy.Add(1)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		if busy.Load() != 10 {
			t.Errorf("%d calls were refused, want 10", busy.Load())
		}
		// Bodies are bounded together.
		hold = make(chan struct{})
		wg.Go(func() { _, _ = a.Call(t.Context(), 2, "hold", make([]byte, 6000)) })
		synctest.Wait()
		if _, err := a.Call(t.Context(), 2, "x", make([]byte, 6000)); err == nil || !strings.Contains(err.Error(), "busy") {
			t.Errorf("two bodies of 6000 bytes: %v", err)
		}
		close(hold)
		wg.Wait()
		if _, err := a.Call(t.Context(), 2, "x", make([]byte, 6000)); err != nil {
			t.Error(err)
		}
	})
}

// A caller that gives up ends the handler's context; one whose connection is
// lost hears of it.
func TestCallEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, nodes := bubble(t, 2, nil)
		a, b := nodes[0], nodes[1]
		left := make(chan error, 1)
		b.onCall = func(ctx context.Context, _ Peer, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			left <- context.Cause(ctx)
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Call(ctx, 2, "x", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := <-left; !errors.Is(err, errGivenUp) {
			t.Error(err)
		}
		time.AfterFunc(time.Second, func() { m.stall("n1", "n2") })
		at := time.Now()
		if _, err := a.Call(t.Context(), 2, "x", nil); !errors.Is(err, ErrDisconnected) {
			t.Error(err)
		}
		if took := time.Since(at); took > time.Second+a.cfg.Dead+a.cfg.KeepAlive {
			t.Errorf("the caller heard of it after %v", took)
		}
		if err := <-left; !errors.Is(err, ErrDisconnected) {
			t.Error(err)
		}
		m.flow()
	})
}

// What the handler does when it hears of a connection may use it.
func TestCallInLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		t.Cleanup(m.wg.Wait)
		a, b := newNode(t, m.config("n1", nil), identity(1)), newNode(t, m.config("n2", nil), identity(2))
		b.onCall = func(context.Context, Peer, string, []byte) ([]byte, error) { return []byte("yes"), nil }
		got := make(chan string, 1)
		a.onLink = func(to Peer, class Class, up bool) {
			if class == Control && up {
				answer, err := a.Call(t.Context(), to.Node, "x", nil)
				got <- fmt.Sprint(string(answer), err)
			}
		}
		a.serve(m.listen("n1:1"))
		b.serve(m.listen("n2:1"))
		join(a, b)
		if s := <-got; s != "yes<nil>" && s != "yes <nil>" {
			t.Error(s)
		}
	})
}
