package mirror

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// BenchmarkCatchUp mirrors a backlog over loopback TCP into memory: fetch,
// checks and state machine, without a disk.
func BenchmarkCatchUp(b *testing.B) {
	const batches, size = 400, 64 << 10
	src := newFakeSite()
	topic := src.create("clicks", 1, 4)
	rng := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 1000)
	for i := range value {
		value[i] = byte(rng.IntN(256))
	}
	total := 0
	for _, l := range topic.logs {
		for range batches {
			nb := record.NewBuilder(record.None)
			nb.BaseOffset, nb.LeaderEpoch = l.end, 0
			for nb.Size() < size {
				if err := nb.Append(record.Record{Value: value}); err != nil {
					b.Fatal(err)
				}
			}
			one, err := nb.Build()
			if err != nil {
				b.Fatal(err)
			}
			l.batches, l.end, total = append(l.batches, one), one.NextOffset(), total+len(one)
		}
		l.history = []record.EpochEnd{{Epoch: 0, End: l.end}}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	src.done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			src.done.Go(func() { src.serve(c) })
		}
	})
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, ln.Addr().String())
	}
	b.SetBytes(int64(total))
	for b.Loop() {
		catchUp(b, dial, topic)
	}
	b.StopTimer()
	ln.Close()
	src.done.Wait()
}

func catchUp(b *testing.B, dial func(context.Context, string, string) (net.Conn, error), topic *fakeTopic) {
	b.Helper()
	dst := newMemSite()
	m, err := New(Config{Site: "west", Dial: dial, Poll: 10 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}, dst)
	if err != nil {
		b.Fatal(err)
	}
	m.SetSources([]Source{{Site: "east", Brokers: []string{"source:9092"}}})
	ctx, cancel := context.WithCancel(context.Background())
	var ran sync.WaitGroup
	ran.Go(func() { _ = m.Run(ctx) })
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for level := false; !level; <-tick.C {
		dst.mu.Lock()
		if t := dst.topics["clicks"]; t != nil && len(t.logs) == len(topic.logs) {
			level = true
			for i, l := range t.logs {
				level = level && l.next == topic.logs[i].end
			}
		}
		dst.mu.Unlock()
	}
	cancel()
	ran.Wait()
}
