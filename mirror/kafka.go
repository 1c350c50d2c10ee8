package mirror

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/entrepot-hub/entrepot/record"
)

// source speaks Kafka to a source site. Its methods make one request each and
// change nothing; they may be called at the same time.
type source struct {
	client *kgo.Client
}

// requestTime is how long a source may take for one answer, besides the wait
// that was asked for. Fetches shrink until an answer fits.
const requestTime = 10 * time.Second

// leastFetchVersion is the first that names topics by ID (KIP-516), without
// which a recreated topic could not be told from the one before.
const leastFetchVersion = 13

func newSource(cfg Config, brokers []string) (*source, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.Dialer(cfg.Dial), kgo.ClientID("entrepot-mirror-" + cfg.Site),
		kgo.RequestTimeoutOverhead(requestTime), kgo.RequestRetries(1), kgo.DisableClientMetrics(),
		kgo.FetchMaxBytes(cfg.FetchBytes), kgo.BrokerMaxReadBytes(max(4*cfg.FetchBytes, 128<<20)),
	}
	if cfg.Login != nil {
		opts = append(opts, kgo.SASL(cfg.Login.mechanism()))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("source brokers %s: %w", strings.Join(brokers, ", "), err)
	}
	return &source{client}, nil
}

// mechanism is the login in the form of the client.
func (l *Login) mechanism() sasl.Mechanism {
	switch l.Mechanism {
	case "SCRAM-SHA-256":
		return scram.Sha256(l.scram)
	case "SCRAM-SHA-512":
		return scram.Sha512(l.scram)
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) {
		password, err := l.Password()
		return plain.Auth{User: l.User, Pass: password}, err
	})
}

func (l *Login) scram(context.Context) (scram.Auth, error) {
	password, err := l.Password()
	return scram.Auth{User: l.User, Pass: password}, err
}

// discover asks for all topics, their leaders and the settings that matter.
func (s *source) discover(ctx context.Context) ([]sourceTopic, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return nil, fmt.Errorf("ask the source for its topics: %w", err)
	}
	if resp.Version < 10 {
		return nil, fmt.Errorf("the source speaks Metadata up to version %d, a mirror needs 10 for topic IDs (Kafka 2.8)", resp.Version)
	}
	var topics []sourceTopic
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil || t.IsInternal || strings.HasPrefix(*t.Topic, "__") {
			continue
		}
		topics = append(topics, topicOf(t))
	}
	return topics, s.describe(ctx, topics)
}

func topicOf(t *kmsg.MetadataResponseTopic) sourceTopic {
	st := sourceTopic{name: *t.Topic, id: t.TopicID, leaders: make([]leader, len(t.Partitions))}
	if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
		st.fault = err.Error()
	}
	for i := range st.leaders {
		st.leaders[i] = leader{-1, -1}
	}
	for _, p := range t.Partitions {
		if p.Partition < 0 || int(p.Partition) >= len(st.leaders) {
			st.fault = fmt.Sprintf("the source lists partition %d of %d", p.Partition, len(st.leaders))
			continue
		}
		if p.ErrorCode == 0 {
			st.leaders[p.Partition] = leader{p.Leader, p.LeaderEpoch}
		}
	}
	return st
}

// describe adds the settings of the topics.
func (s *source) describe(ctx context.Context, topics []sourceTopic) error {
	if len(topics) == 0 {
		return nil
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	byName := map[string]*sourceTopic{}
	for i := range topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topics[i].name
		r.ConfigNames = append([]string{settingTo, settingSource}, settings...)
		req.Resources = append(req.Resources, r)
		byName[topics[i].name] = &topics[i]
		if topics[i].fault == "" {
			topics[i].fault = "the source did not tell the topic's settings"
		}
	}
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return fmt.Errorf("ask the source for the settings of its topics: %w", err)
	}
	for i := range resp.Resources {
		r := &resp.Resources[i]
		if t := byName[r.ResourceName]; t != nil {
			t.configure(r)
		}
	}
	return nil
}

// configure takes the settings. Those that are defaults at the source are left
// to be defaults here.
func (t *sourceTopic) configure(r *kmsg.DescribeConfigsResponseResource) {
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		t.fault = err.Error()
		return
	}
	t.fault, t.config = "", map[string]string{}
	for _, c := range r.Configs {
		switch {
		case c.Value == nil:
		case c.Name == settingTo:
			for _, site := range strings.Split(*c.Value, ",") {
				if site = strings.TrimSpace(site); site != "" {
					t.to = append(t.to, site)
				}
			}
		case c.Name == settingSource:
			t.mirror = *c.Value != ""
		case c.Source == kmsg.ConfigSourceDynamicTopicConfig && MirroredSetting(c.Name):
			t.config[c.Name] = *c.Value
		}
	}
}

// fetch asks for batches. The answers are in the order of f.asks.
func (s *source) fetch(ctx context.Context, f fetch) (answers []answer, size int, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.wait+requestTime)
	defer cancel()
	resp, err := fetchRequest(f).RequestWith(ctx, s.client.Broker(int(f.broker)))
	if err != nil {
		return nil, 0, err
	}
	if resp.Version < leastFetchVersion {
		return nil, 0, fmt.Errorf("it speaks Fetch up to version %d, a mirror needs %d for topic IDs (Kafka 3.1)", resp.Version, leastFetchVersion)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, 0, err
	}
	return readAnswers(f.asks, resp)
}

