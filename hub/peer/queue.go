package peer

import (
	"context"
	"net"
	"sync"
)

// frame is a frame that waits to be written.
type frame struct {
	kind    kind
	id      uint64
	payload net.Buffers
	// unsummed: the payload carries sums of its own.
	unsummed bool
	written  chan<- struct{} // closed when the payload is no longer needed; may be nil
}

func (f frame) size() int {
	n := headerSize
	for _, part := range f.payload {
		n += len(part)
	}
	return n
}

// queue holds what one connection has to write. It bounds the bytes that are
// queued or being written.
type queue struct {
	ready chan struct{} // has a token when there is something to take
	limit int
	mu    struct {
		sync.Mutex
		frames []frame       // those before first were taken
		first  int           // never beyond half of a large queue
		bytes  int           // of what is queued and what is being written
		closed bool          // nothing is taken any more
		room   chan struct{} // closed when bytes fall; nil: nobody waits
	}
}

func newQueue(limit int) *queue {
	return &queue{ready: make(chan struct{}, 1), limit: limit}
}

// put adds a frame if there is room; one always fits into an empty queue.
func (q *queue) put(f frame) bool {
	ok := q.add(f)
	if ok {
		q.signal()
	}
	return ok
}

// add is put by one who sees to it that the frame is written, or signals.
func (q *queue) add(f frame) bool {
	ok, _ := q.tryAdd(f, q.limit, false)
	return ok
}

// signal tells the writer that there is something to write.
func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// forceRoom is what force may add above the limit, bytes.
const forceRoom = 1 << 20

// force adds a small frame for which there may be no room. It fails after the
// queue was closed, or for one that asks much and does not read what comes back.
func (q *queue) force(f frame) bool {
	ok, _ := q.tryAdd(f, q.limit+forceRoom, false)
	if ok {
		q.signal()
	}
	return ok
}

// wait adds a frame as soon as there is room. The error is ErrDisconnected
// after the queue was closed.
func (q *queue) wait(ctx context.Context, f frame) error {
	for {
		ok, room := q.tryAdd(f, q.limit, true)
		if ok {
			q.signal()
			return nil
		}
		if room == nil {
			return ErrDisconnected
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryAdd adds the frame, or returns what is closed when there is room if the
// caller wants that; nothing at all says that the queue is closed.
func (q *queue) tryAdd(f frame, limit int, wantRoom bool) (ok bool, room <-chan struct{}) {
	size := f.size()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed {
		return false, nil
	}
	if q.mu.bytes > 0 && size > limit-q.mu.bytes {
		if wantRoom && q.mu.room == nil {
			q.mu.room = make(chan struct{})
		}
		return false, q.mu.room
	}
	q.mu.bytes += size
	q.mu.frames = append(q.mu.frames, f)
	return true, nil
}

// take moves frames of about so many bytes, and at least one if there is one,
// to the end of into.
func (q *queue) take(into []frame, most int) []frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := q.mu.first, 0
	for n < len(q.mu.frames) && bytes < most {
		bytes += q.mu.frames[n].size()
		n++
	}
	return q.move(into, n)
}

// takeSmall is take of no more bytes than most in all.
func (q *queue) takeSmall(into []frame, most int) []frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := q.mu.first, 0
	for n < len(q.mu.frames) {
		if bytes += q.mu.frames[n].size(); bytes > most {
			break
		}
		n++
	}
	return q.move(into, n)
}

// move moves the frames before the n-th to the end of into. The lock is held.
func (q *queue) move(into []frame, n int) []frame {
	into = append(into, q.mu.frames[q.mu.first:n]...)
	clear(q.mu.frames[q.mu.first:n])
	if q.mu.first = n; n > len(q.mu.frames)/2 {
		left := copy(q.mu.frames, q.mu.frames[n:])
		clear(q.mu.frames[left:])
		q.mu.frames, q.mu.first = q.mu.frames[:left], 0
	}
	return into
}

// done gives back the room of frames that were taken.
func (q *queue) done(frames []frame) {
	bytes := 0
	for _, f := range frames {
		bytes += f.size()
	}
	q.mu.Lock()
	q.mu.bytes -= bytes
	q.wake()
	q.mu.Unlock()
	release(frames)
}

// close lets go of what is queued and returns how many messages that were.
func (q *queue) close() (messages int) {
	q.mu.Lock()
	frames := q.mu.frames[q.mu.first:]
	q.mu.frames, q.mu.first, q.mu.closed = nil, 0, true
	q.wake()
	q.mu.Unlock()
	release(frames)
	for _, f := range frames {
		if f.kind == kindMessage {
			messages++
		}
	}
	return messages
}

// wake tells who waits that it may try again. The lock is held.
func (q *queue) wake() {
	if q.mu.room != nil {
		close(q.mu.room)
		q.mu.room = nil
	}
}

// bytes is what is queued and being written.
func (q *queue) bytes() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed {
		return 0
	}
	return q.mu.bytes
}

func release(frames []frame) {
	for _, f := range frames {
		if f.written != nil {
			close(f.written)
		}
	}
}
