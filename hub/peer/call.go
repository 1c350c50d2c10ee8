package peer

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// RemoteError is what the other node's handler returned.
type RemoteError struct {
	Node   string // its name
	Method string
	Text   string
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s at node %s: %s", e.Method, e.Node, e.Text)
}

// caller is the dialing end of a connection: it sends calls and opens streams,
// and is handed what comes back.
type caller struct {
	c  *conn
	mu struct {
		sync.Mutex
		next    uint64
		calls   map[uint64]*call
		streams map[uint64]*stream
	}
}

// call is one that has not been answered.
type call struct {
	method string
	answer chan answer // room for one
}

type answer struct {
	body []byte
	err  error
}

func newCaller(c *conn) *caller {
	k := &caller{c: c}
	k.mu.calls, k.mu.streams = map[uint64]*call{}, map[uint64]*stream{}
	return k
}

// take handles what the accepting end sends.
func (k *caller) take(h header, payload []byte) error {
	switch h.kind {
	case kindPong:
		k.c.traffic.roundTrip.Store(int64(time.Since(k.c.began)) - int64(h.id))
	case kindAnswer:
		k.answer(h.id, payload, "")
	case kindFailure:
		if s := k.stream(h.id); s != nil {
			s.finish(&RemoteError{Node: k.c.peer.Name, Method: s.method, Text: string(payload)})
			return nil
		}
		k.answer(h.id, nil, string(payload))
	case kindData, kindEnd:
		if s := k.stream(h.id); s != nil {
			return s.take(h.kind, payload)
		}
	default:
		return fmt.Errorf("frame of kind %d from an accepting end", h.kind)
	}
	return nil
}

// answer hands an answer to who waits for it, if anybody does.
func (k *caller) answer(id uint64, body []byte, failure string) {
	k.mu.Lock()
	w := k.mu.calls[id]
	delete(k.mu.calls, id)
	k.mu.Unlock()
	if w == nil {
		return
	}
	a := answer{body: body}
	if failure != "" {
		a.err = &RemoteError{Node: k.c.peer.Name, Method: w.method, Text: failure}
	}
	w.answer <- a
}

// call asks and waits for the answer.
func (k *caller) call(ctx context.Context, method string, body []byte) ([]byte, error) {
	if err := checkCall(method, body, k.c.maxFrame); err != nil {
		return nil, err
	}
	w := &call{method: method, answer: make(chan answer, 1)}
	k.mu.Lock()
	k.mu.next++
	id := k.mu.next
	k.mu.calls[id] = w
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.mu.calls, id)
		k.mu.Unlock()
	}()
	if err := k.c.out.wait(ctx, frame{kind: kindCall, id: id, payload: net.Buffers{methodHead(method), body}}); err != nil {
		return nil, fmt.Errorf("%s at node %s: %w", method, k.c.peer.Name, err)
	}
	select {
	case a := <-w.answer:
		return a.body, a.err
	case <-ctx.Done():
		k.c.out.force(frame{kind: kindCancel, id: id})
		return nil, fmt.Errorf("%s at node %s: %w", method, k.c.peer.Name, ctx.Err())
	case <-k.c.closed:
		select {
		case a := <-w.answer: // it came before the end
			return a.body, a.err
		default:
			return nil, fmt.Errorf("%s at node %s: %w", method, k.c.peer.Name, ErrDisconnected)
		}
	}
}

func checkCall(method string, body []byte, most int) error {
	if method == "" || len(method) > maxMethod {
		return fmt.Errorf("method %q: want 1 to %d bytes", method, maxMethod)
	}
	if len(body) > most-1-maxMethod {
		return fmt.Errorf("%s with %d bytes: the most is %d", method, len(body), most-1-maxMethod)
	}
	return nil
}
