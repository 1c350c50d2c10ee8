package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	meta "github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// cluster is a client's view of a Kafka cluster: who leads what, and a
// connection to each broker that was needed. It is used by one goroutine.
type cluster struct {
	*link
	conns        map[string]*conn // by address
	known        metadata
	coordinators map[coordinated]string // addresses
}

// coordinated is a group or a transactional id.
type coordinated struct {
	key  string
	kind int8
}

func (l *link) cluster() *cluster {
	return &cluster{link: l, conns: map[string]*conn{}, known: metadata{topics: map[string]topic{}}, coordinators: map[coordinated]string{}}
}

func address(host string, port int32) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }

// at is the connection to a broker, a new one if need be.
func (c *cluster) at(ctx context.Context, addr string) (*conn, error) {
	if old := c.conns[addr]; old != nil {
		if !old.broken {
			return old, nil
		}
		old.close()
		delete(c.conns, addr)
	}
	fresh, err := c.dial(ctx, addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	c.conns[addr] = fresh
	return fresh, nil
}

// close ends all connections.
func (c *cluster) close() {
	for _, one := range c.conns {
		one.close()
	}
	clear(c.conns)
}

// any is a connection to whichever broker answers: those that are connected,
// then those of the config, then those that were heard of.
func (c *cluster) any(ctx context.Context) (*conn, error) {
	for _, one := range c.conns {
		if !one.broken {
			return one, nil
		}
	}
	var all []error
	tried := map[string]bool{}
	try := func(addr string) (*conn, error) {
		if tried[addr] {
			return nil, nil
		}
		tried[addr] = true
		one, err := c.at(ctx, addr)
		all = append(all, err)
		return one, err
	}
	for _, addr := range c.brokers {
		if one, err := try(addr); one != nil || fatal(err) {
			return one, err
		}
	}
	for _, addr := range c.known.brokers {
		if one, err := try(addr); one != nil || fatal(err) {
			return one, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, errors.Join(all...)
}

func fatal(err error) bool { return connectors.ClassOf(err) == connectors.ClassFatal }

// refresh asks for the metadata of topics, or of all with nil.
func (c *cluster) refresh(ctx context.Context, topics []string) (metadata, error) {
	one, err := c.any(ctx)
	if err != nil {
		return metadata{}, err
	}
	m, err := one.metadata(ctx, topics)
	if err != nil {
		return metadata{}, err
	}
	c.known.brokers = m.brokers
	for name, t := range m.topics {
		c.known.topics[name] = t
	}
	return m, nil
}

func (c *conn) metadata(ctx context.Context, topics []string) (metadata, error) {
	if c.versions[protocol.Metadata].max < metadataVersion {
		return c.oldMetadata(ctx, topics)
	}
	frame, err := c.exchange(ctx, "Metadata", func(w io.Writer, number int32) error {
		_, err := w.Write(request(protocol.Metadata, metadataVersion, number, c.clientID, encodeMetadata(topics)))
		return err
	})
	if err != nil {
		return metadata{}, err
	}
	m, err := decodeMetadata(frame[8:])
	if err != nil {
		c.broken = true
		return metadata{}, fmt.Errorf("Metadata of %s: %w", c.addr, err)
	}
	return m, nil
}

// request frames a body of a flexible version.
func request(key protocol.ApiKey, version int16, number int32, clientID string, body []byte) []byte {
	b := make([]byte, 4, 64+len(clientID)+len(body))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(number))
	b = binary.BigEndian.AppendUint16(b, uint16(len(clientID)))
	b = append(b, clientID...)
	b = append(b, 0) // no tags
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// oldMetadata asks a broker that has no topic ids.
func (c *conn) oldMetadata(ctx context.Context, topics []string) (metadata, error) {
	answer, err := c.ask(ctx, &meta.Request{TopicNames: topics})
	if err != nil {
		return metadata{}, err
	}
	r := answer.(*meta.Response)
	m := metadata{brokers: map[int32]string{}, topics: map[string]topic{}}
	for _, b := range r.Brokers {
		m.brokers[b.NodeID] = address(b.Host, b.Port)
	}
	for _, t := range r.Topics {
		one := topic{code: t.ErrorCode, internal: t.IsInternal, partitions: map[int32]partition{}}
		for _, p := range t.Partitions {
			one.partitions[p.PartitionIndex] = partition{p.ErrorCode, p.LeaderID}
		}
		m.topics[t.Name] = one
	}
	return m, nil
}

// topic asks for one topic, anew if it is not known.
func (c *cluster) topic(ctx context.Context, name string) (topic, error) {
	if t, ok := c.known.topics[name]; ok && t.code == 0 {
		return t, nil
	}
	m, err := c.refresh(ctx, []string{name})
	if err != nil {
		return topic{}, err
	}
	t, ok := m.topics[name]
	if !ok {
		return topic{}, fmt.Errorf("topic %s: the cluster says nothing about it", name)
	}
	if t.code != 0 {
		return topic{}, failed("topic "+name, t.code)
	}
	return t, nil
}

// forget makes the next question about a topic go to the cluster.
func (c *cluster) forget(name string) { delete(c.known.topics, name) }

// leader is a connection to the leader of a partition.
func (c *cluster) leader(ctx context.Context, tp record.TopicPartition) (*conn, error) {
	t, err := c.topic(ctx, tp.Topic)
	if err != nil {
		return nil, err
	}
	p, ok := t.partitions[tp.Partition]
	addr := c.known.brokers[p.leader]
	switch {
	case !ok:
		c.forget(tp.Topic)
		return nil, fmt.Errorf("%s: %w: the topic has %d partitions", tp, kafkago.UnknownTopicOrPartition, len(t.partitions))
	case addr == "":
		c.forget(tp.Topic)
		return nil, fmt.Errorf("%s: %w", tp, kafkago.LeaderNotAvailable)
	}
	one, err := c.at(ctx, addr)
	if err != nil {
		c.forget(tp.Topic)
	}
	return one, err
}

// The kinds of coordinators.
const (
	ofGroup       = 0
	ofTransaction = 1
)

// coordinator is a connection to the coordinator of a group or of a
// transactional id.
func (c *cluster) coordinator(ctx context.Context, key string, kind int8) (*conn, error) {
	name := coordinated{key, kind}
	if addr := c.coordinators[name]; addr != "" {
		one, err := c.at(ctx, addr)
		if err != nil {
			delete(c.coordinators, name)
		}
		return one, err
	}
	one, err := c.any(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := one.ask(ctx, &findcoordinator.Request{Key: key, KeyType: kind})
	if err != nil {
		return nil, err
	}
	r := answer.(*findcoordinator.Response)
	if r.ErrorCode != 0 {
		return nil, failed("find the coordinator of "+key, r.ErrorCode)
	}
	addr := address(r.Host, r.Port)
	c.coordinators[name] = addr
	return c.at(ctx, addr)
}

// consult asks a coordinator and tries again what passes. do returns the code
// of the answer.
func (c *cluster) consult(ctx context.Context, key string, kind int8, what string, do func(*conn) (int16, error)) error {
	return c.insist(ctx, func() error {
		one, err := c.coordinator(ctx, key, kind)
		if err != nil {
			return err
		}
		result, err := do(one)
		if err == nil && result != 0 {
			err = failed(what, result)
			if fenced(code(result)) {
				err = connectors.Fatal(fmt.Errorf("%w: %w", connectors.ErrFenced, err))
			}
		}
		if err != nil && code(result) != kafkago.ConcurrentTransactions {
			delete(c.coordinators, coordinated{key, kind})
		}
		return err
	})
}

// What ListOffsets is asked for instead of a time.
const (
	atEarliest = -2
	atLatest   = -1
)

// offset asks for the offset of the first record at or after a time in ms, or
// for one of the ends; -1 when no record is that late. committed lets the
// latest be the last stable offset.
func (c *cluster) offset(ctx context.Context, tp record.TopicPartition, at int64, committed bool) (int64, error) {
	one, err := c.leader(ctx, tp)
	if err != nil {
		return 0, err
	}
	answer, err := one.ask(ctx, &listoffsets.Request{
		ReplicaID: -1, IsolationLevel: isolation(committed),
		Topics: []listoffsets.RequestTopic{{Topic: tp.Topic, Partitions: []listoffsets.RequestPartition{
			{Partition: tp.Partition, CurrentLeaderEpoch: -1, Timestamp: at},
		}}},
	})
	if err != nil {
		c.forget(tp.Topic)
		return 0, err
	}
	r := answer.(*listoffsets.Response)
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("offsets of %s: %w: %d topics", tp, errAnswer, len(r.Topics))
	}
	p := r.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		c.forget(tp.Topic)
		return 0, failed("offsets of "+tp.String(), p.ErrorCode)
	}
	return p.Offset, nil
}

func isolation(committed bool) int8 {
	if committed {
		return 1
	}
	return 0
}
