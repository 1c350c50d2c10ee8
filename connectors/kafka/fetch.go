package kafka

import (
	"context"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// fetch asks a leader for one partition: by the topic's id where that is known
// and the broker takes it (Kafka 3.1), else by its name.
func (c *conn) fetch(ctx context.Context, r fetchRequest) (f fetched, err error) {
	if !r.id.IsZero() && c.versions[protocol.Fetch].max >= fetchByID {
		f, err = c.fetchByID(ctx, r)
	} else {
		f, err = c.fetchByName(ctx, r)
	}
	return f, err
}

func (c *conn) fetchByID(ctx context.Context, r fetchRequest) (fetched, error) {
	frame, err := c.exchange(ctx, "Fetch", func(w io.Writer, number int32) error {
		_, err := w.Write(request(protocol.Fetch, fetchByID, number, c.clientID, encodeFetchByID(r)))
		return err
	})
	if err != nil {
		return fetched{}, err
	}
	f, err := decodeFetchByID(frame[8:], r.tp, r.id)
	return f, c.readable(err)
}

func (c *conn) fetchByName(ctx context.Context, r fetchRequest) (fetched, error) {
	if _, err := c.version(protocol.Fetch, fetchByName, fetchByName); err != nil {
		return fetched{}, err
	}
	frame, err := c.exchange(ctx, "Fetch", func(w io.Writer, number int32) error {
		return protocol.WriteRequest(w, fetchByName, number, c.clientID, &fetch.Request{
			ReplicaID: -1, MaxWaitTime: int32(r.wait.Milliseconds()), MinBytes: r.minBytes, MaxBytes: r.maxBytes, IsolationLevel: isolation(r.committed), SessionEpoch: -1,
			Topics: []fetch.RequestTopic{{Topic: r.tp.Topic, Partitions: []fetch.RequestPartition{
				{Partition: r.tp.Partition, CurrentLeaderEpoch: -1, FetchOffset: r.offset, LogStartOffset: -1, PartitionMaxBytes: r.maxBytes},
			}}},
		})
	})
	if err != nil {
		return fetched{}, err
	}
	f, err := decodeFetch(frame[8:], r.tp)
	return f, c.readable(err)
}

// readable gives up the connection after an answer that is not.
func (c *conn) readable(err error) error {
	if err == nil {
		return nil
	}
	c.broken = true
	return fmt.Errorf("Fetch of %s: %w", c.addr, err)
}
