package rabbitmq

import (
	"context"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// maxLooks bounds how many names a look asks the broker for.
const maxLooks = 20

// Preview implements connectors.Previewer: messages are made and not
// published, and exchanges and queues are looked for by passive declarations.
func (Sink) Preview(ctx context.Context, task connectors.TaskContext, sample []connectors.Message) (out connectors.Preview, err error) {
	s, err := sinkSettingsOf(task.Config)
	if err == nil {
		err = fatal(s.check())
	}
	if err != nil {
		return out, err
	}
	l, err := connect(ctx, task)
	if err != nil {
		return out, err
	}
	defer l.close()
	exchange, constant := s.exchange.constant()
	switch {
	case exchange != "" && constant:
		out.Target = fmt.Sprintf("exchange %q", exchange)
		if err := l.exchange(ctx, exchange, s.kind, false); err != nil {
			if !s.declare || !absent(err) {
				return out, err
			}
			out.Target += ", which is not there and would be made"
			out.Makes = append(out.Makes, fmt.Sprintf("exchange.declare %q, type %s", exchange, s.kind))
		}
	case constant:
		out.Target = "the default exchange, by the names of queues"
	default:
		out.Target = "exchanges that the records name"
	}
	for _, q := range s.queues {
		if err := l.look(ctx, q.name); err != nil {
			if !absent(err) {
				return out, err
			}
			out.Makes = append(out.Makes, fmt.Sprintf("queue.declare %q, type %s, with %d bindings", q.name, q.typ, len(q.bindings)))
		}
	}
	return out, s.each(ctx, l, sample, &out)
}

// each makes the messages, and looks for the queues that the default exchange
// would bring them to.
func (s *sinkSettings) each(ctx context.Context, l *link, sample []connectors.Message, out *connectors.Preview) error {
	exchange, constant := s.exchange.constant()
	declared, known := map[string]bool{}, map[string]error{}
	for _, q := range s.queues {
		declared[q.name] = true
	}
	for i := range sample {
		m, err := s.publishing(&sample[i])
		if err == nil && constant && exchange == "" && s.mandatory && !declared[m.key] {
			if _, seen := known[m.key]; !seen && len(known) < maxLooks {
				known[m.key] = l.look(ctx, m.key)
			}
			if gone := known[m.key]; gone != nil {
				if !absent(gone) {
					return gone
				}
				err = fmt.Errorf("no queue takes it: %w", gone)
			}
		}
		if err != nil {
			out.Refused = append(out.Refused, connectors.RecordError{Index: i, Offset: sample[i].Offset, Err: connectors.Poison(err)})
		}
	}
	return nil
}

// Replayed implements connectors.Replayer.
func (Sink) Replayed(connectors.Config, string, []connectors.Move) string {
	return "the messages are published again, with the message-id that they had before"
}
