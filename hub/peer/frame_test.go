package peer

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A frame is read as it was written; every flipped bit is found.
func TestFrame(t *testing.T) {
	parts := net.Buffers{[]byte("head"), nil, []byte("and more")}
	b := appendHeader([]byte("before"), frame{kind: kindAnswer, id: 1<<40 + 7, payload: parts})[len("before"):]
	payload := bytes.Join(parts, nil)
	h, err := decodeHeader(b, len(payload))
	if err != nil || h.kind != kindAnswer || h.id != 1<<40+7 || int(h.length) != len(payload) || h.check(payload) != nil {
		t.Fatalf("%+v, %v, %v", h, err, h.check(payload))
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if h, err := decodeHeader(b, 1<<20); err == nil {
			t.Errorf("bit %d of a header is flipped: %+v", bit, h)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	for bit := range len(payload) * 8 {
		payload[bit/8] ^= 1 << (bit % 8)
		if h.check(payload) == nil {
			t.Errorf("bit %d of a payload is flipped", bit)
		}
		payload[bit/8] ^= 1 << (bit % 8)
	}
	sums := appendHeader(nil, frame{kind: kindMessage, payload: parts, unsummed: true})
	if h, err := decodeHeader(sums, 1<<20); err != nil || !h.unsummed || h.check([]byte("anything")) != nil {
		t.Errorf("with sums of its own: %+v, %v", h, err)
	}
	if _, err := decodeHeader(b, len(payload)-1); err == nil {
		t.Error("a frame above the bound is taken")
	}
	if _, err := decodeHeader(b[:headerSize-1], 1<<20); err == nil {
		t.Error("a short header is taken")
	}
}

func TestMethod(t *testing.T) {
	method, body, err := cutMethod(append(methodHead("vote"), "body"...))
	if method != "vote" || string(body) != "body" || err != nil {
		t.Errorf("%q, %q, %v", method, body, err)
	}
	for _, b := range [][]byte{nil, {1}, {3, 'a', 'b'}} {
		if _, _, err := cutMethod(b); err == nil {
			t.Errorf("% x is taken for a call", b)
		}
	}
}

// A hello is read as it was written, also by who knows less than its sender.
func TestHello(t *testing.T) {
	want := hello{min: 1, max: 7, class: Bulk, callOnly: true, Identity: Identity{Cluster: cluster, Node: 1 << 30, Incarnation: 9, Name: "fra-1"}}
	for _, text := range [][]byte{want.text(), append(want.text(), "of a later version"...)} {
		if got, err := decodeHello(text); got != want || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for n := range want.text() {
		if _, err := decodeHello(want.text()[:n]); err == nil {
			t.Errorf("%d bytes of a hello are taken", n)
		}
	}
	refused := &RefusedError{Code: RefusedCluster, Reason: "why"}
	if got, err := decodeVerdict(verdictText(refused)); err != nil || got.Code != RefusedCluster || got.Reason != "why" || !got.ByOther {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeVerdict(verdictText(nil)); got != nil || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// bytesConn is a connection that reads what it is given and writes nowhere.
type bytesConn struct {
	net.Conn
	in io.Reader
}

func (c bytesConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c bytesConn) Close() error                     { return nil }
func (c bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c bytesConn) SetWriteDeadline(time.Time) error { return nil }

// fuzzConn is a connection of which everything that comes is given.
func fuzzConn(in []byte) *conn {
	nc := bytesConn{in: bytes.NewReader(in)}
	c := &conn{
		nc: nc, raw: nc, peer: Peer{Identity: identity(2)}, keepAlive: time.Hour, timeout: time.Hour, maxFrame: 1 << 10,
		out: newQueue(1 << 10), traffic: new(traffic), closed: make(chan struct{}),
	}
	c.w.c = c
	return c
}

// fuzzHandler answers and checks that what it is given can be used.
type fuzzHandler struct {
	mu    sync.Mutex
	bytes int
}

func (h *fuzzHandler) touch(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range b {
		b[i]++ // it belongs to the handler
		h.bytes++
	}
}

func (h *fuzzHandler) Message(_ Peer, _ Class, frame []byte) { h.touch(frame) }
func (h *fuzzHandler) Call(_ context.Context, _ Peer, _ string, body []byte) ([]byte, error) {
	h.touch(body)
	return body, nil
}
func (h *fuzzHandler) Stream(_ context.Context, _ Peer, _ string, body []byte, w io.Writer) error {
	h.touch(body)
	_, err := w.Write(body)
	return err
}
func (h *fuzzHandler) Link(Peer, Class, bool) {}

// orders reads short orders (kind, ID, length, payload) and makes frames of
// them whose sums are right, which guessing would never find.
func orders(in []byte) (b []byte) {
	for len(in) >= 3 {
		n := min(int(in[2]), len(in)-3)
		payload := in[3 : 3+n]
		b = append(appendHeader(b, frame{kind: kind(in[0]), id: uint64(in[1]), payload: net.Buffers{payload}}), payload...)
		in = in[3+n:]
	}
	return append(b, in...)
}

// seeds are orders of frames one after the other.
func seeds(kinds ...kind) (b []byte) {
	payloads := map[kind][]byte{
		kindCall: append(methodHead("m"), 1), kindOpen: append([]byte{0, 0, 0, 9}, methodHead("s")...),
		kindCredit: {0, 0, 0, 1}, kindEnd: make([]byte, 8), kindData: {1, 2, 3},
	}
	for i, k := range kinds {
		p := payloads[k]
		b = append(append(b, byte(k), byte(i/2), byte(len(p))), p...)
	}
	return b
}

// FuzzAccepted: whatever comes over a connection, the accepting end neither
// panics nor hangs, and ends with an error.
func FuzzAccepted(f *testing.F) {
	f.Add(seeds(kindMessage, kindPing, kindCall, kindCancel))
	f.Add(seeds(kindOpen, kindCredit, kindOpen, kindCancel))
	f.Add(seeds(kindCall, kindCall))
	f.Add(seeds(kindAnswer))
	f.Fuzz(func(t *testing.T, in []byte) {
		a := newAnswerer(fuzzConn(orders(in)), new(fuzzHandler))
		if err := a.run(t.Context()); err == nil {
			t.Error("no reason for the end")
		}
		a.wg.Wait()
		if len(a.mu.jobs) != 0 || a.mu.streams != 0 || a.mu.bytes != 0 {
			t.Errorf("left over: %+v", a.mu.jobs)
		}
	})
}

// FuzzDialed is the same for the dialing end, with a call and a stream open.
func FuzzDialed(f *testing.F) {
	f.Add(seeds(kindAnswer, kindPong, kindAnswer))
	f.Add([]byte{byte(kindData), 1, 3, 1, 2, 3, byte(kindAnswer), 2, 0, byte(kindEnd), 1, 8, 0, 0, 0, 0, 0, 0, 0, 3})
	f.Add(seeds(kindFailure, kindFailure, kindFailure))
	f.Add(seeds(kindMessage))
	f.Fuzz(func(t *testing.T, in []byte) {
		k := newCaller(fuzzConn(orders(in)))
		r, err := k.open(t.Context(), "s", nil, 16, newThrottle())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = k.c.run(k.take)
			k.end()
		})
		_, _ = k.call(t.Context(), "m", nil)
		_, _ = io.Copy(io.Discard, r)
		_ = r.Close()
		wg.Wait()
		if len(k.mu.calls) != 0 || len(k.mu.streams) != 0 {
			t.Errorf("left over: %d calls, %d streams", len(k.mu.calls), len(k.mu.streams))
		}
	})
}

// FuzzHandshake: whatever is said in place of a handshake is an error or makes
// sense.
func FuzzHandshake(f *testing.F) {
	f.Add(appendEnvelope(nil, hello{min: 1, max: 1, Identity: identity(2)}.text()))
	f.Add(appendEnvelope(nil, verdictText(&RefusedError{Code: 1, Reason: "x"})))
	f.Add([]byte{0x16, 0x03, 0x01})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if h, err := readHello(bytesConn{in: bytes.NewReader(in)}); err == nil {
			if again, err := decodeHello(h.text()); err != nil || again != h {
				t.Errorf("%+v is %+v again: %v", h, again, err)
			}
			version, refused := judge(hello{min: 1, max: 1, class: h.class, Identity: identity(1)}, h, anyNode, func(int32) uint32 { return 0 })
			if (version == 0) == (refused == nil) {
				t.Errorf("version %d and %v", version, refused)
			}
		}
		if r, err := readVerdict(bytesConn{in: bytes.NewReader(in)}); err == nil && r != nil && r.Code == 0 {
			t.Error("a refusal without a code")
		}
	})
}
