package compat

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// restPage lists what is different, which this test holds it to.
const restPage = "../../../docs/connect-rest.md"

// restSystem is a REST API for connectors with what its requests need.
type restSystem struct {
	name, url string
	words     *strings.Replacer // what stands in the script for this system's own
}

// restStep is one request of the script.
type restStep struct {
	name, method, path, body string
	// state waits until the connector "out" has it, before the next step;
	// loaded waits until it has said how far it is.
	state  string
	loaded bool
}

// restScript is run against both. SINK and SOURCE are good configurations, NOTOPIC
// one of a sink that lacks its topic.
var restScript = []restStep{
	{name: "root", method: "GET", path: "/"},
	{name: "health", method: "GET", path: "/health"},
	{name: "no connectors", method: "GET", path: "/connectors"},
	{name: "plugins", method: "GET", path: "/connector-plugins"},
	{name: "all plugins", method: "GET", path: "/connector-plugins?connectorsOnly=false"},
	{name: "fields of a plugin", method: "GET", path: "/connector-plugins/SINKCLASS/config"},
	{name: "fields of no plugin", method: "GET", path: "/connector-plugins/nope/config"},
	{name: "validate", method: "PUT", path: "/connector-plugins/SINKCLASS/config/validate", body: `SINKNAMED`},
	{name: "validate what is wrong", method: "PUT", path: "/connector-plugins/SINKCLASS/config/validate", body: `NOTOPIC`},
	{name: "validate another class", method: "PUT", path: "/connector-plugins/SOURCECLASS/config/validate", body: `SINKNAMED`},
	{name: "validate no class", method: "PUT", path: "/connector-plugins/nope/config/validate", body: `{"connector.class":"nope"}`},
	{name: "validate without a class", method: "PUT", path: "/connector-plugins/SINKCLASS/config/validate", body: `{}`},
	{name: "create of no JSON", method: "POST", path: "/connectors", body: `{"name":`},
	{name: "create of nothing", method: "POST", path: "/connectors", body: ``},
	{name: "create of a list", method: "POST", path: "/connectors", body: `[]`},
	{name: "create without a configuration", method: "POST", path: "/connectors", body: `{"name":"out"}`},
	{name: "create with an unknown key", method: "POST", path: "/connectors", body: `{"name":"out","config":SINK,"more":1}`},
	{name: "create with a number", method: "POST", path: "/connectors", body: `{"name":"out","config":{"connector.class":"SINKCLASS","tasks.max":1}}`},
	{name: "create of no class", method: "POST", path: "/connectors", body: `{"name":"out","config":{"connector.class":"nope"}}`},
	{name: "create without a topic", method: "POST", path: "/connectors", body: `{"name":"out","config":NOTOPIC}`},
	{name: "create under another name", method: "POST", path: "/connectors", body: `{"name":"other","config":SINKNAMED}`},
	{name: "create in a wrong state", method: "POST", path: "/connectors", body: `{"name":"out","config":SINK,"initial_state":"asleep"}`},
	{name: "create", method: "POST", path: "/connectors", body: `{"name":"out","config":SINK}`, state: "RUNNING", loaded: true},
	{name: "create again", method: "POST", path: "/connectors", body: `{"name":"out","config":SINK}`},
	{name: "list", method: "GET", path: "/connectors"},
	{name: "list with status", method: "GET", path: "/connectors?expand=status"},
	{name: "list with all", method: "GET", path: "/connectors?expand=info&expand=status"},
	{name: "one", method: "GET", path: "/connectors/out"},
	{name: "its configuration", method: "GET", path: "/connectors/out/config"},
	{name: "its status", method: "GET", path: "/connectors/out/status"},
	{name: "its tasks", method: "GET", path: "/connectors/out/tasks"},
	{name: "status of a task", method: "GET", path: "/connectors/out/tasks/0/status"},
	{name: "status of no task", method: "GET", path: "/connectors/out/tasks/99/status"},
	{name: "its topics", method: "GET", path: "/connectors/out/topics"},
	{name: "unknown", method: "GET", path: "/connectors/nope"},
	{name: "unknown configuration", method: "GET", path: "/connectors/nope/config"},
	{name: "unknown status", method: "GET", path: "/connectors/nope/status"},
	{name: "unknown tasks", method: "GET", path: "/connectors/nope/tasks"},
	{name: "unknown topics", method: "GET", path: "/connectors/nope/topics"},
	{name: "unknown offsets", method: "GET", path: "/connectors/nope/offsets"},
	{name: "pause unknown", method: "PUT", path: "/connectors/nope/pause"},
	{name: "resume unknown", method: "PUT", path: "/connectors/nope/resume"},
	{name: "stop unknown", method: "PUT", path: "/connectors/nope/stop"},
	{name: "restart unknown", method: "POST", path: "/connectors/nope/restart"},
	{name: "restart a task of unknown", method: "POST", path: "/connectors/nope/tasks/0/restart"},
	{name: "delete unknown", method: "DELETE", path: "/connectors/nope"},
	{name: "patch unknown", method: "PATCH", path: "/connectors/nope/config", body: `{"tasks.max":"1"}`},
	{name: "pause", method: "PUT", path: "/connectors/out/pause", state: "PAUSED"},
	{name: "status when paused", method: "GET", path: "/connectors/out/status"},
	{name: "resume", method: "PUT", path: "/connectors/out/resume", state: "RUNNING"},
	{name: "restart", method: "POST", path: "/connectors/out/restart", state: "RUNNING"},
	{name: "restart with tasks", method: "POST", path: "/connectors/out/restart?includeTasks=true&onlyFailed=false", state: "RUNNING"},
	{name: "restart a task", method: "POST", path: "/connectors/out/tasks/0/restart", state: "RUNNING"},
	{name: "restart no task", method: "POST", path: "/connectors/out/tasks/99/restart"},
	{name: "change", method: "PUT", path: "/connectors/out/config", body: `SINK`, state: "RUNNING"},
	{name: "change to what is wrong", method: "PUT", path: "/connectors/out/config", body: `NOTOPIC`},
	{name: "change with no JSON", method: "PUT", path: "/connectors/out/config", body: `nope`},
	{name: "change a part", method: "PATCH", path: "/connectors/out/config", body: `{"tasks.max":"2"}`, state: "RUNNING"},
	{name: "take a part away", method: "PATCH", path: "/connectors/out/config", body: `{"tasks.max":null}`, state: "RUNNING"},
	{name: "offsets", method: "GET", path: "/connectors/out/offsets"},
	{name: "set offsets of one that runs", method: "PATCH", path: "/connectors/out/offsets", body: `{"offsets":[{"partition":{"kafka_topic":"lines","kafka_partition":0},"offset":{"kafka_offset":1}}]}`},
	{name: "reset offsets of one that runs", method: "DELETE", path: "/connectors/out/offsets"},
	{name: "stop", method: "PUT", path: "/connectors/out/stop", state: "STOPPED"},
	{name: "status when stopped", method: "GET", path: "/connectors/out/status"},
	{name: "tasks when stopped", method: "GET", path: "/connectors/out/tasks"},
	{name: "set no offsets", method: "PATCH", path: "/connectors/out/offsets", body: `{"offsets":[]}`},
	{name: "set offsets with no JSON", method: "PATCH", path: "/connectors/out/offsets", body: `nope`},
	{name: "set offsets of a wrong form", method: "PATCH", path: "/connectors/out/offsets", body: `{"offsets":[{"partition":{"kafka_topic":"lines"},"offset":{"kafka_offset":1}}]}`},
	{name: "set offsets to a text", method: "PATCH", path: "/connectors/out/offsets", body: `{"offsets":[{"partition":{"kafka_topic":"lines","kafka_partition":0},"offset":{"kafka_offset":"many"}}]}`},
	{name: "set offsets", method: "PATCH", path: "/connectors/out/offsets", body: `{"offsets":[{"partition":{"kafka_topic":"lines","kafka_partition":0},"offset":{"kafka_offset":1}}]}`},
	{name: "offsets that were set", method: "GET", path: "/connectors/out/offsets"},
	{name: "reset offsets", method: "DELETE", path: "/connectors/out/offsets"},
	{name: "offsets that were reset", method: "GET", path: "/connectors/out/offsets"},
	{name: "reset topics", method: "PUT", path: "/connectors/out/topics/reset"},
	{name: "create a source, stopped", method: "POST", path: "/connectors", body: `{"name":"in","config":SOURCE,"initial_state":"STOPPED"}`},
	{name: "offsets of a source", method: "GET", path: "/connectors/in/offsets"},
	{name: "delete", method: "DELETE", path: "/connectors/out"},
	{name: "delete again", method: "DELETE", path: "/connectors/out"},
	{name: "wrong method", method: "DELETE", path: "/connectors"},
	{name: "wrong path", method: "GET", path: "/nope"},
	{name: "loggers", method: "GET", path: "/admin/loggers"},
}

