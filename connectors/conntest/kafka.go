//go:build unix

package conntest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Kafka returns the address of a private broker of Apache Kafka. It is
// started by the first call, serves all tests of the binary, which name their
// topics apart, and ends with the binary, however that ends. Where Kafka's
// jars are not there, the test is skipped; where the variable CI is set it
// fails instead.
func Kafka(t testing.TB) (broker string) {
	t.Helper()
	return sharedKafka(t).Broker()
}

var sharedKafka = shared(kafkaScript, func(script string) (*KafkaServer, error) { return newKafka(script, nil) })

// KafkaServer is a broker that a test has for itself, to stop and start.
type KafkaServer struct{ server }

// OwnKafka starts a broker that ends with the test. settings are its own, as
// NAME=VALUE, in which {port} and {controller} are its ports.
func OwnKafka(t testing.TB, settings ...string) *KafkaServer {
	t.Helper()
	s, err := newKafka(kafkaScript(t), settings)
	return own(t, s, err)
}

// Broker is the server's address, host:port.
func (s *KafkaServer) Broker() string { return s.address(0) }

// kafkaScript finds deploy/kafka/kafka.sh with the jars that its setup has
// fetched.
func kafkaScript(t testing.TB) string {
	t.Helper()
	root := moduleRoot(t)
	if _, err := exec.LookPath("java"); err != nil || !exists(filepath.Join(root, ".cache/kafka/jars")) {
		Missing(t, "Apache Kafka (deploy/kafka/kafka.sh setup)")
	}
	return filepath.Join(root, "deploy/kafka/kafka.sh")
}

// newKafka's ports are the broker's and the controller's.
func newKafka(script string, settings []string) (*KafkaServer, error) {
	s := &KafkaServer{}
	s.server = server{
		name: "kafka", ports: make([]int, 2),
		command: func() *exec.Cmd { return s.run(script, settings) },
		ready:   func() bool { return s.process.says("Kafka Server started") },
	}
	return s, s.launch(nil)
}

func (s *KafkaServer) run(script string, settings []string) *exec.Cmd {
	port, controller := fmt.Sprint(s.ports[0]), fmt.Sprint(s.ports[1])
	args := []string{"serve", s.dir, port, controller, "group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=4",
		"transaction.state.log.num.partitions=4", "log.cleaner.dedupe.buffer.size=2097152", "log.cleaner.backoff.ms=200"}
	ports := strings.NewReplacer("{port}", port, "{controller}", controller)
	for _, one := range settings {
		args = append(args, ports.Replace(one))
	}
	cmd := exec.Command(script, args...)
	cmd.Env = append(os.Environ(), "KAFKA_HEAP_OPTS=-Xmx384M -Xms64M -XX:TieredStopAtLevel=1")
	return cmd
}
