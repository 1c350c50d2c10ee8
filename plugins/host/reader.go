package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
)

// longestWait bounds one call of Read in the plugin, which commits and closes
// between two of them.
const longestWait = 100 * time.Millisecond

// reader reads a split in a plugin, which reads ahead as far as there is
// credit: room for so many bytes here.
type reader struct {
	*stream[wire.ReadResponse]
	out     grpc.BidiStreamingClient[wire.ReadRequest, wire.ReadResponse]
	pending []item // came and was not asked for yet
	last    connectors.Position
	end     error             // after pending: io.EOF, or what went wrong
	broken  bool              // the stream cannot be used any more
	limits  connectors.Limits // that the plugin knows
	begun   bool              // it was given any
	idle    bool              // the plugin found nothing since the call began
	commits int64
	done    map[int64]*wire.CommitDone // the answer of each call of Committed that is open, nil until it comes
	closed  *wire.Closed
}

type item struct {
	message connectors.Message
	cost    int64
}

func openReader(ctx context.Context, sess *session, open *wire.OpenRead, from connectors.Position) (connectors.Reader, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	out, err := sess.calls.Read(life)
	if err != nil {
		cancel()
		return nil, sess.fault(err)
	}
	r := &reader{out: out, last: from, done: map[int64]*wire.CommitDone{}}
	r.stream = receive(sess, fmt.Sprintf("split %s", open.GetSplit().GetId()), cancel, out.Recv)
	if err := r.opened(ctx, open); err != nil {
		r.stream.end()
		return nil, err
	}
	return r, nil
}

func (r *reader) opened(ctx context.Context, open *wire.OpenRead) error {
	r.send(&wire.ReadRequest{Of: &wire.ReadRequest_Open{Open: open}})
	in, err := r.next(ctx, -1)
	if err != nil {
		return err
	}
	switch in := in.Of.(type) {
	case *wire.ReadResponse_Opened:
		return nil
	case *wire.ReadResponse_Error:
		return r.sess.remote(in.Error)
	}
	return r.violation("it answered open with %T, want opened or error", in.Of)
}

func (r *reader) send(m *wire.ReadRequest) { r.sending(func() error { return r.out.Send(m) }) }

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	r.want(limits)
	r.idle = false
	deadline := time.Now().Add(limits.Wait)
	for len(r.pending) == 0 && r.end == nil {
		wait := time.Until(deadline)
		if limits.Wait <= 0 {
			if r.idle {
				return connectors.Batch{}, nil
			}
			wait = -1
		} else if wait <= 0 {
			return connectors.Batch{}, nil
		}
		if err := r.pump(ctx, wait); errors.Is(err, errQuiet) {
			return connectors.Batch{}, nil
		} else if err != nil && ctx.Err() != nil {
			return connectors.Batch{}, err
		} else if err != nil {
			r.stop(err)
		}
	}
	for r.end == nil { // what else is there already
		if err := r.pump(ctx, 0); err != nil {
			if !errors.Is(err, errQuiet) {
				r.stop(err)
			}
			break
		}
	}
	if len(r.pending) == 0 {
		return connectors.Batch{}, r.end
	}
	return r.take(limits), nil
}

// want tells the plugin how much may come, the first time and when the limits
// have changed.
func (r *reader) want(limits connectors.Limits) {
	limits.Wait = min(limits.Wait, longestWait)
	if r.begun && limits == r.limits {
		return
	}
	credit := &wire.Credit{Limits: wire.FromLimits(limits)}
	if !r.begun {
		credit.Bytes, r.heard = wire.Window, time.Now()
	}
	r.limits, r.begun = limits, true
	r.send(&wire.ReadRequest{Of: &wire.ReadRequest_Credit{Credit: credit}})
}

// pump takes one frame.
func (r *reader) pump(ctx context.Context, wait time.Duration) error {
	in, err := r.next(ctx, wait)
	if err == nil {
		if err = r.fold(in); err != nil { // a breach, also when ctx ends meanwhile
			r.stop(err)
			r.broken = true
		}
		return err
	}
	r.broken = r.broken || !errors.Is(err, errQuiet) && ctx.Err() == nil
	return err
}

