package compat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// worker is the file of a distributed worker of Kafka Connect. Its sources are
// exact, with transactions.
const worker = `bootstrap.servers=%s
group.id=connect
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
config.storage.topic=connect-configs
offset.storage.topic=connect-offsets
status.storage.topic=connect-status
config.storage.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
offset.storage.partitions=3
offset.flush.interval.ms=1000
exactly.once.source.support=enabled
plugin.discovery=only_scan
listeners=http://127.0.0.1:%d
`

// TestConnect runs Kafka Connect in distributed mode with its file connectors:
// a file into a topic and the topic into a file, while the hub is killed.
func TestConnect(t *testing.T) {
	needJava(t)
	if !full() {
		t.Skip("part of make compat")
	}
	const count, kills = 20_000, 3
	n, dir, port := node(t), t.TempDir(), hubtest.Ports(t, 1)[0]
	in, out := filepath.Join(dir, "in.txt"), filepath.Join(dir, "out.txt")
	appendLines(t, in, 0, count/2)
	w := startJava(t, "org.apache.kafka.connect.cli.ConnectDistributed", writeFile(t, dir, "worker.properties", fmt.Sprintf(worker, n.Kafka, port)))
	rest := fmt.Sprintf("http://127.0.0.1:%d/connectors", port)
	createTopic(t, n.Kafka, "lines", 1)
	for name, config := range map[string]map[string]string{
		"source": {"connector.class": "FileStreamSource", "tasks.max": "1", "file": in, "topic": "lines", "exactly.once.support": "requested"},
		"sink":   {"connector.class": "FileStreamSink", "tasks.max": "1", "file": out, "topics": "lines"},
	} {
		hubtest.Until(t, 2*time.Minute, "the worker takes "+name, func() error {
			if over, err := w.ended(); over {
				t.Fatalf("the worker has ended: %v", err)
			}
			return postJSON(rest, map[string]any{"name": name, "config": config})
		})
	}
	running := func(name string) error {
		text, err := get(rest + "/" + name + "/status")
		if err == nil && strings.Count(text, `"state":"RUNNING"`) < 2 {
			err = fmt.Errorf("%s", text)
		}
		return err
	}
	hubtest.Until(t, 2*time.Minute, "the source runs", func() error { return running("source") })
	hubtest.Until(t, 2*time.Minute, "the sink runs", func() error { return running("sink") })
	done := killWhile(n, 5*time.Second, kills, w.done)
	appendLines(t, in, count/2, count)
	var inTopic, inFile error
	arrives(t, 3*time.Minute, func() bool {
		inTopic, inFile = readOnce(t, n.Kafka, "lines", count), atLeastOnce(out, count)
		return inTopic == nil && inFile == nil
	})
	s := suite{client: "Kafka Connect", version: kafkaVersion(t), what: fmt.Sprintf("distributed, exactly-once file source and file sink, %d lines, %d kill -9 of the hub", count, done)}
	s.report(t, []result{step("every line once in the topic", inTopic), step("every line in the sink's file", inFile)})
}

func appendLines(t *testing.T, path string, from, to int) {
	t.Helper()
	var b bytes.Buffer
	for i := from; i < to; i++ {
		b.WriteString(strconv.Itoa(i) + "\n")
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(b.Bytes())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// atLeastOnce: the file sink has no way to know what it wrote before a kill, so
// a line may be there twice.
func atLeastOnce(path string, n int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		seen[strings.TrimSpace(line)] = true
	}
	for i := range n {
		if !seen[strconv.Itoa(i)] {
			return fmt.Errorf("line %d of %d is not there; %d different ones are", i, n, len(seen))
		}
	}
	return nil
}

func postJSON(url string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c := http.Client{Timeout: 20 * time.Second}
	resp, err := c.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusConflict { // it was taken before, or a rebalance is under way
		answer, _ := io.ReadAll(resp.Body)
		if strings.Contains(string(answer), "already exists") {
			return nil
		}
		return fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if resp.StatusCode >= 300 {
		answer, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return nil
}

func get(url string) (string, error) {
	c := http.Client{Timeout: 10 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return string(text), err
}

// mirrors is the file of a MirrorMaker 2 that copies both ways.
const mirrors = `clusters = kafka, hub
kafka.bootstrap.servers = %s
hub.bootstrap.servers = %s
kafka->hub.enabled = true
kafka->hub.topics = there
hub->kafka.enabled = true
hub->kafka.topics = here
replication.factor = 1
checkpoints.topic.replication.factor = 1
heartbeats.topic.replication.factor = 1
offset-syncs.topic.replication.factor = 1
offset.storage.replication.factor = 1
status.storage.replication.factor = 1
config.storage.replication.factor = 1
refresh.topics.interval.seconds = 5
sync.topic.configs.interval.seconds = 5
emit.checkpoints.interval.seconds = 2
plugin.discovery = only_scan
dedicated.mode.enable.internal.rest = false
`

// TestMirrorMaker runs MirrorMaker 2 between an Apache Kafka and the hub, from
// each to the other.
func TestMirrorMaker(t *testing.T) {
	needJava(t)
	if !full() {
		t.Skip("part of make compat")
	}
	const count = 20_000
	n := node(t)
	broker := startKafka(t)
	createTopic(t, broker, "there", 2)
	createTopic(t, n.Kafka, "here", 2)
	produce(t.Context(), t, broker, records("there", count, 2, 10))
	produce(t.Context(), t, n.Kafka, records("here", count, 2, 10))
	p := startJava(t, "org.apache.kafka.connect.mirror.MirrorMaker", writeFile(t, t.TempDir(), "mm2.properties", fmt.Sprintf(mirrors, broker, n.Kafka)))
	arrived := func(addr, topic string) (err error) {
		arrives(t, 3*time.Minute, func() bool {
			err = readOnce(t, addr, topic, count)
			over, _ := p.ended()
			return err == nil || over
		})
		return err
	}
	s := suite{client: "MirrorMaker 2", version: kafkaVersion(t), what: fmt.Sprintf("from Apache Kafka to the hub and back, %d records each way", count)}
	s.report(t, []result{
		step("every record of Kafka once in the hub", arrived(n.Kafka, "kafka.there")),
		step("every record of the hub once in Kafka", arrived(broker, "hub.here")),
	})
}
