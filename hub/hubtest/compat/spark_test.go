package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

const spark = "../../../deploy/compat/spark"

// TestSpark runs Spark Structured Streaming between two topics: a program of
// which nothing but the address is ours.
func TestSpark(t *testing.T) {
	if !full() {
		t.Skip("part of make compat")
	}
	needJava(t)
	if out, err := exec.Command(filepath.Join(spark, "setup.sh")).CombinedOutput(); err != nil {
		hubtest.Missing(t, "Spark: %v\n%s", err, out)
	}
	cache, err := filepath.Abs("../../../.cache/spark")
	if err != nil {
		t.Fatal(err)
	}
	jars, err := filepath.Glob(filepath.Join(cache, "jars", "*.jar"))
	if err != nil || len(jars) == 0 {
		t.Fatalf("no jars in %s: %v", cache, err)
	}
	pins, err := os.ReadFile(filepath.Join(spark, "requirements.txt"))
	if err != nil {
		t.Fatal(err)
	}
	const count = 20_000
	n := node(t)
	createTopic(t, n.Kafka, "in", 4)
	createTopic(t, n.Kafka, "out", 4)
	produce(t.Context(), t, n.Kafka, records("in", count, 4, 10))
	cmd := exec.CommandContext(t.Context(), filepath.Join(cache, "venv", "bin", "python"), filepath.Join(spark, "stream.py"),
		n.Kafka, "in", "out", t.TempDir(), strings.Join(jars, ","))
	cmd.Env = append(os.Environ(), "SPARK_LOCAL_IP=127.0.0.1")
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("copied %d records of 10 keys", count); err == nil && !strings.Contains(string(out), want) {
		err = fmt.Errorf("it did not say %q", want)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, tail(string(out), 3000))
	}
	_, version, _ := strings.Cut(strings.TrimSpace(string(pins)), "==")
	s := suite{client: "Spark", version: version, what: fmt.Sprintf("Structured Streaming from topic to topic, %d records", count)}
	s.report(t, []result{step("the job reads back what it wrote", err), step("every record once", readOnce(t, n.Kafka, "out", count))})
}
