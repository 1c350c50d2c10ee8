package httpcollector

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestSlowConnections: 10,000 clients that begin a request and never end it
// hold no more than the connections there are, get out when read_timeout is
// over, and an honest client is served then. Memory stays in bounds meanwhile.
func TestSlowConnections(t *testing.T) {
	const clients, room = 10_000, 500
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < clients+2*room+500 {
		t.Skipf("SKIPPED: %d CONNECTIONS NEED AS MANY OPEN FILES, THE LIMIT IS %d", clients, files.Cur)
	}
	h := serve(t, map[string]any{"max_connections": room, "read_timeout": 2 * time.Second})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		busy int
		cut  int
		all  []net.Conn
	)
	for range clients {
		c, err := net.Dial("tcp", h.reader.server.addr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		wg.Go(func() {
			_, _ = io.WriteString(c, "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
			got, _ := io.ReadAll(c)
			mu.Lock()
			defer mu.Unlock()
			if len(got) > 12 && string(got[9:12]) == "503" {
				busy++
			} else {
				cut++
			}
		})
	}
	runtime.ReadMemStats(&after)
	wg.Wait() // no one is held for longer than read_timeout
	for _, c := range all {
		_ = c.Close()
	}
	until(t, "an honest client is served", func() bool {
		got, err := h.try(http.MethodPost, "/collect", `{"a":1}`)
		return err == nil && got.status == http.StatusNoContent
	})
	grown := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)
	if limit := int64(256 << 20); grown > limit {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	if busy == 0 {
		t.Error("nobody was turned away")
	}
	t.Logf("%d turned away or refused, %d cut off; memory of both sides grew by %d MiB", busy, cut, grown>>20)
}