func fetchRequest(f fetch) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(f.wait.Milliseconds()), 1, f.maxBytes
	for _, a := range f.asks {
		n := len(req.Topics)
		// Asks come by topic but for the one that the turn has cut in two.
		if n == 0 || req.Topics[n-1].Topic != a.part.tp.Topic {
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = a.part.tp.Topic, a.id
			req.Topics, n = append(req.Topics, t), n+1
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = a.part.tp.Partition, a.offset, a.maxBytes
		p.CurrentLeaderEpoch, p.LastFetchedEpoch = a.leaderEpoch, a.lastEpoch
		req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, p)
	}
	return req
}

// partKey is how a fetch answer names a partition.
type partKey struct {
	id        record.TopicID
	partition int32
}

// readAnswers checks that the answer holds each partition asked for once and
// no other, and the batches of each. One flipped bit could otherwise hand the
// records of one partition to another.
func readAnswers(asks []ask, resp *kmsg.FetchResponse) (answers []answer, size int, err error) {
	place := make(map[partKey]int, len(asks))
	for i, a := range asks {
		place[partKey{a.id, a.part.tp.Partition}] = i
	}
	found := make([]*kmsg.FetchResponseTopicPartition, len(asks))
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			at, ok := place[partKey{t.TopicID, p.Partition}]
			if !ok || found[at] != nil {
				return nil, 0, fmt.Errorf("the answer has partition %d of topic ID %s, which was not asked for, or has it twice",
					p.Partition, record.TopicID(t.TopicID))
			}
			found[at] = p
			size += len(p.RecordBatches)
		}
	}
	answers = make([]answer, len(asks))
	for i, p := range found {
		if p == nil {
			return nil, 0, fmt.Errorf("the answer lacks %s", asks[i].part.tp)
		}
		answers[i] = readAnswer(p, size)
	}
	return answers, size, nil
}

func readAnswer(p *kmsg.FetchResponseTopicPartition, size int) answer {
	a := answer{start: p.LogStartOffset, end: p.HighWatermark}
	if a.fault, a.text = faultOf(p.ErrorCode); a.fault != faultNone {
		return a
	}
	if p.DivergingEpoch.Epoch >= 0 || p.DivergingEpoch.EndOffset >= 0 {
		a.diverging = &record.EpochEnd{Epoch: p.DivergingEpoch.Epoch, End: p.DivergingEpoch.EndOffset}
		return a
	}
	raw := p.RecordBatches
	if 2*len(raw) < size {
		// A slow partition must not hold the memory of the whole answer.
		raw = bytes.Clone(raw)
	}
	a.batches, a.corrupt = splitAnswer(raw)
	return a
}

// faultOf is what one of Kafka's error codes means here.
func faultOf(code int16) (fault, string) {
	err := kerr.ErrorForCode(code)
	switch err {
	case nil:
		return faultNone, ""
	case kerr.OffsetOutOfRange:
		return faultOutOfRange, err.Error()
	case kerr.UnknownTopicID, kerr.InconsistentTopicID, kerr.UnknownTopicOrPartition:
		return faultTopic, err.Error()
	case kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.LeaderNotAvailable,
		kerr.ReplicaNotAvailable, kerr.KafkaStorageError:
		return faultLeader, err.Error()
	}
	return faultOther, err.Error()
}

// Times in a ListOffsets request.
const (
	timeEnd   = -1
	timeStart = -2
)

// measure asks where partitions begin and end, in the order of m.asks.
func (s *source) measure(ctx context.Context, m measure) ([]extent, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	ranges := make([]extent, len(m.asks))
	for _, at := range []int64{timeStart, timeEnd} {
		resp, err := offsetsRequest(m, at).RequestWith(ctx, s.client.Broker(int(m.broker)))
		if err != nil {
			return nil, err
		}
		if err := readOffsets(m.asks, resp, at, ranges); err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

func offsetsRequest(m measure, at int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	for _, a := range m.asks {
		n := len(req.Topics)
		if n == 0 || req.Topics[n-1].Topic != a.part.tp.Topic {
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = a.part.tp.Topic
			req.Topics, n = append(req.Topics, t), n+1
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = a.part.tp.Partition, at, a.leaderEpoch
		req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, p)
	}
	return req
}

func readOffsets(asks []ask, resp *kmsg.ListOffsetsResponse, at int64, into []extent) error {
	found := map[record.TopicPartition]*kmsg.ListOffsetsResponseTopicPartition{}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			found[record.TopicPartition{Topic: resp.Topics[i].Topic, Partition: p.Partition}] = p
		}
	}
	for i, a := range asks {
		p := found[a.part.tp]
		if p == nil {
			return fmt.Errorf("the answer lacks %s", a.part.tp)
		}
		x := &into[i]
		if f, text := faultOf(p.ErrorCode); f != faultNone {
			x.fault, x.text = f, text
		} else if at == timeStart {
			x.start = p.Offset
		} else {
			x.end = p.Offset
		}
	}
	return nil
}
