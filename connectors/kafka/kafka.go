// Package kafka reads topics of another Kafka cluster into the hub, and writes
// topics of the hub into another cluster.
//
// # The source
//
// A split is one partition of the remote cluster, and the position the offset
// of a message: the runtime keeps it with the records in the hub, so that none
// is lost or comes twice. There is no consumer group at the remote cluster and
// no rebalance; a group can be told how far the hub is, for tools that show lag.
//
// Messages of aborted transactions and the markers of transactions are left
// out (isolation: read_committed), gaps of compaction are passed over, and
// null values stay null: keys, headers, times and tombstones arrive as they
// are. With partition: preserve a message goes to the partition of the same
// number, so that the order within each is the same on both sides.
//
// What cannot be read any more is never skipped in silence: an offset that was
// deleted stops the job unless the config says otherwise, a topic that was
// deleted and made anew under its name stops it always. What it cannot see: a
// partition that was cut by an unclean election and has grown past the
// position again; and with start: latest, what was written to a partition
// that was added while the job did not run.
//
// # The sink
//
// Records are written with acks=all by an idempotent producer, one request of
// a partition at a time. Each carries a header that names it (job, topic,
// partition and offset of the hub). Before the first write after a start the
// ends of the remote partitions are searched for it, and what is there is not
// written again: one record is there once, as long as no request of the process
// before is still under way, and as long as resume_scan reaches back far
// enough.
//
// With exactly_once: transaction each plan is one remote transaction, and the
// offset after it is committed by the same transaction to a group of the remote
// cluster. The transactional id is of the job and the partition, so that a
// process that was replaced is refused (its epoch is fenced). Who reads
// committed records there sees each record once.
//
// # How it speaks
//
// Over the messages of segmentio/kafka-go, not over its Reader, Writer and
// Transport: its Reader gives out aborted records and markers, its Writer has
// no idempotence. Two answers are decoded here (see decode.go).
//
// Goroutines: Splits starts one that looks for new partitions; it ends with
// the context. Requests have none, a connection is used by who has it.
package kafka

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Source is the Kafka source.
type Source struct{}

// Spec implements connectors.Source.
func (Source) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "kafka",
		Summary:   "Reads topics of another Kafka cluster.",
		Guarantee: "exactly-once (position by topic id and offset, committed with the records)",
		Since:     "0.1",
		Fields:    append(linkFields(), sourceFields()...),
	}
}

func linkFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "brokers", Kind: connectors.KindStrings, Required: true, Check: checkBrokers, Example: "[kafka-1.example:9092, kafka-2.example:9092]",
			Description: "addresses of the remote cluster to begin with, host:port; the others are heard from these",
		},
		{
			Name: "client_id", Kind: connectors.KindString, Default: "entrepot", Example: "entrepot-fra",
			Description: "name of the client in the remote cluster's logs and quotas",
		},
		{
			Name: "tls", Kind: connectors.KindObject, Fields: tlsFields(),
			Description: "speak TLS with the brokers; without it nothing is encrypted",
		},
		{
			Name: "sasl", Kind: connectors.KindObject, Fields: saslFields(),
			Description: "log in at the brokers; without it there is no login",
		},
	}
}

func tlsFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "enabled", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "false speaks no TLS in spite of the other fields",
		},
		{
			Name: "ca", Kind: connectors.KindString, Example: "/etc/entrepot/kafka-ca.pem",
			Description: "file of the certificates that sign the brokers', PEM; those of the system by default",
		},
		{
			Name: "cert", Kind: connectors.KindString, Example: "/etc/entrepot/client.pem",
			Description: "file of the client's certificate, PEM, where the brokers want one",
		},
		{
			Name: "key", Kind: connectors.KindString, Example: "/etc/entrepot/client-key.pem",
			Description: "file of the key of cert, PEM",
		},
		{
			Name: "server_name", Kind: connectors.KindString, Example: "kafka.example",
			Description: "name that the brokers' certificates have to be for; the host of each broker's address by default",
		},
	}
}

func saslFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "mechanism", Kind: connectors.KindString, Options: []string{"plain", "scram-sha-256", "scram-sha-512"}, Default: "scram-sha-512", Example: "plain",
			Description: "how the password is proven; plain sends it as it is, so use it with tls only",
		},
		{
			Name: "username", Kind: connectors.KindString, Required: true, Example: "loader",
			Description: "user at the remote cluster",
		},
		{
			Name: "password", Kind: connectors.KindSecret, Required: true, Example: "${env:KAFKA_PASSWORD}",
			Description: "the user's password, read anew at each start of a task",
		},
	}
}

func sourceFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "topics", Kind: connectors.KindStrings, Check: checkTopics, Example: "[orders, payments]",
			Description: "topics to read; each has to be there when the job starts",
		},
		{
			Name: "topics_regexp", Kind: connectors.KindString, Check: checkPattern, Example: `shop\..*`,
			Description: "regular expression (RE2) that has to match a whole name; topics that match are read too, also those that appear later",
		},
		{
			Name: "discover_every", Kind: connectors.KindDuration, Default: 30 * time.Second, Min: int64(100 * time.Millisecond), Max: int64(time.Hour), Example: "10s",
			Description: "how often new partitions and topics are looked for, and the topic ids compared",
		},
		{
			Name: "follow", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "true waits for more at the end; false ends at the ends that the partitions have when they are opened",
		},
		{
			Name: "partition", Kind: connectors.KindString, Options: []string{"preserve", "key"}, Default: "preserve", Example: "key",
			Description: "preserve writes a message to the partition of the same number, of which the hub's topic needs as many; key chooses the partition by the key's hash, as for any job",
		},
		{
			Name: "isolation", Kind: connectors.KindString, Options: []string{"read_committed", "read_uncommitted"}, Default: "read_committed", Example: "read_uncommitted",
			Description: "read_committed leaves out aborted transactions and waits at open ones; read_uncommitted takes everything at once",
		},
		{
			Name: "start", Kind: connectors.KindString, Default: "earliest", Check: checkStart, Example: "2026-05-17T10:00:00Z",
			Description: "where a partition begins that was never read: earliest, latest, or the first message at or after a time (RFC 3339). With latest a partition that is added while the job does not run begins at its end too; a time has no such gap",
		},
		{
			Name: "offset_out_of_range", Kind: connectors.KindString, Options: []string{"fail", "earliest", "latest"}, Default: "fail", Example: "earliest",
			Description: "what to do when messages were deleted before they were read: stop the job, or go on without them at the first or behind the last that is there. A partition that ends before the position stops the job always",
		},
		{
			Name: "group", Kind: connectors.KindString, Example: "entrepot-fra",
			Description: "consumer group at the remote cluster that is told how far the hub is, for tools that show lag; nothing is read back from it. The user needs the right to read the group",
		},
		{
			Name: "fetch", Kind: connectors.KindObject, Fields: fetchFields(),
			Description: "how much is asked for at a time",
		},
	}
}

func fetchFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "min_bytes", Kind: connectors.KindSize, Default: int64(1), Min: 1, Max: 64 << 20, Example: "64KiB",
			Description: "a broker waits until it has so much, or until max_wait is over",
		},
		{
			Name: "max_bytes", Kind: connectors.KindSize, Default: int64(1 << 20), Min: 1, Max: 256 << 20, Example: "4MiB",
			Description: "most that a broker sends of a partition, as it is compressed there; a batch that is larger comes whole",
		},
		{
			Name: "max_wait", Kind: connectors.KindDuration, Default: 500 * time.Millisecond, Min: int64(time.Millisecond), Max: int64(10 * time.Second), Example: "100ms",
			Description: "longest that a broker waits for min_bytes",
		},
	}
}
