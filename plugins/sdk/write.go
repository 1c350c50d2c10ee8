package sdk

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
	"github.com/entrepot-hub/entrepot/record"
)

// Write implements wire.PluginServer: one writer, from open to close.
func (s *server) Write(stream grpc.BidiStreamingServer[wire.WriteRequest, wire.WriteResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	open := first.GetOpen()
	if open == nil {
		return status.Error(codes.FailedPrecondition, "the first request of Write has to be open")
	}
	notes := make(chan error, 1)
	sink, cfg, err := s.sink(open.Use)
	var writer connectors.Writer
	if err == nil {
		var partitions []record.TopicPartition
		for _, p := range open.Partitions {
			partitions = append(partitions, p.TopicPartition())
		}
		task := s.task(open.Task, cfg)
		task.Noted = func(trouble error) {
			select {
			case notes <- trouble:
			default: // one is on its way
			}
		}
		writer, err = sink.Open(stream.Context(), task, partitions)
	}
	if err != nil {
		return stream.Send(&wire.WriteResponse{Of: &wire.WriteResponse_Error{Error: wire.FromError(err)}})
	}
	w := &writing{stream: stream, writer: writer, notes: notes, in: receive(stream.Context(), stream.Recv), done: make(chan *wire.WriteResponse, 1)}
	err = w.run()
	w.cancelCall()
	w.calls.Wait()
	if !w.closed { // the hub went away
		_ = writer.Close(context.WithoutCancel(stream.Context()))
	}
	return err
}

// writing is a writer at work. Its goroutine alone sends; a call runs in
// another one, so that it can be cancelled.
type writing struct {
	stream grpc.BidiStreamingServer[wire.WriteRequest, wire.WriteResponse]
	writer connectors.Writer
	in     <-chan *wire.WriteRequest
	done   chan *wire.WriteResponse // the answer of the call
	notes  <-chan error             // what it says of itself meanwhile

	calls  sync.WaitGroup
	busy   int64 // the call's ID; 0 is none
	cancel context.CancelFunc

	plan   *wire.Plan // whose messages are coming
	batch  connectors.Batch
	closed bool
}

func (w *writing) run() error {
	for _, m := range []*wire.WriteResponse{
		{Of: &wire.WriteResponse_Opened{Opened: &wire.Opened{}}},
		{Of: &wire.WriteResponse_Credit{Credit: &wire.Credit{Bytes: wire.Window}}},
	} {
		if err := w.stream.Send(m); err != nil {
			return err
		}
	}
	for !w.closed {
		select {
		case req, ok := <-w.in:
			if !ok {
				return status.FromContextError(context.Canceled).Err()
			}
			if err := w.take(req); err != nil {
				return err
			}
		case trouble := <-w.notes:
			if err := w.stream.Send(&wire.WriteResponse{Of: &wire.WriteResponse_Noted{Noted: &wire.Noted{Trouble: wire.FromError(trouble)}}}); err != nil {
				return err
			}
		case answer := <-w.done:
			w.busy = 0
			w.cancel()
			if err := w.stream.Send(answer); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writing) cancelCall() {
	if w.cancel != nil {
		w.cancel()
	}
}

func (w *writing) take(req *wire.WriteRequest) error {
	switch q := req.Of.(type) {
	case *wire.WriteRequest_Cancel:
		if w.busy == q.Cancel.Id {
			w.cancel()
		} else if w.plan.GetId() == q.Cancel.Id { // it is not complete and was not begun
			w.plan, w.batch = nil, connectors.Batch{}
			return w.stream.Send(written(q.Cancel.Id, nil, context.Canceled))
		}
		return nil
	case *wire.WriteRequest_Messages:
		return w.part(q.Messages)
	}
	if w.busy != 0 || w.plan != nil {
		return status.Errorf(codes.FailedPrecondition, "request %T while another one is answered", req.Of)
	}
	switch q := req.Of.(type) {
	case *wire.WriteRequest_Resume:
		w.call(q.Resume.Id, func(ctx context.Context) *wire.WriteResponse {
			next, known, err := w.writer.Resume(ctx, q.Resume.Partition.TopicPartition())
			return &wire.WriteResponse{Of: &wire.WriteResponse_Resumed{Resumed: &wire.Resumed{Id: q.Resume.Id, Next: next, Known: known, Error: wire.FromError(err)}}}
		})
		return nil
	case *wire.WriteRequest_Plan:
		w.plan = q.Plan
		w.write()
		return nil
	case *wire.WriteRequest_Close:
		w.closed = true
		err := w.writer.Close(w.stream.Context())
		return w.stream.Send(&wire.WriteResponse{Of: &wire.WriteResponse_Closed{Closed: &wire.Closed{Error: wire.FromError(err)}}})
	}
	return status.Errorf(codes.FailedPrecondition, "request %T after open", req.Of)
}

// part takes some of the plan's messages and gives their room back.
func (w *writing) part(part *wire.Messages) error {
	cost := 0
	for _, m := range part.Messages {
		cost += m.Cost()
	}
	if w.plan != nil { // otherwise it was cancelled meanwhile
		for _, m := range part.Messages {
			w.batch.Messages = append(w.batch.Messages, m.Message())
		}
		w.write()
	}
	return w.stream.Send(&wire.WriteResponse{Of: &wire.WriteResponse_Credit{Credit: &wire.Credit{Bytes: int64(cost)}}})
}

// write executes the plan once its messages are there.
func (w *writing) write() {
	p := w.plan
	if int64(len(w.batch.Messages)) < p.Messages {
		return
	}
	batch := w.batch
	w.plan, w.batch = nil, connectors.Batch{}
	plan := connectors.Plan{Partition: p.Partition.TopicPartition(), From: p.From, To: p.To, Epoch: p.Epoch, ID: p.Plan, Made: p.Made}
	w.call(p.Id, func(ctx context.Context) *wire.WriteResponse {
		refused, err := w.writer.Write(ctx, plan, batch)
		return written(p.Id, refused, err)
	})
}

func (w *writing) call(id int64, do func(context.Context) *wire.WriteResponse) {
	ctx, cancel := context.WithCancel(w.stream.Context())
	w.busy, w.cancel = id, cancel
	w.calls.Go(func() { w.done <- do(ctx) })
}

func written(id int64, refused []connectors.RecordError, err error) *wire.WriteResponse {
	return &wire.WriteResponse{Of: &wire.WriteResponse_Written{Written: &wire.Written{Id: id, Refused: wire.FromRefused(refused), Error: wire.FromError(err)}}}
}
