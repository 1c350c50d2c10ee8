package kafka

import (
	"hash/crc32"
	"hash/fnv"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// partitioner chooses one of n partitions for a record. It looks at the record
// alone, so that the same record always has the same one.
type partitioner func(m *connectors.Message, n int32) (int32, error)

func partitionerOf(name string) (partitioner, error) {
	switch name {
	case "preserve":
		return preserve, nil
	case "crc32":
		return byKey(crcPartition), nil
	case "fnv1a":
		return byKey(fnvPartition), nil
	case "murmur2":
		return byKey(record.PartitionForKey), nil
	}
	return nil, connectors.Fatalf("partition %q is none of murmur2, crc32, fnv1a and preserve", name)
}

// preserve keeps the number. Too few partitions are no fault of the record:
// they can be added.
func preserve(m *connectors.Message, n int32) (int32, error) {
	if p := m.Partition.Partition; p < n {
		return p, nil
	}
	return 0, connectors.Retry(0, errTooFew(m.Partition, n))
}

// byKey spreads records without a key by the hub's partitions, which keeps
// their order.
func byKey(hash func(key []byte, n int32) int32) partitioner {
	return func(m *connectors.Message, n int32) (int32, error) {
		if m.Key == nil {
			return m.Partition.Partition % n, nil
		}
		return hash(m.Key, n), nil
	}
}

// crcPartition is librdkafka's "consistent".
func crcPartition(key []byte, n int32) int32 { return int32(crc32.ChecksumIEEE(key) % uint32(n)) }

// fnvPartition is Sarama's hash partitioner, and kafka-go's Hash: the hash is
// taken as a signed number, and the remainder without its sign.
func fnvPartition(key []byte, n int32) int32 {
	h := fnv.New32a()
	_, _ = h.Write(key)
	if p := int32(h.Sum32()) % n; p >= 0 {
		return p
	} else {
		return -p
	}
}
