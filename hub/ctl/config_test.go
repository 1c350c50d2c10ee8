package ctl

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// lines is a source that is only described: no test here opens it.
type lines struct{ connectors.Source }

func (lines) Spec() connectors.Spec {
	return connectors.Spec{Type: "lines", Guarantee: "exactly-once", Fields: []connectors.Field{{Name: "path", Kind: connectors.KindString, Required: true, Description: "the file to read"}}}
}

func (lines) Validate(_ context.Context, cfg connectors.Config, _ connectors.Probe) []connectors.Finding {
	if strings.HasPrefix(cfg.String("path"), "/") {
		return nil
	}
	return []connectors.Finding{{Field: "path", Message: "is relative", Hint: "to the folder the node was started in", Warning: true}}
}

// nodeYAML stands for the node's own config.
type nodeYAML struct {
	Node strict.Node `yaml:"node,required"`
	Jobs []string    `yaml:"jobs"`
}

func configDeps() Deps {
	return Deps{
		Registry: connectors.Registry{Sources: map[string]connectors.Source{"lines": lines{}}},
		Getenv:   func(name string) (string, bool) { return "/var/log/in", name == "INPUT" },
		CheckNode: func(file string, text []byte) ([]string, strict.Errors) {
			var y nodeYAML
			errs := strict.Decode(file, text, &y, strict.Options{})
			for i, glob := range y.Jobs {
				y.Jobs[i] = filepath.Join(filepath.Dir(file), glob)
			}
			return y.Jobs, errs
		},
	}
}

const goodJobs = `topics:
  - {name: clicks, partitions: 3}
connectors:
  - name: in
    topic: clicks
    source: {type: lines, path: "${env:INPUT}"}
    transforms: [{parse: {format: combined}}]
tests:
  - target: in
    input: ['1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "curl"', nonsense]
    output: [{json_contains: {status: 200}}, {dead_letter: true}]
`

// write makes files in a fresh folder, which becomes the current one, so that
// names in messages are short.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	write(t, map[string]string{
		"jobs.yaml":  goodJobs,
		"rel.yaml":   strings.Replace(goodJobs, "${env:INPUT}", "in.log", 1),
		"node.yaml":  "node: {id: a}\njobs: [jobs.yaml]\n",
		"stale.yaml": "node: {id: a}\njobs: [none-*.yaml]\n",
	})
	r := run(t, configDeps(), "config", "check", "node.yaml", "./jobs.yaml")
	want := "ok: 2 files, 1 topic, 1 connector\nCONNECTOR  KIND    TYPE   TOPIC   GUARANTEE\nin         source  lines  clicks  exactly-once\n"
	if r.status != Done || r.stdout != want || r.stderr != "" {
		t.Errorf("a node file with its jobs: %+v, want %q", r, want)
	}
	if r = run(t, configDeps(), "config", "check", "rel.yaml"); r.status != Done || !strings.Contains(r.stdout, "rel.yaml:6:33: warning: ") {
		t.Errorf("a warning: %+v", r)
	}
	if r = run(t, configDeps(), "config", "check", "stale.yaml"); r.status != Done || !strings.Contains(r.stdout, `stale.yaml: warning: jobs: no file matches "none-*.yaml"`) {
		t.Errorf("a glob that finds nothing: %+v", r)
	}
	r = run(t, configDeps(), "config", "check", "jobs.yaml", "--json")
	var c checked
	if err := json.Unmarshal([]byte(r.stdout), &c); err != nil || len(c.Jobs) != 1 || c.Jobs[0].Name != "in" || c.Errors == nil {
		t.Errorf("--json: %v %+v", err, r)
	}
}

func TestConfigCheckRefuses(t *testing.T) {
	write(t, map[string]string{
		"key.yaml":    strings.Replace(goodJobs, "partitions", "partition", 1),
		"type.yaml":   strings.Replace(goodJobs, "partitions: 3", "partitions: many", 1),
		"env.yaml":    strings.Replace(goodJobs, "env:INPUT", "env:NOTSET", 1),
		"syntax.yaml": "connectors: [}\n",
		"nod.yaml":    "nod: {id: a}\n",
		"a.yaml":      goodJobs,
		"b.yaml":      goodJobs,
		"node.yaml":   "node: {id: a}\nmash: {}\njobs: [none.yaml]\n",
		"gone.yaml":   "node: {id: a}\njobs: [none.yaml]\n",
	})
	cases := []struct {
		files string
		want  []string
	}{
		{"key.yaml", []string{"key.yaml:2:20: ", `"partition"`, "partitions"}},
		{"type.yaml", []string{"type.yaml:2:32: "}},
		{"env.yaml", []string{"env.yaml:6:33: ", "NOTSET"}},
		{"syntax.yaml", []string{"syntax.yaml:1:"}},
		{"a.yaml b.yaml", []string{"b.yaml:4:", "a.yaml:4:", `"in"`}},
		{"nod.yaml", []string{"nod.yaml:1:1: ", "neither a node's file, which has node, listeners"}},
		{"none.yaml", []string{"none.yaml: cannot be read: no such file"}},
		{"node.yaml", []string{"node.yaml:2:1: ", "mash"}},
		{"gone.yaml", []string{"none.yaml: cannot be read"}},
	}
	for _, c := range cases {
		r := run(t, configDeps(), append([]string{"config", "check"}, strings.Fields(c.files)...)...)
		for _, want := range c.want {
			if r.status != Usage || r.stdout != "" || !strings.Contains(r.stderr, want) {
				t.Errorf("check %s: status %d, want %d with %q on stderr: %q", c.files, r.status, Usage, want, r.stderr)
			}
		}
		r = run(t, configDeps(), append([]string{"config", "check", "--json"}, strings.Fields(c.files)...)...)
		var found checked
		if err := json.Unmarshal([]byte(r.stdout), &found); err != nil || r.status != Usage || len(found.Errors) == 0 || r.stderr != "" {
			t.Errorf("check --json %s: %v %+v", c.files, err, r)
		}
	}
}

func TestConfigTest(t *testing.T) {
	write(t, map[string]string{
		"good.yaml": goodJobs,
		"bad.yaml":  strings.Replace(goodJobs, "status: 200", "status: 404", 1),
		"key.yaml":  "topics: [{nam: x}]\n",
	})
	if r := run(t, configDeps(), "config", "test", "good.yaml"); r.status != Done || r.stdout != "1 test, 0 failed\n" {
		t.Errorf("good: %+v", r)
	}
	if r := run(t, configDeps(), "config", "test", "bad.yaml"); r.status != Failed || !strings.Contains(r.stdout, "bad.yaml:9: in: input 1: ") || !strings.Contains(r.stdout, "1 test, 1 failed") || r.stderr != "" {
		t.Errorf("bad: %+v", r)
	}
	if r := run(t, configDeps(), "config", "test", "bad.yaml", "--json"); r.status != Failed || !strings.Contains(r.stdout, `"failures": [`) {
		t.Errorf("bad --json: %+v", r)
	}
	if r := run(t, configDeps(), "config", "test", "key.yaml"); r.status != Usage || !strings.Contains(r.stderr, "key.yaml:1:11") {
		t.Errorf("bad config: %+v", r)
	}
}
