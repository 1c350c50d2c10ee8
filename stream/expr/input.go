package expr

import (
	"errors"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Input is the record that expressions look at. It remembers what it has
// decoded for the last expression; call Reset when Record changes. An Input
// is used by one goroutine at a time.
type Input struct {
	Record    *record.Record
	Topic     string
	Partition int32

	env     scope
	decoded *wanted // what env.Value holds; nil: nothing yet
	reader  reader
}

// Reset says that Record or its content is a new one.
func (in *Input) Reset() { in.decoded = nil }

// scope is the environment of an expression. The field tags are the names
// that a jobs file uses.
type scope struct {
	Value     any            `expr:"value"`
	Text      string         `expr:"text"`
	Key       any            `expr:"key"`
	Headers   map[string]any `expr:"headers"`
	TS        time.Time      `expr:"ts"`
	Topic     string         `expr:"topic"`
	Partition int            `expr:"partition"`
	Offset    int            `expr:"offset"`
}

func (in *Input) scope(n *needs) (*scope, error) {
	r, env := in.Record, &in.env
	if n.time {
		if r.Timestamp < 0 {
			return nil, errors.New("ts: the record has no time yet")
		}
		env.TS = time.UnixMilli(r.Timestamp).UTC()
	}
	env.Topic, env.Partition, env.Offset = in.Topic, int(in.Partition), int(r.Offset)
	if n.text {
		env.Text = string(r.Value)
	}
	if n.key {
		env.Key = nil
		if r.Key != nil {
			env.Key = string(r.Key)
		}
	}
	if n.headers {
		env.Headers = make(map[string]any, len(r.Headers))
		for _, h := range r.Headers {
			env.Headers[h.Key] = string(h.Value)
		}
	}
	if n.value != nil && in.decoded != n.value {
		v, err := in.reader.decode(r.Value, n.value)
		if err != nil {
			return nil, err
		}
		env.Value, in.decoded = v, n.value
	}
	return env, nil
}
