package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// content is what a stream of that name and size carries.
func content(name string, size int) []byte {
	var seed [32]byte
	copy(seed[:], fmt.Append(nil, name, size))
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// sender writes streams: the body is the size, the method how it ends.
func sender(ctx context.Context, _ Peer, method string, body []byte, w io.Writer) error {
	var size int
	if _, err := fmt.Sscan(string(body), &size); err != nil {
		return err
	}
	b := content(method, size)
	if method == "half" {
		b = b[:size/2]
	}
	for len(b) > 0 {
		n := min(len(b), 300_000) // a whole frame and a small one
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		clear(b[:n]) // it is the caller's again
		b = b[n:]
	}
	switch method {
	case "half":
		return errors.New("the file is damaged")
	case "hang":
		<-ctx.Done()
	}
	return nil
}

func readStream(n *testNode, node int32, method string, size int) ([]byte, error) {
	r, err := n.Open(n.t.Context(), node, method, fmt.Append(nil, size))
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

// A stream carries what was written, of any size, several at a time.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, nodes := bubble(t, 2, nil)
		a := nodes[0]
		nodes[1].onStream = sender
		var wg sync.WaitGroup
		for _, size := range []int{0, 1, 99_999, 1 << 20, 5 << 20} {
			wg.Go(func() {
				got, err := readStream(a, 2, "file", size)
				if err != nil || !bytes.Equal(got, content("file", size)) {
					t.Errorf("a stream of %d bytes: %d came, %v", size, len(got), err)
				}
			})
		}
		wg.Wait()
		// What the sender says is told after what it sent, and is no end.
		got, err := readStream(a, 2, "half", 1<<20)
		var remote *RemoteError
		if !errors.As(err, &remote) || remote.Text != "the file is damaged" {
			t.Errorf("a sender that fails: %d bytes, %v", len(got), err)
		}
		if _, err := readStream(a, 2, "no number", 0); err != nil {
			t.Error(err)
		}
		nodes[1].onStream = nil
		if _, err := readStream(a, 2, "file", 1); err == nil || !strings.Contains(err.Error(), "no such stream") {
			t.Errorf("an unknown stream: %v", err)
		}
		if _, err := readStream(a, 3, "file", 1); !errors.Is(err, ErrNotConnected) {
			t.Errorf("a node that is not there: %v", err)
		}
	})
}

// A stream whose connection ends is never taken for a whole one.
func TestStreamCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, nodes := bubble(t, 2, nil)
		a, b := nodes[0], nodes[1]
		const size = 5 << 20
		left := make(chan error, 10)
		b.onStream = func(ctx context.Context, from Peer, method string, body []byte, w io.Writer) error {
			err := sender(ctx, from, method, body, w)
			left <- err
			return err
		}
		open := func(ctx context.Context) (io.ReadCloser, int) {
			r, err := a.Open(ctx, 2, "hang", fmt.Append(nil, size))
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.ReadFull(r, make([]byte, size/2))
			if err != nil {
				t.Fatal(err)
			}
			return r, n
		}
		// The network goes.
		r, n := open(t.Context())
		m.stall("n1", "n2")
		rest, err := io.ReadAll(r)
		if !errors.Is(err, ErrDisconnected) || n+len(rest) > size {
			t.Errorf("the network is gone: %d bytes and %v", n+len(rest), err)
		}
		if err := <-left; err == nil {
			t.Error("the sender did not notice that the network is gone")
		}
		_ = r.Close()
		m.flow()
		a.connected("n2")
		b.connected("n1")

		// The reader gives up: by its context, by Close.
		ctx, cancel := context.WithCancel(t.Context())
		r, _ = open(ctx)
		cancel()
		if rest, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %d bytes more and %v", len(rest), err)
		}
		if err := <-left; !errors.Is(err, errGivenUp) {
			t.Errorf("the sender of a cancelled stream: %v", err)
		}
		_ = r.Close()
		r, _ = open(t.Context())
		_ = r.Close()
		if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errClosed) {
			t.Errorf("a closed stream: %d bytes and %v", n, err)
		}
		if err := <-left; !errors.Is(err, errGivenUp) {
			t.Errorf("the sender of a closed stream: %v", err)
		}

		// A sender that overlooks the error of Write does not end cleanly.
		b.onStream = func(_ context.Context, _ Peer, _ string, _ []byte, w io.Writer) error {
			_, _ = w.Write(make([]byte, 10))
			_, _ = w.Write(make([]byte, size))
			return nil
		}
		r, err = a.Open(t.Context(), 2, "file", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		b.stop()
		if rest, err := io.ReadAll(r); err == nil {
			t.Errorf("the sender has gone: %d bytes and a clean end", len(rest))
		}
		_ = r.Close()
	})
}

