package rabbitmq

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// offsetHeader is where a message stands in its stream.
const offsetHeader = "x-stream-offset"

// Stream reads streams: queues of type stream, which keep what was read. Its
// positions are the streams' own offsets.
type Stream struct{}

// Spec implements connectors.Source.
func (Stream) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "rabbitmq-stream",
		Summary:   "Reads streams of RabbitMQ, by their offsets.",
		Guarantee: "exactly-once (stream offset in the same hub transaction as the record)",
		Since:     "0.1",
		Fields:    streamFields(),
	}
}

func streamFields() []connectors.Field {
	return []connectors.Field{
		urlField(),
		{
			Name: "streams", Kind: connectors.KindStrings, Required: true, Check: checkQueues, Example: "[orders]",
			Description: "streams to read, each on a connection of its own and in its order; they have to be there",
		},
		{
			Name: "start", Kind: connectors.KindString, Options: []string{"first", "next"}, Default: "first", Example: "next",
			Description: "where to begin when there is no checkpoint: at the first message that the stream still has, or at the next one that comes",
		},
		{
			Name: "prefetch", Kind: connectors.KindInt, Default: int64(1000), Min: 1, Max: 65535, Example: "5000",
			Description: "messages of a stream that are on their way",
		},
		{
			Name: "key", Kind: connectors.KindString, Default: "routing_key", Example: "header:customer", Check: checkPart("routing_key", "message_id", "correlation_id", "none"),
			Description: "key of the record, which decides on its partition: routing_key, message_id, correlation_id, header:NAME or none",
		},
	}
}

