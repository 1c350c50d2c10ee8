package host

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
	"github.com/entrepot-hub/entrepot/record"
)

// cancelTimeout is how long a call that is cancelled may take to end.
const cancelTimeout = 10 * time.Second

// writer writes plans in a plugin.
type writer struct {
	*stream[wire.WriteResponse]
	out    grpc.BidiStreamingClient[wire.WriteRequest, wire.WriteResponse]
	credit int64
	calls  int64
	broken error // the stream cannot be used any more
	task   connectors.TaskContext
}

func openWriter(ctx context.Context, sess *session, task connectors.TaskContext, open *wire.OpenWrite) (connectors.Writer, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	out, err := sess.calls.Write(life)
	if err != nil {
		cancel()
		return nil, sess.fault(err)
	}
	w := &writer{out: out, task: task}
	w.stream = receive(sess, fmt.Sprintf("sink %s", open.GetUse().GetType()), cancel, out.Recv)
	if err := w.opened(ctx, open); err != nil {
		w.stream.end()
		return nil, err
	}
	return w, nil
}

func (w *writer) opened(ctx context.Context, open *wire.OpenWrite) error {
	w.send(&wire.WriteRequest{Of: &wire.WriteRequest_Open{Open: open}})
	in, err := w.next(ctx, -1)
	if err != nil {
		return err
	}
	switch in := in.Of.(type) {
	case *wire.WriteResponse_Opened:
		return nil
	case *wire.WriteResponse_Error:
		return w.sess.remote(in.Error)
	}
	return w.violation("it answered open with %T, want opened or error", in.Of)
}

func (w *writer) send(m *wire.WriteRequest) { w.sending(func() error { return w.out.Send(m) }) }

// Resume implements connectors.Writer.
func (w *writer) Resume(ctx context.Context, tp record.TopicPartition) (next int64, known bool, err error) {
	id, err := w.begin(ctx)
	if err != nil {
		return 0, false, err
	}
	w.send(&wire.WriteRequest{Of: &wire.WriteRequest_Resume{Resume: &wire.ResumeCall{Id: id, Partition: wire.FromPartition(tp)}}})
	in, err := w.answer(ctx, id)
	if err != nil {
		return 0, false, err
	}
	out := in.GetResumed()
	if out == nil {
		w.broken = w.violation("it answered resume with %T", in.Of)
		return 0, false, w.broken
	}
	if err := w.sess.remote(out.GetError()); err != nil {
		return 0, false, err
	}
	return out.GetNext(), out.GetKnown(), nil
}

