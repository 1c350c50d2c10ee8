package history

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// patience is how long porcupine looks for an order of one topic's operations.
const patience = time.Minute

// topicState is a topic as its operations see it.
type topicState struct {
	there bool
	value string
}

// metadata: the operations on each topic are linearizable: there is an order of
// them, in which each took effect between its call and its answer, that gives
// all answers. One with an unknown end may have taken effect at any time after
// its call, or never.
func metadata(v *view, r *Result) {
	var ops []porcupine.Operation
	names := map[string]bool{}
	forever := time.Duration(0)
	for _, c := range v.Changes {
		forever = max(forever, c.End+1)
	}
	for _, c := range v.Changes {
		if c.Outcome == Failed || c.Outcome == Unknown && c.Verb == Get {
			continue // no effect, and no answer
		}
		end := c.End
		if c.Outcome == Unknown {
			end = forever
		}
		names[c.Topic] = true
		ops = append(ops, porcupine.Operation{ClientId: c.Client, Input: c, Output: c, Call: int64(c.Begin), Return: int64(end)})
	}
	r.Examined = len(ops)
	for name := range names {
		var of []porcupine.Operation
		for _, op := range ops {
			if op.Input.(Change).Topic == name {
				of = append(of, op)
			}
		}
		switch porcupine.CheckOperationsTimeout(topicModel(), of, patience) {
		case porcupine.Illegal:
			r.bad("topic %s: no order of its %d operations gives their answers", name, len(of))
		case porcupine.Unknown:
			r.Note += fmt.Sprintf("no order of the %d operations on %s was found or excluded within %s; ", len(of), name, patience)
		}
	}
}

// topicModel is one topic as porcupine wants it.
func topicModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return topicState{} },
		Step: func(state, input, _ any) (bool, any) {
			s, c := state.(topicState), input.(Change)
			if c.Outcome == OK && (c.Found != s.there || c.Verb == Get && c.Found && c.Value != s.value) {
				return false, s
			}
			return true, s.after(c)
		},
	}
}

func (s topicState) after(c Change) topicState {
	switch {
	case c.Verb == Create && !s.there:
		return topicState{true, c.Value}
	case c.Verb == Delete:
		return topicState{}
	case c.Verb == Set && s.there:
		return topicState{true, c.Value}
	}
	return s
}
