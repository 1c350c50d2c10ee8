package hubtest

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// Through a forwarder a connection ends as the server ends it, and with the
// server gone it ends at once and is not refused.
func TestForwardPassesOnHowItEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := Forward(t, l.Addr().String())
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", front.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for _, reset := range []bool{false, true} {
		client := dial()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		both := func(from, to net.Conn, text string) {
			got := make([]byte, len(text))
			_, werr := from.Write([]byte(text))
			if _, err := io.ReadFull(to, got); werr != nil || err != nil || string(got) != text {
				t.Fatalf("%q came, %v, %v", got, werr, err)
			}
		}
		both(client, server, "ping")
		both(server, client, "pong")
		want := io.EOF
		if reset {
			want = syscall.ECONNRESET
			if err := server.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
		}
		_ = server.Close()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, want) {
			t.Errorf("after the server's end, reset %v, the client sees %v, want %v", reset, err, want)
		}
	}
	_ = l.Close()
	if _, err := dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("with the server gone the client sees %v, want %v", err, io.EOF)
	}
}
