package stream

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The headers of a dead letter, beside HeaderSource and those the record had.
// Its key is the record's, its value what was read, byte for byte.
const (
	HeaderDeadJob     = "entrepot-dlq-job"
	HeaderDeadWhere   = "entrepot-dlq-where"   // file:line, or topic-partition@offset
	HeaderDeadStep    = "entrepot-dlq-step"    // source, the transform, or the sink
	HeaderDeadReason  = "entrepot-dlq-reason"  // the error
	HeaderDeadAttempt = "entrepot-dlq-attempt" // the start of the job that gave up on it, counted from 1
	HeaderDeadTime    = "entrepot-dlq-time"    // the record's own time, milliseconds since 1970; left out when it had none
	// HeaderDeadTruncated holds the length in bytes of a value that was too
	// large for the topic and was cut.
	HeaderDeadTruncated = "entrepot-dlq-truncated"
)

// deadLetterBytes is the largest dead letter: well over the largest record
// that a topic takes by default, because a dead letter may be one that was
// too large.
const deadLetterBytes = 16 << 20

// deadLetters writes the dead letters of one run of a job.
type deadLetters struct {
	job     string
	attempt int64
	tp      record.TopicPartition
	client  *kgo.Client
	limit   int32 // bytes of a batch
	most    int   // of a letter
	hide    connectors.Redactor

	mu struct {
		sync.Mutex
		floor int64 // every letter sent from now on is at or above it
	}
}

// openDeadLetters creates the topic when it is missing. The client is closed
// when ctx ends, at the latest by closed.
func openDeadLetters(ctx context.Context, c *cluster, kafka *kgo.Client, spec ConnectorSpec, attempt int64) (*deadLetters, func(), error) {
	tp := record.TopicPartition{Topic: spec.DLQ()}
	most := strconv.Itoa(deadLetterBytes)
	err := ensureTopic(ctx, kafka, tp.Topic, 1, map[string]*string{"max.message.bytes": &most})
	if errors.Is(err, kerr.InvalidConfig) || errors.Is(err, kerr.PolicyViolation) { // the hub allows no such size
		err = ensureTopic(ctx, kafka, tp.Topic, 1, nil)
	}
	if err != nil {
		return nil, nil, err
	}
	adm := kadm.NewClient(kafka)
	limit := batchLimit(ctx, adm, tp.Topic)
	bounds, err := spans(ctx, adm, tp.Topic)
	if err != nil {
		return nil, nil, err
	}
	cl, closed, err := c.client(ctx, "entrepot-dlq-"+spec.Name,
		kgo.ProducerLinger(0), // a sink waits for each letter with its plan
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.StopProducerOnDataLossDetected(),
		kgo.ProducerBatchMaxBytes(limit), kgo.MaxBufferedBytes(2*deadLetterBytes))
	if err != nil {
		return nil, nil, err
	}
	d := &deadLetters{job: spec.Name, attempt: attempt, tp: tp, client: cl, limit: limit, most: int(limit) - recordOverhead, hide: spec.Config.Redactor()}
	d.mu.floor = bounds[tp].end
	return d, closed, nil
}

// floor is an offset at or above which all letters sent from now on are.
func (d *deadLetters) floor() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.floor
}

// letter is one record that cannot be handled.
type letter struct {
	source   []byte // its HeaderSource
	where    string
	err      error
	key      []byte
	value    []byte
	headers  []record.Header
	time     int64  // or connectors.NoTimestamp
	fallback string // the step, when err does not say
}

// record is a letter as the topic takes it.
func (d *deadLetters) record(l letter) *kgo.Record {
	r := &kgo.Record{Topic: d.tp.Topic, Key: l.key, Value: l.value, Headers: d.headers(l)}
	if size := recordSize(r); size > d.most {
		keep := max(0, len(r.Value)-(size-d.most)-64)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: HeaderDeadTruncated, Value: strconv.AppendInt(nil, int64(len(r.Value)), 10)})
		r.Value = r.Value[:keep]
	}
	return r
}

// send writes a letter by itself, outside of any transaction; done is called
// once with its offset, maybe later and by another goroutine.
func (d *deadLetters) send(ctx context.Context, l letter, done func(offset int64, err error)) {
	d.client.Produce(ctx, d.record(l), func(r *kgo.Record, err error) {
		if err == nil {
			d.mu.Lock()
			d.mu.floor = max(d.mu.floor, r.Offset+1)
			d.mu.Unlock()
		}
		done(r.Offset, err)
	})
}

func (d *deadLetters) headers(l letter) []kgo.RecordHeader {
	step := l.fallback
	var at *stepError
	if errors.As(l.err, &at) {
		step = at.step
	}
	out := make([]kgo.RecordHeader, 0, len(l.headers)+6)
	for _, h := range l.headers {
		if h.Key != HeaderSource {
			out = append(out, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	if l.time != connectors.NoTimestamp {
		out = append(out, kgo.RecordHeader{Key: HeaderDeadTime, Value: strconv.AppendInt(nil, l.time, 10)})
	}
	return append(out,
		kgo.RecordHeader{Key: HeaderSource, Value: l.source},
		kgo.RecordHeader{Key: HeaderDeadJob, Value: []byte(d.job)},
		kgo.RecordHeader{Key: HeaderDeadWhere, Value: []byte(l.where)},
		kgo.RecordHeader{Key: HeaderDeadStep, Value: []byte(step)},
		kgo.RecordHeader{Key: HeaderDeadReason, Value: bytes.ToValidUTF8([]byte(d.hide.Text(l.err.Error())), []byte("?"))},
		kgo.RecordHeader{Key: HeaderDeadAttempt, Value: strconv.AppendInt(nil, d.attempt, 10)},
	)
}

// sourceLetter is the letter of a message that a source has read.
func sourceLetter(m *connectors.Message, original connectors.Message, name []byte, err error) letter {
	l := letter{
		source: name, where: m.Origin.String(), err: err, fallback: "source",
		key: original.Key, value: original.Original, headers: original.Headers, time: original.Timestamp,
	}
	if l.value == nil {
		l.value = original.Value
	}
	return l
}

// recordOverhead is more than what a batch and a record's lengths add to the
// record's own bytes.
const recordOverhead = 128

// recordSize is about the size of a record in a batch, uncompressed.
func recordSize(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 10
	}
	return n
}

// defaultBatchLimit is Kafka's default for max.message.bytes.
const defaultBatchLimit = 1048588

// batchLimit asks for the largest batch a topic takes; a hub that does not
// say is taken to have Kafka's default.
func batchLimit(ctx context.Context, adm *kadm.Client, topic string) int32 {
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return defaultBatchLimit
	}
	rc, err := configs.On(topic, nil)
	if err != nil || rc.Err != nil {
		return defaultBatchLimit
	}
	for _, c := range rc.Configs {
		if c.Key != "max.message.bytes" || c.Value == nil {
			continue
		}
		if n, err := strconv.ParseInt(*c.Value, 10, 32); err == nil && n >= 1024 {
			return int32(min(n, 64<<20))
		}
	}
	return defaultBatchLimit
}
