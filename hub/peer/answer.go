package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
)

// What one connection may ask for at the same time, besides bodies of one frame's
// bound in all; more is answered with an error at once.
const (
	maxCalls   = 256
	maxStreams = 16
)

// chunkBytes is the most of a stream in one frame.
const chunkBytes = 256 << 10

// errGivenUp ends what the other node does not want any more.
var errGivenUp = errors.New("the other node has given up")

// answerer is the accepting end of a connection: it hands messages, calls and
// streams to the handler.
type answerer struct {
	c       *conn
	handler Handler
	wg      sync.WaitGroup // calls and streams that are being answered
	mu      struct {
		sync.Mutex
		jobs    map[uint64]*job
		streams int
		waiting int // answers that wait for room in the queue
		bytes   int // of the bodies, and of those answers
	}
}

// job is a call or a stream that is being answered.
type job struct {
	cancel context.CancelCauseFunc
	stream *streamWriter // nil for a call
	bytes  int           // of its body
}

func newAnswerer(c *conn, handler Handler) *answerer {
	a := &answerer{c: c, handler: handler}
	a.mu.jobs = map[uint64]*job{}
	return a
}

// run answers until the connection ends. What it began may go on until it sees
// the end of its context; wg waits for it.
func (a *answerer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	err := a.c.run(func(h header, payload []byte) error { return a.take(ctx, h, payload) })
	cancel(ErrDisconnected)
	return err
}

// take handles what the dialing end sends.
func (a *answerer) take(ctx context.Context, h header, payload []byte) error {
	switch {
	case h.kind == kindPing:
		return a.reply(frame{kind: kindPong, id: h.id})
	case h.kind == kindMessage && !a.c.callOnly:
		a.handler.Message(a.c.peer, a.c.class, payload)
	case h.kind == kindCall:
		return a.call(ctx, h.id, payload)
	case h.kind == kindCancel:
		if j := a.job(h.id); j != nil {
			j.cancel(errGivenUp)
		}
	case h.kind == kindOpen && !a.c.callOnly:
		return a.open(ctx, h.id, payload)
	case h.kind == kindCredit && !a.c.callOnly:
		return a.credit(h.id, payload)
	default:
		return fmt.Errorf("frame of kind %d from a dialing end (call only: %v)", h.kind, a.c.callOnly)
	}
	return nil
}

// errUnread ends a connection whose other end does not read.
var errUnread = errors.New("the other node does not read what it has asked for")

// reply queues a small frame at once; who reads none of them is cut off.
func (a *answerer) reply(f frame) error {
	if !a.c.out.force(f) {
		return errUnread
	}
	return nil
}

func (a *answerer) job(id uint64) *job {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.jobs[id]
}

