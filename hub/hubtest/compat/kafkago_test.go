package compat

import (
	"os/exec"
	"strings"
	"testing"
)

const kafkaGoPackage = "github.com/segmentio/kafka-go"

// Three of the suite's tests call a function that is nil in their helper, and
// a panic would end all the others.
const (
	kafkaGoPanics = "TestReaderConsumerGroup/(verify_offset_committed|consumer_group_commits_on_close)"
	kafkaGoNil    = "panics in the suite's own helper getOffsets, whatever the broker; left out of the run"
)

// kafkaGoSkips are what the suite leaves out by itself.
var kafkaGoSkips = map[string]string{
	"TestConn/nettest":          "left out by KAFKA_SKIP_NETTEST, as in the suite's own CI",
	"TestReadTruncatedMessages": "the suite says that it is not ready",
}

// TestKafkaGo runs kafka-go's own suite against a hub and then against Apache
// Kafka. A test that fails with both is the suite's fault; one that fails with
// the hub alone is ours.
func TestKafkaGo(t *testing.T) {
	if !full() {
		t.Skip("part of make compat")
	}
	if !alone(t, func() { goBuild(t, "test", "-run", "^$", kafkaGoPackage) }) {
		return
	}
	v := version(t, kafkaGoPackage)
	reference := startReference(t)
	theirs := kafkaGo(t)
	reference.stop()
	ref := suite{client: "kafka-go", version: v, what: "its own suite against Apache Kafka " + reference.version + ", to compare", known: map[string]string{}}
	ours := suite{client: "kafka-go", version: v, what: "its own suite", known: map[string]string{}}
	for name, reason := range kafkaGoSkips {
		ref.known[name], ours.known[name] = reason, reason
	}
	for _, r := range theirs {
		if r.outcome == failed {
			ref.known[r.name] = firstLine(r.output)
			ours.known[r.name] = "also against Apache Kafka " + reference.version
		}
	}
	ref.report(t, theirs)

	serve(t, `listeners:
  kafka: {addr: "127.0.0.1:9092", advertise: "localhost:9092"}
  extra: {login: {addr: "127.0.0.1:9093", advertise: "localhost:9093", sasl: [PLAIN, SCRAM-SHA-256, SCRAM-SHA-512]}}
security:
  authorize: true
  allow_without_acl: true
  super_users: ["User:ANONYMOUS", "User:adminplain", "User:adminscram256", "User:adminscram512"]
  users: {adminplain: admin-secret, adminscram256: admin-secret-256, adminscram512: admin-secret-512}
`)
	ours.report(t, kafkaGo(t))
}

// kafkaGo runs the suite against localhost:9092, where it wants its broker.
func kafkaGo(t *testing.T) []result {
	t.Helper()
	return goTest(t, clients, []string{"KAFKA_VERSION=2.8.1", "KAFKA_SKIP_NETTEST=1"}, "-skip", kafkaGoPanics, "-timeout", "14m", kafkaGoPackage)
}

// broker is Apache Kafka, started as a reference.
type broker struct {
	version string
	stop    func()
}

// startReference starts Apache Kafka on port 9092, set as kafka-go's own CI sets
// it: with SASL on port 9093, an authorizer that allows all, and three users.
func startReference(t *testing.T) broker {
	t.Helper()
	call := func(args ...string) string {
		out, err := exec.Command(kafka, args...).Output()
		if err != nil {
			t.Fatalf("kafka.sh %s: %v", args[0], err)
		}
		return strings.TrimSpace(string(out))
	}
	dir := t.TempDir()
	const plain = "org.apache.kafka.common.security.plain.PlainLoginModule required "
	const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	call("start", dir, "9092", "9094",
		"listeners=PLAINTEXT://127.0.0.1:9092,SASL://127.0.0.1:9093,CONTROLLER://127.0.0.1:9094",
		"advertised.listeners=PLAINTEXT://localhost:9092,SASL://localhost:9093,CONTROLLER://127.0.0.1:9094",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT",
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.sasl.plain.sasl.jaas.config="+plain+`username="adminplain" password="admin-secret" user_adminplain="admin-secret";`,
		"listener.name.sasl.scram-sha-256.sasl.jaas.config="+scram,
		"listener.name.sasl.scram-sha-512.sasl.jaas.config="+scram,
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"allow.everyone.if.no.acl.found=true",
		"super.users=User:adminscram256;User:adminscram512;User:adminplain;User:ANONYMOUS",
		"message.max.bytes=200000000",
		"group.initial.rebalance.delay.ms=0")
	for user, secret := range map[string]string{"adminscram256": "SCRAM-SHA-256=[password=admin-secret-256]", "adminscram512": "SCRAM-SHA-512=[password=admin-secret-512]"} {
		call("tool", "kafka.admin.ConfigCommand", "--bootstrap-server", "127.0.0.1:9092", "--alter", "--add-config", secret, "--entity-type", "users", "--entity-name", user)
	}
	return broker{version: kafkaVersion(t), stop: func() { call("stop", dir) }}
}
