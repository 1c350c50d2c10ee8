package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// producer is a producer id at the remote cluster, with the sequence numbers
// of its batches. A batch that is sent again has the same number, and the
// broker takes it once.
type producer struct {
	cluster *cluster
	id      int64
	epoch   int16
	txn     string // transactional id, or ""
	next    map[int32]int32
}

// newProducer asks for a producer id without transactions.
func (c *cluster) newProducer(ctx context.Context) (*producer, error) {
	p := &producer{cluster: c, next: map[int32]int32{}}
	err := c.insist(ctx, func() error {
		one, err := c.any(ctx)
		if err != nil {
			return err
		}
		result, err := p.init(ctx, one, -1, -1, 0)
		if err == nil && result != 0 {
			err = failed("ask for a producer id", result)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// init asks a broker for an id and an epoch.
func (p *producer) init(ctx context.Context, one *conn, id int64, epoch int16, timeout time.Duration) (int16, error) {
	m, err := one.ask(ctx, &initproducerid.Request{
		TransactionalID: p.txn, TransactionTimeoutMs: int32(timeout.Milliseconds()), ProducerID: id, ProducerEpoch: epoch,
	})
	if err != nil {
		return 0, err
	}
	answer := m.(*initproducerid.Response)
	if answer.ErrorCode == 0 {
		p.id, p.epoch = answer.ProducerID, answer.ProducerEpoch
	}
	return answer.ErrorCode, nil
}

// insist tries again what fails for a reason that passes, for a while. What
// it tries may be done twice.
func (c *cluster) insist(ctx context.Context, try func() error) error {
	begin := time.Now()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := try()
		switch connectors.ClassOf(err) {
		case connectors.ClassNone, connectors.ClassFatal, connectors.ClassPoison, connectors.ClassUnknown:
			return err
		}
		if time.Since(begin) > insistFor {
			return err
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// insistFor is how long a request is tried again: longer than an election or
// the restart of a broker takes.
const insistFor = 45 * time.Second

// piece is a batch on its way to a partition.
type piece struct {
	partition int32
	batch     record.Batch
	records   int
}

// send writes the records of each partition in their order: rounds of one
// batch of each partition, one request for each leader.
func (p *producer) send(ctx context.Context, w *writer, parts map[int32][]record.Record) error {
	for len(parts) > 0 {
		var round []piece
		for _, number := range slices.Sorted(maps.Keys(parts)) {
			one, rest, err := p.build(w, number, parts[number])
			if err != nil {
				return err
			}
			round = append(round, one)
			if parts[number] = rest; len(rest) == 0 {
				delete(parts, number)
			}
		}
		if err := p.deliver(ctx, w.topic, round); err != nil {
			return err
		}
		for _, one := range round {
			p.next[one.partition] = (p.next[one.partition] + int32(one.records)) & 0x7fffffff
		}
	}
	return nil
}

// build makes a batch of the first of the records.
func (p *producer) build(w *writer, number int32, records []record.Record) (piece, []record.Record, error) {
	b := record.NewBuilder(w.codec)
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = p.id, p.epoch, p.next[number], p.txn != ""
	limit := min(w.batchBytes, w.limit)
	for i, r := range records {
		if i > 0 && b.Size()+recordSize(r) > limit {
			break
		}
		if err := b.Append(r); err != nil {
			return piece{}, nil, err
		}
	}
	batch, err := b.Build()
	if err != nil {
		return piece{}, nil, err
	}
	return piece{number, batch, b.Len()}, records[b.Len():], nil
}

// deliver writes one batch for each of some partitions, and tries again those
// that fail for a reason that passes. The same bytes again are taken once.
func (p *producer) deliver(ctx context.Context, topic string, round []piece) error {
	return p.cluster.insist(ctx, func() error {
		byLeader := map[*conn][]piece{}
		for _, one := range round {
			leader, err := p.cluster.leader(ctx, record.TopicPartition{Topic: topic, Partition: one.partition})
			if err != nil {
				return err
			}
			byLeader[leader] = append(byLeader[leader], one)
		}
		var left []piece
		var problem error
		for leader, pieces := range byLeader {
			failed, err := p.produce(ctx, leader, topic, pieces)
			if err != nil {
				left, problem = append(left, failed...), err
			}
		}
		if round = left; problem != nil {
			p.cluster.forget(topic)
		}
		return problem
	})
}

// produce sends one request and returns the pieces that were not taken.
func (p *producer) produce(ctx context.Context, leader *conn, topic string, pieces []piece) ([]piece, error) {
	req := &rawproduce.Request{TransactionalID: p.txn, Acks: -1, Timeout: int32(answerWithin.Milliseconds() / 2)}
	t := rawproduce.RequestTopic{Topic: topic}
	for _, one := range pieces {
		// kafka-go wants the length before the bytes.
		size := binary.BigEndian.AppendUint32(nil, uint32(len(one.batch)))
		t.Partitions = append(t.Partitions, rawproduce.RequestPartition{
			Partition: one.partition, RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(append(size, one.batch...))},
		})
	}
	req.Topics = []rawproduce.RequestTopic{t}
	m, err := leader.ask(ctx, req)
	if err != nil {
		return pieces, err
	}
	codes := map[int32]produce.ResponsePartition{}
	for _, t := range m.(*produce.Response).Topics {
		for _, part := range t.Partitions {
			codes[part.Partition] = part
		}
	}
	var left []piece
	for _, one := range pieces {
		part, ok := codes[one.partition]
		if !ok {
			err = errors.Join(err, fmt.Errorf("%s-%d: %w", topic, one.partition, errNoAnswer))
		} else if problem := p.judge(topic, one, part); problem != nil {
			err = errors.Join(err, problem)
		} else {
			continue
		}
		left = append(left, one)
	}
	return left, err
}

// judge says what a partition's answer means.
func (p *producer) judge(topic string, one piece, part produce.ResponsePartition) error {
	what := fmt.Sprintf("write to %s-%d", topic, one.partition)
	c := code(part.ErrorCode)
	switch {
	case c == 0, c == kafkago.DuplicateSequenceNumber: // it is in already
		return nil
	case fenced(c) && p.txn != "":
		return connectors.Fatalf("%s: %w: %w", what, connectors.ErrFenced, c)
	case c == kafkago.MessageSizeTooLarge, c == kafkago.RecordListTooLarge, c == kafkago.InvalidTimestamp, c == kafkago.InvalidRecord:
		return connectors.Poisonf("%s, %d records in %d bytes: %w %s", what, one.records, len(one.batch), c, part.ErrorMessage)
	case moved(c):
		return fmt.Errorf("%s: %w", what, c)
	case c == kafkago.OutOfOrderSequenceNumber, c == kafkago.UnknownProducerId, fenced(c):
		return connectors.Unknown(fmt.Errorf("%s: the broker does not know the batch before: %w", what, c))
	}
	return failed(what, part.ErrorCode)
}
