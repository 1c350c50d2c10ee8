package wire

import (
	"bytes"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// FromMessage is a message as it goes over the wire. It shares its memory. One
// that the wire cannot carry goes as poison (NotCarried).
func FromMessage(m *connectors.Message) *Message {
	out := &Message{
		Key: m.Key, Value: m.Value, Timestamp: m.Timestamp, Original: m.Original, Position: m.Position, Place: m.Place, Id: m.ID,
		OriginName: utf8Text(m.Origin.Name), OriginLine: m.Origin.Line, Mark: m.Mark,
		Topic: m.Partition.Topic, Partition: m.Partition.Partition, Offset: m.Offset, Pinned: m.Pinned,
	}
	if m.Original != nil && m.Value != nil && bytes.Equal(m.Original, m.Value) {
		out.Original, out.OriginalIsValue = nil, true
	}
	if m.Err != nil {
		if out.Poison = text(m.Err); out.Poison == "" {
			out.Poison = "the plugin does not say why"
		}
	}
	if err := NotCarried(m); err != nil && m.Err == nil {
		out.Poison = text(err)
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, &Header{Key: utf8Text(h.Key), Value: h.Value})
	}
	return out
}

// NotCarried says why a message would be another one on the other side; nil, it
// is the same.
func NotCarried(m *connectors.Message) error {
	for _, h := range m.Headers {
		if !utf8.ValidString(h.Key) {
			return connectors.Poison(fmt.Errorf("the name of its header %q is not UTF-8, and so cannot go to a plugin or come from one", h.Key))
		}
	}
	return nil
}

// Message is the message with memory of its own: what came is not used again.
func (x *Message) Message() connectors.Message {
	m := connectors.Message{
		Key: x.Key, Value: x.Value, Timestamp: x.Timestamp, Original: x.Original, Position: x.Position, Place: x.Place, ID: x.Id,
		Origin: connectors.Origin{Name: x.OriginName, Line: x.OriginLine}, Mark: x.Mark,
		Partition: record.TopicPartition{Topic: x.Topic, Partition: x.Partition}, Offset: x.Offset, Pinned: x.Pinned,
	}
	if x.OriginalIsValue {
		m.Original = slices.Clone(x.Value)
		if m.Original == nil {
			m.Original = []byte{}
		}
	}
	if x.Poison != "" {
		m.Err = connectors.Poison(&remote{text: x.Poison})
	}
	for _, h := range x.Headers {
		m.Headers = append(m.Headers, record.Header{Key: h.Key, Value: h.Value})
	}
	return m
}

// Cost is what a message counts against the credit.
func (x *Message) Cost() int {
	n := MessageCost + len(x.Key) + len(x.Value) + len(x.Original)
	for _, h := range x.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// Chunk makes the next part of a batch: at least one message and about
// ChunkBytes. It returns the part, what is left, and the part's cost.
func Chunk(all []connectors.Message) (part *Messages, rest []connectors.Message, cost int) {
	part = &Messages{}
	for i := range all {
		m := FromMessage(&all[i])
		if c := m.Cost(); i > 0 && cost+c > ChunkBytes {
			return part, all[i:], cost
		}
		part.Messages, cost = append(part.Messages, m), cost+m.Cost()
	}
	return part, nil, cost
}

// FromLimits and Limits.Limits are bounds on the wire and back.
func FromLimits(l connectors.Limits) *Limits {
	return &Limits{Records: int64(l.Records), Bytes: int64(l.Bytes), Wait: int64(l.Wait)}
}

// Limits is the way back of FromLimits; nil does not bound.
func (x *Limits) Limits() connectors.Limits {
	return connectors.Limits{Records: int(x.GetRecords()), Bytes: int(x.GetBytes()), Wait: time.Duration(x.GetWait())}
}

// FromSplit is a split on the wire.
func FromSplit(s connectors.Split) *Split {
	return &Split{Id: s.ID, Weight: int64(s.Weight), Config: s.Config}
}

// Split is the way back of FromSplit.
func (x *Split) Split() connectors.Split {
	return connectors.Split{ID: x.GetId(), Weight: int(x.GetWeight()), Config: x.GetConfig()}
}

// FromPartition is a partition on the wire.
func FromPartition(p record.TopicPartition) *TopicPartition {
	return &TopicPartition{Topic: p.Topic, Partition: p.Partition}
}

// TopicPartition is the way back of FromPartition.
func (x *TopicPartition) TopicPartition() record.TopicPartition {
	return record.TopicPartition{Topic: x.GetTopic(), Partition: x.GetPartition()}
}
