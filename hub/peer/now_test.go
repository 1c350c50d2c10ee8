package peer

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// tcpConn is a connection whose other end the test reads.
func tcpConn(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = nc.Close(), other.Close() })
	if err := other.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c := &conn{
		nc: nc, raw: nc, peer: Peer{Identity: identity(2)}, keepAlive: time.Hour, timeout: time.Minute, maxFrame: 1 << 20,
		out: newQueue(64 << 20), traffic: new(traffic), closed: make(chan struct{}), system: systemConn(nc),
	}
	c.w.c = c
	return c, other
}

// counted is a message of a sender, the n-th, with so many bytes behind that.
func counted(sender, n, bytes int) frame {
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(sender)), uint32(n))
	rest := make([]byte, bytes)
	for i := range rest {
		rest[i] = byte(n + i)
	}
	return frame{kind: kindMessage, payload: net.Buffers{b, rest}}
}

// readCounted reads a message and checks what is in it.
func readCounted(t *testing.T, r io.Reader) (sender, n int) {
	t.Helper()
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	h, err := decodeHeader(head[:], 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, h.length)
	if _, err := io.ReadFull(r, payload); err != nil {
		t.Fatal(err)
	}
	if err := h.check(payload); err != nil {
		t.Fatal(err)
	}
	sender, n = int(binary.BigEndian.Uint32(payload)), int(binary.BigEndian.Uint32(payload[4:]))
	for i, b := range payload[8:] {
		if b != byte(n+i) {
			t.Fatalf("message %d of sender %d: byte %d is %d, want %d", n, sender, i, b, byte(n+i))
		}
	}
	return sender, n
}

// TestSenderWrites: a small message that comes by itself arrives though there is
// no writer, also long after the writer's last deadline.
func TestSenderWrites(t *testing.T) {
	c, other := tcpConn(t)
	if err := c.nc.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if !c.send(counted(1, 0, 100)) {
		t.Fatal("not taken")
	}
	select {
	case <-c.closed:
		t.Fatal(c.err)
	default:
	}
	if sender, n := readCounted(t, other); sender != 1 || n != 0 {
		t.Errorf("message %d of sender %d", n, sender)
	}
	if got := c.out.bytes(); got != 0 {
		t.Errorf("%d bytes count as queued", got)
	}
}

// TestSenderLeavesTheRest: when the system takes a part of a message, or nothing,
// the writer goes on where the sender stopped, and nothing overtakes it.
func TestSenderLeavesTheRest(t *testing.T) {
	for _, more := range []int{0, 3} {
		c, other := tcpConn(t)
		sent, read := 0, 0
		for ; len(c.w.rest) == 0; sent++ {
			c.w.wrote = time.Time{} // it comes by itself
			if !c.send(counted(1, sent, 10_000)) {
				t.Fatal("not taken")
			}
			if sent > 10_000 {
				t.Fatal("the system takes everything")
			}
		}
		r := bufio.NewReader(other)
		next := func() {
			if _, n := readCounted(t, r); n != read {
				t.Fatalf("message %d comes in place of %d", n, read)
			}
			read++
		}
		if more > 0 { // and there is room again
			for read < sent-1 {
				next()
			}
		}
		for range more {
			c.w.wrote = time.Time{}
			c.send(counted(1, sent, 10))
			sent++
		}
		var wg sync.WaitGroup
		wg.Go(c.write)
		for read < sent {
			next()
		}
		c.fail(io.EOF)
		wg.Wait()
	}
}

// TestSenderWhileAnotherWrites: it does not wait, and the writer has its message.
func TestSenderWhileAnotherWrites(t *testing.T) {
	c, other := tcpConn(t)
	c.writing.Lock()
	c.send(counted(1, 0, 10))
	c.writing.Unlock()
	var wg sync.WaitGroup
	wg.Go(c.write)
	readCounted(t, other)
	c.fail(io.EOF)
	wg.Wait()
}

// TestSendersAndWriter: messages of all sizes from several senders arrive, each
// sender's in order, whoever writes them.
func TestSendersAndWriter(t *testing.T) {
	const senders, each = 4, 2000
	c, other := tcpConn(t)
	var wg sync.WaitGroup
	wg.Go(c.write)
	for s := range senders {
		rng := rand.New(rand.NewPCG(1, uint64(s)))
		wg.Go(func() {
			for n := range each {
				bytes := rng.IntN(200)
				if rng.IntN(20) == 0 {
					bytes = rng.IntN(2 * nowBytes)
				}
				if !c.send(counted(s, n, bytes)) {
					t.Errorf("message %d of sender %d is not taken", n, s)
				}
			}
		})
	}
	var next [senders]int
	r := bufio.NewReader(other)
	for range senders * each {
		s, n := readCounted(t, r)
		if n != next[s] {
			t.Fatalf("message %d of sender %d comes in place of %d", n, s, next[s])
		}
		next[s]++
	}
	c.fail(io.EOF)
	wg.Wait()
	if err := c.err; err != io.EOF {
		t.Error(err)
	}
	if got := c.traffic.sentFrames.Load(); got != senders*each {
		t.Errorf("%d frames were counted, want %d", got, senders*each)
	}
}
