package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/entrepot-hub/entrepot"
	root   = ".."
	// The tag that integration tests carry: their imports obey the law too.
	buildTags = "-tags=integration"
)

// row is one line of the import table.
type row struct {
	imports, testImports, thirdParties []string
}

// law is what ARCHITECTURE.md says.
type law struct {
	rows      map[string]row
	anyTest   []string // third parties that every test may import
	modules   []string // direct dependencies with a reason
	duplicate []string // packages with two rows
}

// pkg is what `go list -json` says of one package. Standard packages are
// dropped from the imports when it is read.
type pkg struct {
	ImportPath, Dir, Name, Doc                         string
	GoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports                 []string
	Error                                              *struct{ Err string }
	short                                              string // the name used in the table
}

func TestImportLaw(t *testing.T) {
	l, pkgs := readLaw(t), listPackages(t)
	for _, name := range l.duplicate {
		t.Errorf("docs/ARCHITECTURE.md: package %s has two rows", name)
	}
	seen := map[string]bool{}
	for _, p := range pkgs {
		seen[p.short] = true
		for _, complaint := range l.check(p) {
			t.Error(complaint)
		}
	}
	for name := range l.rows {
		if !seen[name] {
			t.Errorf("docs/ARCHITECTURE.md: row %s names a package that does not exist", name)
		}
	}
}

// check returns one sentence for every import of p that the law does not allow.
func (l law) check(p pkg) (complaints []string) {
	r, ok := l.rows[p.short]
	if !ok {
		return []string{fmt.Sprintf("package %s has no row in docs/ARCHITECTURE.md: add one with what it owns and may import", p.short)}
	}
	complain := func(kind, imp, allowed string) {
		complaints = append(complaints, fmt.Sprintf("%s imports %s%s, which its row in docs/ARCHITECTURE.md does not allow (%s)", p.short, imp, kind, allowed))
	}
	for _, imp := range p.Imports {
		if own, isOwn := short(imp); isOwn && !slices.Contains(r.imports, own) {
			complain("", own, "may import: "+strings.Join(r.imports, ", "))
		} else if !isOwn && !underAny(imp, r.thirdParties) {
			complain("", imp, "third parties: "+strings.Join(r.thirdParties, ", "))
		}
	}
	for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
		own, isOwn := short(imp)
		switch {
		case isOwn && (own == p.short || own == "record" || slices.Contains(r.imports, own) || slices.Contains(r.testImports, own)):
		case isOwn:
			complain(" in its tests", own, "tests also: "+strings.Join(r.testImports, ", "))
		case !underAny(imp, r.thirdParties) && !underAny(imp, l.anyTest):
			complain(" in its tests", imp, "neither fenced to it nor open to all tests")
		}
	}
	return complaints
}

// TestImportLawCatches feeds check the mistakes that it is there for.
func TestImportLawCatches(t *testing.T) {
	l := law{
		rows: map[string]row{
			"storage": {imports: []string{"record"}, testImports: []string{"storage/vfs"}, thirdParties: []string{"example.org/fenced"}},
		},
		anyTest: []string{"example.org/anytest"},
	}
	cases := []struct {
		name string
		p    pkg
		want int
	}{
		{"all allowed", pkg{short: "storage", Imports: []string{module + "/record", "example.org/fenced/sub"}, TestImports: []string{module + "/storage/vfs", "example.org/anytest"}, XTestImports: []string{module + "/storage"}}, 0},
		{"no row", pkg{short: "surprise"}, 1},
		{"own package not in the row", pkg{short: "storage", Imports: []string{module + "/hub"}}, 1},
		{"import of main", pkg{short: "storage", Imports: []string{module}}, 1},
		{"test import in code", pkg{short: "storage", Imports: []string{module + "/storage/vfs"}}, 1},
		{"own package in a test", pkg{short: "storage", TestImports: []string{module + "/hub"}}, 1},
		{"third party outside its fence", pkg{short: "storage", Imports: []string{"example.org/other"}}, 1},
		{"a prefix that is not a path", pkg{short: "storage", Imports: []string{"example.org/fencedish"}}, 1},
		{"third party in an outside test", pkg{short: "storage", XTestImports: []string{"example.org/other"}}, 1},
		{"test-only third party in code", pkg{short: "storage", Imports: []string{"example.org/anytest"}}, 1},
	}
	for _, c := range cases {
		if got := l.check(c.p); len(got) != c.want {
			t.Errorf("%s: %d complaints, want %d: %q", c.name, len(got), c.want, got)
		}
	}
}

