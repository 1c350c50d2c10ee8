package peer

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// A node that asks and does not read what comes back is refused more, and cut off
// in the end: what waits for it is bounded.
func TestUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		t.Cleanup(m.wg.Wait)
		a := newNode(t, m.config("n1", func(c *Config) { c.MaxFrame, c.Queue[Control] = 1<<20, 64<<10 }), identity(1))
		var called atomic.Int64
		a.onCall = func(context.Context, Peer, string, []byte) ([]byte, error) {
			called.Add(1)
			return make([]byte, 64<<10), nil
		}
		a.serve(m.listen("n1:1"))
		nc := shakeRaw(t, m, "n1:1", hello{min: 1, max: 1, class: Control, Identity: identity(2)})
		if _, err := nc.Write(appendEnvelope(nil, verdictText(nil))); err != nil {
			t.Fatal(err)
		}
		for id := range uint64(100) {
			head := methodHead("x")
			if _, err := nc.Write(append(appendHeader(nil, frame{kind: kindCall, id: id, payload: net.Buffers{head}}), head...)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := called.Load(); n < 10 || n > 30 {
			t.Errorf("%d calls were answered for one that does not read, want about as many as a frame holds: 16", n)
		}
		var err error
		pings := []byte(nil)
		for range 1000 {
			pings = appendHeader(pings, frame{kind: kindPing})
		}
		for range 100 {
			if _, err = nc.Write(pings); err != nil {
				break
			}
			synctest.Wait()
		}
		if err == nil {
			t.Error("it goes on after 100,000 pings of which it read no answer")
		}
		_ = nc.Close()
	})
}
