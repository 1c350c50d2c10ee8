package protocol

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// A length is only a claim: memory runs ahead of the bytes that came by these
// steps, no further. A frame of up to 2 MiB, which most clients stay below, is
// read with one copy of 16 KiB.
var frameSteps = [...]int{16 << 10, 2 << 20, 32 << 20}

// minRate is how fast a frame must come beyond Limits.Frame, in bytes a second.
const minRate = 1 << 20

// frameReader reads length-prefixed requests from a connection.
type frameReader struct {
	nc     net.Conn
	br     *bufio.Reader
	limits Limits
	budget *budget
	least  int       // bytes of the smallest frame
	end    time.Time // nothing is read after it; zero: no end
}

// frame is one request as bytes, with what it holds of the budget.
type frame struct {
	bytes []byte
	taken int64
}

// next reads one frame. It returns io.EOF when the client closed the
// connection between two frames. waiting says that answers are still due, so
// that silence is no idleness.
func (r *frameReader) next(ctx context.Context, waiting func() bool) (frame, error) {
	size, err := r.size(ctx, waiting)
	if err != nil {
		return frame{}, err
	}
	if f, ok := r.arrived(size); ok {
		return f, nil
	}
	limit := r.limits.Frame + time.Duration(size/minRate)*time.Second
	if err := r.within(ctx, limit); err != nil {
		return frame{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f, err := r.body(ctx, size)
	if err != nil {
		r.budget.give(f.taken)
		return frame{}, fmt.Errorf("read a request of %d bytes: %w", size, err)
	}
	return f, nil
}

// arrived reads a frame that is in the buffer already and finds room in the
// budget. A client that sends many small ones has most of them there, and
// deadlines would cost more than the rest.
func (r *frameReader) arrived(size int) (frame, bool) {
	if r.br.Buffered() < size || !r.budget.takeNow(int64(size)) {
		return frame{}, false
	}
	f := frame{bytes: make([]byte, size), taken: int64(size)}
	_, err := io.ReadFull(r.br, f.bytes)
	return f, err == nil // it cannot fail
}

// size waits for a frame and reads its length.
func (r *frameReader) size(ctx context.Context, waiting func() bool) (int, error) {
	if err := r.begin(ctx, waiting); err != nil {
		return 0, err
	}
	var head [4]byte
	if _, err := io.ReadFull(r.br, head[:]); err != nil {
		return 0, fmt.Errorf("read a request's length: %w", err)
	}
	n := int64(int32(binary.BigEndian.Uint32(head[:])))
	if n < int64(r.least) || n > int64(r.limits.Request) {
		return 0, fmt.Errorf("%w: a request of %d bytes, want %d to %d", errMalformed, n, r.least, r.limits.Request)
	}
	return int(n), nil
}

// begin waits for the first byte of a frame, and sets until when its length
// must be there.
func (r *frameReader) begin(ctx context.Context, waiting func() bool) error {
	if r.br.Buffered() >= 4 {
		return ctx.Err()
	}
	for {
		if err := r.within(ctx, r.limits.Idle); err != nil {
			return err
		}
		_, err := r.br.Peek(1)
		if err == nil {
			break
		}
		if isTimeout(err) && waiting() {
			continue
		}
		return err
	}
	return r.within(ctx, r.limits.Frame)
}

// within sets how long reads may take. Whoever ends ctx sets a deadline in the
// past afterwards: either that one comes later than this, or ctx has ended here.
func (r *frameReader) within(ctx context.Context, d time.Duration) error {
	at := time.Now().Add(d)
	if !r.end.IsZero() && r.end.Before(at) {
		at = r.end
	}
	if err := r.nc.SetReadDeadline(at); err != nil {
		return err
	}
	return ctx.Err()
}

// body reads size bytes into a buffer of their own. The buffer grows as bytes
// arrive, and each byte of it is drawn from the budget first.
func (r *frameReader) body(ctx context.Context, size int) (frame, error) {
	var f frame
	for len(f.bytes) < size {
		want := nextStep(len(f.bytes), size)
		taken, err := r.budget.take(ctx, int64(want-len(f.bytes)))
		f.taken += taken
		if err != nil {
			return f, fmt.Errorf("%w: no memory for it, %d bytes are in flight", err, r.budget.used())
		}
		grown := make([]byte, want)
		have := copy(grown, f.bytes)
		if _, err := io.ReadFull(r.br, grown[have:]); err != nil {
			return f, err
		}
		f.bytes = grown
	}
	return f, nil
}

func nextStep(have, size int) int {
	for _, step := range frameSteps {
		if step > have {
			return min(step, size)
		}
	}
	return size
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}
