package hubtest

import "testing"

// TestConfluentPythonClient runs Confluent's own client and its serializers
// against a node; what was registered is there after a kill -9.
func TestConfluentPythonClient(t *testing.T) {
	python := Python(t, "confluent_kafka.schema_registry.avro, confluent_kafka.schema_registry.json_schema, confluent_kafka.schema_registry.protobuf")
	n := devNode(t)
	t.Log(run(t, python, "testdata/clients/schema_registry.py", n.Kafka, "http://"+n.Registry))
	before := httpGet(t, "http://"+n.Registry+"/schemas?deleted=true")
	n.Kill()
	n.Start()
	if after := httpGet(t, "http://"+n.Registry+"/schemas?deleted=true"); after != before {
		t.Errorf("after kill -9 the registry has\n%s\nwant\n%s", after, before)
	}
}

func httpGet(t *testing.T, url string) string {
	t.Helper()
	body, err := get(url)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return string(body)
}