// Validate implements connectors.Source.
func (Stream) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	if probe != connectors.ProbeLive {
		return nil
	}
	return probeLive(ctx, cfg, func(l *link) error {
		for _, name := range cfg.Strings("streams") {
			if err := l.look(ctx, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Splits implements connectors.Source: each stream is one.
func (Stream) Splits(_ context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	return splitsOf(cfg.Strings("streams")), nil
}

// Open implements connectors.Source.
func (Stream) Open(ctx context.Context, task connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	last, err := numberOf(streamPosition, from)
	if err != nil {
		return nil, err
	}
	l, err := connect(ctx, task)
	if err != nil {
		return nil, err
	}
	r := &streamReader{consumer: consumer{link: l}, name: split.ID, known: from != nil, last: last, mark: markOf(from)}
	r.key, r.id = part(task.Config.String("key")), "none"
	args := amqp.Table{offsetHeader: task.Config.String("start")}
	if r.known { // once more: it tells whether the stream is the one that was read
		args[offsetHeader], r.again = int64(last), time.Now()
	}
	if err := r.consume(ctx, split.ID, int(task.Config.Int("prefetch")), args); err != nil {
		r.end()
		return nil, err
	}
	return r, nil
}

// streamReader reads a stream. To acknowledge asks for more and forgets
// nothing, so it is done when a message is read.
type streamReader struct {
	sourceSettings
	consumer
	name  string
	known bool      // last is an offset
	last  uint64    // of the last message that came
	mark  []byte    // of it; nil when it is not known
	again time.Time // since when it is asked for once more; zero when it has come
	held  *streamed
	ended error // what came after the messages that Read returned
}

// streamed is a message of a stream, and by what it is acknowledged.
type streamed struct {
	connectors.Message
	tag uint64
}

// Read implements connectors.Reader.
func (r *streamReader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	if err := ctx.Err(); err != nil {
		return connectors.Batch{}, err
	}
	timer := time.NewTimer(limits.Wait)
	defer timer.Stop()
	wait := timer.C
	var (
		out connectors.Batch
		tag uint64
	)
	for size := 0; limits.Records == 0 || len(out.Messages) < limits.Records; {
		m, err := r.take(ctx, wait)
		if err != nil && len(out.Messages) == 0 {
			return out, err
		}
		if err != nil || m == nil {
			break
		}
		if size += m.Size(); limits.Bytes > 0 && size > limits.Bytes && len(out.Messages) > 0 {
			r.held = m
			break
		}
		tag, wait = m.tag, nil
		out.Messages = append(out.Messages, m.Message)
	}
	if tag == 0 || r.ch.IsClosed() {
		return out, nil
	}
	if err := r.link.within(ctx, func() error { return r.ch.Ack(tag, true) }); err != nil && len(out.Messages) == 0 {
		return out, connectors.Retry(0, fmt.Errorf("stream %q: ask for more: %w", r.name, err))
	}
	return out, nil
}

// take is the next message; nil when none came. An error for which the job
// stops is told each time.
func (r *streamReader) take(ctx context.Context, wait <-chan time.Time) (*streamed, error) {
	if m := r.held; m != nil {
		r.held = nil
		return m, nil
	}
	if r.ended != nil {
		return nil, r.ended
	}
	d, err := r.next(ctx, wait)
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w", r.name, err)
	}
	if d == nil {
		return nil, r.missed()
	}
	if done, err := r.recognise(ctx, d); done || err != nil {
		return nil, err
	}
	at, err := r.offset(d)
	if err != nil {
		r.ended = err
		return nil, err
	}
	r.last, r.known = at, true
	m := &streamed{r.message(r.name, d), d.DeliveryTag}
	m.Position = append(position(streamPosition, at), mark(d)...)
	m.Place = m.Position[:numberSize]
	return m, nil
}

// recognise looks at the message that was the last to be read, which comes once
// more. Another one there says that the stream is another. done says that it was
// this, and the same. It may be gone by retention; then offset decides.
func (r *streamReader) recognise(ctx context.Context, d *amqp.Delivery) (done bool, err error) {
	if r.again.IsZero() {
		return false, nil
	}
	at, letter := whole(d.Headers[offsetHeader])
	if letter == "" || at < 0 || uint64(at) > r.last {
		r.again = time.Time{}
		return false, nil
	}
	if uint64(at) == r.last {
		r.again = time.Time{}
		if r.mark != nil && !bytes.Equal(r.mark, mark(d)) {
			r.ended = connectors.Fatalf("stream %q: the message at offset %d is another than the one that was read: the stream was deleted and made anew; set the job's offsets to read the new one", r.name, r.last)
			return false, r.ended
		}
	}
	err = r.link.within(ctx, func() error { return r.ch.Ack(d.DeliveryTag, false) })
	if err != nil {
		return false, connectors.Retry(0, fmt.Errorf("stream %q: ask for more: %w", r.name, err))
	}
	return true, nil
}

// missed says when the last message that was read does not come once more: a
// stream that has others after it, or none, would give it or what follows.
func (r *streamReader) missed() error {
	if r.again.IsZero() || time.Since(r.again) < answerTimeout {
		return nil
	}
	return connectors.Retry(0, fmt.Errorf("stream %q: there is no message at offset %d, which was read: the stream was deleted and made anew, or is not there yet; set the job's offsets to read a new one", r.name, r.last))
}

// mark tells a message from another at the same offset: a hash of what its sender
// has said.
func mark(d *amqp.Delivery) []byte {
	h := sha256.New()
	for _, part := range []string{d.Exchange, d.RoutingKey, d.MessageId, d.CorrelationId, d.Timestamp.UTC().String()} {
		_, _ = fmt.Fprintf(h, "%d %s", len(part), part)
	}
	h.Write(d.Body)
	return h.Sum(nil)[:markSize]
}

// offset is where a message stands. Offsets have no gaps: where one is, the
// stream has dropped messages that were not read.
func (r *streamReader) offset(d *amqp.Delivery) (uint64, error) {
	at, letter := whole(d.Headers[offsetHeader])
	if letter == "" || at < 0 {
		return 0, connectors.Fatalf("queue %q is not a stream: a message has no %s; use the source rabbitmq", r.name, offsetHeader)
	}
	delete(d.Headers, offsetHeader)
	if r.known && uint64(at) != r.last+1 {
		return 0, connectors.Fatalf("stream %q: offset %d comes after %d: its retention has dropped what is between, or it is another stream of this name; set the job's offsets to go on", r.name, at, r.last)
	}
	return uint64(at), nil
}

// Committed implements connectors.Reader: a stream keeps what was read.
func (*streamReader) Committed(context.Context, connectors.Position) error { return nil }

// Close implements connectors.Reader.
func (r *streamReader) Close(context.Context) error {
	r.end()
	return nil
}
