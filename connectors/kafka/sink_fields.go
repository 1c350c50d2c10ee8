package kafka

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Sink is the Kafka sink.
type Sink struct{}

// Spec implements connectors.Sink.
func (Sink) Spec() connectors.Spec {
	return connectors.Spec{
		Type:    "kafka",
		Summary: "Writes records to a topic of another Kafka cluster.",
		Guarantee: "at-least-once, each record once in practice (idempotent producer, and a search of the partitions' ends for the header entrepot-src at a start); " +
			"exactly-once (destination transaction with the offset in it) with exactly_once: transaction",
		Since:  "0.1",
		Fields: append(linkFields(), sinkFields()...),
	}
}

func sinkFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "remote_topic", Kind: connectors.KindString, Check: checkTopic, Example: "clicks.fra",
			Description: "topic to write, which has to be there; the name of the hub's topic by default",
		},
		{
			Name: "partition", Kind: connectors.KindString, Options: []string{"murmur2", "crc32", "fnv1a", "preserve"}, Default: "murmur2", Example: "preserve",
			Description: "how the remote partition is chosen: by the hash of the key that the other producers of the topic use (murmur2: Java, librdkafka's murmur2_random, franz-go; crc32: librdkafka's default; fnv1a: Sarama and kafka-go), or preserve: the same number as at the hub, of which the topic needs as many. Records without a key go to the hub's partition number modulo the number of partitions",
		},
		{
			Name: "exactly_once", Kind: connectors.KindString, Options: []string{"off", "transaction"}, Default: "off", Example: "transaction",
			Description: "transaction writes each plan as one remote transaction with its offset in it; off writes without one, which readers see sooner",
		},
		{
			Name: "transactional_id", Kind: connectors.KindString, Example: "entrepot-clicks-out",
			Description: "beginning of the transactional ids, and of the groups that keep the offsets, at the remote cluster; entrepot- and the job's name by default. It has to be this job's alone",
		},
		{
			Name: "transaction_timeout", Kind: connectors.KindDuration, Default: time.Minute, Min: int64(time.Second), Max: int64(15 * time.Minute), Example: "2m",
			Description: "after this time the remote cluster gives up a transaction whose writer is gone; until then its readers wait",
		},
		{
			Name: "compression", Kind: connectors.KindString, Options: []string{"none", "gzip", "snappy", "lz4", "zstd"}, Default: "lz4", Example: "zstd",
			Description: "compression of the batches",
		},
		{
			Name: "request_bytes", Kind: connectors.KindSize, Default: int64(1 << 20), Min: 1 << 10, Max: 256 << 20, Example: "512KiB",
			Description: "most that a batch of one partition has, uncompressed; never more than the topic takes",
		},
		{
			Name: "max_message_bytes", Kind: connectors.KindSize, Min: 0, Max: 1 << 30, Example: "5MiB",
			Description: "most that the topic takes in a batch; larger records go to the dead letters. 0 asks the cluster for the topic's max.message.bytes, and takes Kafka's default (1048588) where the user has no right to ask",
		},
		{
			Name: "resume_scan", Kind: connectors.KindInt, Default: int64(1_000_000), Min: 1, Max: 1_000_000_000, Example: "100000",
			Description: "how many offsets back from the end of each remote partition are searched at a start for records that are there already; it has to be more than others may write to the topic while this job is down",
		},
		{
			Name: "batch", Kind: connectors.KindObject, Fields: batchFields(),
			Description: "when to write what has come, by what is reached first",
		},
	}
}

func batchFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "records", Kind: connectors.KindInt, Default: int64(5000), Min: 1, Max: 1_000_000, Example: "1000",
			Description: "records in one plan",
		},
		{
			Name: "bytes", Kind: connectors.KindSize, Default: int64(8 << 20), Min: 1, Max: 1 << 30, Example: "4MiB",
			Description: "bytes of keys and values in one plan",
		},
		{
			Name: "every", Kind: connectors.KindDuration, Default: 200 * time.Millisecond, Min: int64(time.Millisecond), Max: int64(time.Hour), Example: "1s",
			Description: "how long a record waits at most for others to come",
		},
	}
}
