//go:build unix

package conntest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Kafka returns the address of a private broker of Apache Kafka. It is
// started by the first call, serves all tests of the binary, which name their
// topics apart, and ends with the binary, however that ends. Where Kafka's
// jars are not there, the test is skipped; where the variable CI is set it
// fails instead.
func Kafka(t testing.TB) (broker string) {
	t.Helper()
	s, err := sharedKafka(kafkaScript(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.Broker()
}

// KafkaServer is a broker that a test has for itself, to stop and start.
type KafkaServer struct {
	script, dir      string
	port, controller int
	settings         []string
	process          *process
}

// OwnKafka starts a broker that ends with the test. settings are its own, as
// NAME=VALUE, in which {port} and {controller} are its ports.
func OwnKafka(t testing.TB, settings ...string) *KafkaServer {
	t.Helper()
	s, err := newKafka(kafkaScript(t), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.process.end("")
		if err := os.RemoveAll(s.dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Broker is the server's address, host:port.
func (s *KafkaServer) Broker() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Stop ends the server in order.
func (s *KafkaServer) Stop() { s.process.end("stop\n") }

// Crash ends the server as kill -9 does.
func (s *KafkaServer) Crash() { s.process.end("crash\n") }

// Start starts the server again, at the same address.
func (s *KafkaServer) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

var sharedKafka = func() func(script string) (*KafkaServer, error) {
	var (
		once sync.Once
		s    *KafkaServer
		err  error
	)
	return func(script string) (*KafkaServer, error) {
		once.Do(func() { s, err = newKafka(script, nil) })
		return s, err
	}
}()

// kafkaScript finds deploy/kafka/kafka.sh with the jars that its setup has
// fetched.
func kafkaScript(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir != filepath.Dir(dir) && !exists(filepath.Join(dir, "go.mod")) {
		dir = filepath.Dir(dir)
	}
	if _, err := exec.LookPath("java"); err != nil || !exists(filepath.Join(dir, ".cache", "kafka", "jars")) {
		Missing(t, "Apache Kafka (deploy/kafka/kafka.sh setup)")
	}
	return filepath.Join(dir, "deploy", "kafka", "kafka.sh")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func newKafka(script string, settings []string) (*KafkaServer, error) {
	dir, err := os.MkdirTemp("", "entrepot-kafka-")
	if err != nil {
		return nil, err
	}
	s := &KafkaServer{script: script, dir: dir, settings: settings}
	err = startSomewhere(func(port int) error {
		s.port = port
		if s.controller, err = freePort(); err != nil {
			return err
		}
		if err = s.start(); err != nil {
			s.process.end("crash\n")
		}
		return err
	})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("start a private broker of Apache Kafka: %w", err)
	}
	return s, nil
}

func (s *KafkaServer) start() error {
	args := append([]string{"serve", s.dir, fmt.Sprint(s.port), fmt.Sprint(s.controller), "group.initial.rebalance.delay.ms=0",
		"offsets.topic.num.partitions=4", "transaction.state.log.num.partitions=4", "log.cleaner.dedupe.buffer.size=2097152", "log.cleaner.backoff.ms=200"}, s.own()...)
	cmd := exec.Command(s.script, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "KAFKA_HEAP_OPTS=-Xmx384M -Xms64M -XX:TieredStopAtLevel=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := startProcess(cmd, s.dir, "KILL", "TERM")
	if err != nil {
		return err
	}
	s.process = p
	return p.await(func() bool { return serves(s.dir) })
}

// own is the server's own settings, with its ports.
func (s *KafkaServer) own() []string {
	r := strings.NewReplacer("{port}", fmt.Sprint(s.port), "{controller}", fmt.Sprint(s.controller))
	all := make([]string, len(s.settings))
	for i, one := range s.settings {
		all[i] = r.Replace(one)
	}
	return all
}

// serves tells whether the server's log says that it has started.
func serves(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "log"))
	return err == nil && bytes.Contains(text, []byte("Kafka Server started"))
}
