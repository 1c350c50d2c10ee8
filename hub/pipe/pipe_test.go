package pipe

import (
	"context"
	"io"
	"net"
	"testing"
)

// TestPipe: the node's own addresses are served without a socket, any other is
// dialled, and what is served ends with the server.
func TestPipe(t *testing.T) {
	p := New(func(ctx context.Context, c net.Conn) {
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		defer stop()
		_, _ = io.Copy(c, c)
	}, "own:1")
	ctx, cancel := context.WithCancel(t.Context())
	p.Begin(ctx)
	c, err := p.Dial(t.Context(), "tcp", "own:1")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := c.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hi" {
		t.Errorf("%q, %v", b, err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	other, err := p.Dial(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, tcp := other.(*net.TCPConn); !tcp {
		t.Errorf("another address is dialled as %T", other)
	}
	_ = other.Close()
	cancel()
	p.Wait()
	if _, err := c.Read(b); err == nil {
		t.Error("it is served on after the server's end")
	}
}
