package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest = regexp.MustCompile("(\\*\\*)?`([a-z]+)\\.(Test[A-Za-z0-9]+)`")
	testsOf   = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
)

// testsIn lists the tests of a folder.
func testsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testsOf.FindAllStringSubmatch(string(text), -1) {
			all[m[1]] = true
		}
	}
	return all
}

// TestFailureTests: every test that the table names is there, and those that it
// says have a full form are run by make connectors.
func TestFailureTests(t *testing.T) {
	page, err := os.ReadFile("connectors/failure-tests.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("../deploy/test/connectors.sh")
	if err != nil {
		t.Fatal(err)
	}
	var regexps []string
	for line := range strings.Lines(string(script)) {
		if _, rest, ok := strings.Cut(line, "tests"); ok && (strings.HasPrefix(rest, "='") || strings.HasPrefix(rest, "+='")) {
			regexps = append(regexps, strings.Trim(rest[strings.Index(rest, "'"):], "'\n"))
		}
	}
	full, err := regexp.Compile(strings.Join(regexps, ""))
	if err != nil || len(regexps) == 0 {
		t.Fatalf("the tests of connectors.sh: %q, %v", regexps, err)
	}
	dirs := map[string]string{"hubtest": "../hub/hubtest", "stream": "../stream"}
	known := map[string]map[string]bool{}
	named := namedTest.FindAllStringSubmatch(string(page), -1)
	if len(named) < 50 {
		t.Errorf("%d tests are named, which are too few to be all", len(named))
	}
	for _, m := range named {
		bold, pkg, name := m[1] != "", m[2], m[3]
		if known[pkg] == nil {
			dir := dirs[pkg]
			if dir == "" {
				dir = filepath.Join("../connectors", pkg)
			}
			known[pkg] = testsIn(t, dir)
		}
		if !known[pkg][name] {
			t.Errorf("failure-tests.md names %s.%s, which does not exist", pkg, name)
		}
		if bold != full.MatchString(name) {
			t.Errorf("failure-tests.md: %s.%s is bold: %t, run by make connectors: %t", pkg, name, bold, full.MatchString(name))
		}
	}
}
