package httpcollector

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestQueueSuite: the system is as many clients as there are messages, each of
// which sends its event until it is taken.
func TestQueueSuite(t *testing.T) {
	conntest.Queue(t, Source{}, func(t *testing.T) conntest.QueueCase {
		l, err := net.Listen("tcp", "127.0.0.1:0") // the port stays when readers come and go
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		c := &clients{url: "http://" + addr + "/collect"}
		c.mu.kept = map[string]int{}
		ctx, end := context.WithCancel(context.Background())
		t.Cleanup(func() { end(); c.all.Wait() })
		return conntest.QueueCase{
			Config: conntest.Config(t, Source{}.Spec(), map[string]any{"listen": addr, "ack_timeout": time.Minute}),
			Send: func(texts ...string) {
				for _, text := range texts {
					c.keep(text, 1)
					c.all.Go(func() { c.send(ctx, text) })
				}
			},
			Text: func(m connectors.Message) string {
				_, id, _ := strings.Cut(string(m.ID), "\x00")
				return id
			},
			Kept: func() []string { return c.left(t) },
		}
	})
}

// clients send until they hear that their event is taken.
type clients struct {
	url string
	all sync.WaitGroup
	mu  struct {
		sync.Mutex
		kept map[string]int
		busy int // requests under way
	}
}

func (c *clients) keep(text string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.kept[text] += n; c.mu.kept[text] == 0 {
		delete(c.mu.kept, text)
	}
}

func (c *clients) send(ctx context.Context, text string) {
	for ctx.Err() == nil {
		if c.try(ctx, text) {
			return
		}
		_ = connectors.Pause(ctx, 20*time.Millisecond)
	}
}

func (c *clients) try(ctx context.Context, text string) bool {
	c.count(1)
	defer c.count(-1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(fmt.Sprintf(`{"event_id":%q}`, text)))
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode >= 300 {
		return false
	}
	c.keep(text, -1) // before the request counts as over
	return true
}

func (c *clients) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.busy += n
}

// left is what was not taken, once nobody waits for an answer of the reader that
// is closed.
func (c *clients) left(t *testing.T) (all []string) {
	until(t, "no request is under way", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		all = slices.Collect(maps.Keys(c.mu.kept))
		return c.mu.busy == 0
	})
	return all
}