// begin notes a job and makes its context, unless there are too many.
func (a *answerer) begin(ctx context.Context, id uint64, bytes int, w *streamWriter) (context.Context, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w != nil && a.mu.streams >= maxStreams {
		return nil, fmt.Errorf("busy: %d streams are open over this connection", a.mu.streams)
	}
	if n := len(a.mu.jobs) + a.mu.waiting; n >= maxCalls || n > 0 && bytes > a.c.maxFrame-a.mu.bytes {
		return nil, fmt.Errorf("busy: %d calls with %d bytes are under way over this connection", n, a.mu.bytes)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	a.mu.jobs[id] = &job{cancel: cancel, stream: w, bytes: bytes}
	a.mu.bytes += bytes
	if w != nil {
		a.mu.streams++
	}
	return ctx, nil
}

// finish frees the ID of a job, whose answer of so many bytes waits from now on
// until sent.
func (a *answerer) finish(id uint64, answer int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.mu.jobs[id]
	delete(a.mu.jobs, id)
	a.mu.bytes += answer - j.bytes
	a.mu.waiting++
	if j.stream != nil {
		a.mu.streams--
	}
	j.cancel(nil)
}

// send queues an answer when there is room. It is lost with its connection, which
// the caller sees.
func (a *answerer) send(ctx context.Context, f frame, bytes int) {
	_ = a.c.out.wait(ctx, f)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.waiting--
	a.mu.bytes -= bytes
}

// call answers a call in a goroutine of its own.
func (a *answerer) call(ctx context.Context, id uint64, payload []byte) error {
	method, body, err := cutMethod(payload)
	if err != nil {
		return err
	}
	if a.job(id) != nil {
		return fmt.Errorf("call %d is under way", id)
	}
	jobCtx, err := a.begin(ctx, id, len(payload), nil)
	if err != nil {
		return a.reply(failure(id, err))
	}
	a.wg.Go(func() {
		answer, err := a.handler.Call(jobCtx, a.c.peer, method, body)
		if err == nil && len(answer) > a.c.maxFrame {
			err = fmt.Errorf("an answer of %d bytes, the most is %d", len(answer), a.c.maxFrame)
		}
		f := frame{kind: kindAnswer, id: id, payload: net.Buffers{answer}}
		if err != nil {
			answer, f = nil, failure(id, err)
		}
		// The ID is free before the answer can be there.
		a.finish(id, len(answer))
		a.send(ctx, f, len(answer))
	})
	return nil
}

// failure is the frame that tells an error.
func failure(id uint64, err error) frame {
	text := err.Error()
	if text == "" {
		text = "an error without a text"
	}
	return frame{kind: kindFailure, id: id, payload: net.Buffers{[]byte(text[:min(len(text), maxText)])}}
}

// open writes a stream in a goroutine of its own.
func (a *answerer) open(ctx context.Context, id uint64, payload []byte) error {
	if len(payload) < 4 {
		return fmt.Errorf("the opening of a stream with %d bytes", len(payload))
	}
	method, body, err := cutMethod(payload[4:])
	if err != nil {
		return err
	}
	if a.job(id) != nil {
		return fmt.Errorf("stream %d is open", id)
	}
	w := &streamWriter{c: a.c, id: id, more: make(chan struct{}, 1)}
	w.mu.credit = int64(binary.BigEndian.Uint32(payload))
	jobCtx, err := a.begin(ctx, id, len(payload), w)
	if err != nil {
		return a.reply(failure(id, err))
	}
	w.ctx = jobCtx
	a.wg.Go(func() {
		err := a.handler.Stream(jobCtx, a.c.peer, method, body, w)
		if err == nil && jobCtx.Err() != nil {
			err = context.Cause(jobCtx) // it did not look at Write's error
		}
		a.finish(id, 0)
		f := frame{kind: kindEnd, id: id, payload: net.Buffers{binary.BigEndian.AppendUint64(nil, w.sent)}}
		if err != nil {
			f = failure(id, err)
		}
		a.send(ctx, f, 0)
	})
	return nil
}

func (a *answerer) credit(id uint64, payload []byte) error {
	if len(payload) != 4 {
		return fmt.Errorf("credit of %d bytes, want 4", len(payload))
	}
	if j := a.job(id); j != nil && j.stream != nil {
		j.stream.give(int64(binary.BigEndian.Uint32(payload)))
	}
	return nil
}

// streamWriter is the writing end of a stream.
type streamWriter struct {
	c    *conn
	id   uint64
	ctx  context.Context // of the handler; io.Writer takes none
	more chan struct{}   // has a token when credit came
	sent uint64          // the handler's alone
	mu   struct {
		sync.Mutex
		credit int64 // bytes that the reader has room for
	}
}

func (w *streamWriter) give(n int64) {
	w.mu.Lock()
	w.mu.credit += n
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// Write waits until all of p was handed to the system. The error is
// ErrDisconnected or says that the reader gave up.
func (w *streamWriter) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		room, err := w.room(len(p) - n)
		if err != nil {
			return n, err
		}
		// p is the caller's again when Write returns: wait until the writer has
		// let it go, which it does at the latest when the connection ends.
		written := make(chan struct{})
		f := frame{kind: kindData, id: w.id, payload: net.Buffers{p[n : n+room]}, written: written}
		if err := w.c.out.wait(w.ctx, f); err != nil {
			return n, err
		}
		<-written
		n += room
		w.sent += uint64(room)
	}
	return n, nil
}

// room waits for credit and takes up to n bytes of it.
func (w *streamWriter) room(n int) (int, error) {
	for {
		if w.ctx.Err() != nil {
			return 0, context.Cause(w.ctx)
		}
		w.mu.Lock()
		take := min(int64(n), w.mu.credit, chunkBytes, int64(w.c.maxFrame))
		w.mu.credit -= take
		w.mu.Unlock()
		if take > 0 {
			return int(take), nil
		}
		select {
		case <-w.more:
		case <-w.ctx.Done():
		}
	}
}
