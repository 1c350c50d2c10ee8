package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// Three nodes send to each other in every class; each class keeps its order.
func TestSend(t *testing.T) {
	a, b, c := start(t, patient(), identity(1)), start(t, patient(), identity(2)), start(t, patient(), identity(3))
	nodes := []*testNode{a, b, c}
	join(nodes...)
	const each = 200
	for i := range each {
		for _, from := range nodes {
			for _, to := range nodes {
				for class := range Class(Classes) {
					if from != to && !from.Send(to.id.Node, class, net.Buffers{[]byte("frame "), nil, fmt.Append(nil, i)}) {
						t.Fatalf("%s to %s: not sent", from.id.Name, to.id.Name)
					}
				}
			}
		}
	}
	for _, to := range nodes {
		for _, from := range nodes {
			if from == to {
				continue
			}
			for class := range Class(Classes) {
				to.waitFrames(from.id.Name, class, each)
				for i, f := range to.received(from.id.Name, class) {
					if want := fmt.Sprintf("frame %d", i); string(f) != want {
						t.Fatalf("frame %d of %s at %s is %q, want %q", i, key(from.id.Name, class), to.id.Name, f, want)
					}
				}
			}
		}
	}
	if a.Send(9, Append, net.Buffers{[]byte("x")}) {
		t.Error("sent to a node that does not exist")
	}
}

// Calls are answered, or fail with what the other node says.
func TestCall(t *testing.T) {
	a, b := newNode(t, patient(), identity(1)), newNode(t, patient(), identity(2))
	a.serve(listen(t, "127.0.0.1:0"))
	b.onCall = func(_ context.Context, from Peer, method string, body []byte) ([]byte, error) {
		if method == "fail" {
			return nil, fmt.Errorf("no, %s", from.Name)
		}
		return append([]byte(method+" "), body...), nil
	}
	b.serve(listen(t, "127.0.0.1:0"))
	if _, err := a.Call(t.Context(), 2, "echo", nil); !errors.Is(err, ErrNotConnected) {
		t.Errorf("a call before there is a connection: %v", err)
	}
	join(a, b)
	got, err := a.Call(t.Context(), 2, "echo", []byte("x"))
	if string(got) != "echo x" || err != nil {
		t.Errorf("echo: %q, %v", got, err)
	}
	_, err = a.Call(t.Context(), 2, "fail", nil)
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Text != "no, n1" || remote.Node != "n2" {
		t.Errorf("fail: %v", err)
	}
}

// A node that belongs to no cluster calls and is called, and nothing else.
func TestCallAddr(t *testing.T) {
	a, b := newNode(t, patient(), identity(1)), newNode(t, patient(), Identity{Name: "new"})
	for _, n := range []*testNode{a, b} {
		n.onCall = func(_ context.Context, from Peer, method string, body []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s of %s, registered %v: %s", method, from.Name, from.Registered(), body), nil
		}
		n.serve(listen(t, "127.0.0.1:0"))
	}
	got, err := b.CallAddr(t.Context(), a.addr, "join", []byte("x"))
	if string(got) != "join of new, registered false: x" || err != nil {
		t.Errorf("the new one calls: %q, %v", got, err)
	}
	got, err = a.CallAddr(t.Context(), b.addr, "decided", nil)
	if string(got) != "decided of n1, registered true: " || err != nil {
		t.Errorf("the new one is called: %q, %v", got, err)
	}
	_, err = a.CallAddr(t.Context(), a.addr, "join", nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != RefusedSelf {
		t.Errorf("a node calls itself: %v", err)
	}
	// With a cluster and an ID it is like any other.
	b.id = identity(2)
	b.id.Name = "new"
	if err := b.SetSelf(b.id); err != nil {
		t.Fatal(err)
	}
	join(a, b)
	if s := a.log.String(); !strings.Contains(s, "connected to node") {
		t.Errorf("log: %s", s)
	}
}
