package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// TestNewcomer runs a program that somebody else made for Kafka, kafka-console
// from npm, as its users do: nothing but the address is ours.
func TestNewcomer(t *testing.T) {
	program := filepath.Join(hubtest.Root(t), ".cache/kafkajs/node_modules/.bin/kafka-console")
	if _, err := os.Stat(program); err != nil {
		hubtest.Missing(t, "kafka-console is not installed; deploy/test/setup.sh installs it")
	}
	n, dir := node(t), t.TempDir()
	var in []string
	for i := range 20 {
		in = append(in, fmt.Sprintf(`{"key": "k%d", "value": "v%d"}`, i, i))
	}
	input, dump := filepath.Join(dir, "in.json"), filepath.Join(dir, "dump.jsonl")
	if err := os.WriteFile(input, []byte("["+strings.Join(in, ",")+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	var results []result
	check := func(name, want string, args ...string) {
		out := command(t, dir, nil, program, append([]string{"-b", n.Kafka}, args...)...)
		r := result{name: name, outcome: passed}
		if !strings.Contains(out, want) {
			r.outcome, r.output = failed, fmt.Sprintf("%q is not in its answer:\n%s", want, tail(out, 2000))
		}
		results = append(results, r)
	}
	check("topic:create", `"name":"orders"`, "topic:create", "orders")
	check("produce", "", "produce", "orders", "-i", input)
	check("topic:offsets", `"high":"20"`, "topic:offsets", "orders")
	check("consume", `"value":"v19"`, "-t", "5000", "consume", "orders", "--from", "0")
	check("metadata", `"topic":"orders"`, "metadata")
	check("list", `"orders"`, "list")
	check("config", `"name":"retention.ms","value":"604800000"`, "config", "--resource", "topic", "--resourceName", "orders")
	check("topic:dump", "", "topic:dump", "orders", "-o", dump)
	if text, err := os.ReadFile(dump); err != nil || strings.Count(string(text), "\n") != 20 {
		results = append(results, result{"what was dumped", failed, fmt.Sprintf("want 20 lines: %v\n%s", err, text)})
	}
	s := suite{client: "kafka-console (npm)", version: "3.1.55", what: "a program of somebody else, the address changed"}
	s.report(t, results)
}
