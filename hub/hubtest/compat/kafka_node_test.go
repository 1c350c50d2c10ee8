package compat

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// kafkaNode is a node of Apache Kafka that can be killed and started again.
type kafkaNode struct {
	t                *testing.T
	args             []string // of kafka.sh start
	addr, controller string   // host:port
	pid              int
}

// newKafkaNode is a node that does not run yet.
func newKafkaNode(t *testing.T) *kafkaNode {
	t.Helper()
	needJava(t)
	p := hubtest.Ports(t, 2)
	port, controller := strconv.Itoa(p[0]), strconv.Itoa(p[1])
	n := &kafkaNode{t: t, addr: "127.0.0.1:" + port, controller: "127.0.0.1:" + controller, args: []string{"start", t.TempDir(), port, controller}}
	t.Cleanup(func() {
		if n.pid != 0 {
			n.Kill()
		}
	})
	return n
}

// configure adds settings of the broker, NAME=VALUE, before its start.
func (n *kafkaNode) configure(settings ...string) { n.args = append(n.args, settings...) }

// Start starts the node and returns how long it took until it served.
func (n *kafkaNode) Start() time.Duration {
	n.t.Helper()
	begin := time.Now()
	cmd := exec.Command(kafka, n.args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		n.pid, err = strconv.Atoi(strings.TrimSpace(string(out)))
	}
	if err != nil {
		n.t.Fatalf("kafka.sh start: %v", err)
	}
	return time.Since(begin)
}

// Kill sends SIGKILL to the node and waits until its port is closed.
func (n *kafkaNode) Kill() {
	n.t.Helper()
	p, err := os.FindProcess(n.pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		n.t.Fatalf("kill Apache Kafka, process %d: %v", n.pid, err)
	}
	n.pid = 0
	hubtest.Until(n.t, 10*time.Second, "Apache Kafka ends", func() error {
		conn, err := net.Dial("tcp", n.addr)
		if err != nil {
			return nil
		}
		_ = conn.Close()
		return errors.New("its port is still open")
	})
}