// A sender is no further ahead of its reader than the window.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 64 << 10
		_, nodes := bubble(t, 2, func(c *Config) { c.Window = window })
		a, b := nodes[0], nodes[1]
		var sent atomic.Int64
		b.onStream = func(_ context.Context, _ Peer, _ string, _ []byte, w io.Writer) error {
			for range 1000 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return err
				}
				sent.Add(1000)
			}
			return nil
		}
		r, err := a.Open(t.Context(), 2, "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		read := int64(0)
		for {
			synctest.Wait()
			if ahead := sent.Load() - read; ahead > window {
				t.Fatalf("the sender is %d bytes ahead, the window is %d", ahead, window)
			}
			n, err := r.Read(make([]byte, 10_000))
			read += int64(n)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if read != 1_000_000 {
			t.Errorf("%d bytes came, want 1000000", read)
		}
		// A reader that does not read holds up no other stream.
		first, err := a.Open(t.Context(), 2, "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		second, err := a.Open(t.Context(), 2, "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, second); n != 1_000_000 || err != nil {
			t.Errorf("beside a stream that is not read: %d bytes, %v", n, err)
		}
		_, _ = first.Close(), second.Close()
	})
}

// The receiver sets how fast all its streams are together, also while they run.
func TestBulkRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, nodes := bubble(t, 2, nil)
		a := nodes[0]
		nodes[1].onStream = sender
		const size = 10 << 20
		// took is how long two streams of size take.
		took := func() time.Duration {
			at := time.Now()
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if got, err := readStream(a, 2, "file", size); len(got) != size || err != nil {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			wg.Wait()
			return time.Since(at)
		}
		if d := took(); d > time.Second {
			t.Errorf("without a bound: %v", d)
		}
		a.SetBulkRate(1 << 20)
		if r := a.BulkRate(); r != 1<<20 {
			t.Errorf("the rate is %d", r)
		}
		if d := took(); d < 18*time.Second || d > 21*time.Second {
			t.Errorf("20 MiB at 1 MiB/s took %v", d)
		}
		a.SetBulkRate(1 << 10)
		time.AfterFunc(10*time.Second, func() { a.SetBulkRate(10 << 20) })
		if d := took(); d < 11*time.Second || d > 13*time.Second {
			t.Errorf("10 s at 1 KiB/s and then 20 MiB at 10 MiB/s took %v", d)
		}
		a.SetBulkRate(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := a.Open(ctx, 2, "file", fmt.Append(nil, size))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stream that waits for the throttle when its time is over: %v", err)
		}
		_ = r.Close()
		a.SetBulkRate(0)
		if d := took(); d > time.Second {
			t.Errorf("without a bound again: %v", d)
		}
	})
}

// A stream whose sender says another length than came ends with an error, and
// so does one that comes faster than its reader has room.
func TestStreamShort(t *testing.T) {
	for name, in := range map[string][]byte{
		"short":    {byte(kindData), 1, 3, 1, 2, 3, byte(kindEnd), 1, 8, 0, 0, 0, 0, 0, 0, 0, 4},
		"overfull": {byte(kindData), 1, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, byte(kindEnd), 1, 8, 0, 0, 0, 0, 0, 0, 0, 9},
	} {
		k := newCaller(fuzzConn(orders(in)))
		r, err := k.open(t.Context(), "s", nil, 8, newThrottle())
		if err != nil {
			t.Fatal(err)
		}
		if err := k.c.run(k.take); err == nil || !strings.Contains(err.Error(), "stream") {
			t.Errorf("%s: the connection ended with %v", name, err)
		}
		k.end()
		if got, err := io.ReadAll(r); err == nil {
			t.Errorf("%s: % x and a clean end", name, got)
		}
		_ = r.Close()
	}
}