// restDifferences are the steps in which the hub answers otherwise, with the
// sentence of docs/connect-rest.md that says why.
var restDifferences = map[string]string{
	"validate no class":              wrongRequest,
	"validate without a class":       wrongRequest,
	"create of no JSON":              wrongRequest,
	"create of nothing":              wrongRequest,
	"create of a list":               wrongRequest,
	"create without a configuration": wrongRequest,
	"create with an unknown key":     wrongRequest,
	"create in a wrong state":        wrongRequest,
	"change with no JSON":            wrongRequest,
	"set offsets with no JSON":       wrongRequest,
	"loggers":                        "no `/admin/loggers`",
}

const wrongRequest = "is answered with 400, where Kafka Connect says 500"

// restAnswer is what came back: its status, and the shape of its body.
type restAnswer struct {
	status int
	shape  string
	text   string
}

func (s restSystem) ask(t *testing.T, step restStep) restAnswer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), step.method, s.url+s.words.Replace(step.path), strings.NewReader(s.words.Replace(step.body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	c := http.Client{Timeout: time.Minute}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s: %s: %v", s.name, step.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := restAnswer{status: resp.StatusCode, text: strings.TrimSpace(string(text))}
	var body any
	if err := json.Unmarshal(text, &body); err == nil {
		out.shape = shapeOf(body, "")
	} else if out.text != "" {
		out.shape = "no JSON"
	}
	if resp.Header.Get("Location") != "" {
		out.shape += " with Location"
	}
	return out
}

// shapeOf writes the keys and types of a JSON value. Names that are data, as
// those of connectors and of settings, are left out; so is the text of a value
// that may be null.
func shapeOf(v any, key string) string {
	switch v := v.(type) {
	case map[string]any:
		var parts []string
		for name, one := range v {
			if key == "config" || key == "" && dataNamed(v) {
				name = "*"
			}
			if part := name + ":" + shapeOf(one, name); !slices.Contains(parts, part) {
				parts = append(parts, part)
			}
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, " ") + "}"
	case []any:
		var parts []string
		for _, one := range v {
			if part := shapeOf(one, "[]"); !slices.Contains(parts, part) {
				parts = append(parts, part)
			}
		}
		slices.Sort(parts)
		return "[" + strings.Join(merged(parts), " | ") + "]"
	case string:
		return "text"
	case bool:
		return "bool"
	case nil:
		return "null"
	}
	return "number"
}

// dataNamed reports whether an object's names are those of connectors, or the
// settings of one.
func dataNamed(v map[string]any) bool {
	_, settings := v["connector.class"]
	_, out := v["out"]
	return settings || out
}

// merged leaves of shapes that only differ in null against text the first.
func merged(shapes []string) []string {
	plain := func(s string) string { return strings.ReplaceAll(s, "null", "text") }
	var out []string
	for _, s := range shapes {
		if !slices.ContainsFunc(out, func(o string) bool { return plain(o) == plain(s) }) {
			out = append(out, plain(s))
		}
	}
	return out
}

// await waits for a state of the connector "out", and for a task where it runs.
func (s restSystem) await(t *testing.T, state string) {
	t.Helper()
	hubtest.Until(t, 2*time.Minute, s.name+": the connector is "+state, func() error {
		got := s.ask(t, restStep{name: "status", method: "GET", path: "/connectors/out/status"})
		want := 1
		if state != "STOPPED" {
			want = 2
		}
		if strings.Count(got.text, `"state":"`) != want || strings.Count(got.text, `"state":"`+state+`"`) != want {
			return fmt.Errorf("%s", got.text)
		}
		return nil
	})
}

// awaitOffsets waits until the connector "out" has read the record that is in
// its topic.
func (s restSystem) awaitOffsets(t *testing.T) {
	t.Helper()
	hubtest.Until(t, 2*time.Minute, s.name+": the record is read", func() error {
		got := s.ask(t, restStep{name: "offsets", method: "GET", path: "/connectors/out/offsets"})
		if !strings.Contains(got.text, `"kafka_offset":1`) {
			return fmt.Errorf("%s", got.text)
		}
		return nil
	})
}

// TestConnectREST runs one script of requests against Kafka Connect and against
// the hub, and compares statuses and the shapes of answers.
func TestConnectREST(t *testing.T) {
	needJava(t)
	if !full() {
		t.Skip("part of make compat")
	}
	systems := restSystems(t)
	page, err := os.ReadFile(restPage)
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Join(strings.Fields(string(page)), " ")
	var results []result
	for _, step := range restScript {
		var got [2]restAnswer
		for i, s := range systems {
			got[i] = s.ask(t, step)
			if step.state != "" {
				s.await(t, step.state)
			}
			if step.loaded {
				s.awaitOffsets(t)
			}
		}
		one := result{name: step.name, outcome: passed}
		same := got[0].status == got[1].status && got[0].shape == got[1].shape
		switch why, known := restDifferences[step.name]; {
		case same && known:
			t.Errorf("%s is no longer different", step.name)
		case !same && known && !strings.Contains(told, why):
			t.Errorf("%s: docs/connect-rest.md does not say %q", step.name, why)
		case !same && !known:
			one.outcome = failed
			one.output = fmt.Sprintf("Kafka Connect %d %s\n  %.600s\nthe hub %d %s\n  %.600s", got[0].status, got[0].shape, got[0].text, got[1].status, got[1].shape, got[1].text)
		}
		results = append(results, one)
	}
	s := suite{
		client: "Kafka Connect's REST API", version: kafkaVersion(t),
		what: fmt.Sprintf("%d requests to a worker and to the hub, statuses and shapes compared; %d differ for reasons that docs/connect-rest.md gives", len(restScript), len(restDifferences)),
	}
	s.report(t, results)
}

// restSystems are a worker of Kafka Connect with its broker, and a hub.
func restSystems(t *testing.T) [2]restSystem {
	dir, port, broker := t.TempDir(), hubtest.Ports(t, 1)[0], startKafka(t)
	in, out := filepath.Join(dir, "in.txt"), filepath.Join(dir, "out")
	appendLines(t, in, 0, 10)
	w := startJava(t, "org.apache.kafka.connect.cli.ConnectDistributed", writeFile(t, dir, "worker.properties", fmt.Sprintf(worker, broker, port)))
	n := hubtest.NewNode(t, "solo", dir, nil, nil, nil)
	n.Start()
	createTopic(t, broker, "lines", 1)
	createTopic(t, n.Kafka, "lines", 1)
	for _, addr := range []string{broker, n.Kafka} {
		produce(t.Context(), t, addr, []*kgo.Record{{Topic: "lines", Value: []byte(`{"a":1}`)}})
	}
	kafka := restSystem{name: "Kafka Connect", url: fmt.Sprintf("http://127.0.0.1:%d", port), words: strings.NewReplacer(
		"SINKNAMED", fmt.Sprintf(`{"name":"out","connector.class":"FileStreamSink","file":%q,"topics":"lines"}`, out),
		"SINKCLASS", "FileStreamSink", "SOURCECLASS", "FileStreamSource",
		"NOTOPIC", fmt.Sprintf(`{"name":"out","connector.class":"FileStreamSink","file":%q}`, out),
		"SINK", fmt.Sprintf(`{"connector.class":"FileStreamSink","tasks.max":"1","file":%q,"topics":"lines"}`, out),
		"SOURCE", fmt.Sprintf(`{"connector.class":"FileStreamSource","tasks.max":"1","file":%q,"topic":"lines"}`, in),
	)}
	hub := restSystem{name: "the hub", url: "http://" + n.Connect, words: strings.NewReplacer(
		"SINKNAMED", fmt.Sprintf(`{"name":"out","connector.class":"files-sink","sink.url":"file://%s","topics":"lines","sink.format":"ndjson"}`, out+"-lake"),
		"SINKCLASS", "files-sink", "SOURCECLASS", "file-source",
		"NOTOPIC", fmt.Sprintf(`{"name":"out","connector.class":"files-sink","sink.url":"file://%s","sink.format":"ndjson"}`, out+"-lake"),
		"SINK", fmt.Sprintf(`{"connector.class":"files-sink","tasks.max":"1","sink.url":"file://%s","topics":"lines","sink.format":"ndjson","sink.roll.every":"100ms"}`, out+"-lake"),
		"SOURCE", fmt.Sprintf(`{"connector.class":"file-source","tasks.max":"1","source.path":%q,"topic":"lines"}`, in),
	)}
	hubtest.Until(t, 2*time.Minute, "the worker serves", func() error {
		if over, err := w.ended(); over {
			t.Fatalf("the worker has ended: %v", err)
		}
		text, err := get(kafka.url + "/health")
		if err == nil && !strings.Contains(text, "healthy") {
			err = fmt.Errorf("%s", text)
		}
		return err
	})
	return [2]restSystem{kafka, hub}
}
