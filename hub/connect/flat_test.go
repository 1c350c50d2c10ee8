package connect

import (
	"maps"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// odd is a source with a field of every kind.
type odd struct{ connectors.Source }

func (odd) Spec() connectors.Spec {
	return connectors.Spec{Type: "odd", Summary: "Every kind of field.", Fields: []connectors.Field{
		{Name: "text", Kind: connectors.KindString, Required: true, Description: "A text."},
		{Name: "count", Kind: connectors.KindInt, Default: int64(3)},
		{Name: "ratio", Kind: connectors.KindFloat},
		{Name: "on", Kind: connectors.KindBool},
		{Name: "every", Kind: connectors.KindDuration},
		{Name: "bytes", Kind: connectors.KindSize},
		{Name: "password", Kind: connectors.KindSecret},
		{Name: "list", Kind: connectors.KindStrings},
		{Name: "labels", Kind: connectors.KindStringMap},
		{Name: "keys", Kind: connectors.KindSecretMap},
		{Name: "roll", Kind: connectors.KindObject, Fields: []connectors.Field{{Name: "rows", Kind: connectors.KindInt}, {Name: "token", Kind: connectors.KindSecret}}},
		{Name: "servers", Kind: connectors.KindObjects, Fields: []connectors.Field{{Name: "host", Kind: connectors.KindString}, {Name: "token", Kind: connectors.KindSecret}}},
	}}
}

func registry() connectors.Registry {
	return connectors.Registry{Sources: map[string]connectors.Source{"odd": odd{}}}
}

// decode reads a document as a jobs file's reader does.
func decode(t *testing.T, d Document) (strict.Node, connectors.Config, strict.Errors) {
	t.Helper()
	root, errs := strict.Parse("f", d.Text)
	if len(errs) > 0 {
		t.Fatalf("%v in\n%s", errs, d.Text)
	}
	list, _ := root.Get("connectors")
	system, _ := list.Items()[0].Get("source")
	cfg, errs := system.Config(odd{}.Spec().Fields, strict.Options{Env: func(string) (string, bool) { return "from the environment", true }}, "type")
	return list.Items()[0], cfg, errs
}

// TestEveryKindRoundTrips: a flat configuration becomes a jobs file that means
// the same, and that one becomes the flat configuration again.
func TestEveryKindRoundTrips(t *testing.T) {
	flat := map[string]string{
		"connector.class": "odd-source", "topic": "clicks", "key": "value.id", "errors.dlq": "d", "errors.max_failures": "10/1000", "memory": "1MiB",
		"transforms":  `[{"parse":{"format":"json"}},{"filter":"value.a: 1, \"b\""},{"map":{"z":"1","a":"2"}}]`,
		"source.text": "a: \"b\" # \\ 'c'\n☃ ${env:X} <&>\u2028", "source.count": "42", "source.ratio": "0.5", "source.on": "true", "source.every": "30s", "source.bytes": "64KiB",
		"source.password": "${env:PW}", "source.list": "a,b", "source.labels.x.y": "1", "source.labels.z": "", "source.roll.rows": "7", "source.roll.token": "t",
		"source.servers": `[{"host":"h","token":"s"}]`,
	}
	d, issues := Nest(registry(), "n", flat)
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	n, cfg, errs := decode(t, d)
	if len(errs) > 0 {
		t.Fatalf("%v in\n%s", errs, d.Text)
	}
	if got := cfg.String("text"); got != strings.Replace(flat["source.text"], "${env:X}", "from the environment", 1) {
		t.Errorf("text is %q", got)
	}
	if cfg.Int("count") != 42 || cfg.Float("ratio") != 0.5 || !cfg.Bool("on") || cfg.Size("bytes") != 64<<10 || len(cfg.Strings("list")) != 2 ||
		cfg.StringMap("labels")["x.y"] != "1" || cfg.Object("roll").Int("rows") != 7 || cfg.Objects("servers")[0].String("host") != "h" {
		t.Errorf("%v", cfg)
	}
	back, ok := Flat(registry(), n)
	if delete(back, "name"); !ok || !maps.Equal(back, flat) {
		t.Errorf("back it is\n%q\nwant\n%q", back, flat)
	}
}

// TestIssuesNameTheirKey: what a reader says of a line is told of its key.
func TestIssuesNameTheirKey(t *testing.T) {
	for flat, want := range map[[2]string]string{
		{"source.count", "many"}:            "source.count: want a whole number",
		{"source.cuont", "1"}:               `source.cuont: unknown key "cuont"; did you mean "count"?`,
		{"source.roll.rows", "x"}:           "source.roll.rows: want a whole number",
		{"source.servers", `[{"hots":""}]`}: `source.servers: unknown key "hots"`,
		{"source.servers", `[`}:             "source.servers: want JSON",
		{"source.text", ""}:                 "",
		{"source.password.x", "hunter2-a"}:  `source.password.x: unknown key "password.x"`,
		{"source.every", "hunter"}:          "source.every: want a duration",
		{"value.converter", "x"}:            "value.converter: there are no converters",
		{"connector.class", "nope"}:         "connector.class: Failed to find any class",
	} {
		config := map[string]string{"connector.class": "odd", "topic": "t", "source.text": "x"}
		config[flat[0]] = flat[1]
		d, issues := Nest(registry(), "n", config)
		if len(issues) == 0 {
			_, _, errs := decode(t, d)
			issues = d.Issues(errs)
		}
		got := ""
		for _, i := range issues {
			got += i.Key + ": " + i.Message
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q, want %q", flat, got, want)
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("%q: a secret in %q", flat, got)
		}
	}
	for whole, part := range map[string]string{"source.roll": "source.roll.rows", "source.labels": "source.labels.x", "errors": "errors.dlq"} {
		_, issues := Nest(registry(), "n", map[string]string{"connector.class": "odd", "topic": "t", "source.text": "x", whole: "{}", part: "1"})
		if len(issues) != 1 || issues[0].Key != part || !strings.HasPrefix(issues[0].Message, whole+" is given as a whole") {
			t.Errorf("%s beside %s: %q", part, whole, issues)
		}
	}
	d, _ := Nest(registry(), "n", map[string]string{"connector.class": "odd", "topic": "t"})
	_, _, errs := decode(t, d)
	if got := d.Issues(errs); len(got) != 1 || got[0].Key != "source.text" {
		t.Errorf("a field that is missing: %q", got)
	}
}

// TestSecrets: secrets are hidden wherever they stand, references are not, and
// what is sent back hidden stays what it was.
func TestSecrets(t *testing.T) {
	flat := map[string]string{
		"connector.class": "odd-source", "source.password": "hunter2-a", "source.roll.token": "${env:T}", "source.text": "plain",
		"source.servers": `[{"host":"h","token":"hunter2-b"},{"host":"i","token":"${file:/t}"},{"token":7}]`,
	}
	got := Mask(registry(), flat)
	if got["source.password"] != Hidden || got["source.roll.token"] != "${env:T}" || got["source.text"] != "plain" ||
		got["source.servers"] != `[{"host":"h","token":"***"},{"host":"i","token":"${file:/t}"},{"token":"***"}]` {
		t.Errorf("%q", got)
	}
	if both := Mask(registry(), map[string]string{"connector.class": "odd", "source.password": "user:hunter2@${env:H}"}); both["source.password"] != Hidden {
		t.Errorf("a secret beside a reference: %q", both)
	}
	unknown := Mask(registry(), map[string]string{"connector.class": "gone", "source.password": "hunter2", "topic": "t"})
	if unknown["source.password"] != Hidden || unknown["topic"] != "t" {
		t.Errorf("of a class that is gone: %q", unknown)
	}
	broken := Mask(registry(), map[string]string{"connector.class": "odd", "source.servers": `[{"token":"hunter2`})
	if broken["source.servers"] != Hidden {
		t.Errorf("broken JSON: %q", broken)
	}
	keys := map[string]string{"connector.class": "odd", "source.keys.x.y": "hunter2", "source.keys": `{"a":"hunter2","b":"${env:T}","c":7}`}
	if got := Mask(registry(), keys); got["source.keys.x.y"] != Hidden || got["source.keys"] != `{"a":"***","b":"${env:T}","c":"***"}` {
		t.Errorf("a mapping of secrets: %q", got)
	}
	if got := Mask(registry(), map[string]string{"connector.class": "odd", "source.keys": "hunter2"}); got["source.keys"] != Hidden {
		t.Errorf("a text where a mapping of secrets belongs: %q", got)
	}
	got["source.text"] = "changed"
	back := Restore(registry(), got, flat)
	if back["source.password"] != "hunter2-a" || back["source.text"] != "changed" || !strings.Contains(back["source.servers"], "hunter2-b") {
		t.Errorf("%q", back)
	}
	if left := StillHidden(registry(), back); len(left) != 1 || left[0].Key != "source.servers" { // the number that was no secret
		t.Errorf("%q", left)
	}
}

// FuzzNest: whatever is sent becomes a document that can be read or is refused,
// and says nothing that was not sent.
func FuzzNest(f *testing.F) {
	f.Add("source.text", "x", "source.servers", `[{"host": ": ,\"", "token": "a"}]`)
	f.Add("transforms", `[{"filter": "a"}]`, "source.labels.a.b", "\u0085\x7f")
	f.Add("topics", "a,b", "source.list", `["x", "y"]`)
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		flat := map[string]string{"connector.class": "odd"}
		flat[k1], flat[k2] = v1, v2
		Mask(registry(), flat)
		d, issues := Nest(registry(), "n", flat)
		if len(issues) > 0 {
			return
		}
		root, errs := strict.Parse("f", d.Text)
		if len(errs) > 0 { // what no config file may hold
			return
		}
		list, ok := root.Get("connectors")
		if !ok || len(root.Entries()) != 1 || len(list.Items()) != 1 {
			t.Fatalf("%q broke out of its place:\n%s", flat, d.Text)
		}
	})
}
