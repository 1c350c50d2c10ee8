package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// errClosed: the stream was closed by its reader.
var errClosed = errors.New("the stream is closed")

// stream is the reading end of a stream. The sender may be ahead by the
// window; what is read is given back to it as credit, as fast as the throttle
// allows.
type stream struct {
	k      *caller
	id     uint64
	method string
	window int
	bulk   *throttle
	ready  chan struct{} // has a token when there is something new
	ended  chan struct{} // closed when nothing more comes; mu.err is set
	broken chan struct{} // closed when that was no clean end
	detach func() bool   // from the context of Open

	chunk []byte // that is being read; the reader's alone
	rest  []byte // of it
	spent int    // read and not given back yet; the reader's alone

	mu struct {
		sync.Mutex
		chunks   [][]byte
		buffered int
		got      uint64 // bytes received in all
		err      error  // io.EOF after a clean end
	}
}

// open asks for a stream. What is wrong with it is told by the first Read.
func (k *caller) open(ctx context.Context, method string, body []byte, window int, bulk *throttle) (io.ReadCloser, error) {
	if err := checkCall(method, body, k.c.maxFrame-4); err != nil {
		return nil, err
	}
	s := &stream{k: k, method: method, window: window, bulk: bulk, ready: make(chan struct{}, 1), ended: make(chan struct{}), broken: make(chan struct{})}
	k.mu.Lock()
	k.mu.next++
	s.id = k.mu.next
	k.mu.streams[s.id] = s
	k.mu.Unlock()
	head := append(binary.BigEndian.AppendUint32(nil, uint32(window)), methodHead(method)...)
	if err := k.c.out.wait(ctx, frame{kind: kindOpen, id: s.id, payload: net.Buffers{head, body}}); err != nil {
		s.finish(err)
		return nil, fmt.Errorf("%s at node %s: %w", method, k.c.peer.Name, err)
	}
	s.detach = context.AfterFunc(ctx, func() { s.cancel(ctx.Err()) })
	return s, nil
}

// stream is the one of that id, or nil.
func (k *caller) stream(id uint64) *stream {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.streams[id]
}

// end fails the streams of a connection that was lost.
func (k *caller) end() {
	k.mu.Lock()
	streams := make([]*stream, 0, len(k.mu.streams))
	for _, s := range k.mu.streams {
		streams = append(streams, s)
	}
	k.mu.Unlock()
	for _, s := range streams {
		s.finish(ErrDisconnected)
	}
}

// take handles data and the clean end.
func (s *stream) take(k kind, payload []byte) error {
	s.mu.Lock()
	if k == kindEnd {
		got := s.mu.got
		s.mu.Unlock()
		if len(payload) != 8 {
			return fmt.Errorf("the end of a stream with %d bytes, want 8", len(payload))
		}
		if want := binary.BigEndian.Uint64(payload); want != got {
			return fmt.Errorf("a stream of %d bytes of which %d came", want, got)
		}
		s.finish(io.EOF)
		return nil
	}
	defer s.mu.Unlock()
	if s.mu.buffered+len(payload) > s.window {
		return fmt.Errorf("a stream %d bytes ahead of its reader, the most is %d", s.mu.buffered+len(payload), s.window)
	}
	if len(payload) > 0 {
		s.mu.chunks = append(s.mu.chunks, payload)
		s.mu.buffered += len(payload)
		s.mu.got += uint64(len(payload))
		s.wake()
	}
	return nil
}

func (s *stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// finish ends the stream; the first reason counts. It reports whether it was.
func (s *stream) finish(err error) bool {
	s.k.mu.Lock()
	delete(s.k.mu.streams, s.id)
	s.k.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err != nil {
		return false
	}
	s.mu.err = err
	close(s.ended)
	if !errors.Is(err, io.EOF) {
		s.mu.chunks = nil
		close(s.broken)
	}
	return true
}

// cancel ends the stream from this end and tells the other.
func (s *stream) cancel(err error) {
	if s.finish(err) {
		s.k.c.out.force(frame{kind: kindCancel, id: s.id})
	}
}

// Read waits for bytes of the stream. It returns io.EOF only after the sender
// ended it cleanly and all of it was read.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	select {
	case <-s.broken:
		return 0, s.failure() // what came before is worth nothing
	default:
	}
	for len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	if s.rest = s.rest[n:]; len(s.rest) == 0 {
		recycle(s.chunk)
		s.chunk = nil
	}
	if !s.bulk.wait(n, s.broken) {
		return 0, s.failure()
	}
	s.mu.Lock()
	s.mu.buffered -= n
	s.mu.Unlock()
	if s.spent += n; s.spent >= s.window/2 {
		s.k.c.out.force(frame{kind: kindCredit, id: s.id, payload: net.Buffers{binary.BigEndian.AppendUint32(nil, uint32(s.spent))}})
		s.spent = 0
	}
	return n, nil
}

// next waits for a chunk.
func (s *stream) next() error {
	for {
		s.mu.Lock()
		if len(s.mu.chunks) > 0 {
			s.chunk = s.mu.chunks[0]
			s.rest = s.chunk
			s.mu.chunks[0] = nil
			s.mu.chunks = s.mu.chunks[1:]
			s.mu.Unlock()
			return nil
		}
		err := s.mu.err
		s.mu.Unlock()
		if err != nil {
			return s.failure()
		}
		select {
		case <-s.ready:
		case <-s.ended:
		}
	}
}

// failure is why nothing more comes.
func (s *stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.mu.err, io.EOF) {
		return io.EOF
	}
	if remote, ok := errors.AsType[*RemoteError](s.mu.err); ok {
		return remote
	}
	return fmt.Errorf("%s at node %s: %w", s.method, s.k.c.peer.Name, s.mu.err)
}

// Close gives up what has not been read; the sender's Write fails.
func (s *stream) Close() error {
	s.detach()
	s.cancel(errClosed)
	return nil
}