// begin gives the next call a number.
func (w *writer) begin(ctx context.Context) (int64, error) {
	if w.broken != nil {
		return 0, w.broken
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	w.calls++
	w.heard = time.Now()
	return w.calls, nil
}

// Write implements connectors.Writer.
func (w *writer) Write(ctx context.Context, plan connectors.Plan, batch connectors.Batch) ([]connectors.RecordError, error) {
	id, err := w.begin(ctx)
	if err != nil {
		return nil, err
	}
	if refused := notCarried(batch); len(refused) > 0 {
		return refused, nil
	}
	w.send(&wire.WriteRequest{Of: &wire.WriteRequest_Plan{Plan: &wire.Plan{
		Id: id, Partition: wire.FromPartition(plan.Partition), From: plan.From, To: plan.To, Epoch: plan.Epoch, Plan: plan.ID, Made: plan.Made,
		Messages: int64(len(batch.Messages)),
	}}})
	in, err := w.transfer(ctx, id, batch.Messages)
	if err != nil {
		if c := connectors.ClassOf(err); c == connectors.ClassRetry {
			err = connectors.Unknown(err) // the process may have done it before it ended
		}
		return nil, err
	}
	return w.written(in, batch)
}

// notCarried are the records that cannot be handed to a plugin as they are.
func notCarried(batch connectors.Batch) (refused []connectors.RecordError) {
	for i := range batch.Messages {
		m := &batch.Messages[i]
		if err := wire.NotCarried(m); err != nil {
			refused = append(refused, connectors.RecordError{Index: i, Offset: m.Offset, Err: err})
		}
	}
	return refused
}

func (w *writer) written(in *wire.WriteResponse, batch connectors.Batch) ([]connectors.RecordError, error) {
	out := in.GetWritten()
	if out == nil {
		w.broken = w.violation("it answered a plan with %T", in.Of)
		return nil, w.broken
	}
	if err := w.sess.remote(out.GetError()); err != nil {
		return nil, err
	}
	for _, e := range out.GetRefused() {
		e.Message = w.sess.redact(e.GetMessage())
	}
	refused, err := wire.Refused(out.GetRefused(), batch)
	if err != nil {
		w.broken = w.violation("%w", err)
		return nil, w.broken
	}
	return refused, nil
}

// transfer sends a plan's messages as far as there is room for them, and waits
// for the answer, which may come before all are sent.
func (w *writer) transfer(ctx context.Context, id int64, rest []connectors.Message) (*wire.WriteResponse, error) {
	for len(rest) > 0 {
		for w.credit <= 0 {
			in, err := w.step(ctx, id)
			if err != nil || in != nil {
				return in, err
			}
		}
		part, left, cost := wire.Chunk(rest)
		if cost > wire.MaxMessage-(1<<20) {
			w.send(&wire.WriteRequest{Of: &wire.WriteRequest_Cancel{Cancel: &wire.Cancel{Id: id}}})
			m := rest[0]
			w.broken = connectors.Fatalf("%s at offset %d has %d bytes; at most %d fit into a message to a plugin", m.Partition, m.Offset, cost, wire.MaxMessage-(1<<20))
			return nil, w.broken
		}
		w.credit -= int64(cost)
		w.send(&wire.WriteRequest{Of: &wire.WriteRequest_Messages{Messages: part}})
		rest = left
	}
	return w.answer(ctx, id)
}

// answer waits for the answer of a call.
func (w *writer) answer(ctx context.Context, id int64) (*wire.WriteResponse, error) {
	for {
		in, err := w.step(ctx, id)
		if err != nil || in != nil {
			return in, err
		}
	}
}

// step takes one frame; it returns the answer of the call if it is that. When
// the context ends, the call is cancelled, and its answer awaited for a while.
func (w *writer) step(ctx context.Context, id int64) (*wire.WriteResponse, error) {
	in, err := w.next(ctx, -1)
	if err != nil && ctx.Err() != nil && w.broken == nil {
		w.send(&wire.WriteRequest{Of: &wire.WriteRequest_Cancel{Cancel: &wire.Cancel{Id: id}}})
		return w.cancelled(context.WithoutCancel(ctx), id)
	}
	if err != nil {
		w.broken = err
		return nil, err
	}
	return w.frame(in, id)
}

func (w *writer) frame(in *wire.WriteResponse, id int64) (*wire.WriteResponse, error) {
	got := int64(0)
	switch x := in.Of.(type) {
	case *wire.WriteResponse_Credit:
		w.credit += x.Credit.GetBytes()
		return nil, nil
	case *wire.WriteResponse_Noted:
		w.task.Note(w.sess.remote(x.Noted.GetTrouble()))
		return nil, nil
	case *wire.WriteResponse_Resumed:
		got = x.Resumed.GetId()
	case *wire.WriteResponse_Written:
		got = x.Written.GetId()
	}
	if got != id {
		w.broken = w.violation("it sent %T for call %d while call %d is open", in.Of, got, id)
		return nil, w.broken
	}
	return in, nil
}

func (w *writer) cancelled(ctx context.Context, id int64) (*wire.WriteResponse, error) {
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	for {
		in, err := w.next(ctx, -1)
		if err != nil {
			w.broken = connectors.Unknown(fmt.Errorf("plugin %s: a call was cancelled and did not end within %s: %w", w.sess.plugin.cfg.Name, cancelTimeout, err))
			return nil, w.broken
		}
		if in, err := w.frame(in, id); err != nil || in != nil {
			return in, err
		}
	}
}

// Close implements connectors.Writer.
func (w *writer) Close(ctx context.Context) error {
	defer w.stream.end()
	if w.sess.over() || w.broken != nil {
		return nil
	}
	w.heard = time.Now()
	w.send(&wire.WriteRequest{Of: &wire.WriteRequest_Close{Close: &wire.Close{}}})
	for {
		in, err := w.next(ctx, -1)
		if err != nil {
			return err
		}
		if closed := in.GetClosed(); closed != nil {
			return w.sess.remote(closed.GetError())
		}
	}
}
