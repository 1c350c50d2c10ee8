package compat

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

const (
	sarama       = "github.com/IBM/sarama"
	wantsBrokers = "wants several brokers, and a node is one"
	wantsDocker  = "stops a broker or reads its log through Docker"
)

var saramaKnown = map[string]string{
	"TestConsumerFetchFollowerFailover":        wantsBrokers,
	"TestFuncAdminAlterPartitionReassignments": wantsBrokers,
	"TestFuncAdminDescribeLogDirs":             wantsBrokers,
	"TestFuncAdminListConsumerGroupOffsets":    wantsDocker,
	"TestFuncTxnProduceWithBrokerFailure":      wantsDocker,
	"TestFuncIdempotentBufferedSequence":       wantsDocker,
	"TestFuncAdminUpdateFeatures":              "features are finalised by the version of the hub; UpdateFeatures is not offered",
	"TestFuncAdminIncrementalAlterConfigs":     "sets log.cleaner.backoff.ms of a broker, which the hub has not",
	"TestReadOnlyAndAllCommittedMessages":      "the suite says that it fails from time to time",
}

// TestSarama runs sarama's functional tests. They want five brokers behind
// toxiproxy: here, five proxies lead to one node, and the topics that the
// suite makes for itself have one replica.
func TestSarama(t *testing.T) {
	if !full() {
		t.Skip("part of make compat")
	}
	dir := saramaCopy(t)
	proxy := filepath.Join(t.TempDir(), "toxiproxy")
	goBuild(t, "build", "-o", proxy, "github.com/Shopify/toxiproxy/v2/cmd/server")
	if !alone(t, func() { goBuild(t, "test", "-C", dir, "-tags", "functional", "-c", "-o", os.DevNull, ".") }) {
		return
	}
	serve(t, `{auto_create_topics: false, listeners: {kafka: {addr: "127.0.0.1:9092", advertise: "127.0.0.1:29091"}}}`)
	startProxies(t, proxy)
	s := suite{client: "sarama", version: version(t, sarama), what: "its functional tests, five proxies before one node", known: saramaKnown}
	env := []string{"TOXIPROXY_ADDR=http://127.0.0.1:8474", "KAFKA_VERSION=4.3.1"}
	s.report(t, goTest(t, dir, env, "-tags", "functional", "-run", functionalTests(t, dir), "-timeout", "19m", "."))
}

// saramaCopy is a copy of the module in which the topics of the suite have one
// replica.
func saramaCopy(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", sarama)
	cmd.Dir = clients
	var module struct{ Dir string }
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%s: %v", sarama, err)
	} else if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"cp", "-r", module.Dir + "/.", dir}, {"chmod", "-R", "u+w", dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	file := filepath.Join(dir, "functional_test.go")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	one := strings.ReplaceAll(string(text), "ReplicationFactor: 3,", "ReplicationFactor: 1,")
	if err := os.WriteFile(file, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// functionalTests is an expression for the tests that want a broker; the others
// are the client's own.
func functionalTests(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "functional_*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

// startProxies starts toxiproxy with the five proxies that the suite looks for.
func startProxies(t *testing.T, program string) {
	t.Helper()
	var proxies []map[string]any
	for i := 1; i <= 5; i++ {
		proxies = append(proxies, map[string]any{
			"name": fmt.Sprintf("kafka%d", i), "listen": fmt.Sprintf("127.0.0.1:%d", 29090+i), "upstream": "127.0.0.1:9092", "enabled": true,
		})
	}
	file := filepath.Join(t.TempDir(), "proxies.json")
	text, err := json.Marshal(proxies)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-config", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	hubtest.Until(t, 30*time.Second, "toxiproxy listens", func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:29091")
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
}
