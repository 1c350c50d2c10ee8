package protocol

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// librdkafka finds a Python with librdkafka.
func librdkafka(t *testing.T) string {
	t.Helper()
	for _, path := range []string{os.Getenv("ENTREPOT_TEST_PYTHON"), "../../.cache/venv/bin/python", "python3"} {
		if path != "" && exec.Command(path, "-c", "import confluent_kafka; assert confluent_kafka.libversion()[1] >= 0x020a0000").Run() == nil {
			return path
		}
	}
	missing(t, "librdkafka: no python3 with confluent_kafka 2.10 or later")
	return ""
}

// TestLibrdkafkaConsumerProtocol lets librdkafka's consumers share a topic by
// the consumer protocol (KIP-848), with a static member and a regular
// expression.
func TestLibrdkafkaConsumerProtocol(t *testing.T) {
	python := librdkafka(t)
	cfg := nextGen()
	cfg.Group.Consumer.Interval = 200 * time.Millisecond
	s := startSite(t, cfg)
	s.topic(t, "work", 6)
	produceN(t, s, "work", 0, 600)
	out, err := exec.Command(python, "testdata/consumer_protocol.py", s.addr, "600").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"three share, all seen, again: 0", "two share", "static member is back with the same: True", "failures: []"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	t.Logf("%s", out)
}

// TestLibrdkafkaTransactions commits, aborts, fences and copies with the
// transactional producer of librdkafka.
func TestLibrdkafkaTransactions(t *testing.T) {
	python := librdkafka(t)
	s := startSite(t, quick())
	for _, topic := range []string{"in", "out", "copy"} {
		s.topic(t, topic, 3)
	}
	produceN(t, s, "in", 0, 600)
	out, err := exec.Command(python, "testdata/transactions.py", s.addr, "600").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"committed: 30 aborted: 0 more: 0", "fenced: True", "copied: 600 different: 600 more: 0"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	t.Logf("%s", out)
}
