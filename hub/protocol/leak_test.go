package protocol

import (
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// timeless is a pipe without deadlines: those of net.Pipe keep it in memory
// until they are over, ten minutes after its end.
type timeless struct{ net.Conn }

func (timeless) SetDeadline(time.Time) error      { return nil }
func (timeless) SetReadDeadline(time.Time) error  { return nil }
func (timeless) SetWriteDeadline(time.Time) error { return nil }

// Connections leave nothing behind, whatever was asked on them.
func TestConnectionsLeaveNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	requests := realRequests(rng, 1)
	ta := newTarget(t)
	ta.s.log = slog.New(slog.DiscardHandler)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	connect := func(n int) {
		for range n {
			if ta.uses++; ta.uses%200 == 0 { // what was created is not a leak
				ta.stop()
				ta.start()
			}
			var b []byte
			for range 5 {
				r := requests[rng.IntN(len(requests))]
				b = append(binary.BigEndian.AppendUint32(b, uint32(len(r))), r...)
			}
			client, server := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() { ta.s.ServeConn(t.Context(), timeless{server}) })
			wg.Go(func() { _, _ = io.Copy(io.Discard, client) })
			_, _ = client.Write(b)
			_ = client.Close()
			wg.Wait()
		}
	}
	connect(1000)
	before := heap()
	const n = 3000
	connect(n)
	if each := (heap() - before) / n; each > 300 {
		t.Errorf("each connection leaves %d bytes", each)
	} else {
		t.Logf("%d bytes a connection", each)
	}
}
