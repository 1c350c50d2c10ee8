package docs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub"
	"github.com/entrepot-hub/entrepot/hub/ctl"
)

// schemaOf compiles what `entrepot config schema` prints.
func schemaOf(t *testing.T, args ...string) *jsonschema.Schema {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := ctl.Main(t.Context(), append([]string{"config", "schema"}, args...), nil, &stdout, &stderr, ctl.Deps{Registry: all.Builtin(), Schema: hub.Schema, Plugins: samplePlugins(t)}); status != ctl.Done {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	doc, err := jsonschema.UnmarshalJSON(&stdout)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("entrepot.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("entrepot.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// valueOf is a YAML document as an editor's check sees it.
func valueOf(t *testing.T, file string, text []byte) any {
	t.Helper()
	root, errs := strict.Parse(file, text)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return plain(root)
}

func plain(n strict.Node) any {
	switch n.Kind() {
	case strict.Map:
		all := map[string]any{}
		for _, e := range n.Entries() {
			all[e.Key] = plain(e.Value)
		}
		return all
	case strict.List:
		all := []any{}
		for _, item := range n.Items() {
			all = append(all, plain(item))
		}
		return all
	case strict.Bool:
		return n.Text() == "true"
	case strict.Int, strict.Float:
		return json.Number(n.Text())
	case strict.Null:
		return nil
	}
	return n.Text()
}

// TestSchemaTakesConfigs: what the hub takes, the schema takes.
func TestSchemaTakesConfigs(t *testing.T) {
	s := schemaOf(t, "--node", pluginNode)
	for _, file := range configs(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(valueOf(t, file, text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestSchemaTakesExamples: each field of each connector takes its own example
// and default.
func TestSchemaTakesExamples(t *testing.T) {
	s := schemaOf(t, "jobs")
	reg := all.Builtin()
	for _, kind := range []string{"source", "sink"} {
		types := map[string][]string{"source": reg.SourceTypes(), "sink": reg.SinkTypes()}[kind]
		for _, typ := range types {
			spec := specsOf(reg, typ)[kind]
			lines := []string{"connectors:", "  - name: a", "    topic: t", "    " + kind + ":", "      type: " + typ}
			for _, f := range spec.Fields {
				if f.Example != "" && len(f.Fields) == 0 {
					lines = append(lines, "      "+f.Name+": "+quoteYAML(f))
				}
			}
			text := strings.Join(lines, "\n")
			if err := s.Validate(valueOf(t, typ, []byte(text))); err != nil {
				t.Errorf("%s\n%v", text, err)
			}
		}
	}
}

func specsOf(reg connectors.Registry, typ string) map[string]connectors.Spec {
	all := map[string]connectors.Spec{}
	if s, ok := reg.Sources[typ]; ok {
		all["source"] = s.Spec()
	}
	if s, ok := reg.Sinks[typ]; ok {
		all["sink"] = s.Spec()
	}
	return all
}

// TestSchemaRefuses: each file of testdata/schema is wrong in one way, told by
// its name, and its first line has a part of what the schema says.
func TestSchemaRefuses(t *testing.T) {
	files, err := filepath.Glob("testdata/schema/*.bad.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	s := schemaOf(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		want := strings.TrimPrefix(first, "# want: ")
		if err := s.Validate(valueOf(t, file, text)); err == nil {
			t.Errorf("%s passes", file)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q in\n%v", file, want, err)
		}
	}
}
