package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster is how jobs reach their hub: as any Kafka client does.
type cluster struct {
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	seeds  []string
	logger *slog.Logger
}

// client makes a Kafka client that is closed at the latest when ctx ends, so
// that nothing waits for a hub that does not answer. close releases it and
// waits until it is gone.
func (c *cluster) client(ctx context.Context, id string, opts ...kgo.Opt) (cl *kgo.Client, closed func(), err error) {
	base := []kgo.Opt{
		kgo.SeedBrokers(c.seeds...), kgo.ClientID(id), kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(200 * time.Millisecond), kgo.RetryBackoffFn(retryPause),
	}
	if c.dial != nil {
		base = append(base, kgo.Dialer(c.patientDial))
	}
	if cl, err = kgo.NewClient(append(base, opts...)...); err != nil {
		return nil, nil, connectors.Fatalf("Kafka client of %s: %w", id, err)
	}
	gone := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(gone); cl.Close() })
	return cl, func() {
		if stop() {
			cl.Close()
			return
		}
		<-gone
	}, nil
}

// dialPause is how long a failed dial takes at least. The client tries some
// requests again at once, which would be a busy loop while a hub in the same
// process refuses connections in no time.
const dialPause = 100 * time.Millisecond

func (c *cluster) patientDial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, addr)
	if err == nil {
		return conn, nil
	}
	pause := time.NewTimer(dialPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	var op *net.OpError
	if !errors.As(err, &op) { // by this the client knows that nothing was sent
		err = &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return nil, err
}

// retryPause is the client's own pause between tries of one request.
func retryPause(tries int) time.Duration {
	return min(50*time.Millisecond<<min(tries, 6), 2*time.Second)
}

// createTime is how long a hub may take to create a topic.
const createTime = 15 * time.Second

// ensureTopic creates a topic unless it exists. It asks the node that the client
// began with, this one, which passes it on to whoever leads the catalog: the one
// that the client takes for the controller may have been frozen since.
func ensureTopic(ctx context.Context, cl *kgo.Client, name string, partitions int32, configs map[string]*string) error {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, -1
	for k, v := range configs {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, v
		topic.Configs = append(topic.Configs, c)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = int32(createTime.Milliseconds()), []kmsg.CreateTopicsRequestTopic{topic}
	var resp kmsg.Response
	var err error
	for _, seed := range cl.SeedBrokers() {
		if resp, err = seed.RetriableRequest(ctx, req); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err == nil {
		if made := resp.(*kmsg.CreateTopicsResponse).Topics; len(made) == 1 {
			err = kerr.ErrorForCode(made[0].ErrorCode)
		} else {
			err = fmt.Errorf("%w: an answer about %d topics", record.ErrInvalidRequest, len(made))
		}
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// topicInfo is what a job has to know of its topic.
type topicInfo struct {
	partitions int32
	id         string // differs when the topic was deleted and made anew; "" when the hub does not say
}

// askTopic returns an error that says so when the topic does not exist.
func askTopic(ctx context.Context, adm *kadm.Client, topic string) (topicInfo, error) {
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return topicInfo{}, fmt.Errorf("ask for topic %s: %w", topic, err)
	}
	detail, ok := topics[topic]
	if !ok || errors.Is(detail.Err, kerr.UnknownTopicOrPartition) || detail.Err == nil && len(detail.Partitions) == 0 {
		return topicInfo{}, fmt.Errorf("%w: topic %s does not exist; list it under topics: or create it", record.ErrUnknownTopic, topic)
	}
	if detail.Err != nil {
		return topicInfo{}, fmt.Errorf("ask for topic %s: %w", topic, detail.Err)
	}
	info := topicInfo{partitions: int32(len(detail.Partitions))}
	if id := record.TopicID(detail.ID); !id.IsZero() {
		info.id = id.String()
	}
	return info, nil
}

// span is what a partition holds: [start, end).
type span struct{ start, end int64 }

// spans asks for the bounds of all partitions of the topics that exist.
func spans(ctx context.Context, adm *kadm.Client, topics ...string) (map[record.TopicPartition]span, error) {
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("ask for the first offsets of %v: %w", topics, err)
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("ask for the last offsets of %v: %w", topics, err)
	}
	out := map[record.TopicPartition]span{}
	for topic, partitions := range ends {
		for p, end := range partitions {
			start, ok := starts.Lookup(topic, p)
			if errors.Is(end.Err, kerr.UnknownTopicOrPartition) {
				continue
			}
			if err := errors.Join(start.Err, end.Err); err != nil || !ok {
				return nil, fmt.Errorf("ask for the offsets of %s-%d: %w", topic, p, err)
			}
			out[record.TopicPartition{Topic: topic, Partition: p}] = span{start.Offset, end.Offset}
		}
	}
	return out, nil
}

// scan reads [start, end) of every partition given and calls fn for each
// record, in the order of each partition, whatever became of its transaction.
func (c *cluster) scan(ctx context.Context, id string, ranges map[record.TopicPartition]span, fn func(*kgo.Record)) error {
	return c.read(ctx, id, ranges, kgo.ReadUncommitted(), withoutMarkers(fn))
}

// scanCommitted is scan without the records of aborted transactions. It waits
// for transactions that are open in the ranges.
func (c *cluster) scanCommitted(ctx context.Context, id string, ranges map[record.TopicPartition]span, fn func(*kgo.Record)) error {
	return c.read(ctx, id, ranges, kgo.ReadCommitted(), withoutMarkers(fn))
}

func withoutMarkers(fn func(*kgo.Record)) func(*kgo.Record) {
	return func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			fn(r)
		}
	}
}

// read is scan with the markers of transactions.
func (c *cluster) read(ctx context.Context, id string, ranges map[record.TopicPartition]span, level kgo.IsolationLevel, fn func(*kgo.Record)) error {
	from := map[string]map[int32]kgo.Offset{}
	left := map[record.TopicPartition]int64{}
	for tp, s := range ranges {
		if s.start >= s.end {
			continue
		}
		if from[tp.Topic] == nil {
			from[tp.Topic] = map[int32]kgo.Offset{}
		}
		from[tp.Topic][tp.Partition] = kgo.NewOffset().At(s.start)
		left[tp] = s.end
	}
	if len(left) == 0 {
		return nil
	}
	cl, closed, err := c.client(ctx, id, kgo.ConsumePartitions(from), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(level), kgo.FetchMaxBytes(fetchBytes))
	if err != nil {
		return err
	}
	defer closed()
	for len(left) > 0 {
		fetches, err := pollWithin(ctx, cl, scanPatience)
		if err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if end, ok := left[record.TopicPartition{Topic: r.Topic, Partition: r.Partition}]; ok && r.Offset < end {
				fn(r)
			}
		})
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			tp := record.TopicPartition{Topic: p.Topic, Partition: p.Partition}
			if n := len(p.Records); n > 0 && p.Records[n-1].Offset+1 >= left[tp] {
				delete(left, tp)
			}
		})
	}
	return nil
}

// scanPatience is how long a scan waits for the next records, which are known
// to exist.
const scanPatience = 30 * time.Second

func pollWithin(ctx context.Context, cl *kgo.Client, patience time.Duration) (kgo.Fetches, error) {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	fetches := cl.PollFetches(within)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if within.Err() != nil {
		return nil, fmt.Errorf("%w: no record came for %v, though the partition has more", record.ErrTimeout, patience)
	}
	return fetches, fetchError(fetches)
}

// fetchBytes bounds the answer to one fetch, and so what a client holds
// before it is polled.
const fetchBytes = 8 << 20

// fetchError is the first error of a poll that is not cured by polling again.
func fetchError(fetches kgo.Fetches) error {
	if fetches.IsClientClosed() {
		return context.Canceled
	}
	for _, e := range fetches.Errors() {
		if e.Topic == "" {
			return e.Err
		}
		if !kerr.IsRetriable(e.Err) || errors.Is(e.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("fetch %s-%d: %w", e.Topic, e.Partition, e.Err)
		}
	}
	return nil
}