// TestChain keeps the module shallow: below main, a reader goes at most five
// steps down.
func TestChain(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range listPackages(t) {
		for _, imp := range p.Imports {
			if own, ok := short(imp); ok {
				imports[p.short] = append(imports[p.short], own)
			}
		}
	}
	longest := map[string][]string{}
	var chain func(name string) []string
	chain = func(name string) []string {
		if c, ok := longest[name]; ok {
			return c
		}
		var best []string
		for _, imp := range imports[name] {
			if c := chain(imp); len(c) > len(best) {
				best = c
			}
		}
		longest[name] = append([]string{name}, best...)
		return longest[name]
	}
	for name := range imports {
		if c := chain(name); name != "main" && len(c)-1 > 5 {
			t.Errorf("a chain of %d imports, at most 5: %s", len(c)-1, strings.Join(c, " → "))
		}
	}
}

// TestDependencies compares go.mod's direct requirements with the list of
// reasons, both ways.
func TestDependencies(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	decodeJSON(t, goTool(t, "mod", "edit", "-json"), &mod)
	reasons := readLaw(t).modules
	var direct []string
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		direct = append(direct, r.Path)
		if !slices.Contains(reasons, r.Path) {
			t.Errorf("go.mod requires %s directly, but docs/ARCHITECTURE.md has no line with its reason", r.Path)
		}
	}
	for _, m := range reasons {
		if !slices.Contains(direct, m) {
			t.Errorf("docs/ARCHITECTURE.md gives a reason for %s, which go.mod does not require directly", m)
		}
	}
}

// short turns an import path of ours into the table's name: "main" for the
// module itself. ok is false for everybody else's.
func short(path string) (name string, ok bool) {
	if path == module {
		return "main", true
	}
	return strings.CutPrefix(path, module+"/")
}

// underAny reports whether path is one of the prefixes or below one.
func underAny(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool {
		return path == p || strings.HasPrefix(path, p+"/")
	})
}

// readLaw reads the tables of ARCHITECTURE.md.
func readLaw(t *testing.T) law {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	l := law{rows: map[string]row{}}
	_, after, _ := strings.Cut(string(text), "Tests of any package may also import:")
	paragraph, _, _ := strings.Cut(after, "\n\n")
	for i, word := range strings.Split(paragraph, "`") {
		if i%2 == 1 && strings.Contains(word, ".") {
			l.anyTest = append(l.anyTest, word)
		}
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name := strings.Trim(strings.TrimSpace(cells[0]), "`")
		switch {
		case !strings.HasPrefix(line, "| `"):
		case len(cells) == 5:
			if _, twice := l.rows[name]; twice {
				l.duplicate = append(l.duplicate, name)
			}
			l.rows[name] = row{imports: list(cells[2]), testImports: list(cells[3]), thirdParties: list(cells[4])}
		case len(cells) == 2 && strings.TrimSpace(cells[1]) != "":
			l.modules = append(l.modules, name)
		default:
			t.Errorf("docs/ARCHITECTURE.md: a table line with %d cells, want 5 (packages) or 2 (modules): %s", len(cells), strings.TrimSpace(line))
		}
	}
	if len(l.rows) == 0 || len(l.modules) == 0 || len(l.anyTest) == 0 {
		t.Fatalf("docs/ARCHITECTURE.md: found %d packages, %d modules, %d test imports; a table is missing or has another form", len(l.rows), len(l.modules), len(l.anyTest))
	}
	return l
}

// list splits a cell at its commas; a dash is an empty list.
func list(cell string) (words []string) {
	for word := range strings.SplitSeq(cell, ",") {
		if word = strings.TrimSpace(word); word != "" && word != "–" {
			words = append(words, word)
		}
	}
	return words
}

// listPackages lists every package of the module, without standard imports.
func listPackages(t *testing.T) []pkg {
	t.Helper()
	var pkgs []pkg
	dec := json.NewDecoder(bytes.NewReader(goTool(t, "list", "-e", buildTags, "-json", "./...")))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Error != nil {
			t.Errorf("%s: %s", p.ImportPath, p.Error.Err)
		}
		p.short, _ = short(p.ImportPath)
		for _, imports := range []*[]string{&p.Imports, &p.TestImports, &p.XTestImports} {
			*imports = slices.DeleteFunc(*imports, isStandard)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		t.Fatal("go list found no package")
	}
	return pkgs
}

// isStandard: the first element of a module path has a dot, a standard
// package's has not.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// goTool runs the go command in the module's root and returns what it prints.
func goTool(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Stderr = root, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

func decodeJSON(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}
