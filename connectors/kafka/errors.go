package kafka

import (
	"fmt"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// code is an error of Kafka by its number, as kafka-go has it.
type code = kafkago.Error

// failed is the error of a request that was answered with a code.
func failed(what string, c int16) error {
	err := fmt.Errorf("%s: %w", what, code(c))
	if lasting(code(c)) {
		return connectors.Fatal(err)
	}
	return err // it is tried again
}

// lasting tells whether somebody has to change rights or the config. All else
// passes, or is handled where it comes up.
func lasting(c code) bool {
	switch c {
	case kafkago.TopicAuthorizationFailed, kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
		kafkago.TransactionalIDAuthorizationFailed, kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism,
		kafkago.InvalidTopic, kafkago.UnsupportedForMessageFormat, kafkago.InvalidTransactionTimeout, kafkago.InvalidRequiredAcks:
		return true
	}
	return false
}

// fenced tells whether a later producer has taken the transactional id.
func fenced(c code) bool {
	return c == kafkago.ProducerFenced || c == kafkago.InvalidProducerEpoch || c == kafkago.InvalidProducerIDMapping
}

// moved tells whether another look at the metadata may help: the leader is
// elsewhere, or there is none at the moment.
func moved(c code) bool {
	switch c {
	case kafkago.UnknownTopicOrPartition, kafkago.LeaderNotAvailable, kafkago.NotLeaderForPartition, kafkago.ReplicaNotAvailable,
		kafkago.BrokerNotAvailable, kafkago.NotEnoughReplicas, kafkago.NotEnoughReplicasAfterAppend, kafkago.RequestTimedOut,
		kafkago.KafkaStorageError, kafkago.FencedLeaderEpoch, kafkago.UnknownLeaderEpoch, kafkago.OffsetNotAvailable,
		kafkago.NetworkException:
		return true
	}
	return false
}
