package kafka

import (
	"errors"
	"fmt"
	"testing"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// TestPartitioners: the same key goes where the other clients send it; kafka-go
// has all three of their functions.
func TestPartitioners(t *testing.T) {
	theirs := map[string]kafkago.Balancer{"murmur2": kafkago.Murmur2Balancer{}, "crc32": kafkago.CRC32Balancer{Consistent: true}, "fnv1a": &kafkago.Hash{}}
	for name, their := range theirs {
		choose, err := partitionerOf(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2000 {
			m := connectors.Message{Key: fmt.Append(nil, "key-", i*i), Partition: record.TopicPartition{Topic: "t", Partition: 5}}
			got, err := choose(&m, 7)
			if want := their.Balance(kafkago.Message{Key: m.Key}, 0, 1, 2, 3, 4, 5, 6); err != nil || int(got) != want {
				t.Fatalf("%s: key %s goes to %d, want %d: %v", name, m.Key, got, want, err)
			}
		}
	}
	keep, err := partitionerOf("preserve")
	if err != nil {
		t.Fatal(err)
	}
	m := connectors.Message{Key: []byte("k"), Partition: record.TopicPartition{Topic: "t", Partition: 5}}
	if got, err := keep(&m, 6); got != 5 || err != nil {
		t.Errorf("preserve: %d, %v", got, err)
	}
	if _, err := keep(&m, 5); connectors.ClassOf(err) != connectors.ClassRetry {
		t.Errorf("preserve with too few partitions: %v", err)
	}
	if _, err := partitionerOf("md5"); !errors.As(err, new(*connectors.FatalError)) {
		t.Errorf("md5: %v", err)
	}
}
