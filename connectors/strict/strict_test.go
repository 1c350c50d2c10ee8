package strict_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// corpusFile is what every file in testdata is decoded as.
type corpusFile struct {
	Name     string            `yaml:"name,required"`
	Port     uint16            `yaml:"port"`
	Ratio    float64           `yaml:"ratio"`
	On       bool              `yaml:"on"`
	Every    time.Duration     `yaml:"every"`
	Size     strict.Size       `yaml:"size"`
	Key      strict.Secret     `yaml:"key"`
	Tags     []string          `yaml:"tags"`
	Labels   map[string]string `yaml:"labels"`
	Listener *corpusListener   `yaml:"listener"`
	Common   corpusCommon      `yaml:",inline"`
	Source   strict.Node       `yaml:"source"`

	source connectors.Config
}

type corpusListener struct {
	At   strict.Pos
	Addr string `yaml:"addr,required"`
}

type corpusCommon struct {
	Comment string `yaml:"comment"`
}

var corpusSpecs = map[string][]connectors.Field{
	"file": {
		{Name: "path", Kind: connectors.KindString, Required: true, Description: "file or glob to read"},
		{Name: "follow", Kind: connectors.KindBool, Default: true},
		{Name: "max_line", Kind: connectors.KindSize, Min: 1, Max: 1 << 30},
		{Name: "final_line", Kind: connectors.KindString, Options: []string{"wait", "emit"}},
		{Name: "poll", Kind: connectors.KindDuration, Min: int64(time.Millisecond), Max: int64(time.Hour)},
		{Name: "password", Kind: connectors.KindSecret},
		{Name: "exclude", Kind: connectors.KindStrings},
		{Name: "lines", Kind: connectors.KindInt},
		{Name: "weight", Kind: connectors.KindFloat},
		{Name: "headers", Kind: connectors.KindStringMap},
		{Name: "keys", Kind: connectors.KindSecretMap},
		{Name: "roll", Kind: connectors.KindObject, Fields: []connectors.Field{
			{Name: "every", Kind: connectors.KindDuration, Default: time.Minute},
			{Name: "bytes", Kind: connectors.KindSize},
		}},
		{Name: "columns", Kind: connectors.KindObjects, Fields: []connectors.Field{
			{Name: "name", Kind: connectors.KindString, Required: true, Description: "name of the column"},
		}},
	},
	"stdin": {},
}

func decodeCorpus(file string, text []byte) (corpusFile, strict.Errors) {
	opts := strict.Options{
		Env: func(name string) (string, bool) { return "s3cret", name == "PRESENT" },
		ReadFile: func(path string) ([]byte, error) {
			if path == "/present" {
				return []byte("s3cret\n"), nil
			}
			return nil, fmt.Errorf("open %s: no such file", path)
		},
	}
	var out corpusFile
	errs := strict.Decode(file, text, &out, opts)
	if out.Source.Kind() != strict.Null {
		typ, es := out.Source.Choose("type", []string{"file", "stdin"})
		if errs = append(errs, es...); typ != "" {
			out.source, es = out.Source.Config(corpusSpecs[typ], opts, "type")
			errs = append(errs, es...)
		}
	}
	return out, errs
}