// stop keeps why nothing more is read: the first reason, but for an end after
// which something went wrong.
func (r *reader) stop(why error) {
	if r.end == nil || r.end == io.EOF {
		r.end = why
	}
}

func (r *reader) fold(in *wire.ReadResponse) error {
	switch in := in.Of.(type) {
	case *wire.ReadResponse_Messages:
		return r.add(in.Messages)
	case *wire.ReadResponse_Idle:
		r.idle = true
	case *wire.ReadResponse_End:
		r.stop(io.EOF)
	case *wire.ReadResponse_Error:
		r.stop(r.sess.remote(in.Error))
	case *wire.ReadResponse_Committed:
		id := in.Committed.GetId()
		if _, open := r.done[id]; !open {
			return r.violation("it answered the commit %d, which is not open", id)
		}
		r.done[id] = in.Committed
	case *wire.ReadResponse_Closed:
		r.closed = in.Closed
	default:
		return r.violation("it sent %T", in)
	}
	return nil
}

// add keeps messages until they are asked for. A position that does not grow
// would have the hub lose or double messages, so nothing after it is taken, also
// not while the answer to a commit is awaited.
func (r *reader) add(in *wire.Messages) error {
	switch {
	case r.end == io.EOF:
		return r.violation("it sent messages after the end of its split")
	case r.end != nil:
		return nil // the split is opened again, if it is, from what was taken
	}
	for _, x := range in.GetMessages() {
		cost := int64(x.Cost())
		if x.Poison != "" {
			x.Poison = r.sess.redact(x.Poison)
		}
		m := x.Message()
		if len(m.Position) == 0 || m.Position.Compare(r.last) <= 0 {
			return r.violation("a message has the position %x, after one with %x: want a greater one, by the order of their bytes", m.Position, r.last)
		}
		r.last = append(r.last[:0:0], m.Position...)
		r.pending = append(r.pending, item{m, cost})
	}
	return nil
}

// take hands out what the limits allow, at least one, and gives its room back.
func (r *reader) take(limits connectors.Limits) connectors.Batch {
	n, bytes, cost := 0, 0, int64(0)
	for n < len(r.pending) {
		size := r.pending[n].message.Size()
		if n > 0 && (limits.Records > 0 && n >= limits.Records || limits.Bytes > 0 && bytes+size > limits.Bytes) {
			break
		}
		bytes, cost = bytes+size, cost+r.pending[n].cost
		n++
	}
	b := connectors.Batch{Messages: make([]connectors.Message, n)}
	for i := range n {
		b.Messages[i] = r.pending[i].message
		r.pending[i] = item{}
	}
	if r.pending = r.pending[n:]; len(r.pending) == 0 {
		r.pending = nil
	}
	r.heard = time.Now() // it may have waited for the room, and not we for it
	r.send(&wire.ReadRequest{Of: &wire.ReadRequest_Credit{Credit: &wire.Credit{Bytes: cost}}})
	return b
}

// Committed implements connectors.Reader.
func (r *reader) Committed(ctx context.Context, upTo connectors.Position) error {
	r.commits++
	id := r.commits
	r.heard, r.done[id] = time.Now(), nil
	r.send(&wire.ReadRequest{Of: &wire.ReadRequest_Committed{Committed: &wire.Committed{Id: id, UpTo: upTo}}})
	for {
		if done := r.done[id]; done != nil {
			delete(r.done, id)
			return r.sess.remote(done.GetError())
		}
		if err := r.pump(ctx, -1); err != nil {
			if ctx.Err() == nil {
				r.stop(err)
			}
			return err
		}
	}
}

// Close implements connectors.Reader.
func (r *reader) Close(ctx context.Context) error {
	defer r.stream.end()
	if r.broken || r.sess.over() {
		return nil // the end of the stream, or of the process, closes the plugin's side
	}
	r.heard = time.Now()
	r.send(&wire.ReadRequest{Of: &wire.ReadRequest_Close{Close: &wire.Close{}}})
	for r.closed == nil {
		if err := r.pump(ctx, -1); err != nil {
			return err
		}
	}
	return r.sess.remote(r.closed.GetError())
}
