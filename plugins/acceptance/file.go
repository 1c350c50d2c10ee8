package acceptance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// testFile is what a plugin brings to its suite. ${dir} in it is an empty
// folder, another one for each test.
type testFile struct {
	Source *sourceFile `yaml:"source"`
	Sink   *sinkFile   `yaml:"sink"`
}

type sourceFile struct {
	Type    string      `yaml:"type,required"`
	Config  strict.Node `yaml:"config"`  // reads everything once, and ends
	Waiting strict.Node `yaml:"waiting"` // reads the same, and waits for more
	Setup   []string    `yaml:"setup"`   // command: makes what is to be read
	Want    []string    `yaml:"want"`    // command: prints each message; none: what is read first is right
}

type sinkFile struct {
	Type      string      `yaml:"type,required"`
	Config    strict.Node `yaml:"config"`
	Setup     []string    `yaml:"setup"`     // command: makes an empty destination
	Rows      []string    `yaml:"rows"`      // command: prints the id of each row
	State     []string    `yaml:"state"`     // command: prints all that is there
	Files     string      `yaml:"files"`     // pattern below ${dir}, in place of rows and state: files of JSON lines
	Poison    *string     `yaml:"poison"`    // a value that the destination cannot take; default: no JSON
	Remembers bool        `yaml:"remembers"` // the destination keeps the offset and fences
}

func (s *sourceFile) waits() bool { return s.Waiting.Kind() != strict.Null }

// parse reads the test file, for a test with the folder dir.
func (s *suite) parse(t *testing.T, dir string) testFile {
	t.Helper()
	f, err := parse(s.File, dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Check judges a test file without running anything.
func Check(path string) error {
	_, err := parse(path, "/dir")
	return err
}

// parse reads a test file; an error says where it is wrong.
func parse(path, dir string) (testFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return testFile{}, err
	}
	root, errs := strict.Parse(path, []byte(strings.ReplaceAll(string(text), "${dir}", dir)))
	if len(errs) > 0 {
		return testFile{}, errs
	}
	var f testFile
	if errs := root.Decode(&f, strict.FromOS()); len(errs) > 0 {
		return testFile{}, errs
	}
	switch {
	case f.Source == nil && f.Sink == nil:
		return f, strict.Errors{root.Errorf("there is nothing to test: want source, sink or both")}
	case f.Sink != nil && f.Sink.Files == "" && (len(f.Sink.Rows) == 0 || len(f.Sink.State) == 0):
		return f, strict.Errors{root.Errorf("the suite has to look into the destination of sink %s: want the commands rows and state, or files", f.Sink.Type)}
	}
	return f, nil
}

// config makes a config of a connector of one of the file's mappings.
func (f testFile) config(t *testing.T, spec connectors.Spec, n strict.Node) connectors.Config {
	t.Helper()
	cfg, errs := n.Config(spec.Fields, strict.FromOS())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return cfg
}

// filesText is the content of files, with their names.
func filesText(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n%s", filepath.Base(name), text)
	}
	return b.String()
}

// filesRows are the ids of the JSON objects that stand in files, one a line.
func filesRows(t *testing.T, pattern string) (ids []int64) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var row struct {
				ID *int64 `json:"id"`
			}
			if err := json.Unmarshal([]byte(line), &row); err != nil || row.ID == nil {
				t.Fatalf("%s: %q has no id: %v", name, line, err)
			}
			ids = append(ids, *row.ID)
		}
	}
	return ids
}
