package sdk

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
)

// Read implements wire.PluginServer: one reader, from open to close.
func (s *server) Read(stream grpc.BidiStreamingServer[wire.ReadRequest, wire.ReadResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	open := first.GetOpen()
	if open == nil {
		return status.Error(codes.FailedPrecondition, "the first request of Read has to be open")
	}
	source, cfg, err := s.source(open.Use)
	var reader connectors.Reader
	if err == nil {
		var from connectors.Position
		if open.From != nil {
			from = open.From
		}
		reader, err = source.Open(stream.Context(), s.task(open.Task, cfg), open.Split.Split(), from)
	}
	if err != nil {
		return stream.Send(&wire.ReadResponse{Of: &wire.ReadResponse_Error{Error: wire.FromError(err)}})
	}
	r := &reading{stream: stream, reader: reader, in: receive(stream.Context(), stream.Recv)}
	err = stream.Send(&wire.ReadResponse{Of: &wire.ReadResponse_Opened{Opened: &wire.Opened{}}})
	if err == nil {
		err = r.run()
	}
	if !r.closed { // the hub went away
		_ = reader.Close(context.WithoutCancel(stream.Context()))
	}
	return err
}

// receive hands on what a stream receives, until it ends; then the channel is
// closed.
func receive[T any](ctx context.Context, recv func() (*T, error)) <-chan *T {
	in := make(chan *T)
	go func() {
		defer close(in)
		for {
			m, err := recv()
			if err != nil {
				return
			}
			select {
			case in <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return in
}

// reading is a reader at work. Its goroutine alone calls the reader and sends.
type reading struct {
	stream grpc.BidiStreamingServer[wire.ReadRequest, wire.ReadResponse]
	reader connectors.Reader
	in     <-chan *wire.ReadRequest
	credit int64
	limits connectors.Limits
	ended  bool // nothing more is read: the end, or an error
	closed bool
}

func (r *reading) run() error {
	for !r.closed {
		req, err := r.request()
		switch {
		case err != nil:
			return err
		case req != nil:
			err = r.answer(req)
		default:
			err = r.readOnce()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// request is what the hub wants next; nil when it has to be read meanwhile.
func (r *reading) request() (*wire.ReadRequest, error) {
	var req *wire.ReadRequest
	ok := true
	if r.ended || r.credit <= 0 {
		req, ok = <-r.in
	} else {
		select {
		case req, ok = <-r.in:
		default:
		}
	}
	if !ok {
		return nil, status.FromContextError(context.Canceled).Err()
	}
	return req, nil
}

func (r *reading) answer(req *wire.ReadRequest) error {
	ctx := r.stream.Context()
	switch q := req.Of.(type) {
	case *wire.ReadRequest_Credit:
		r.credit += q.Credit.Bytes
		if q.Credit.Limits != nil {
			r.limits = q.Credit.Limits.Limits()
		}
		return nil
	case *wire.ReadRequest_Committed:
		err := r.reader.Committed(ctx, q.Committed.UpTo)
		return r.send(&wire.ReadResponse{Of: &wire.ReadResponse_Committed{Committed: &wire.CommitDone{Id: q.Committed.Id, Error: wire.FromError(err)}}})
	case *wire.ReadRequest_Close:
		r.closed = true
		err := r.reader.Close(ctx)
		return r.send(&wire.ReadResponse{Of: &wire.ReadResponse_Closed{Closed: &wire.Closed{Error: wire.FromError(err)}}})
	}
	return status.Errorf(codes.FailedPrecondition, "request %T after open", req.Of)
}

func (r *reading) send(m *wire.ReadResponse) error { return r.stream.Send(m) }

// idlePause is how long a call of Read without messages takes at least: one
// that does not wait would keep both sides busy.
const idlePause = 10 * time.Millisecond

// readOnce reads a batch, within what the hub has room for.
func (r *reading) readOnce() error {
	limits := r.limits
	if limits.Bytes <= 0 || int64(limits.Bytes) > r.credit {
		limits.Bytes = int(r.credit)
	}
	began := time.Now()
	batch, err := r.reader.Read(r.stream.Context(), limits)
	for rest := batch.Messages; len(rest) > 0; {
		part, left, cost := wire.Chunk(rest)
		if tooLarge := r.check(part, cost); tooLarge != nil {
			err = tooLarge
			break
		}
		rest = left
		r.credit -= int64(cost)
		if err := r.send(&wire.ReadResponse{Of: &wire.ReadResponse_Messages{Messages: part}}); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		r.ended = true
		return r.send(&wire.ReadResponse{Of: &wire.ReadResponse_End{End: &wire.End{}}})
	case err != nil:
		r.ended = true
		return r.send(&wire.ReadResponse{Of: &wire.ReadResponse_Error{Error: wire.FromError(err)}})
	case len(batch.Messages) == 0:
		_ = connectors.Pause(r.stream.Context(), idlePause-time.Since(began))
		return r.send(&wire.ReadResponse{Of: &wire.ReadResponse_Idle{Idle: &wire.Idle{}}})
	}
	return nil
}

// check refuses a message that no hub would take, before it is sent.
func (r *reading) check(part *wire.Messages, cost int) error {
	const room = 1 << 20 // for positions, names and the frame itself
	if cost <= wire.MaxMessage-room {
		return nil
	}
	m := part.Messages[0]
	return connectors.Fatalf("the message at %s:%d (position %x) has %d bytes with its original; a plugin can hand on at most %d", m.OriginName, m.OriginLine, m.Position, cost, wire.MaxMessage-room)
}