// TestCorpus decodes testdata/*.good.yaml without an error, and
// testdata/*.bad.yaml with exactly the errors in the file beside it.
func TestCorpus(t *testing.T) {
	good, _ := filepath.Glob("testdata/*.good.yaml")
	bad, _ := filepath.Glob("testdata/*.bad.yaml")
	if len(good) < 3 || len(bad) < 20 {
		t.Fatalf("the corpus has %d good and %d bad files", len(good), len(bad))
	}
	for _, path := range append(good, bad...) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, errs := decodeCorpus(filepath.Base(path), text)
			got := ""
			if len(errs) > 0 {
				got = errs.Error() + "\n"
			}
			want := ""
			if expect := strings.TrimSuffix(path, ".yaml") + ".errors"; strings.HasSuffix(path, ".bad.yaml") {
				if os.Getenv("REWRITE") != "" {
					if err := os.WriteFile(expect, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				b, err := os.ReadFile(expect)
				if err != nil || len(b) == 0 {
					t.Fatalf("a bad file needs its errors beside it: %v", err)
				}
				want = string(b)
			}
			if got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

func TestValues(t *testing.T) {
	text, err := os.ReadFile("testdata/everything.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, errs := decodeCorpus("x.yaml", text)
	if errs != nil {
		t.Fatal(errs)
	}
	if c.Name != "fra-1" || c.Port != 9092 || c.Ratio != 0.5 || !c.On || c.Every != 90*time.Second || c.Size != 128<<20 {
		t.Errorf("scalars: %+v", c)
	}
	if fmt.Sprint(c.Tags) != "[a b c]" || c.Labels["rack"] != "r1" || c.Listener.Addr != ":9092" || c.Listener.At.Line == 0 {
		t.Errorf("nested: %v %v %+v", c.Tags, c.Labels, c.Listener)
	}
	if c.Common.Comment != "costs ${5} and s3cret" {
		t.Errorf("references in plain text: %q", c.Common.Comment)
	}
	if got, err := c.Key.Reveal(); err != nil || got != "pre-s3cret-s3cret" {
		t.Errorf("secret: %q, %v", got, err)
	}
	s := c.source
	if s.String("path") != "/var/log/*.log" || s.Bool("follow") || s.Size("max_line") != 1<<20 || s.Duration("poll") != 250*time.Millisecond ||
		s.Object("roll").Duration("every") != time.Minute || s.Object("roll").Size("bytes") != 1e9 || s.Int("lines") != -3 || s.Float("weight") != 2 ||
		len(s.Objects("columns")) != 2 || s.Objects("columns")[1].String("name") != "b" || s.StringMap("headers")["x"] != "y" || len(s.Strings("exclude")) != 1 {
		t.Errorf("source: %v", s)
	}
	if s.Pos("roll.bytes").Line == 0 || s.Pos("roll.bytes") == s.Pos("roll") {
		t.Errorf("position of roll.bytes: %v, of roll: %v", s.Pos("roll.bytes"), s.Pos("roll"))
	}
}

// TestSecretsAreNotShown prints everything in every way that people use.
func TestSecretsAreNotShown(t *testing.T) {
	text, _ := os.ReadFile("testdata/everything.good.yaml")
	c, errs := decodeCorpus("x.yaml", text)
	if errs != nil {
		t.Fatal(errs)
	}
	c.Common.Comment = "" // a plain text is the writer's to show
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, v := range []any{c.Key, c.source, c.source.Shown(), c, &c} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, "s3cret") {
				t.Errorf("%s of %T shows the secret: %s", verb, v, got)
			}
		}
	}
	if got := c.source.Shown()["password"]; got != "***" {
		t.Errorf("shown as %v", got)
	}
	if got, err := c.source.SecretMap("keys")["x"].Reveal(); got != "s3cret" || err != nil || fmt.Sprint(c.source.Shown()["keys"]) != "map[x:***]" {
		t.Errorf("a mapping of secrets: %q, %v, shown as %v", got, err, c.source.Shown()["keys"])
	}
	if c.source.Secret("password").String() != "***" {
		t.Error("String shows it")
	}
}

// TestSecretIsLazy: a variable that changes after the config was read counts,
// and one that vanishes is an error with the place.
func TestSecretIsLazy(t *testing.T) {
	value, there := "old", true
	opts := strict.Options{Env: func(string) (string, bool) { return value, there }}
	var into struct {
		Key strict.Secret `yaml:"key"`
	}
	if errs := strict.Decode("n.yaml", []byte("key: ${env:K}\n"), &into, opts); errs != nil {
		t.Fatal(errs)
	}
	value = "new"
	if got, err := into.Key.Reveal(); got != "new" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	there = false
	if _, err := into.Key.Reveal(); err == nil || !strings.Contains(err.Error(), "n.yaml:1:6") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsAs(t *testing.T) {
	_, errs := decodeCorpus("x.yaml", []byte("name: a\nprot: 1\n"))
	var one *strict.Error
	if err := fmt.Errorf("load: %w", errs.Err()); !errors.As(err, &one) || one.Line != 2 || one.Col != 1 || one.Hint != `did you mean "port"?` {
		t.Errorf("got %+v", one)
	}
	if strict.Errors(nil).Err() != nil {
		t.Error("no errors are an error")
	}
}

func TestDurationsAndSizes(t *testing.T) {
	for in, want := range map[string]time.Duration{"0": 0, "1m": time.Minute, "7d": 168 * time.Hour, "1h30m": 90 * time.Minute, "1.5s": 1500 * time.Millisecond} {
		if got, err := strict.ParseDuration(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "5", "-1s", "d", "1.5d", "-1d", "1 m", "106752d", "1y"} {
		if got, err := strict.ParseDuration(in); err == nil {
			t.Errorf("%q gives %v", in, got)
		}
	}
	for in, want := range map[string]int64{"0": 0, "1": 1, "4096": 4096, "64KiB": 64 << 10, "128 MiB": 128 << 20, "1GB": 1e9, "1.5KiB": 1536, "7B": 7, "8TiB": 8 << 40} {
		if got, err := strict.ParseSize(in); err != nil || got != want {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "1.5", "MiB", "1Mi", "1e9", "9999999TiB", ".5KiB", "1.2.3KB", "0x10"} {
		if got, err := strict.ParseSize(in); err == nil {
			t.Errorf("%q gives %d", in, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml"} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			text, err := os.ReadFile(p)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Add("name: &a [*a]\n")
	f.Add("? [a]\n: {<<: *b}\n--- !!x\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, errs := decodeCorpus("f.yaml", []byte(text))
		for _, e := range errs {
			if e.Msg == "" || strings.Contains(e.Msg, "\n") {
				t.Errorf("error without a clean message: %q", e.Msg)
			}
		}
	})
}
